"""Container instances: what describe tells, and that the books are exact (ECS-SEMANTICS 5)."""

from __future__ import annotations

import os
from typing import Any

from support.ecs import Tasks, container, refused
from support.processes import REGION, Agent, Server, clean_environment
from support.waiting import until
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import ATTRIBUTES, DOCKER, VERSION, Instance
from test_agent.tcs import Tcs

RESERVED = {"22", "2375", "2376", "51678", "51679"}


def describe(ecs: Any, cluster: str, arn: str) -> dict[str, Any]:
    """One container instance."""
    answer = ecs.describe_container_instances(cluster=cluster, containerInstances=[arn])
    assert not answer["failures"], answer["failures"]
    return answer["containerInstances"][0]


def book(instance: dict[str, Any], which: str) -> dict[str, Any]:
    """Registered or remaining resources by name; port lists as sets."""
    return {
        one["name"]: (
            set(one["stringSetValue"]) if one["type"] == "STRINGSET" else one["integerValue"]
        )
        for one in instance[which]
    }


def test_an_instance_is_described(ecs: Any, server: Server, cluster: str, fleet: Any) -> None:
    engine: Engine = fleet(cpu=2048, memory=4000)
    arn = engine.instance.arn
    prefix = f"arn:aws:ecs:us-east-1:{server.account}:container-instance/{cluster}/"
    assert arn.startswith(prefix) and len(arn) == len(prefix) + 32
    one = describe(ecs, cluster, arn)
    assert one["status"] == "ACTIVE" and one["agentConnected"] is True
    assert (one["runningTasksCount"], one["pendingTasksCount"]) == (0, 0)
    assert book(one, "registeredResources") == {
        "CPU": 2048,
        "MEMORY": 4000,
        "PORTS": RESERVED,
        "PORTS_UDP": set(),
    }
    assert book(one, "remainingResources") == book(one, "registeredResources")
    attributes = {each["name"]: each.get("value") for each in one["attributes"]}
    for sent in ATTRIBUTES:
        assert sent["name"] in attributes
    assert attributes["ecs.availability-zone"] == "us-east-1a"
    assert attributes["ecs.os-type"] == "linux"
    assert one["versionInfo"]["agentVersion"] == VERSION, "from the ACS URL"
    assert DOCKER in one["versionInfo"]["dockerVersion"]
    assert one["version"] >= 1 and one["registeredAt"]
    assert one["tags"] == [] or "tags" not in one


def test_remaining_resources_are_exact_at_all_times(
    ecs: Any, cluster: str, family: str, fleet: Any
) -> None:
    """Reserved from placement to STOPPED, ports too (ECS-SEMANTICS 4 and 5)."""
    engine: Engine = fleet(cpu=1000, memory=1000)
    tasks = Tasks(ecs, cluster, family)

    def remaining() -> tuple[int, int, set[str], set[str]]:
        left = book(describe(ecs, cluster, engine.instance.arn), "remainingResources")
        return left["CPU"], left["MEMORY"], left["PORTS"], left["PORTS_UDP"]

    two = tasks.define(
        container("a", cpu=100, memory=64, portMappings=[{"containerPort": 1, "hostPort": 4001}]),
        container(
            "b",
            cpu=11,
            memory=300,
            memoryReservation=100,
            portMappings=[{"containerPort": 2, "hostPort": 4002, "protocol": "udp"}],
        ),
    )
    first = tasks.run(two)
    used = RESERVED | {"4001"}
    assert remaining() == (889, 836, used, {"4002"}), "memoryReservation counts, not memory"
    sized = tasks.define(container(cpu=1, memory=8), cpu="256", memory="512", family=family + "-t")
    second = tasks.run(sized)
    assert remaining() == (633, 324, used, {"4002"}), "the task's own size counts"
    tasks.wait(first, "RUNNING")
    tasks.wait(second, "RUNNING")
    one = describe(ecs, cluster, engine.instance.arn)
    assert (one["runningTasksCount"], one["pendingTasksCount"]) == (2, 0)
    tasks.stop(first)
    assert remaining() == (744, 488, RESERVED, set())
    tasks.stop(second)
    assert remaining() == (1000, 1000, RESERVED, set())


