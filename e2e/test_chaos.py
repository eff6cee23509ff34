"""Server and agent killed at random moments while real tasks come and go (DESIGN 7, "crash").

What must hold in the end: everything acknowledged is known, what should run runs in exactly one
container, what ended says how, and nothing is left over. The seed names the moments.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from support import docker
from support.ecs import Tasks, container
from support.processes import Agent, Server
from support.waiting import until

ROUNDS = 6
TINY = {"memory": 6, "cpu": 2}


class Chaos:
    """One run: the processes, the moments, and what was acknowledged."""

    def __init__(self, server: Server, agent: Agent, seed: int) -> None:
        self.server, self.agent = server, agent
        self.random = random.Random(seed)
        self.ecs = server.client()
        tasks = Tasks(self.ecs, "default", "unused")
        tasks.define(container("main", "trap", "7", **TINY), family="steady")
        tasks.define(container("main", "exit", "3", "200", **TINY), family="short")
        self.steady: list[str] = []
        self.short: list[str] = []
        self.ordered: set[str] = set()

    def persist(self, call: Any, **parameters: Any) -> dict[str, Any]:
        """Repeats a call until the server is there to answer it."""

        def attempt() -> dict[str, Any] | None:
            try:
                return call(**parameters)
            except (BotoCoreError, ClientError) as error:
                if isinstance(error, ClientError):
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    assert status >= 500, error
                return None

        return until(attempt, "an answer", 30)

    def run(self, family: str, count: int) -> list[str]:
        """Runs tasks; one token for all attempts, so that no attempt counts twice."""

        def attempt() -> list[str]:
            token = str(uuid.uuid4())
            answer = self.persist(
                self.ecs.run_task, taskDefinition=family, count=count, clientToken=token
            )
            assert {one["reason"] for one in answer["failures"]} <= {"AGENT"}
            return [task["taskArn"] for task in answer["tasks"]]

        return until(attempt, "the agent's return", 30)

    def work(self) -> None:
        """What users do in one round."""
        self.steady += self.run("steady", 6)
        self.short += self.run("short", 4)
        for arn in self.random.sample(self.steady, 3):
            self.persist(self.ecs.stop_task, task=arn)
            self.ordered.add(arn)

    def kill(self) -> None:
        """Kills one or both somewhere in the middle of it, and starts what was killed."""
        threading.Event().wait(self.random.uniform(0, 0.7))
        victims = self.random.choice([[self.server], [self.agent], [self.agent, self.server]])
        for victim in victims:
            victim.kill()
        threading.Event().wait(self.random.uniform(0, 0.3))
        for victim in reversed(victims):
            victim.start()

    def states(self) -> dict[str, dict[str, Any]]:
        """Every acknowledged task as the API tells it."""
        arns = self.steady + self.short
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(arns), 100):
            answer = self.ecs.describe_tasks(tasks=arns[start : start + 100])
            assert answer["failures"] == [], "an acknowledged task is not known"
            found |= {task["taskArn"]: task for task in answer["tasks"]}
        return found

    def supervise(self) -> None:
        """Starts the agent again, as its supervisor would: it leaves when nobody answers it."""
        if not self.agent.alive:
            self.agent.start()

    def settled(self) -> bool:
        """Whether every task is where it should be."""
        self.supervise()
        return all(
            task["lastStatus"] == ("RUNNING" if self.should_run(arn) else "STOPPED")
            for arn, task in self.states().items()
        )

    def should_run(self, arn: str) -> bool:
        """Steady tasks that nobody stopped."""
        return arn in self.steady and arn not in self.ordered

    def check(self) -> None:
        """The end: API and Docker tell the same, each task once."""
        states = self.states()
        copies: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in docker.of_account(self.server.account):
            copies[one["Config"]["Labels"][docker.LABEL + "task-arn"]].append(one)
        assert set(copies) <= set(states), "a container of a task that nobody asked for"
        for arn, task in states.items():
            started = [one for one in copies[arn] if one["State"]["StartedAt"] > "0002"]
            assert len(started) <= 1, f"{arn} ran {len(started)} times"
            alive = [one for one in started if one["State"]["Running"]]
            code = task["containers"][0].get("exitCode")
            if self.should_run(arn):
                assert [one["Id"] for one in alive] == [task["containers"][0]["runtimeId"]]
                assert code is None
            else:
                assert alive == [], f"{arn} is STOPPED and its container runs"
                # Not always 7: a signal may come before the program has installed its handler.
                assert code == (started[0]["State"]["ExitCode"] if started else None), task
            if arn in self.short:
                assert (code, task["stopCode"]) == (3, "EssentialContainerExited"), task
            if arn in self.ordered:
                assert task["stopCode"] == "UserInitiated", task
        (instance,) = self.server.wait_for_instance()
        assert instance["runningTasksCount"] == len(self.steady) - len(self.ordered)
        assert instance["pendingTasksCount"] == 0
        left = {r["name"]: r.get("integerValue") for r in instance["remainingResources"]}
        registered = {r["name"]: r.get("integerValue") for r in instance["registeredResources"]}
        assert registered["CPU"] - left["CPU"] == 2 * instance["runningTasksCount"]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_random_kills_lose_and_repeat_nothing(stage: Any, images: None, seed: int) -> None:
    server = stage.server()
    chaos = Chaos(server, stage.agent(server), seed)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(ROUNDS):
            work = pool.submit(chaos.work)
            chaos.kill()
            until(lambda: chaos.supervise() or work.done(), "the end of a round", 60)
            work.result()
    assert len(chaos.steady) == 6 * ROUNDS and len(chaos.short) == 4 * ROUNDS
    until(chaos.settled, "every task where it should be", 60)
    chaos.check()
