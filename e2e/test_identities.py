"""Access keys of machines: what they may do, for whom, and when they end (DESIGN 4)."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support import admin
from support.admin import Admin
from support.ecs import Tasks, container, refused
from support.processes import Server, ecs_client
from support.waiting import until
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import Instance, Refused


@pytest.fixture(scope="module")
def owner(server: Server) -> Admin:
    """Longshore's own operations, with the root access key."""
    return Admin(server)


def token_key(token: str) -> dict[str, str]:
    """A join token as the access key that it is."""
    token_id, secret = token.split(".", 1)
    return {"accessKeyId": token_id, "secretAccessKey": secret}


def join(server: Server, owner: Admin, cluster: str, **more: Any) -> dict[str, str]:
    """A machine's access key."""
    token = owner("CreateJoinToken", cluster=cluster)["token"]
    machine = Admin(server, token_key(token))
    return machine("JoinContainerInstance", clientToken=str(uuid.uuid4()), **more)


class Machine:
    """A machine with a key of its own, and the test agent on it."""

    def __init__(self, server: Server, owner: Admin, cluster: str) -> None:
        self.key = join(server, owner, cluster)
        self.instance = Instance(server.endpoint, self.key, cluster)
        self.instance.register()
        self.ecs = ecs_client(server.endpoint, self.key)


@pytest.fixture
def machines(server: Server, owner: Admin, cluster: str) -> tuple[Machine, Machine]:
    """Two of one cluster."""
    return Machine(server, owner, cluster), Machine(server, owner, cluster)


def denied(call: Any, **parameters: Any) -> None:
    """Asserts AWS's refusal: it names who, and what."""
    message = refused(call, "AccessDeniedException", **parameters)
    operation = "".join(part.capitalize() for part in call.__name__.split("_"))
    assert re.match(r"User: arn:aws:iam::\d{12}:instance/LSIN\w{16} is not authorized", message)
    assert f"ecs:{operation}" in message, message


def dial(instance: Instance, endpoints: dict[str, str]) -> Acs:
    """Opens a session at endpoints that somebody else was told."""
    instance.discover = lambda: endpoints  # type: ignore[method-assign]
    return Acs(instance)


##### Tokens


def test_a_token_is_used_up(server: Server, owner: Admin, cluster: str) -> None:
    made = owner("CreateJoinToken", cluster=cluster, uses=2)
    assert re.fullmatch(r"LSTK[A-Z2-7]{16}\.\S+", made["token"])
    assert made["joinToken"]["usesLeft"] == 2
    machine = Admin(server, token_key(made["token"]))
    first = machine("JoinContainerInstance", clientToken="a")
    assert re.fullmatch(r"LSIN[A-Z2-7]{16}", first["accessKeyId"])
    assert machine("JoinContainerInstance", clientToken="a") == first, "asked again, the same"
    second = machine("JoinContainerInstance", clientToken="b")
    assert second["accessKeyId"] != first["accessKeyId"]
    with pytest.raises(admin.Refused):
        machine("JoinContainerInstance", clientToken="c")
    assert machine("JoinContainerInstance", clientToken="b") == second, (
        "who has joined may ask again"
    )
    (left,) = [
        one["usesLeft"]
        for one in owner("ListJoinTokens")["joinTokens"]
        if one["tokenId"] == made["joinToken"]["tokenId"]
    ]
    assert left == 0


def test_a_token_is_revoked(server: Server, owner: Admin, cluster: str) -> None:
    made = owner("CreateJoinToken", cluster=cluster, uses=5)
    machine = Admin(server, token_key(made["token"]))
    key = machine("JoinContainerInstance", clientToken="a")
    owner("RevokeJoinToken", tokenId=made["joinToken"]["tokenId"])
    with pytest.raises(admin.Refused):
        machine("JoinContainerInstance", clientToken="b")
    Instance(server.endpoint, key, cluster).register()  # machines that joined stay


def test_tokens_and_keys_survive_a_crash(stage: Any) -> None:
    """No answer before it is durable, and the same answer afterwards."""
    server: Server = stage.server()
    made = Admin(server)("CreateJoinToken")
    machine = Admin(server, token_key(made["token"]))
    key = machine("JoinContainerInstance", clientToken="a")
    server.kill()
    server.start()
    assert machine("JoinContainerInstance", clientToken="a") == key
    with pytest.raises(admin.Refused):
        machine("JoinContainerInstance", clientToken="b")
    Instance(server.endpoint, key).register()


def test_a_token_can_do_nothing_but_join(server: Server, owner: Admin, cluster: str) -> None:
    key = token_key(owner("CreateJoinToken", cluster=cluster)["token"])
    ecs = ecs_client(server.endpoint, key)
    refused(ecs.list_clusters, "AccessDeniedException")
    refused(ecs.run_task, "AccessDeniedException", cluster=cluster, taskDefinition="x")
    for operation in ("CreateJoinToken", "ListJoinTokens", "ListInstanceIdentities"):
        with pytest.raises(admin.Refused) as caught:
            Admin(server, key)(operation)
        assert caught.value.code == "AccessDeniedException"


##### What a machine's key may do


def test_a_machine_cannot_do_what_users_do(machines: tuple[Machine, Machine], cluster: str) -> None:
    ecs = machines[0].ecs
    denied(ecs.run_task, cluster=cluster, taskDefinition="x")
    denied(ecs.stop_task, cluster=cluster, task="0" * 32)
    denied(ecs.list_tasks, cluster=cluster)
    denied(ecs.describe_tasks, cluster=cluster, tasks=["0" * 32])
    denied(ecs.list_clusters)
    denied(ecs.create_cluster, clusterName="mine")
    denied(ecs.register_task_definition, family="x", containerDefinitions=[container()])


