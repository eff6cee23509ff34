"""The clients: each does one thing after another, and everything it learns is recorded."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from crash.observed import ANSWERED, REFUSED, UNKNOWN, Call, Reading, Recorder
from support.ecs import container

# What the tasks are made of. Little, so that two cores carry dozens: 6 MiB is what Docker grants at
# least. A program that is told to stop before it listens to signals has to be killed.
TINY = {"memory": 6, "stopTimeout": 2}
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "steady": [container("main", "trap", "7", cpu=2, **TINY)],
    "short": [container("main", "exit", "3", "200", cpu=3, **TINY)],
    "pair": [
        container(
            "front",
            "trap",
            "0",
            cpu=4,
            dependsOn=[{"containerName": "back", "condition": "START"}],
            **TINY,
        ),
        container("back", "trap", "0", cpu=1, **TINY),
    ],
    "port": [
        container(
            "main",
            "listen",
            "80",
            cpu=2,
            portMappings=[{"containerPort": 80, "hostPort": 9000}],
            **TINY,
        )
    ],
}
GROWING = "growing"


class Shared:
    """What the clients tell each other, and how much they may keep running."""

    def __init__(self, living: int) -> None:
        self.lock = threading.Lock()
        self.limit = living
        # Tasks that run until they are stopped.
        self.living: list[str] = []
        # All that anybody was told of lately.
        self.recent: list[str] = []
        # Answered requests, to be repeated.
        self.requests: list[dict[str, Any]] = []
        self.revisions = 0
        self.stop = threading.Event()

    def placed(self, request: dict[str, Any], arns: list[str]) -> None:
        """New tasks."""
        with self.lock:
            self.recent = (self.recent + arns)[-400:]
            self.requests = [*self.requests, request][-200:]
            if not request["taskDefinition"].startswith("short"):
                self.living += arns

    def room(self) -> bool:
        """Whether more may run."""
        return len(self.living) < self.limit

    def choose(self, source: random.Random) -> str | None:
        """A task to stop; nobody else will choose it."""
        with self.lock:
            return self.living.pop(source.randrange(len(self.living))) if self.living else None


class Client(threading.Thread):
    """One client, with a connection and a stream of random numbers of its own."""

    def __init__(self, name: str, ecs: Any, recorder: Recorder, shared: Shared, seed: str) -> None:
        super().__init__(name=name, daemon=True)
        self.ecs, self.recorder, self.shared = ecs, recorder, shared
        self.random = random.Random(f"{seed} {name}")
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Works until told to stop."""
        try:
            while not self.shared.stop.is_set():
                self.step()
                self.shared.stop.wait(self.random.uniform(0.05, 0.5))
        except BaseException as error:  # noqa: BLE001 (whatever it is, the run must fail)
            self.failure = error

    def step(self) -> None:
        """One thing that clients do, most often what keeps the cluster busy."""
        what: list[tuple[int, Callable[[], object]]] = [
            (6 if self.shared.room() else 0, self.run_tasks),
            (2, self.repeat),
            (2 if self.shared.room() else 8, self.stop_task),
            (6, self.describe),
            (2, self.list),
            (1, self.register),
        ]
        weights, choices = zip(*what, strict=True)
        self.random.choices(choices, weights)[0]()

    ##### What they ask

    def run_tasks(self) -> None:
        """Runs some tasks; after an unknown outcome it asks again, with the same token."""
        token = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        families = [
            *FAMILIES,
            f"{GROWING}:{self.shared.revisions}" if self.shared.revisions else "steady",
        ]
        request = {
            "taskDefinition": self.random.choices(families, [4, 4, 2, 1, 1])[0],
            "count": self.random.choice([1, 1, 2, 3]),
            "clientToken": token,
            "startedBy": token,
        }
        while (call := self.call("RunTask", request)).outcome == UNKNOWN:
            if self.shared.stop.is_set() or self.random.random() < 0.02:
                return  # the client was killed, too
            time.sleep(0.1)
        if call.outcome == ANSWERED:
            self.shared.placed(request, [task.arn for task in call.tasks])

    def repeat(self) -> None:
        """Asks again what was answered before."""
        if self.shared.requests:
            self.call("RunTask", self.random.choice(self.shared.requests))

    def stop_task(self) -> None:
        """Stops a task. Half of the clients insist on an answer."""
        if arn := self.shared.choose(self.random):
            insist = self.random.random() < 0.5
            while self.call("StopTask", {"task": arn}).outcome == UNKNOWN and insist:
                if self.shared.stop.is_set():
                    return
                time.sleep(0.1)

    def describe(self) -> None:
        """Reads what is known of some tasks."""
        recent = self.shared.recent
        if recent:
            arns = self.random.sample(recent, min(len(recent), self.random.choice([1, 10, 50])))
            self.call("DescribeTasks", {"tasks": arns})

    def list(self) -> None:
        """Reads which tasks there are."""
        self.call("ListTasks", {})

    def register(self) -> None:
        """Registers a revision unlike the others."""
        cpu = self.random.randint(1, 9)
        call = self.call("RegisterTaskDefinition", {"family": GROWING, "cpu": cpu, "memory": 6})
        if call.revision:
            self.shared.revisions = max(self.shared.revisions, call.revision)

    ##### How they ask

    def call(self, operation: str, request: dict[str, Any]) -> Call:
        """One attempt, recorded whatever comes of it."""
        began = time.monotonic()
        try:
            learned: dict[str, Any] = PERFORM[operation](self.ecs, request)
            outcome = ANSWERED
        except ClientError as error:
            told = error.response["Error"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            outcome = UNKNOWN if status >= 500 else REFUSED
            learned = {"error": f"{told['Code']}: {told.get('Message', '')}"}
        except BotoCoreError as error:
            outcome, learned = UNKNOWN, {"error": type(error).__name__}
        ended = time.monotonic()
        call = Call(self.name, operation, request, began, ended, outcome, **learned)
        self.recorder.call(call)
        return call


class Drainer(Client):
    """Takes instances out of service and back, one after the other."""

    def __init__(self, *arguments: Any, instances: list[str]) -> None:
        super().__init__(*arguments)
        self.instances = instances

    def step(self) -> None:
        """Drains one instance for a while; it always ends ACTIVE."""
        instance = self.random.choice(self.instances)
        self.insist(instance, "DRAINING")
        self.shared.stop.wait(self.random.uniform(0.2, 3))
        self.insist(instance, "ACTIVE")
        self.shared.stop.wait(self.random.uniform(1, 4))

    def insist(self, instance: str, status: str) -> None:
        """Until it is answered, also when the run is about to end."""
        request = {"instance": instance, "status": status}
        deadline = time.monotonic() + 60
        while self.call("UpdateContainerInstancesState", request).outcome == UNKNOWN:
            assert time.monotonic() < deadline, "no answer for a minute"
            time.sleep(0.1)


def run_task(ecs: Any, request: dict[str, Any]) -> dict[str, Any]:
    answer = ecs.run_task(**request)
    return {
        "tasks": [Reading.of(task) for task in answer["tasks"]],
        "failures": [failure["reason"] for failure in answer["failures"]],
    }


def stop_task(ecs: Any, request: dict[str, Any]) -> dict[str, Any]:
    return {"tasks": [Reading.of(ecs.stop_task(**request)["task"])]}


def describe_tasks(ecs: Any, request: dict[str, Any]) -> dict[str, Any]:
    answer = ecs.describe_tasks(**request)
    return {
        "tasks": [Reading.of(task) for task in answer["tasks"]],
        "failures": [failure["arn"] for failure in answer["failures"]],
    }


def list_tasks(ecs: Any, request: dict[str, Any]) -> dict[str, Any]:
    pages = ecs.get_paginator("list_tasks").paginate(**request)
    return {"arns": [arn for page in pages for arn in page["taskArns"]]}


def register(ecs: Any, request: dict[str, Any]) -> dict[str, Any]:
    one = container("main", "trap", "7", cpu=request["cpu"], memory=request["memory"])
    answer = ecs.register_task_definition(family=request["family"], containerDefinitions=[one])
    return {"revision": answer["taskDefinition"]["revision"]}


def update_state(ecs: Any, request: dict[str, Any]) -> dict[str, Any]:
    answer = ecs.update_container_instances_state(
        containerInstances=[request["instance"]], status=request["status"]
    )
    return {"failures": [failure["reason"] for failure in answer["failures"]]}


PERFORM: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "RunTask": run_task,
    "StopTask": stop_task,
    "DescribeTasks": describe_tasks,
    "ListTasks": list_tasks,
    "RegisterTaskDefinition": register,
    "UpdateContainerInstancesState": update_state,
}
