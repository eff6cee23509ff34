"""The judge of `crash/` can fail: a good run breaks no rule, each wrong in it breaks its own."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crash import rules
from crash.observed import Call, Container, Instance, Observed, Reading, Sighting

HERE, THERE = "instance/h1", "instance/h2"


def reading(arn: str, status: str = "RUNNING", version: int = 2, **more: Any) -> Reading:
    """A task of one container, on the first host."""
    ended = status == "STOPPED"
    facts: dict[str, Any] = {
        "instance": HERE,
        "definition": "task-definition/steady:1",
        "started_by": f"token of {arn}",
        "desired": "STOPPED" if ended else "RUNNING",
        "stop_code": "UserInitiated" if ended else None,
        "stopped_at": 50.0 if ended else None,
        "containers": {"main": [f"container of {arn}", 7 if ended else None]},
    }
    return Reading(arn, status, version=version, **(facts | more))


def call(operation: str, at: float, request: dict[str, Any], **more: Any) -> Call:
    """An answered call that took one second."""
    facts = {"client": "c", "ended": at + 1, "outcome": "answered"}
    return Call(operation=operation, began=at, request=request, **(facts | more))


def run_task(at: float, arn: str, **more: Any) -> Call:
    """RunTask of one task."""
    facts: dict[str, Any] = {"tasks": [reading(arn, "PENDING", 1, containers={})]}
    return call("RunTask", at, {"clientToken": f"token of {arn}"}, **(facts | more))


def describe(at: float, *tasks: Reading, **more: Any) -> Call:
    """DescribeTasks."""
    return call("DescribeTasks", at, {}, tasks=list(tasks), **more)


def drain(at: float, status: str, instance: str = THERE) -> Call:
    """UpdateContainerInstancesState."""
    request = {"instance": instance, "status": status}
    return call("UpdateContainerInstancesState", at, request)


def register(at: float, revision: int) -> Call:
    """RegisterTaskDefinition."""
    request = {"family": "steady", "cpu": 2, "memory": 6}
    return call("RegisterTaskDefinition", at, request, revision=revision)


def good() -> Observed:
    """Task `stays` runs, task `ends` was stopped; one instance was drained for a while."""
    tasks = {"stays": reading("stays"), "ends": reading("ends", "STOPPED", 4)}
    # What a machine reserves for itself is in both books.
    book = {"CPU": 100, "MEMORY": 100, "PORTS": ["22"]}
    left = {"CPU": 98, "MEMORY": 94, "PORTS": ["22"]}
    return Observed(
        calls=[
            register(1, 1),
            run_task(10, "stays"),
            run_task(12, "stays"),
            drain(14, "DRAINING"),
            run_task(20, "ends", outcome="unknown", tasks=[], error="ConnectionClosedError"),
            run_task(22, "ends"),
            drain(26, "ACTIVE"),
            describe(30, reading("stays"), reading("ends")),
            call("ListTasks", 32, {}, arns=["stays", "ends"]),
            describe(34, reading("stays"), reading("ends")),
            call(
                "StopTask",
                40,
                {"task": "ends"},
                tasks=[reading("ends", desired="STOPPED", version=3)],
            ),
            describe(60, reading("stays"), reading("ends", "STOPPED", 4)),
            register(70, 2),
        ],
        sightings=[
            Sighting("h1", arn, "main", f"container of {arn}", what, 20.0)
            for arn in tasks
            for what in ("created", "start", "ran")
        ],
        ended=100.0,
        tasks=tasks,
        instances=[
            Instance(HERE, "h1", "ACTIVE", True, 1, 0, book, left),
            Instance(THERE, "h2", "ACTIVE", True, 0, 0, book, book),
        ],
        containers=[
            Container("h1", "container of stays", "stays", "main", True, 0),
            Container("h1", "container of ends", "ends", "main", False, 7),
        ],
        alive={"h1": ["container of stays"], "h2": []},
        reloaded=dict(tasks),
        definitions={f"steady:{n}": {"cpu": 2, "memory": 6, "ports": []} for n in (1, 2)},
        counters={
            "registeredContainerInstancesCount": 2,
            "runningTasksCount": 1,
            "pendingTasksCount": 0,
        },
    )


def broken(run: Observed) -> set[str]:
    """The rules that a run breaks."""
    return {violation.rule for violation in rules.check(run)}


def forget(run: Observed, arn: str) -> None:
    """Takes a task out of the end, with all that would tell of it there."""
    for tasks in (run.tasks, run.reloaded):
        del tasks[arn]
    run.containers = [one for one in run.containers if one.task != arn]


def change(run: Observed, arn: str, **facts: Any) -> None:
    """Changes a task at the end."""
    for tasks in (run.tasks, run.reloaded):
        tasks[arn] = dataclasses.replace(tasks[arn], **facts)


def change_instance(run: Observed, **facts: Any) -> None:
    """Changes the first instance."""
    run.instances[0] = dataclasses.replace(run.instances[0], **facts)


def say(run: Observed, *calls: Call) -> None:
    """Adds calls."""
    run.calls += calls


def ran(run: Observed, host: str, container: str, what: str = "ran", at: float = 25.0) -> None:
    """Adds a sighting of a container of the task that stays."""
    run.sightings.append(Sighting(host, "stays", "main", container, what, at))


Doctor = Callable[[Observed], object]
# The rule, and what of the good run must change for it to be broken.
WRONGS: list[tuple[str, Doctor]] = [
    ("acknowledged_tasks_are_known", lambda r: forget(r, "ends")),
    ("acknowledged_tasks_are_found", lambda r: say(r, describe(64, failures=["stays"]))),
    (
        "acknowledged_stops_are_stopped",
        lambda r: change(r, "ends", status="RUNNING", stop_code=None),
    ),
    ("stop_orders_are_seen", lambda r: say(r, describe(41.5, reading("ends", version=3)))),
    ("stop_orders_are_seen", lambda r: change(r, "ends", desired="RUNNING")),
    (
        "statuses_never_go_back",
        lambda r: say(r, describe(62, reading("ends", desired="STOPPED", version=4))),
    ),
    ("statuses_never_go_back", lambda r: say(r, describe(36, reading("stays", "PENDING")))),
    ("statuses_never_go_back", lambda r: say(r, describe(36, reading("stays", version=1)))),
    (
        "the_end_of_a_task_is_final",
        lambda r: change(r, "ends", stop_code="EssentialContainerExited"),
    ),
    ("the_end_of_a_task_is_final", lambda r: change(r, "ends", containers={"main": ["x", 8]})),
    ("the_end_of_a_task_is_final", lambda r: change(r, "ends", stopped_at=51.0)),
    ("a_task_stays_where_it_is", lambda r: say(r, describe(62, reading("stays", instance=THERE)))),
    ("no_task_runs_twice", lambda r: ran(r, "h1", "another")),
    ("no_task_runs_twice", lambda r: ran(r, "h2", "container of stays")),
    ("no_task_runs_twice", lambda r: ran(r, "h2", "another", "start")),
    ("no_container_starts_twice", lambda r: ran(r, "h1", "container of stays", "start", 30.0)),
    (
        "every_container_has_a_task",
        lambda r: r.containers.append(Container("h2", "x", "nobody", "main", False, 0)),
    ),
    ("what_is_running_runs", lambda r: r.alive["h1"].clear()),
    ("what_is_running_runs", lambda r: r.alive["h2"].append("container of ends")),
    ("what_is_running_runs", lambda r: r.containers.pop(0)),
    (
        "what_is_running_runs",
        lambda r: r.containers.append(Container("h2", "x", "ends", "main", True, 0)),
    ),
    ("everything_settled", lambda r: change(r, "stays", desired="STOPPED")),
    ("everything_settled", lambda r: change_instance(r, connected=False)),
    ("everything_settled", lambda r: change_instance(r, status="DRAINING")),
    (
        "resources_are_exact",
        lambda r: change_instance(r, remaining={"CPU": 98, "MEMORY": 93, "PORTS": ["22"]}),
    ),
    (
        "resources_are_exact",
        lambda r: change_instance(r, remaining={"CPU": 98, "MEMORY": 94, "PORTS": ["22", "80"]}),
    ),
    ("resources_are_exact", lambda r: r.definitions["steady:1"].update(ports=[9000])),
    ("resources_are_exact", lambda r: change_instance(r, running=2)),
    ("counters_are_exact", lambda r: r.counters.update(runningTasksCount=2)),
    (
        "the_same_token_is_the_same_tasks",
        lambda r: say(r, run_task(36, "stays", tasks=[reading("ends", "STOPPED", 4)])),
    ),
    (
        "the_same_token_is_the_same_tasks",
        lambda r: say(r, run_task(36, "x", tasks=[reading("stays")])),
    ),
    ("every_task_was_asked_for", lambda r: change(r, "stays", started_by="nobody")),
    ("every_task_was_asked_for", lambda r: change(r, "stays", started_by="token of ends")),
    ("lists_are_complete", lambda r: say(r, call("ListTasks", 32, {}, arns=["stays"]))),
    ("revisions_grow", lambda r: say(r, register(80, 2))),
    ("revisions_grow", lambda r: say(r, register(80, 0))),
    ("definitions_are_kept", lambda r: r.definitions.pop("steady:2")),
    ("definitions_are_kept", lambda r: r.definitions["steady:2"].update(cpu=3)),
    (
        "nothing_is_placed_on_a_draining_instance",
        lambda r: say(r, run_task(17, "x", tasks=[reading("x", instance=THERE)])),
    ),
    ("a_reload_changes_nothing", lambda r: r.reloaded.pop("ends")),
    ("a_reload_changes_nothing", lambda r: r.reloaded.update(x=reading("x"))),
    (
        "refusals_have_reasons",
        lambda r: say(
            r, run_task(36, "x", outcome="refused", tasks=[], error="ClientException: no")
        ),
    ),
    ("refusals_have_reasons", lambda r: say(r, run_task(36, "x", tasks=[], failures=["MISSING"]))),
    ("nothing_else_happened", lambda r: r.incidents.append("server ended by itself with 101")),
]


def test_a_good_run_breaks_no_rule() -> None:
    assert rules.check(good()) == []


def test_what_may_happen_breaks_no_rule() -> None:
    """No room, no answer, throttling, a stop nobody heard of, a task forgotten after its time."""
    run = good()
    say(
        run,
        run_task(36, "x", tasks=[], failures=["AGENT", "RESOURCE:CPU"]),
        run_task(36, "y", outcome="unknown", tasks=[], error="ReadTimeoutError"),
        run_task(36, "z", outcome="refused", tasks=[], error="ThrottlingException: later"),
        call("StopTask", 36, {"task": "stays"}, outcome="unknown", error="ConnectionClosedError"),
        # Answered in another order than asked.
        describe(9, reading("stays", "PENDING", 1, containers={}), ended=66),
        describe(8, ended=11.5, failures=["stays"]),
    )
    ran(run, "h1", "another", "created")
    assert rules.check(run) == []
    forget(run, "ends")
    run.ended += rules.RETENTION_SECONDS
    assert rules.check(run) == []


@pytest.mark.parametrize("number", range(len(WRONGS)), ids=lambda n: f"{WRONGS[n][0]}-{n}")
def test_a_wrong_is_found(number: int) -> None:
    rule, doctor = WRONGS[number]
    run = copy.deepcopy(good())
    doctor(run)
    assert rule in broken(run)


def test_every_rule_can_fail() -> None:
    assert {rule for rule, _ in WRONGS} == {rule.__name__ for rule in rules.RULES}


def test_a_run_can_be_judged_again(tmp_path: Path) -> None:
    good().save(tmp_path / "observed.json")
    assert Observed.load(tmp_path / "observed.json") == good()
