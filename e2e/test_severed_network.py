"""The network between an agent and the control plane is severed, and mended: what happened meanwhile is told afterwards, in
its order, and nothing ran twice. Ten minutes of it are for `make soak`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from conftest import own_account
from support.docker import LABEL
from support.ecs import Tasks, container
from support.hosts import HostCluster, Hosts
from support.waiting import until

HOSTS = ("h1",)
CUTS = [1, 60, 600] if "LONGSHORE_SOAK" in os.environ else [1, 60]


class World(HostCluster):
    """One host that nobody gives up, and short words for what runs there."""

    def __init__(self, hosts: Hosts, folder: Path, account: str) -> None:
        super().__init__(hosts, list(HOSTS), folder, account, "--instance-lost-after", "never")
        self.tasks = Tasks(self.ecs, "default", "severed")

    def containers(self, arn: str) -> dict[str, dict[str, Any]]:
        """Container name → what the host's Engine says of it; none of them twice."""
        found: dict[str, dict[str, Any]] = {}
        for one in self.host("h1").containers():
            labels = one["Config"]["Labels"]
            if labels.get(LABEL + "task-arn") == arn:
                name = labels[LABEL + "container-name"]
                assert name not in found, f"{name} of {arn} was made twice"
                found[name] = one
        return found


@pytest.fixture(scope="module")
def world(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, account: str) -> Iterator[World]:
    """A server on a host, an agent with an Engine on another."""
    world = World(hosts, tmp_path_factory.mktemp("severed"), own_account(account))
    yield world
    world.close()


@pytest.mark.parametrize("seconds", CUTS)
@pytest.mark.timeout(max(CUTS) + 180)
def test_what_happens_meanwhile_is_told_afterwards(world: World, seconds: int) -> None:
    """A task ends, another passes through its whole life, a third runs on; an order waits."""
    tasks = world.tasks
    long = tasks.define(container("main", "trap", "7"))
    stays, ends, stopped = [task["taskArn"] for task in tasks.request(long, count=3)["tasks"]]
    for arn in (stays, ends, stopped):
        tasks.wait(arn, "RUNNING")
    condition = {"containerName": "first", "condition": "SUCCESS"}
    first = container("first", "exit", "0", "1500", essential=False)
    then = container("main", "exit", "3", "300", dependsOn=[condition])
    meanwhile = tasks.run(tasks.define(first, then, family="pair"))
    until(lambda: world.containers(meanwhile).get("first"), "its first container")
    before = world.containers(stays)["main"]

    world.host("h1").cut()
    severed = time.monotonic()
    world.ecs.stop_task(cluster="default", task=stopped)
    world.host("h1").docker("kill", "--signal", "TERM", world.containers(ends)["main"]["Id"])

    def ended(arn: str) -> bool:
        main = world.containers(arn).get("main")
        return main is not None and main["State"]["Status"] == "exited"

    if seconds > 10:
        until(lambda: ended(ends) and ended(meanwhile), "the ends that nobody can tell", 30)
        assert tasks.describe(ends)["lastStatus"] == "RUNNING"
        assert not ended(stopped), "nobody could tell the host"
    time.sleep(max(0.0, severed + seconds - time.monotonic()))
    healed = datetime.now(timezone.utc)
    world.host("h1").heal()

    told = tasks.wait(meanwhile, "STOPPED", 90)
    assert {one["name"]: one["exitCode"] for one in told["containers"]} == {"first": 0, "main": 3}
    assert told["startedAt"] <= told["stoppedAt"], "that it ran was told before its end"
    for arn in (ends, stopped):
        told = tasks.wait(arn, "STOPPED", 90)
        assert told["containers"][0]["exitCode"] == 7
        # It ended when it did, whenever that could be told.
        if arn == ends and seconds > 10:
            assert told["startedAt"] <= told["executionStoppedAt"] < healed
    world.wait_connected("h1")
    assert tasks.describe(stays)["lastStatus"] == "RUNNING"
    assert world.containers(stays)["main"]["State"] == before["State"], "untouched"
    assert [len(world.containers(arn)) for arn in (stays, ends, stopped, meanwhile)] == [1, 1, 1, 2]
    assert tasks.stop(stays)["containers"][0]["exitCode"] == 7
