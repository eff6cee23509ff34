"""What was observed in a run: every call of every client, every container, and the end.

All of it is plain data that goes to a file and back, so that a run can be judged again later.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ANSWERED = "answered"
REFUSED = "refused"
# No answer, or one that says that it may have been done (5xx): it was done, once, or it was not.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reading:
    """A task as one answer told it."""

    arn: str
    status: str
    desired: str
    version: int
    instance: str | None = None
    definition: str = ""
    started_by: str | None = None
    stop_code: str | None = None
    stopped_at: float | None = None
    # Container name → [runtime id, exit code, reason], as far as they are known.
    containers: dict[str, list[Any]] = field(default_factory=dict)

    @staticmethod
    def of(task: dict[str, Any]) -> Reading:
        """From an answer of the API."""
        stopped_at = task.get("stoppedAt")
        return Reading(
            arn=task["taskArn"],
            status=task["lastStatus"],
            desired=task["desiredStatus"],
            version=task["version"],
            instance=task.get("containerInstanceArn"),
            definition=task["taskDefinitionArn"],
            started_by=task.get("startedBy"),
            stop_code=task.get("stopCode"),
            stopped_at=stopped_at.timestamp() if stopped_at else None,
            containers={
                one["name"]: [one.get("runtimeId"), one.get("exitCode"), one.get("reason")]
                for one in task["containers"]
            },
        )


@dataclass(frozen=True)
class Call:
    """One attempt of one client: what it asked, when, and what it learned."""

    client: str
    operation: str
    request: dict[str, Any]
    began: float
    ended: float
    outcome: str
    # Of RunTask, StopTask, DescribeTasks.
    tasks: list[Reading] = field(default_factory=list)
    # Of ListTasks.
    arns: list[str] = field(default_factory=list)
    # ARNs that DescribeTasks does not know, or reasons why RunTask did not place.
    failures: list[str] = field(default_factory=list)
    # Of RegisterTaskDefinition.
    revision: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Sighting:
    """A container of a task as Docker's events, the kernel or `docker inspect` showed it."""

    host: str
    task: str
    name: str
    container: str
    # "created", "start" (an event: one for each start), "ran" (seen to run, or to have run).
    what: str
    at: float


@dataclass(frozen=True)
class Instance:
    """A container instance at the end."""

    arn: str
    host: str
    status: str
    connected: bool
    running: int
    pending: int
    registered: dict[str, Any]
    remaining: dict[str, Any]


@dataclass(frozen=True)
class Container:
    """A container at the end, from `docker ps -a`."""

    host: str
    id: str
    task: str
    name: str
    running: bool
    exit_code: int


@dataclass
class Observed:
    """A whole run."""

    calls: list[Call] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    # The end, after everything was repaired and had time to settle.
    ended: float = 0.0
    tasks: dict[str, Reading] = field(default_factory=dict)
    instances: list[Instance] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    # Host → ids of the containers that have processes, from the kernel.
    alive: dict[str, list[str]] = field(default_factory=dict)
    # The same tasks after one more kill -9 of the server.
    reloaded: dict[str, Reading] = field(default_factory=dict)
    # "family:revision" → the definition as it is described.
    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Counters of the cluster.
    counters: dict[str, int] = field(default_factory=dict)
    # What went wrong on the way: a process that ended by itself, a panic in a log.
    incidents: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Writes everything as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def load(path: Path) -> Observed:
        """Reads it back."""
        data = json.loads(path.read_text())
        kinds = {
            "sightings": Sighting,
            "instances": Instance,
            "containers": Container,
        }
        for name, kind in kinds.items():
            data[name] = [kind(**one) for one in data[name]]
        for name in ("tasks", "reloaded"):
            data[name] = {arn: Reading(**one) for arn, one in data[name].items()}
        data["calls"] = [
            Call(**(one | {"tasks": [Reading(**task) for task in one["tasks"]]}))
            for one in data["calls"]
        ]
        return Observed(**data)


class Recorder:
    """Takes what many threads observe."""

    def __init__(self) -> None:
        self.observed = Observed()
        self.lock = threading.Lock()

    def call(self, call: Call) -> None:
        """One attempt of a client."""
        with self.lock:
            self.observed.calls.append(call)

    def sighting(self, sighting: Sighting) -> None:
        """One container."""
        with self.lock:
            self.observed.sightings.append(sighting)

    def incident(self, text: str) -> None:
        """Something that must not happen, whatever the rules say."""
        with self.lock:
            self.observed.incidents.append(text)
