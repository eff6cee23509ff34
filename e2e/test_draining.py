"""States of container instances: draining, deregistration with and without force (DESIGN 4)."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from support import docker
from support.ecs import Tasks, container, refused
from support.processes import BINARY, Agent, Server, clean_environment
from support.waiting import until
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import Instance, Refused

Fleet = Callable[..., Engine]


def set_status(ecs: Any, cluster: str, status: str, *arns: str) -> dict[str, Any]:
    """UpdateContainerInstancesState."""
    return ecs.update_container_instances_state(
        cluster=cluster, containerInstances=list(arns), status=status
    )


def status_of(ecs: Any, cluster: str, arn: str) -> str:
    """The status of an instance, as Describe tells it."""
    answer = ecs.describe_container_instances(cluster=cluster, containerInstances=[arn])
    assert not answer["failures"], answer["failures"]
    return answer["containerInstances"][0]["status"]


def listed(ecs: Any, cluster: str, **filters: str) -> set[str]:
    """ListContainerInstances."""
    answer = ecs.list_container_instances(cluster=cluster, **filters)
    return set(answer["containerInstanceArns"])


def nowhere_to_run(ecs: Any, cluster: str, tasks: Tasks) -> bool:
    """Whether RunTask says so, in ECS's words."""
    message = refused(
        ecs.run_task, "InvalidParameterException", cluster=cluster, taskDefinition=tasks.family
    )
    return message == "No Container Instances were found in your cluster."


def registered(ecs: Any, cluster: str) -> int:
    """The cluster's counter of instances."""
    (one,) = ecs.describe_clusters(clusters=[cluster])["clusters"]
    return one["registeredContainerInstancesCount"]


@pytest.fixture
def here(ecs: Any, cluster: str, family: str) -> Tasks:
    """Tasks of the test's own cluster."""
    tasks = Tasks(ecs, cluster, family)
    tasks.define(container(cpu=10, memory=10))
    return tasks


##### Draining


def test_a_draining_instance_keeps_its_tasks_and_gets_none(
    ecs: Any, cluster: str, here: Tasks, fleet: Fleet
) -> None:
    first, second = fleet().instance.arn, fleet().instance.arn
    kept = [task["taskArn"] for task in here.request(count=6)["tasks"]]
    for arn in kept:
        here.wait(arn, "RUNNING")
    answer = set_status(ecs, cluster, "DRAINING", first)
    assert answer["failures"] == []
    assert [one["status"] for one in answer["containerInstances"]] == ["DRAINING"]
    assert answer["containerInstances"][0]["containerInstanceArn"] == first

    fresh = here.request(count=10)["tasks"]
    assert {task["containerInstanceArn"] for task in fresh} == {second}
    assert {here.describe(arn)["lastStatus"] for arn in kept} == {"RUNNING"}
    assert listed(ecs, cluster, status="DRAINING") == {first}
    assert listed(ecs, cluster, status="ACTIVE") == {second}
    assert listed(ecs, cluster) == {first, second}
    assert registered(ecs, cluster) == 2

    set_status(ecs, cluster, "DRAINING", second)
    assert nowhere_to_run(ecs, cluster, here)

    set_status(ecs, cluster, "ACTIVE", first)
    again = here.request(count=3)["tasks"]
    assert {task["containerInstanceArn"] for task in again} == {first}


def test_draining_survives_restarts(stage: Any) -> None:
    """It is durable on the server, and not the agent's to end."""
    server: Server = stage.server()
    instance = Instance(server.endpoint, server.key)
    instance.register()
    with Engine(instance):
        server.wait_for_instance()
        set_status(server.client(), "default", "DRAINING", instance.arn)
        server.kill()
        server.start()
        assert status_of(server.client(), "default", instance.arn) == "DRAINING"
    instance.register()
    with Engine(instance):
        server.wait_for_instance()
        assert status_of(server.client(), "default", instance.arn) == "DRAINING"


