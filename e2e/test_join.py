"""Joining, as the server sees it: tokens, machines' own keys, what they open, and TLS (DESIGN 4, Identity)."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import SSLError
from botocore.httpsession import URLLib3Session

from conftest import Stage
from support.ecs import refused
from support.processes import REGION, Server, ecs_client, read_json
from support.waiting import until
from support.wire import CONTENT_TYPE, TARGET, Answer

OFFER = {
    "cluster": "default",
    "totalResources": [
        {"name": "CPU", "type": "INTEGER", "integerValue": 1000},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": 1000},
    ],
}


class Caller:
    """Sends signed requests of the administration, or of ECS, with one key."""

    def __init__(self, server: Server, key: dict[str, str], verify: bool | str = True) -> None:
        self.endpoint, self.key, self.verify = server.endpoint, key, verify
        at_once = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        self.session = URLLib3Session(verify=verify, timeout=20, socket_options=at_once)

    def send(self, target: str, body: dict[str, Any]) -> Answer:
        """A request with this target."""
        headers = {"X-Amz-Target": target, "Content-Type": CONTENT_TYPE}
        request = AWSRequest("POST", self.endpoint + "/", data=json.dumps(body), headers=headers)
        credentials = Credentials(self.key["accessKeyId"], self.key["secretAccessKey"])
        SigV4Auth(credentials, "ecs", REGION).add_auth(request)
        answer = self.session.send(request.prepare())
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, headers, answer.text)

    def admin(self, operation: str, **body: Any) -> dict[str, Any]:
        """An operation of the administration that succeeds."""
        answer = self.send(f"Longshore.{operation}", body)
        assert answer.status == 200, answer
        return answer.body

    def denied(self, operation: str, **body: Any) -> Answer:
        """An operation of the administration that is refused."""
        answer = self.send(f"Longshore.{operation}", body)
        assert answer.status == 400, answer
        return answer

    def ecs(self, operation: str, **body: Any) -> Answer:
        """An operation of ECS."""
        return self.send(TARGET + operation, body)

    def register(self) -> str:
        """A container instance of the default cluster, registered with this key."""
        answer = self.ecs("RegisterContainerInstance", **OFFER)
        assert answer.status == 200, answer
        return answer.body["containerInstance"]["containerInstanceArn"]


def token_key(made: dict[str, Any]) -> dict[str, str]:
    """The key that a token is: its id and its secret."""
    token_id, secret = made["token"].split(".", 1)
    return {"accessKeyId": token_id, "secretAccessKey": secret}


@pytest.fixture
def owner(server: Server) -> Caller:
    """The holder of the root access key."""
    return Caller(server, server.key)


def join(server: Server, owner: Caller, instances: int = 1) -> Caller:
    """A machine that joined with a token of its own."""
    token = Caller(server, token_key(owner.admin("CreateJoinToken")), owner.verify)
    key = token.admin("JoinContainerInstance", clientToken="once", instances=instances)
    return Caller(server, key, owner.verify)


def test_a_token_is_shown_once_and_lets_in_as_many_as_it_says(server: Server, owner: Caller) -> None:
    made = owner.admin("CreateJoinToken", uses=2, expiresInSeconds=60)
    facts = made["joinToken"]
    assert facts["usesLeft"] == 2 and not facts["revoked"]
    assert 0 < facts["expiresAt"] - facts["createdAt"] <= 60
    token = Caller(server, token_key(made))
    keys = {token.admin("JoinContainerInstance", clientToken=name)["accessKeyId"] for name in "ab"}
    assert len(keys) == 2
    third = token.denied("JoinContainerInstance", clientToken="c")
    assert third.error == "AccessDeniedException"
    assert "longshore token create" in third.message
    again = token.admin("JoinContainerInstance", clientToken="a")
    assert again["accessKeyId"] in keys
    assert again["cluster"] == "default" and again["region"] == REGION
    assert again["accountId"] == server.account
    listed = owner.admin("ListJoinTokens")
    assert made["token"].split(".", 1)[1] not in json.dumps(listed)


def test_a_revoked_token_lets_nobody_in_and_its_machines_stay(server: Server, owner: Caller) -> None:
    made = owner.admin("CreateJoinToken", uses=5)
    token = Caller(server, token_key(made))
    machine = Caller(server, token.admin("JoinContainerInstance", clientToken="x"))
    revoked = owner.admin("RevokeJoinToken", tokenId=made["joinToken"]["tokenId"])
    assert revoked["joinToken"]["revoked"]
    assert token.denied("JoinContainerInstance", clientToken="y").error == "AccessDeniedException"
    machine.register()


def test_a_wrong_secret_is_refused_and_an_unknown_token_is_not_known(
    server: Server, owner: Caller
) -> None:
    key = token_key(owner.admin("CreateJoinToken"))
    forged = Caller(server, key | {"secretAccessKey": "x" * 40})
    answer = forged.denied("JoinContainerInstance", clientToken="x")
    assert answer.error == "InvalidSignatureException"
    unknown = Caller(server, key | {"accessKeyId": "LSTK" + "A" * 16})
    answer = unknown.denied("JoinContainerInstance", clientToken="x")
    assert answer.error == "UnrecognizedClientException"


def test_a_machine_may_what_its_agent_needs_and_nothing_else(server: Server, owner: Caller) -> None:
    machine = join(server, owner)
    own, foreign = machine.register(), owner.register()
    ecs = ecs_client(server.endpoint, machine.key)
    found = ecs.describe_container_instances(cluster="default", containerInstances=[own])
    assert found["containerInstances"][0]["containerInstanceArn"] == own
    assert ecs.discover_poll_endpoint(containerInstance=own)["endpoint"].startswith("http://")
    draining = ecs.update_container_instances_state(containerInstances=[own], status="DRAINING")
    assert draining["containerInstances"][0]["status"] == "DRAINING"
    for call in (
        lambda: ecs.list_clusters(),
        lambda: ecs.list_tasks(),
        lambda: ecs.run_task(taskDefinition="x"),
        lambda: ecs.stop_task(task="0" * 32),
        lambda: ecs.deregister_container_instance(containerInstance=own),
        lambda: ecs.describe_container_instances(containerInstances=[own, foreign]),
        lambda: ecs.update_container_instances_state(containerInstances=[foreign], status="DRAINING"),
        lambda: ecs.create_cluster(clusterName="mine"),
    ):
        error = refused(call, "AccessDeniedException")
        assert f"instance/{machine.key['accessKeyId']} is not authorized to perform: ecs:" in error
    second = machine.ecs("RegisterContainerInstance", **OFFER)
    assert second.error == "AccessDeniedException" and own in second.message
    for operation in ("CreateJoinToken", "ListInstanceIdentities"):
        assert machine.denied(operation).error == "AccessDeniedException"


def test_a_machine_belongs_to_one_cluster(server: Server, owner: Caller) -> None:
    server.client().create_cluster(clusterName="elsewhere")
    machine = join(server, owner)
    answer = machine.ecs("RegisterContainerInstance", **(OFFER | {"cluster": "elsewhere"}))
    assert answer.error == "AccessDeniedException"
    assert "cluster/elsewhere" in answer.message


def test_every_machine_is_listed_with_its_instances(server: Server, owner: Caller) -> None:
    machine = join(server, owner, instances=2)
    idle = join(server, owner)
    arns = {machine.register(), machine.register()}
    rows: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    while not rows or "nextToken" in page:
        after = {"nextToken": page["nextToken"]} if page else {}
        page = owner.admin("ListInstanceIdentities", maxResults=2, **after)
        rows += page["instanceIdentities"]
    mine = [row for row in rows if row["accessKeyId"] == machine.key["accessKeyId"]]
    assert {row["containerInstance"]["containerInstanceArn"] for row in mine} == arns
    assert all(row["identity"]["instances"] == 2 for row in mine)
    [waiting] = [row for row in rows if row["accessKeyId"] == idle.key["accessKeyId"]]
    assert "containerInstance" not in waiting


def test_a_revoked_machine_is_a_stranger_at_once(server: Server, owner: Caller) -> None:
    machine = join(server, owner)
    arn = machine.register()
    identity = owner.admin("RevokeInstanceIdentity", containerInstance=arn)["identity"]
    assert identity["accessKeyId"] == machine.key["accessKeyId"] and identity["revokedAt"]
    answer = machine.ecs("DiscoverPollEndpoint")
    assert answer.error == "UnrecognizedClientException"
    assert owner.denied("RevokeInstanceIdentity", containerInstance=owner.register()).error == (
        "InvalidParameterException"
    )


def test_what_is_wrong_is_named(owner: Caller) -> None:
    for operation, body, error, member in (
        ("CreateJoinToken", {"uses": 0}, "InvalidParameterException", "uses"),
        ("CreateJoinToken", {"uses": "2"}, "SerializationException", "uses"),
        ("CreateJoinToken", {"expiresInSeconds": 59}, "InvalidParameterException", "expiresInSeconds"),
        ("CreateJoinToken", {"cluster": "nowhere"}, "ClusterNotFoundException", "Cluster"),
        ("RevokeInstanceIdentity", {}, "InvalidParameterException", "exactly one"),
        ("ListJoinTokens", {"nextToken": "x"}, "InvalidParameterException", "nextToken"),
        ("Reboot", {}, "UnknownOperationException", "Reboot"),
    ):
        answer = owner.denied(operation, **body)
        assert (answer.error, member in answer.message) == (error, True), answer


def test_a_clusters_vanished_instances_can_be_given_up(server: Server, owner: Caller) -> None:
    released = owner.admin("ReleaseMassLossBrake", cluster="default")
    assert released["cluster"] == "default"
    assert owner.denied("ReleaseMassLossBrake", cluster="nowhere").error == "ClusterNotFoundException"


@pytest.fixture(scope="module")
def secure(module_stage: Stage) -> Iterator[Server]:
    """A server behind TLS with an authority of its own."""
    options = ("--tls", "--tls-name", "ecs.example")
    server = Server(module_stage.folder / "secure", module_stage.account, *options)
    module_stage.processes.append(server)
    yield server.start()


def facts(server: Server) -> dict[str, Any]:
    """What the server says of itself."""
    return until(lambda: read_json(server.data / "server.json"), "server.json", 5)


def test_boto3_trusts_the_servers_own_authority_when_told_to(secure: Server) -> None:
    told = facts(secure)
    assert secure.endpoint.startswith("https://")
    for verify in (told["caFile"], told["caBundle"]):
        trusting = ecs_client(secure.endpoint, secure.key, verify=verify)
        trusting.create_cluster(clusterName="default")
        assert trusting.list_clusters()["clusterArns"]
    with pytest.raises(SSLError):
        ecs_client(secure.endpoint, secure.key).list_clusters()


def test_the_fingerprint_is_that_of_the_authority(secure: Server) -> None:
    told = facts(secure)
    pem = Path(told["caFile"]).read_text()
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert told["caFingerprint"] == f"sha256:{hashlib.sha256(der).hexdigest()}"
    assert (secure.data / "tls" / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_a_machine_joins_through_tls_and_is_sent_back_to_it(secure: Server) -> None:
    owner = Caller(secure, secure.key, facts(secure)["caFile"])
    owner.ecs("CreateCluster")
    machine = join(secure, owner)
    arn = machine.register()
    poll = machine.ecs("DiscoverPollEndpoint", containerInstance=arn).body
    assert poll["endpoint"] == f"{secure.endpoint}/acs/"
    assert poll["telemetryEndpoint"] == f"{secure.endpoint}/tcs/"


def test_plain_http_to_a_tls_port_is_told_what_to_write(secure: Server) -> None:
    connection = http.client.HTTPConnection(secure.endpoint.removeprefix("https://"), timeout=10)
    connection.request("POST", "/", b"{}")
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"https://" in answer.read()
    connection.close()
