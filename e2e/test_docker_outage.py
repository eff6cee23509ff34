"""The Engine goes away and comes back: the agent survives, and catches up (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import Agent, Server
from support.proxy import DockerProxy
from support.waiting import until


class Outage:
    """A server, an agent that reaches Docker through a proxy, and tasks."""

    def __init__(self, stage: Any) -> None:
        self.proxy = DockerProxy(stage.folder / "docker.sock")
        self.server: Server = stage.server()
        self.agent: Agent = stage.agent(self.server, DOCKER_HOST=self.proxy.url)
        self.tasks = Tasks(self.server.client(), "default", "outage")

    def noticed(self) -> None:
        """Waits until the agent has found out."""
        before = len(self.agent.log.read_text())
        self.proxy.cut()
        until(lambda: len(self.agent.log.read_text()) > before, "a word in the agent's log")


@pytest.fixture
def outage(stage: Any, images: None) -> Iterator[Outage]:
    """The parts of each test."""
    outage = Outage(stage)
    yield outage
    if outage.proxy.listener:
        outage.proxy.cut()


def test_what_runs_and_what_ends_meanwhile(outage: Outage) -> None:
    """No event is missed for good: the agent looks again when the Engine is back."""
    definition = outage.tasks.define(container("main", "trap", "7"))
    stays, ends, goes = [
        task["taskArn"] for task in outage.tasks.request(definition, count=3)["tasks"]
    ]
    for arn in (stays, ends, goes):
        outage.tasks.wait(arn, "RUNNING")
    before = docker.of_task(stays)["main"]["State"]["StartedAt"]
    outage.noticed()
    docker.docker("kill", "--signal", "TERM", docker.of_task(ends)["main"]["Id"])
    docker.docker("rm", "--force", docker.of_task(goes)["main"]["Id"])
    assert outage.tasks.describe(ends)["lastStatus"] == "RUNNING", "nobody could know"
    outage.proxy.restore()
    assert outage.tasks.wait(ends, "STOPPED")["containers"][0]["exitCode"] == 7
    assert outage.tasks.wait(goes, "STOPPED")
    assert outage.tasks.describe(stays)["lastStatus"] == "RUNNING"
    assert docker.of_task(stays)["main"]["State"]["StartedAt"] == before
    assert outage.agent.alive


def test_orders_given_meanwhile_are_carried_out(outage: Outage) -> None:
    running = outage.tasks.start(container("main", "trap", "7"))
    outage.noticed()
    outage.tasks.ecs.stop_task(task=running)
    placed = outage.tasks.run("outage")
    outage.proxy.restore()
    assert outage.tasks.wait(running, "STOPPED")["containers"][0]["exitCode"] == 7
    task = outage.tasks.wait(placed, "RUNNING")
    seen = docker.of_task(placed)
    assert len(seen) == 1 and seen["main"]["Id"] == task["containers"][0]["runtimeId"]


def test_many_short_outages_start_nothing_twice(outage: Outage) -> None:
    """The connection breaks in the middle of create and start, again and again."""
    definition = outage.tasks.define(container("main", memory=8))
    arns = [task["taskArn"] for task in outage.tasks.request(definition, count=10)["tasks"]]
    for _ in range(6):
        outage.proxy.cut()
        outage.proxy.restore()
    ended = 0
    for arn in arns:
        status = until(
            lambda: outage.tasks.describe(arn)["lastStatus"] in ("RUNNING", "STOPPED"),
            f"the fate of {arn}",
            40,
        )
        task = outage.tasks.describe(arn)
        copies = docker.inspect(*docker.ids_with(docker.LABEL + "task-arn", arn))
        alive = [one["Id"] for one in copies if one["State"]["Running"]]
        if task["lastStatus"] == "RUNNING":
            assert alive == [task["containers"][0]["runtimeId"]]
        else:
            ended += 1
            assert alive == [] and task["containers"][0]["reason"], task
        assert status
    assert ended < len(arns), "an outage is not the end of everything"
    assert outage.agent.alive