def test_a_reservation_lasts_until_the_agent_says_stopped(
    ecs: Any, cluster: str, family: str, instance: Instance, server: Server
) -> None:
    """A stop order alone frees nothing (AGENT-PROTOCOL 5.2)."""
    with Acs(instance) as acs:
        server.wait_for_instance(cluster)
        tasks = Tasks(ecs, cluster, family)
        arn = tasks.run(tasks.define(container(cpu=100, memory=100)))
        acs.ack(acs.payload())
        instance.submit(arn, "RUNNING")
        ecs.stop_task(cluster=cluster, task=arn)
        left = book(describe(ecs, cluster, instance.arn), "remainingResources")
        assert (left["CPU"], left["MEMORY"]) == (1948, 8092)
        instance.submit(arn, "STOPPED")
        left = book(describe(ecs, cluster, instance.arn), "remainingResources")
        assert (left["CPU"], left["MEMORY"]) == (2048, 8192)


def test_connectedness_follows_the_session(
    ecs: Any, cluster: str, instance: Instance, server: Server
) -> None:
    assert describe(ecs, cluster, instance.arn)["agentConnected"] is False
    with Acs(instance):
        server.wait_for_instance(cluster)
    until(
        lambda: describe(ecs, cluster, instance.arn)["agentConnected"] is False,
        "agentConnected false after the session ended",
    )
    assert describe(ecs, cluster, instance.arn)["status"] == "ACTIVE"


def test_instances_are_listed_filtered_and_paged(ecs: Any, cluster: str, fleet: Any) -> None:
    arns = {fleet().instance.arn for _ in range(3)}
    pages = list(
        ecs.get_paginator("list_container_instances").paginate(
            cluster=cluster, PaginationConfig={"PageSize": 2}
        )
    )
    listed = [arn for page in pages for arn in page["containerInstanceArns"]]
    assert len(pages) == 2 and set(listed) == arns and len(listed) == 3
    by_status = ecs.list_container_instances(cluster=cluster, status="DRAINING")
    assert by_status["containerInstanceArns"] == []
    active = ecs.list_container_instances(cluster=cluster, status="ACTIVE")
    assert set(active["containerInstanceArns"]) == arns


def test_short_ids_work_and_missing_ones_are_failures(
    ecs: Any, cluster: str, instance: Instance
) -> None:
    short = instance.arn.rsplit("/", 1)[1]
    answer = ecs.describe_container_instances(cluster=cluster, containerInstances=[short, "f" * 32])
    assert [one["containerInstanceArn"] for one in answer["containerInstances"]] == [instance.arn]
    assert [one["reason"] for one in answer["failures"]] == ["MISSING"]
    assert answer["failures"][0]["arn"].endswith(f"container-instance/{cluster}/{'f' * 32}")
    refused(
        ecs.describe_container_instances,
        "InvalidParameterException",
        "ClientException",
        cluster=cluster,
        containerInstances=[],
    )


def health(ecs: Any, cluster: str, arn: str) -> dict[str, Any]:
    """The health of an instance."""
    answer = ecs.describe_container_instances(
        cluster=cluster, containerInstances=[arn], include=["CONTAINER_INSTANCE_HEALTH"]
    )
    return answer["containerInstances"][0]["healthStatus"]


def test_health_is_what_the_agent_publishes(
    ecs: Any, cluster: str, instance: Instance, server: Server
) -> None:
    """Instance status comes over TCS (AGENT-PROTOCOL 4.4)."""
    unknown = {
        "overallStatus": "INSUFFICIENT_DATA",
        "details": [{"type": "CONTAINER_RUNTIME", "status": "INSUFFICIENT_DATA"}],
    }

    def shown(status: str) -> dict[str, Any] | None:
        now = health(ecs, cluster, instance.arn)
        return now if now["overallStatus"] == status else None

    assert health(ecs, cluster, instance.arn) == unknown
    with Acs(instance), Tcs(instance) as tcs:
        server.wait_for_instance(cluster)
        for status in ("OK", "IMPAIRED"):
            runtime = {
                "type": "ContainerRuntime",
                "status": status,
                "lastStatusChange": 1_700_000_000.5,
                "lastUpdated": 1_700_000_020.5,
                "statusReason": "the daemon says so",
            }
            message = {"metadata": tcs.metadata(), "statuses": [runtime]}
            tcs.publish("PublishInstanceStatusRequest", message)
            tcs.expect("AckPublishInstanceStatus")
            seen = until(lambda: shown(status), f"the status {status}")
            (detail,) = seen["details"]
            assert (detail["type"], detail["status"]) == ("CONTAINER_RUNTIME", status)
            assert detail["statusReason"] == "the daemon says so"
            assert detail["lastStatusChange"].timestamp() == 1_700_000_000.5
        assert "healthStatus" not in describe(ecs, cluster, instance.arn), "only if asked for"
    until(
        lambda: health(ecs, cluster, instance.arn) == unknown,
        "nothing known of an instance whose agent is gone",
    )


