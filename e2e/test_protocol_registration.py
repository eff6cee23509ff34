"""Registration by an agent that is not ours (AGENT-PROTOCOL 1.8 to 1.10, 9.1)."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from botocore.credentials import Credentials
from websockets.exceptions import InvalidStatus

from support.ecs import Tasks, container
from support.processes import Server
from support.wire import Wire
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import Instance, Refused
from test_agent.tcs import Tcs


def registered(ecs: Any, cluster: str) -> list[str]:
    """ARNs of the cluster's instances."""
    return ecs.list_container_instances(cluster=cluster)["containerInstanceArns"]


def new(server: Server, cluster: str) -> Instance:
    """An instance that has not registered yet."""
    return Instance(server.endpoint, server.key, cluster)


def test_every_attribute_comes_back(server: Server, cluster: str) -> None:
    """`register` fails as the agent does when one is missing: exit 5 (trap 1)."""
    instance = new(server, cluster)
    instance.custom = [{"name": "rack", "value": "7"}, {"name": "flag"}]
    answer = instance.register()
    names = {one["name"]: one.get("value") for one in answer["attributes"]}
    assert names["ecs.availability-zone"] == "us-east-1a"


def test_one_client_token_is_one_instance(ecs: Any, server: Server, cluster: str) -> None:
    """The agent retries with its token when an answer was lost."""
    instance, token = new(server, cluster), str(uuid.uuid4())
    arns = set()
    for _ in range(3):
        instance.arn = ""
        instance.register(token)
        arns.add(instance.arn)
    assert len(arns) == 1 and registered(ecs, cluster) == list(arns)


def test_registering_without_a_token_makes_new_instances(
    ecs: Any, server: Server, cluster: str
) -> None:
    for _ in range(2):
        new(server, cluster).register()
    assert len(registered(ecs, cluster)) == 2


def test_re_registration_is_an_update_in_place(
    ecs: Any, server: Server, cluster: str, family: str
) -> None:
    """Same ARN, new size, custom attributes and running tasks kept."""
    instance = new(server, cluster)
    instance.custom = [{"name": "rack", "value": "7"}]
    first = instance.register()["containerInstanceArn"]
    with Engine(instance):
        server.wait_for_instance(cluster)
        arn = Tasks(ecs, cluster, family).start(container(cpu=100, memory=100))
    instance.memory = 9000
    assert instance.register()["containerInstanceArn"] == first
    assert registered(ecs, cluster) == [first]
    (one,) = ecs.describe_container_instances(cluster=cluster, containerInstances=[first])[
        "containerInstances"
    ]
    memory = {
        which: next(r["integerValue"] for r in one[which] if r["name"] == "MEMORY")
        for which in ("registeredResources", "remainingResources")
    }
    assert memory == {"registeredResources": 9000, "remainingResources": 8900}
    attributes = {each["name"]: each.get("value") for each in one["attributes"]}
    assert attributes["rack"] == "7"
    assert one["runningTasksCount"] == 1
    assert Tasks(ecs, cluster, family).describe(arn)["lastStatus"] == "RUNNING"


def test_an_unknown_arn_is_not_re_registered(server: Server, cluster: str) -> None:
    """Terminal for the agent: an operator deletes its data directory (1.8)."""
    instance = new(server, cluster)
    instance.arn = f"arn:aws:ecs:us-east-1:{server.account}:container-instance/{cluster}/{'a' * 32}"
    with pytest.raises(Refused) as refusal:
        instance.register()
    assert refusal.value.code in ("InvalidParameterException", "ClientException")


def test_a_missing_cluster_is_named_as_the_agent_reads_it(server: Server) -> None:
    """Only an error text with "Cluster not found" makes the agent create `default` (1.3)."""
    with pytest.raises(Refused) as refusal:
        new(server, "not-there").register()
    assert "Cluster not found" in refusal.value.answer.message
    assert refusal.value.code in ("ClientException", "ClusterNotFoundException")


def test_the_poll_endpoints_have_a_scheme(server: Server, instance: Instance) -> None:
    answer = instance.discover()
    for name in ("endpoint", "telemetryEndpoint"):
        assert answer[name].startswith(server.endpoint)


def test_errors_name_their_type_in_a_header_too(wire: Wire) -> None:
    answer = wire.call("DiscoverPollEndpoint", {"cluster": "default", "containerInstance": 1})
    assert answer.status == 400
    assert answer.headers.get("x-amzn-errortype", "").startswith("SerializationException")


def refusal_of(dial: Any) -> dict[str, str]:
    """The body of a refused websocket upgrade: `{"<ErrorType>":"<message>"}` (2.1)."""
    with pytest.raises(InvalidStatus) as refusal:
        dial()
    answer = refusal.value.response
    assert 400 <= answer.status_code < 600
    body = json.loads(answer.body)
    assert len(body) == 1, body
    return body


@pytest.mark.parametrize("session", [Acs, Tcs])
def test_a_session_of_an_unknown_instance_is_refused(instance: Instance, session: Any) -> None:
    known, unknown = instance.arn, instance.arn[:-32] + "b" * 32
    endpoint = instance.discover
    answer = endpoint()
    instance.discover = lambda: answer  # type: ignore[method-assign]
    instance.arn = unknown
    assert set(refusal_of(lambda: session(instance))) == {"InvalidInstanceException"}
    instance.arn = known
    with session(instance):
        pass


def test_a_session_in_an_unknown_cluster_is_refused(instance: Instance) -> None:
    answer = instance.discover()
    instance.discover = lambda: answer  # type: ignore[method-assign]
    body = refusal_of(lambda: Acs(instance, clusterArn="not-there"))
    assert set(body) <= {"InvalidClusterException", "InvalidInstanceException"}


def test_a_session_with_a_bad_signature_is_refused(instance: Instance) -> None:
    answer = instance.discover()
    instance.discover = lambda: answer  # type: ignore[method-assign]
    instance.credentials = Credentials(instance.credentials.access_key, "wrong")
    body = refusal_of(lambda: Acs(instance))
    assert set(body) <= {"AccessDeniedException", "InvalidSignatureException"}


def test_no_refusal_is_ever_inactive(instance: Instance) -> None:
    """InactiveInstanceException parks an agent for an hour (trap 11); nothing here deserves it."""
    answer = instance.discover()
    instance.discover = lambda: answer  # type: ignore[method-assign]
    for arn in ("", "nonsense", instance.arn + "0"):
        instance.arn = arn
        assert "InactiveInstanceException" not in refusal_of(lambda: Acs(instance))


def test_the_cluster_may_be_an_arn_in_calls_and_in_the_url(
    ecs: Any, server: Server, cluster: str
) -> None:
    """The agent sends ECS_CLUSTER as typed, name or ARN (2.1)."""
    arn = f"arn:aws:ecs:us-east-1:{server.account}:cluster/{cluster}"
    instance = new(server, arn)
    instance.register()
    with Acs(instance) as acs:
        assert acs.manifest()["clusterArn"] == arn
        server.wait_for_instance(cluster)
    with Tcs(instance) as tcs:
        tcs.publish("PublishMetricsRequest", {"metadata": tcs.metadata(idle=True, fin=True)})
        tcs.expect("AckPublishMetric")