def test_a_machine_cannot_administer(server: Server, machines: tuple[Machine, Machine]) -> None:
    for operation in ("CreateJoinToken", "ListJoinTokens", "ListInstanceIdentities"):
        with pytest.raises(admin.Refused) as caught:
            Admin(server, machines[0].key)(operation)
        assert caught.value.code == "AccessDeniedException"
    with pytest.raises(admin.Refused):
        Admin(server, machines[0].key)(
            "RevokeInstanceIdentity", accessKeyId=machines[1].key["accessKeyId"]
        )


def test_a_machine_acts_for_its_own_instance_alone(
    machines: tuple[Machine, Machine], cluster: str
) -> None:
    """Looking and draining: its own, not its neighbour's."""
    one, other = machines
    mine = {"cluster": cluster, "containerInstances": [one.instance.arn]}
    found = one.ecs.describe_container_instances(**mine)["containerInstances"]
    assert [each["containerInstanceArn"] for each in found] == [one.instance.arn]
    one.ecs.update_container_instances_state(**mine, status="DRAINING")
    one.ecs.update_container_instances_state(**mine, status="ACTIVE")
    denied(other.ecs.describe_container_instances, **mine)
    denied(other.ecs.update_container_instances_state, **mine, status="DRAINING")
    denied(
        other.ecs.deregister_container_instance,
        cluster=cluster,
        containerInstance=one.instance.arn,
        force=True,
    )


def test_a_machine_cannot_take_anothers_session(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    with Acs(one.instance) as acs:
        other.instance.arn = one.instance.arn
        with pytest.raises(Refused) as caught:
            other.instance.discover()
        assert caught.value.code == "AccessDeniedException"
        with pytest.raises(InvalidStatus) as refusal:
            dial(other.instance, one.instance.discover())
        assert b"AccessDeniedException" in refusal.value.response.body
        assert acs.socket.state.name == "OPEN", "the rightful session is untouched"


def test_a_machine_cannot_register_anothers_instance(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    other.instance.arn = one.instance.arn
    with pytest.raises(Refused) as caught:
        other.instance.register()
    assert caught.value.code in ("AccessDeniedException", "ClientException")


def test_a_machine_cannot_report_for_anothers_task(
    server: Server, machines: tuple[Machine, Machine], cluster: str, family: str
) -> None:
    one, other = machines
    with Engine(one.instance):
        server.wait_for_instance(cluster)
        tasks = Tasks(server.client(), cluster, family)
        arn = tasks.start(container())
        with pytest.raises(Refused) as caught:
            other.instance.submit(arn, "STOPPED")
        assert caught.value.code == "AccessDeniedException"
        assert tasks.describe(arn)["lastStatus"] == "RUNNING"
        tasks.stop(arn)


def test_a_machine_joins_one_cluster(server: Server, ecs: Any, owner: Admin, cluster: str) -> None:
    key = join(server, owner, cluster)
    ecs.create_cluster(clusterName=f"{cluster}-other")
    with pytest.raises(Refused) as caught:
        Instance(server.endpoint, key, f"{cluster}-other").register()
    assert caught.value.code == "AccessDeniedException"


def test_a_machine_has_as_many_instances_as_it_joined_for(
    server: Server, ecs: Any, owner: Admin, cluster: str
) -> None:
    key = join(server, owner, cluster, instances=2)
    first, second, third = (Instance(server.endpoint, key, cluster) for _ in range(3))
    first.register()
    second.register()
    with pytest.raises(Refused) as caught:
        third.register()
    assert caught.value.code == "AccessDeniedException"
    told = caught.value.answer.message
    assert first.arn.rsplit("/", 1)[1] in told or second.arn.rsplit("/", 1)[1] in told, told
    ecs.deregister_container_instance(cluster=cluster, containerInstance=first.arn)
    third.register()


##### Sessions


def test_the_newest_session_wins(
    server: Server, machines: tuple[Machine, Machine], cluster: str
) -> None:
    """Agents overlap for a moment; nothing is lost between them."""
    one = machines[0]
    with Acs(one.instance) as old:
        server.wait_for_instance(cluster)
        with Acs(one.instance) as new:

            def closed() -> bool:
                try:
                    old.next_frame(0.1)
                except TimeoutError:
                    return False
                except ConnectionClosed:
                    return True
                return False

            until(closed, "the end of the older session")
            tasks = Tasks(server.client(), cluster, f"{cluster}-newest")
            arn = tasks.run(tasks.define())
            assert [task["arn"] for task in new.payload()["tasks"]] == [arn]


def test_a_revoked_key_is_dead_at_once(
    server: Server, owner: Admin, machines: tuple[Machine, Machine], cluster: str
) -> None:
    """Its sessions are closed and no request of it is answered; others do not notice."""
    one, other = machines
    with Engine(one.instance) as engine, Engine(other.instance):
        server.wait_for_instance(cluster, 2)
        endpoints = one.instance.discover()
        revoked = owner("RevokeInstanceIdentity", containerInstance=one.instance.arn)
        assert revoked["identity"]["accessKeyId"] == one.key["accessKeyId"]
        until(lambda: not engine.thread.is_alive(), "the end of its session")
        with pytest.raises(InvalidStatus) as refusal:
            dial(one.instance, endpoints)
        assert b"security token included in the request is invalid" in refusal.value.response.body
        with pytest.raises(Refused):
            one.instance.register()
        other.instance.discover()
        rows = owner("ListInstanceIdentities", cluster=cluster)["instanceIdentities"]
        (row,) = [each for each in rows if each["accessKeyId"] == one.key["accessKeyId"]]
        assert row["identity"]["revokedAt"]
        told = row["containerInstance"]
        assert (told["containerInstanceArn"], told["agentConnected"]) == (one.instance.arn, False)