def test_no_agent_is_updated_by_the_control_plane(
    ecs: Any, cluster: str, instance: Instance, server: Server
) -> None:
    def refusal(code: str, arn: str = instance.arn) -> str:
        return refused(ecs.update_container_agent, code, cluster=cluster, containerInstance=arn)

    refusal("MissingVersionException")
    with Acs(instance):
        server.wait_for_instance(cluster)
        message = refusal("NoUpdateAvailableException")
    assert message.startswith("There is no update available for your container agent.")
    assert VERSION in message and "ecs-init" in message
    refusal("ClientException", "f" * 32)


def test_a_machine_of_ec2_says_so(ecs: Any, cluster: str, server: Server) -> None:
    """ECS takes the instance's id and type from the identity document (AGENT-PROTOCOL 1.9)."""
    instance = Instance(server.endpoint, server.key, cluster)
    request = instance.registration() | {
        "instanceIdentityDocument": '{"instanceId": "i-0abc", "instanceType": "t3.small", '
        '"imageId": "ami-1", "availabilityZone": "us-east-1c"}'
    }
    answer = instance.call("RegisterContainerInstance", request)["containerInstance"]
    one = describe(ecs, cluster, answer["containerInstanceArn"])
    assert one["ec2InstanceId"] == "i-0abc"
    attributes = {each["name"]: each.get("value") for each in one["attributes"]}
    assert attributes["ecs.instance-type"] == "t3.small"
    assert attributes["ecs.availability-zone"] == "us-east-1c"


def test_our_agent_registers_this_machine(ecs: Any, agent: Agent, server: Server) -> None:
    """CPU, memory and attributes are the machine's (AGENT-PROTOCOL 1.8 and 1.9)."""
    (one,) = server.wait_for_instance()
    resources = book(one, "registeredResources")
    assert resources["CPU"] == 1024 * (os.cpu_count() or 0)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    assert abs(resources["MEMORY"] - total) <= 1
    assert RESERVED <= resources["PORTS"]
    names = {each["name"] for each in one["attributes"]}
    assert {
        "ecs.os-type",
        "ecs.cpu-architecture",
        "ecs.capability.container-ordering",
        "com.amazonaws.ecs.capability.docker-remote-api.1.24",
        "com.amazonaws.ecs.capability.logging-driver.json-file",
        "longshore.host-id",
    } <= names
    assert one["versionInfo"]["agentVersion"] and one["versionInfo"]["dockerVersion"]


def test_an_agent_reads_its_configuration_file(stage: Any, images: None) -> None:
    """`KEY=VALUE` lines; the environment wins over the file (AGENT-PROTOCOL 1.2)."""
    server = stage.server()
    server.client().create_cluster(clusterName="from-file")
    data = stage.folder / "state"
    data.mkdir()
    config = stage.folder / "ecs.config"
    config.write_text(
        "# a line without a meaning\n"
        "ECS_CLUSTER=from-file\n"
        f"ECS_BACKEND_HOST={server.endpoint}\n"
        f"ECS_DATADIR={data}\n"
        f"AWS_DEFAULT_REGION={REGION}\n"
        'ECS_INSTANCE_ATTRIBUTES={"rack":"seven"}\n'
        "ECS_RESERVED_MEMORY=64\n"
    )
    agent = Agent(server, stage.folder / "agent", "unused")
    stage.processes.append(agent)
    agent.spawn(
        ["agent", "--config", str(config)],
        clean_environment(
            AWS_ACCESS_KEY_ID=server.key["accessKeyId"],
            AWS_SECRET_ACCESS_KEY=server.key["secretAccessKey"],
            ECS_RESERVED_MEMORY="128",
        ),
    )
    (one,) = server.wait_for_instance("from-file")
    assert {"name": "rack", "value": "seven"} in [
        {k: each[k] for k in ("name", "value") if k in each} for each in one["attributes"]
    ]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    assert abs(book(one, "registeredResources")["MEMORY"] - (total - 128)) <= 1
