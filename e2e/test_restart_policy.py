"""Restart policies and port ranges: what Docker has, and what DescribeTasks says of it."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container, named
from support.processes import Agent
from support.waiting import until

# The shortest period that ECS allows.
PERIOD = 60


def policy(*ignored: int) -> dict[str, Any]:
    """A restart policy."""
    return {"enabled": True, "restartAttemptPeriod": PERIOD, "ignoredExitCodes": list(ignored)}


@pytest.mark.timeout(200)
def test_a_container_is_restarted_in_place(agent: Agent, tasks: Tasks) -> None:
    """It ran long enough: the same Docker container runs again, at the same port, and the task never ended. One that ignores
    the exit code, and one that ends too soon, stay down; so does one that is stopped."""
    long = str((PERIOD + 3) * 1000)
    port = {"portMappings": [{"containerPort": 80}], "stopTimeout": 2}
    arn = tasks.start(
        container("main"),
        container("again", "exit", "1", long, essential=False, restartPolicy=policy(), **port),
        container("ignored", "exit", "5", long, essential=False, restartPolicy=policy(5)),
        container("soon", "exit", "1", "500", essential=False, restartPolicy=policy()),
    )
    before = docker.of_task(arn)["again"]
    reported = named(tasks.describe(arn))["again"]

    def restarted() -> dict[str, Any] | None:
        now = docker.of_task(arn)["again"]
        return now if now["State"]["StartedAt"] != before["State"]["StartedAt"] else None

    after = until(restarted, "another start", PERIOD + 40)
    assert after["Id"] == before["Id"] and after["State"]["Running"]
    assert after["NetworkSettings"]["Ports"] == before["NetworkSettings"]["Ports"]

    def down() -> dict[str, Any] | None:
        told = named(tasks.describe(arn))
        return told if told["ignored"]["lastStatus"] == "STOPPED" else None

    told = until(down, "the end of the one that ignores its exit code", 40)
    assert (told["ignored"]["exitCode"], told["soon"]["exitCode"]) == (5, 1)
    assert told["soon"]["lastStatus"] == "STOPPED"
    assert told["again"]["lastStatus"] == "RUNNING" and "exitCode" not in told["again"]
    assert told["again"]["runtimeId"] == reported["runtimeId"]
    assert told["again"]["networkBindings"] == reported["networkBindings"]
    stopped = named(tasks.stop(arn))
    assert stopped["again"]["lastStatus"] == "STOPPED"
    time.sleep(1)
    assert not docker.of_task(arn)["again"]["State"]["Running"]


def test_a_range_of_ports_is_published_in_a_row(agent: Agent, tasks: Tasks) -> None:
    ranges = [
        {"containerPortRange": "7000-7004"},
        {"containerPortRange": "7000-7001", "protocol": "udp"},
        {"containerPort": 80},
    ]
    main = container("main", "listen", "7003", portMappings=ranges)
    arns = [task["taskArn"] for task in tasks.request(tasks.define(main), count=2)["tasks"]]
    seen: list[str] = []
    for arn in arns:
        task = tasks.wait(arn, "RUNNING")
        bindings = named(task)["main"]["networkBindings"]
        told = {(one.get("containerPortRange"), one["protocol"]): one for one in bindings}
        wide, narrow = told["7000-7004", "tcp"], told["7000-7001", "udp"]
        assert len(bindings) == 3 and told[None, "tcp"]["containerPort"] == 80, bindings
        first, last = map(int, wide["hostPortRange"].split("-"))
        assert last - first == 4 and "hostPort" not in wide and "containerPort" not in wide
        ports = docker.of_task(arn)["main"]["NetworkSettings"]["Ports"]
        for offset in range(5):
            hosts = {int(one["HostPort"]) for one in ports[f"{7000 + offset}/tcp"]}
            assert hosts == {first + offset}
        udp = [int(ports[f"{7000 + offset}/udp"][0]["HostPort"]) for offset in (0, 1)]
        assert narrow["hostPortRange"] == f"{udp[0]}-{udp[1]}" and udp[1] == udp[0] + 1
        with socket.create_connection(("127.0.0.1", first + 3), timeout=10) as peer:
            assert peer.recv(100) == b"hello\n"
        seen.append(wide["hostPortRange"])
    assert len(set(seen)) == 2
