"""The example schedulers, as they stand, on three real instances."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.ecs import Tasks, container
from support.processes import LOGS, Server, clean_environment, exported
from support.waiting import until
from test_agent.engine import Engine

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "schedulers"
PACKING = EXAMPLES / "packing" / "Cargo.toml"


@pytest.fixture(scope="module")
def instances(module_stage: Any, server: Server, images: None) -> list[str]:
    """Three instances of one agent, in the order of their registration."""
    module_stage.agent(
        server, LONGSHORE_INSTANCES="3", LONGSHORE_MEMORY="128", LONGSHORE_CPU="1024"
    )
    server.wait_for_instance(count=3)
    listed = server.client().list_container_instances(cluster="default")
    return listed["containerInstanceArns"]


Begin = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def begin(server: Server, tmp_path: Path) -> Iterator[Begin]:
    """Starts a scheduler with nothing but what `longshore env` exports."""
    children: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        log = LOGS["scheduler"] = tmp_path / "scheduler.log"
        environment = clean_environment() | exported(server.data) | {"HOME": str(tmp_path)}
        with log.open("ab") as out:
            children.append(
                subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=tmp_path)
            )
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait(10)


class Started:
    """What a scheduler has started."""

    def __init__(self, server: Server, mark: str) -> None:
        self.tasks = Tasks(server.client(), "default", f"f-{mark}")
        self.mark = mark

    def running(self) -> dict[str, str]:
        """Its tasks that run, each with its instance."""
        arns = self.tasks.listed(startedBy=self.mark)
        all_tasks = [self.tasks.describe(arn) for arn in arns]
        self.tasks.arns = sorted({*self.tasks.arns, *arns})
        return {
            task["taskArn"]: task["containerInstanceArn"]
            for task in all_tasks
            if task["lastStatus"] == "RUNNING" and task["desiredStatus"] == "RUNNING"
        }

    def until(self, count: int) -> dict[str, str]:
        """Waits until so many run, and no more are on their way."""
        until(lambda: len(self.running()) == count, f"{count} tasks of {self.mark}", 60)
        assert len(self.tasks.listed(startedBy=self.mark)) == count
        return self.running()


@pytest.fixture
def started(server: Server, request: Any) -> Iterator[Callable[[str], Started]]:
    """Looks at what a scheduler does, and stops it all at the end."""
    made: list[Started] = []

    def of(mark: str) -> Started:
        made.append(Started(server, mark))
        return made[-1]

    yield of
    for one in made:
        one.running()
        one.tasks.stop_all()


def test_first_fit(
    server: Server, instances: list[str], begin: Begin, started: Callable[[str], Started]
) -> None:
    assert len((EXAMPLES / "first_fit.py").read_text().splitlines()) <= 60
    mine = started("first-fit")
    # Three fit on an instance.
    definition = mine.tasks.define(container("main", "sleep", "600", memory=40))
    child = begin(sys.executable, str(EXAMPLES / "first_fit.py"), "--count", "7", definition)
    where = mine.until(7)
    assert Counter(where.values()) == dict(zip(instances, (3, 3, 1), strict=True))
    # One ends: the event of it makes room on the first instance, and that is where the next one goes.
    victim = next(arn for arn, home in where.items() if home == instances[0])
    server.client().stop_task(cluster="default", task=victim)
    again = until(lambda: mine.running() if victim not in mine.running() else {}, "the end", 60)
    again = mine.until(7)
    assert victim not in again and again.keys() > where.keys() - {victim}
    assert Counter(again.values())[instances[0]] in (2, 3)
    # A server that is killed is a pause, and no end.
    server.kill()
    server.start()
    server.wait_for_instance(count=3)
    victim = next(iter(again))
    server.client().stop_task(cluster="default", task=victim)
    until(lambda: victim not in mine.running(), "the end", 60)
    mine.until(7)
    assert child.poll() is None
    child.kill()


def test_first_fit_keeps_more_than_a_page_lists(
    server: Server, ecs: Any, cluster: str, fleet: Callable[..., Engine], begin: Begin
) -> None:
    fleet(cpu=100_000, memory=100_000)
    tasks = Tasks(ecs, cluster, f"f-{cluster}")
    definition = tasks.define(container())
    scheduler = str(EXAMPLES / "first_fit.py")
    child = begin(sys.executable, scheduler, "--cluster", cluster, "--count", "120", definition)

    def copies() -> int:
        pages = ecs.get_paginator("list_tasks").paginate(cluster=cluster, startedBy="first-fit")
        return sum(len(page["taskArns"]) for page in pages)

    until(lambda: copies() >= 120, "120 copies", 60)
    # Each of them is an event, at which it looks again.
    time.sleep(3)
    assert copies() == 120 and child.poll() is None


@pytest.fixture(scope="module")
def packing() -> Path:
    """The scheduler in Rust, compiled into the workspace's target directory."""
    target = os.environ.get("CARGO_TARGET_DIR", str(EXAMPLES.parent.parent / "target"))
    command = ["cargo", "build", "--locked", "--manifest-path", str(PACKING)]
    built = subprocess.run([*command, "--target-dir", target], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return Path(target) / "debug" / "packing"


@pytest.mark.timeout(600)
def test_packing_by_measured_use(
    server: Server,
    instances: list[str],
    packing: Path,
    begin: Begin,
    started: Callable[[str], Started],
) -> None:
    """What is reserved would fit on one instance; what is used needs two."""
    mine = started("packing")
    hold = container("main", "hold", "40", memory=64, memoryReservation=6)
    definition = mine.tasks.define(hold)
    command = [str(packing), "--expected", "100", "--warm-up", "3", "--interval", "1", definition]
    child = begin(*command, "--count", "1")
    where = mine.until(1)
    assert list(where.values()) == instances[:1]
    child.kill()
    time.sleep(4)
    # Measured, and not as the command line guessed: two of 40 MiB are within 90 % of 128 MiB, and three are not.
    begin(*command, "--count", "4")
    where = mine.until(4)
    assert Counter(where.values()) == dict(zip(instances[:2], (2, 2), strict=True))
    # What is reserved would have fitted on the first.
    ecs = server.client()
    (first,) = ecs.describe_container_instances(containerInstances=instances[:1])["containerInstances"]
    left = {one["name"]: one["integerValue"] for one in first["remainingResources"]}
    assert left["MEMORY"] == 128 - 2 * 6
