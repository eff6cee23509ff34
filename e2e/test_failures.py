"""Tasks that cannot start say why, in ECS's words, and take nothing else with them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import Agent

pytestmark = pytest.mark.usefixtures("agent")
# Nobody listens there, so a pull ends quickly wherever the tests run.
MISSING = "127.0.0.1:1/no-such-image:1"


def outcome(tasks: Tasks, arn: str, within: float = 30) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task that ended, and its container."""
    task = tasks.wait(arn, "STOPPED", within)
    return task, task["containers"][0]


def check_unable_to_start(task: dict[str, Any], one: dict[str, Any], error: str) -> None:
    """stopCode, and the reason on the task and on its container."""
    assert task["stopCode"] == "TaskFailedToStart", task
    assert one["reason"].startswith(error), one
    assert task["stoppedReason"].startswith((error, "Essential container in task exited")), task
    assert "exitCode" not in one, "it never ran"
    assert "startedAt" not in task


@pytest.mark.timeout(150)
def test_an_image_that_does_not_exist(tasks: Tasks) -> None:
    """Given up after several tries, about half a minute; others start meanwhile."""
    lost = tasks.run(tasks.define(container(image=MISSING)))
    other = tasks.run(tasks.define(container(), family=tasks.family + "-other"))
    tasks.wait(other, "RUNNING")
    task, one = outcome(tasks, lost, 90)
    check_unable_to_start(task, one, "CannotPull")
    assert "no-such-image" in one["reason"] or "connection refused" in one["reason"]
    assert docker.of_task(lost) == {}


def test_a_command_that_does_not_exist(tasks: Tasks) -> None:
    arn = tasks.run(tasks.define(container("main", entryPoint=["/no/such/program"])))
    task, one = outcome(tasks, arn)
    check_unable_to_start(
        task, {key: one[key] for key in one if key != "exitCode"}, "CannotStartContainerError"
    )
    assert "/no/such/program" in one["reason"]


@pytest.fixture
def outsider() -> Iterator[int]:
    """A port taken by a program that Longshore knows nothing of."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_host_port_taken_by_an_outsider(tasks: Tasks, outsider: int) -> None:
    mapping = [{"containerPort": 80, "hostPort": outsider}]
    arn = tasks.run(tasks.define(container(portMappings=mapping)))
    task, one = outcome(tasks, arn)
    assert task["stopCode"] == "TaskFailedToStart"
    assert one["reason"].startswith("CannotStartContainerError"), one
    assert str(outsider) in one["reason"]
    again = tasks.request(tasks.family)
    assert again["failures"] == [], "the reservation ended with the task"


def test_out_of_memory_is_named(tasks: Tasks) -> None:
    arn = tasks.run(tasks.define(container("main", "oom", memory=8)))
    task, one = outcome(tasks, arn)
    assert task["stopCode"] == "EssentialContainerExited"
    assert one["exitCode"] == 137
    assert one["reason"].startswith("OutOfMemoryError"), one


def test_one_container_that_fails_takes_the_task_with_it(tasks: Tasks) -> None:
    arn = tasks.run(
        tasks.define(
            container("good", "trap", "6"), container("bad", entryPoint=["/no/such/program"])
        )
    )
    task = tasks.wait(arn, "STOPPED")
    assert {one["lastStatus"] for one in task["containers"]} == {"STOPPED"}
    assert all(not one["State"]["Running"] for one in docker.of_task(arn).values())


def test_a_failed_dependency_fails_its_dependent(tasks: Tasks) -> None:
    """SUCCESS with a non-zero exit is terminal (AGENT-PROTOCOL 5.5)."""
    arn = tasks.run(
        tasks.define(
            container("main", dependsOn=[{"containerName": "init", "condition": "SUCCESS"}]),
            container("init", "exit", "1", essential=False),
        )
    )
    task = tasks.wait(arn, "STOPPED")
    init = next(one for one in task["containers"] if one["name"] == "init")
    assert init["exitCode"] == 1
    seen = docker.of_task(arn)
    assert "main" not in seen or seen["main"]["State"]["Status"] == "created"


def test_what_our_agent_cannot_do_is_not_placed_on_it(tasks: Tasks) -> None:
    """It advertises only what its machine has: here, no plugin for such volumes."""
    volume = {"name": "data", "dockerVolumeConfiguration": {"driver": "rexray/ebs", "scope": "task"}}
    answer = tasks.request(tasks.define(container(), volumes=[volume]))
    assert answer["tasks"] == []
    assert [one["reason"] for one in answer["failures"]] == ["ATTRIBUTE"]


def test_the_agent_survives_all_of_it(tasks: Tasks, agent: Agent) -> None:
    """After every failure above the same process still starts tasks."""
    assert agent.alive
    tasks.start(container())