def test_what_cannot_be_drained(ecs: Any, cluster: str, fleet: Fleet) -> None:
    arn = fleet().instance.arn
    missing = arn[:-32] + "0" * 32
    answer = set_status(ecs, cluster, "DRAINING", missing, arn)
    assert [(one["arn"], one["reason"]) for one in answer["failures"]] == [(missing, "MISSING")]
    assert [one["containerInstanceArn"] for one in answer["containerInstances"]] == [arn]
    call = ecs.update_container_instances_state
    for status in ("INACTIVE", "REGISTERING", "nonsense"):
        refused(
            call,
            "InvalidParameterException",
            cluster=cluster,
            containerInstances=[arn],
            status=status,
        )
    refused(
        call,
        "InvalidParameterException",
        cluster=cluster,
        containerInstances=[arn] * 11,
        status="ACTIVE",
    )
    refused(
        call,
        "ClusterNotFoundException",
        cluster="nowhere",
        containerInstances=[arn],
        status="ACTIVE",
    )


##### Deregistration


def test_with_tasks_it_takes_force(ecs: Any, cluster: str, here: Tasks, fleet: Fleet) -> None:
    """ECS's own refusal; nothing changes."""
    arn = fleet().instance.arn
    task = here.run()
    here.wait(task, "RUNNING")
    for force in ({}, {"force": False}):
        message = refused(
            ecs.deregister_container_instance,
            "InvalidParameterException",
            cluster=cluster,
            containerInstance=arn,
            **force,
        )
        assert message == "Found running tasks on the instance."
    assert status_of(ecs, cluster, arn) == "ACTIVE"
    assert here.describe(task)["lastStatus"] == "RUNNING"


def test_an_empty_instance_is_given_back_at_once(ecs: Any, cluster: str, fleet: Fleet) -> None:
    """INACTIVE: describable for a while, but neither listed nor counted, nor there for anything."""
    engine = fleet()
    arn = engine.instance.arn
    answer = ecs.deregister_container_instance(cluster=cluster, containerInstance=arn)
    assert answer["containerInstance"]["status"] == "INACTIVE"
    assert status_of(ecs, cluster, arn) == "INACTIVE"
    assert listed(ecs, cluster) == set() and registered(ecs, cluster) == 0
    (failure,) = set_status(ecs, cluster, "ACTIVE", arn)["failures"]
    assert (failure["arn"], failure["reason"]) == (arn, "INACTIVE")
    refused(
        ecs.deregister_container_instance,
        "ClientException",
        "InvalidParameterException",
        cluster=cluster,
        containerInstance=arn,
    )
    until(lambda: not engine.thread.is_alive(), "the end of the session")
    with pytest.raises(InvalidStatus) as refusal:
        Acs(engine.instance)
    assert b"InactiveInstanceException" in refusal.value.response.body
    with pytest.raises(Refused) as caught:
        engine.instance.register()
    assert caught.value.code == "ClientException"


def test_force_stops_the_tasks_first(ecs: Any, cluster: str, here: Tasks, fleet: Fleet) -> None:
    """ECS would leave them running, orphaned; we have no virtual machine to terminate."""
    engine = fleet()
    arn = engine.instance.arn
    tasks = [task["taskArn"] for task in here.request(count=5)["tasks"]]
    for task in tasks:
        here.wait(task, "RUNNING")
    ecs.deregister_container_instance(cluster=cluster, containerInstance=arn, force=True)
    for task in tasks:
        ended = here.wait(task, "STOPPED")
        assert ended["containers"][0]["exitCode"] == 143, "its agent was told, and told"
        assert "deregistration forced" in ended["stoppedReason"], ended
    until(lambda: status_of(ecs, cluster, arn) == "INACTIVE", "INACTIVE when the last is STOPPED")
    assert engine.tasks == {}
    assert listed(ecs, cluster) == set()


