"""`longshore schedule` on a real Docker Engine: what is due runs once, overlaps as it was told to, and is remembered."""

from __future__ import annotations

import datetime
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import people
from support.ecs import Tasks, container
from support.processes import Agent, Server
from support.waiting import until

History = list[dict[str, Any]]


class Schedules:
    """The schedules of one test; they go with it."""

    def __init__(self, server: Server) -> None:
        self.server, self.names = server, []

    def create(self, *options: str, name: str | None = None) -> str:
        """Makes one; its name."""
        name = name or f"s-{uuid.uuid4().hex[:8]}"
        people.document(self.server.data, "schedule", "create", name, *options)
        self.names.append(name)
        return name

    def act(self, verb: str, name: str) -> dict[str, Any]:
        """Show, pause, resume, run or delete."""
        return people.document(self.server.data, "schedule", verb, name)

    def history(self, name: str) -> History:
        """What was invoked, newest first."""
        return self.act("show", name)["schedule"]["history"]

    def outcomes(self, name: str) -> list[str]:
        """The outcomes alone."""
        return [one["outcome"] for one in self.history(name)]

    def becomes(self, name: str, *outcomes: str, within: float = 30) -> History:
        """Waits until the history has these outcomes, newest first."""
        until(lambda: self.outcomes(name) == list(outcomes), f"{name} {outcomes}", within)
        return self.history(name)

    def marked(self, name: str) -> set[str]:
        """Every task that says it is of this schedule, whether or not it runs."""
        ecs, arns = self.server.client(), set()
        for status in ("RUNNING", "STOPPED"):
            listed = ecs.list_tasks(startedBy=f"schedule/{name}", desiredStatus=status)
            arns.update(listed["taskArns"])
        return arns

    def close(self) -> None:
        """Forgets them, and stops what they run."""
        for name in self.names:
            people.run(self.server.data, "schedule", "delete", name, code=0)
            for arn in self.marked(name):
                self.server.client().stop_task(task=arn)


@pytest.fixture
def schedules(server: Server, agent: Agent) -> Iterator[Schedules]:
    schedules = Schedules(server)
    yield schedules
    schedules.close()


def soon(seconds: float) -> str:
    """A time in so many seconds, as `--at` has it."""
    due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return due.strftime("%Y-%m-%dT%H:%M:%S")


def test_a_rate_runs_at_once_and_the_history_has_exit_codes(
    server: Server, schedules: Schedules, tasks: Tasks, tmp_path: Path
) -> None:
    tasks.define(container("main", "exit", "0"), container("side", essential=False))
    overrides = tmp_path / "overrides.json"
    environment = [{"name": "PASSWORD", "value": "correct horse"}]
    overrides.write_text(json.dumps({"containerOverrides": [{"name": "main", "environment": environment}]}))
    options = ["--task-definition", tasks.family, "--overrides", str(overrides), "--tag", "team=a"]
    name = schedules.create("--rate", "1 day", *options)
    (ran,) = schedules.becomes(name, "SUCCEEDED")
    (task,) = ran["tasks"]
    assert task["exitCodes"][0] == 0 and task["stopCode"] == "EssentialContainerExited"
    shown = server.client().describe_tasks(tasks=[task["taskArn"]], include=["TAGS"])["tasks"][0]
    assert (shown["startedBy"], shown["group"]) == (f"schedule/{name}", f"schedule:{name}")
    assert {tag["key"]: tag["value"] for tag in shown["tags"]} == {"team": "a", "longshore:schedule": name}

    # The latest revision, when it is invoked.
    tasks.define(container("main", "exit", "3"))
    invoked = schedules.act("run", name)["invocation"]
    assert invoked["byHand"] and invoked["outcome"] == "RUNNING"
    failed = schedules.becomes(name, "FAILED", "SUCCEEDED")[0]
    assert failed["tasks"][0]["exitCodes"] == [3] and "exit codes 3" in failed["reason"]

    text = people.text(server.data, "schedule", "show", name)
    assert "rate(1 day) (UTC)" in text and f"1 × {tasks.family} in cluster default" in text
    assert "by hand" in text and "succeeded" in text
    listed = people.text(server.data, "schedule", "list")
    assert name in listed and "enabled" in listed and "failed" in listed
    dump = people.run(server.data, "store", "dump", "--kind", "schedules").stdout.decode()
    record = next(r for r in map(json.loads, dump.splitlines()) if r["value"]["name"] == name)
    assert record["kind"] == "schedules" and "correct horse" not in dump and "PASSWORD" in dump
    people.run(server.data, "store", "check")