def test_force_without_an_agent_forgets_at_once(
    ecs: Any, cluster: str, here: Tasks, fleet: Fleet
) -> None:
    """Whoever deregisters a machine that is not there says that it is gone."""
    engine = fleet()
    task = here.run()
    here.wait(task, "RUNNING")
    engine.disconnect()
    ecs.deregister_container_instance(
        cluster=cluster, containerInstance=engine.instance.arn, force=True
    )
    assert here.describe(task)["lastStatus"] == "STOPPED"
    assert status_of(ecs, cluster, engine.instance.arn) == "INACTIVE"


def test_while_it_is_deregistering_nothing_comes(
    ecs: Any, cluster: str, here: Tasks, instance: Instance, server: Server
) -> None:
    """Between the order and the last STOPPED the instance is shown as what it is."""
    with Acs(instance) as acs:
        server.wait_for_instance(cluster)
        arn = here.run()
        acs.ack(acs.payload())
        instance.submit(arn, "RUNNING")
        ecs.deregister_container_instance(
            cluster=cluster, containerInstance=instance.arn, force=True
        )
        assert status_of(ecs, cluster, instance.arn) == "DEREGISTERING"
        assert nowhere_to_run(ecs, cluster, here)
        (order,) = acs.payload()["tasks"]
        assert (order["arn"], order["desiredStatus"]) == (arn, "STOPPED")
        instance.submit(arn, "STOPPED")
        assert status_of(ecs, cluster, instance.arn) == "INACTIVE"


##### Our agent


def drain(agent: Agent, *arguments: str) -> str:
    """`longshore agent drain`, on the machine of an agent."""
    done = subprocess.run(
        [str(BINARY), "agent", "drain", *arguments],
        env=clean_environment(**agent.settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_machine_drains_itself(server: Server, agent: Agent, tasks: Tasks) -> None:
    """`longshore agent drain` returns when the last task is gone; --undo takes it back."""
    (before,) = server.wait_for_instance()
    arn, ecs = before["containerInstanceArn"], server.client()
    task = tasks.start(container("main", "trap", "7"))
    drain(agent)
    assert status_of(ecs, "default", arn) == "DRAINING"
    assert tasks.describe(task)["lastStatus"] == "RUNNING"

    waiting = threading.Thread(target=drain, args=(agent, "--wait", "40s"))
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive(), "there is a task"
    tasks.stop(task)
    waiting.join(15)
    assert not waiting.is_alive(), "there is none"

    drain(agent, "--undo")
    assert status_of(ecs, "default", arn) == "ACTIVE"
    tasks.start(container())


def test_an_agent_tells_people_who_it_is(server: Server, agent: Agent) -> None:
    """`agent.json`, which `drain` reads, too."""
    facts = json.loads((Path(agent.settings["ECS_DATADIR"]) / "agent.json").read_text())
    (instance,) = server.wait_for_instance()
    assert facts["containerInstanceArns"] == [instance["containerInstanceArn"]]
    assert facts["pid"] == agent.child.pid
    assert (facts["server"], facts["cluster"]) == (server.endpoint, "default")


def test_force_stops_real_containers(stage: Any, images: None) -> None:
    """The containers are gone, and the agent, which is nobody now, rests."""
    server: Server = stage.server()
    agent: Agent = stage.agent(server)
    tasks = Tasks(server.client(), "default", "forced")
    arn = tasks.start(container("main", "trap", "7"))
    (instance,) = server.wait_for_instance()
    tasks.ecs.deregister_container_instance(
        containerInstance=instance["containerInstanceArn"], force=True
    )
    assert tasks.wait(arn, "STOPPED")["containers"][0]["exitCode"] == 7
    assert not [one for one in docker.of_account(server.account) if one["State"]["Running"]]
    until(
        lambda: status_of(tasks.ecs, "default", instance["containerInstanceArn"]) == "INACTIVE",
        "INACTIVE",
    )
    assert agent.alive