def test_overlaps_are_skipped_or_replaced(schedules: Schedules, tasks: Tasks) -> None:
    tasks.define(container())
    far = ["--at", "2199-01-01T00:00:00", "--task-definition", tasks.family]
    skips = schedules.create(*far, "--overlap", "skip")
    schedules.act("run", skips)
    assert schedules.act("run", skips)["invocation"]["outcome"] == "SKIPPED"
    assert len(schedules.marked(skips)) == 1

    replaces = schedules.create(*far, "--overlap", "replace")
    schedules.act("run", replaces)
    first = schedules.history(replaces)[0]["tasks"][0]["taskArn"]
    tasks.wait(first, "RUNNING")
    assert schedules.act("run", replaces)["invocation"]["outcome"] == "WAITING"
    second, replaced = schedules.becomes(replaces, "RUNNING", "REPLACED")
    old, new = tasks.describe(first), tasks.describe(second["tasks"][0]["taskArn"])
    assert old["lastStatus"] == "STOPPED" and old["stoppedAt"] <= new["createdAt"], "never both"
    assert old["stoppedReason"] == f"Replaced by the next invocation of the schedule {replaces}"
    assert replaced["tasks"][0]["exitCodes"] == [143]


def test_what_finds_no_room_is_tried_again(schedules: Schedules, tasks: Tasks) -> None:
    tasks.define(container(memory=1_000_000))
    far = ["--at", "2199-01-01T00:00:00", "--task-definition", tasks.family]
    once = schedules.create(*far, "--retries", "0")
    failed = schedules.act("run", once)["invocation"]
    assert failed["outcome"] == "FAILED" and failed["reason"] == "not placed: RESOURCE:MEMORY (1)"

    patient = schedules.create(*far, "--retries", "5", "--retry-window", "5m")
    waiting = schedules.act("run", patient)["invocation"]
    assert waiting["outcome"] == "WAITING" and waiting["nextAttemptAt"] > waiting["firedAt"]
    tasks.define(container("main", "exit", "0"))
    (ran,) = schedules.becomes(patient, "SUCCEEDED")
    assert ran["attempts"] == 2


def test_a_single_time_survives_kill_9_and_counts_once(stage: Any, images: None, family: str) -> None:
    """Killed before it is due, at the very moment, and after: one task each, whatever came first."""
    server = stage.server()
    stage.agent(server)
    Tasks(server.client(), "default", family).define(container())
    schedules, due = Schedules(server), 4
    at = soon(due)
    names = [schedules.create("--at", at, "--task-definition", family) for _ in range(12)]
    began = time.monotonic()
    moment = datetime.datetime.fromisoformat(at + "+00:00").timestamp() - time.time()
    # The first dies before, the second in the middle of it, the third right after.
    for kill_at in (moment - 1.5, moment + 0.005, moment + 0.5):
        time.sleep(max(0.0, began + kill_at - time.monotonic()))
        server.kill()
        server.start()
    for name in names:
        until(lambda: schedules.outcomes(name), f"{name} to be made up for")
        assert schedules.outcomes(name) in (["RUNNING"], ["WAITING"]), "no agent may have been back"
    server.wait_for_instance()
    for name in names:
        schedules.becomes(name, "RUNNING")
        assert len(schedules.marked(name)) == 1
        assert schedules.act("show", name)["schedule"]["state"] == "ENDED"
    schedules.close()


def test_cron_is_due_at_the_minute_unless_it_is_paused(schedules: Schedules, tasks: Tasks) -> None:
    tasks.define(container("main", "exit", "0"))
    every = ["--cron", "* * * * ? *", "--timezone", "Asia/Kolkata", "--task-definition", tasks.family]
    paused, runs = schedules.create(*every), schedules.create(*every)
    assert schedules.act("pause", paused)["schedule"]["state"] == "PAUSED"
    (ran, *_) = until(lambda: schedules.history(runs), "the next minute", 70)
    assert ran["dueAt"] % 60 == 0 and 0 <= ran["firedAt"] - ran["dueAt"] < 2
    schedules.act("pause", runs)
    assert schedules.history(paused) == []
    due = schedules.act("resume", paused)["schedule"]["nextDue"]
    assert due % 60 == 0 and due > ran["dueAt"]
    schedules.act("pause", paused)


def test_what_is_wrong_is_said(server: Server, schedules: Schedules, tasks: Tasks, tmp_path: Path) -> None:
    tasks.define(container())
    run = ["--task-definition", tasks.family]

    def complaint(*options: str) -> str:
        return people.complaint(server.data, "schedule", "create", "nope", *options)

    assert "day-of-month: 32 is not within 1-31 (at character 10)" in complaint("--cron", "0 9 32 * ? *", *run)
    assert "exactly one of day-of-month and day-of-week" in complaint("--cron", "0 9 * * * *", *run)
    assert "written 'minutes'" in complaint("--rate", "5 minute", *run)
    assert "never due" in complaint("--at", "2020-01-01T00:00:00", *run)
    assert "Europe/Berlin" in complaint("--rate", "1 day", "--timezone", "Mars/Olympus", *run)
    assert "TaskDefinition not found" in complaint("--rate", "1 day", "--task-definition", "nope")
    wrong = tmp_path / "overrides.json"
    wrong.write_text('{"containerOverride": []}')
    assert "no part of overrides" in complaint("--rate", "1 day", *run, "--overrides", str(wrong))
    assert "schedule list" in people.complaint(server.data, "schedule", "show", "nope")
    assert people.document(server.data, "schedule", "list")["schedules"] == []
