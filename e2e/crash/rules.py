"""What must hold, as functions of what was observed. Each yields one line for each violation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from crash.observed import ANSWERED, REFUSED, Call, Observed, Reading
from support.ecs import ORDER

# Stopped tasks are kept for an hour at least; what was seen STOPPED earlier may be gone.
RETENTION_SECONDS = 3500.0
# Placement may find no room, or no agent that is connected.
EXPECTED_FAILURES = ("AGENT", "RESOURCE:")
# "Not now": nothing was done, try again.
EXPECTED_REFUSALS = ("ThrottlingException", "LimitExceededException")
# When something was asked for, when it was answered, and what the answer said.
Read = tuple[float, float, Reading]


@dataclass(frozen=True)
class Violation:
    """A broken rule, and by what."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


def check(run: Observed) -> list[Violation]:
    """All violations of all rules."""
    facts = Facts(run)
    return [Violation(rule.__name__, what) for rule in RULES for what in rule(facts)]


class Facts:
    """A run, and what several rules derive from it."""

    def __init__(self, run: Observed) -> None:
        self.run = run

    def answered(self, *operations: str) -> Iterator[Call]:
        """Calls that got an answer."""
        return (
            call
            for call in self.run.calls
            if call.operation in operations and call.outcome == ANSWERED
        )

    @cached_property
    def first_attempts(self) -> dict[str, float]:
        """Client token of RunTask → when it was used first."""
        found: dict[str, float] = {}
        for call in self.run.calls:
            if call.operation == "RunTask":
                token = call.request["clientToken"]
                found[token] = min(call.began, found.get(token, call.began))
        return found

    def first_attempt(self, call: Call) -> float:
        """When the client token of a call was used first."""
        return self.first_attempts[call.request["clientToken"]]

    @cached_property
    def first_answers(self) -> list[Call]:
        """The first answered RunTask of each client token."""
        found: dict[str, Call] = {}
        for call in sorted(self.answered("RunTask"), key=lambda call: call.ended):
            found.setdefault(call.request["clientToken"], call)
        return list(found.values())

    @cached_property
    def since(self) -> dict[str, float]:
        """Task ARN → when a client first was told of it."""
        return {task.arn: call.ended for call in self.first_answers for task in call.tasks}

    @cached_property
    def histories(self) -> dict[str, list[Read]]:
        """Task ARN → all that was read of it, the end included."""
        found: dict[str, list[Read]] = defaultdict(list)
        for call in self.answered("DescribeTasks", "StopTask"):
            for task in call.tasks:
                found[task.arn].append((call.began, call.ended, task))
        # A repeated client token may be answered with the state of the first time, and what the
        # first answer tells may be as old as the first attempt.
        for call in self.first_answers:
            for task in call.tasks:
                found[task.arn].append((self.first_attempt(call), call.ended, task))
        for final in (self.run.tasks, self.run.reloaded):
            for arn, task in final.items():
                found[arn].append((self.run.ended, self.run.ended, task))
        return found

    @cached_property
    def forgotten(self) -> set[str]:
        """Tasks that may be gone: they ended longer ago than they are kept."""
        return {
            task.arn
            for call in self.answered("DescribeTasks", "StopTask")
            for task in call.tasks
            if task.status == "STOPPED" and self.run.ended - call.ended > RETENTION_SECONDS
        }


def in_order(history: list[Read], value: Callable[[Reading], Any]) -> Iterator[tuple[Any, Any]]:
    """Pairs of values (earlier, later) where the later one is smaller, although it was asked for
    after the earlier one was answered."""
    by_end = sorted(history, key=lambda read: read[1])
    position, highest = 0, None
    for began, _, reading in sorted(by_end, key=lambda read: read[0]):
        while position < len(by_end) and by_end[position][1] < began:
            seen = value(by_end[position][2])
            highest = seen if highest is None or seen > highest else highest
            position += 1
        if highest is not None and value(reading) < highest:
            yield highest, value(reading)


##### The rules


def acknowledged_tasks_are_known(facts: Facts) -> Iterator[str]:
    """A task that a client was told of is there at the end, unless it ended long ago."""
    for arn in set(facts.since) - set(facts.run.tasks) - facts.forgotten:
        yield f"{arn} is gone"


def acknowledged_tasks_are_found(facts: Facts) -> Iterator[str]:
    """From its acknowledgement on, whoever asks for a task finds it."""
    since, gone = facts.since, facts.forgotten
    for call in facts.answered("DescribeTasks"):
        for arn in call.failures:
            if arn in since and since[arn] < call.began and arn not in gone:
                yield f"{call.client} did not find {arn}"


def acknowledged_stops_are_stopped(facts: Facts) -> Iterator[str]:
    """A task whose StopTask was answered is STOPPED at the end."""
    for call in facts.answered("StopTask"):
        for task in call.tasks:
            final = facts.run.tasks.get(task.arn)
            if final and final.status != "STOPPED":
                yield f"{task.arn} is {final.status}"


def stop_orders_are_seen(facts: Facts) -> Iterator[str]:
    """Who asks after StopTask was answered finds the desired status STOPPED; and it stays so."""
    for arn, history in facts.histories.items():
        for _ in in_order(history, lambda reading: reading.desired == "STOPPED"):
            yield f"{arn} was to stop, and later was to run"


def statuses_never_go_back(facts: Facts) -> Iterator[str]:
    """Neither does the last status of a task in anybody's reads, nor its version."""
    for arn, history in facts.histories.items():
        for before, after in in_order(history, lambda reading: ORDER.index(reading.status)):
            yield f"{arn} was {ORDER[before]}, and later {ORDER[after]}"
        for before, after in in_order(history, lambda reading: reading.version):
            yield f"{arn} had version {before}, and later {after}"


def the_end_of_a_task_is_final(facts: Facts) -> Iterator[str]:
    """When, why and with which code a task ended never changes; a code may only become known."""
    for arn, history in facts.histories.items():
        ends = [reading for _, _, reading in history if reading.status == "STOPPED"]
        for what in ("stop_code", "stopped_at", "instance", "definition"):
            values = {getattr(reading, what) for reading in ends}
            if len(values) > 1:
                yield f"{arn} has several values of {what}: {values}"
        for name in {name for reading in ends for name in reading.containers}:
            codes = {reading.containers[name][1] for reading in ends} - {None}
            if len(codes) > 1:
                yield f"{arn} {name} ended with several codes: {codes}"


def a_task_stays_where_it_is(facts: Facts) -> Iterator[str]:
    """A task is placed once."""
    for arn, history in facts.histories.items():
        places = {reading.instance for _, _, reading in history} - {None}
        if len(places) > 1:
            yield f"{arn} was on {places}"


def no_task_runs_twice(facts: Facts) -> Iterator[str]:
    """At most one container of each name ever runs for a task, over all hosts, at any time."""
    copies_of: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for one in facts.run.sightings:
        if one.what in ("start", "ran"):
            copies_of[one.task, one.name].add((one.host, one.container))
    for (arn, name), copies in copies_of.items():
        if len(copies) > 1:
            yield f"{arn} {name} ran in {sorted(copies)}"


def no_container_starts_twice(facts: Facts) -> Iterator[str]:
    """Nor is a container that ended started again."""
    starts: dict[tuple[str, str], set[float]] = defaultdict(set)
    for one in facts.run.sightings:
        if one.what == "start":
            starts[one.task, one.container].add(one.at)
    for (arn, container), moments in starts.items():
        if len(moments) > 1:
            yield f"{container[:12]} of {arn} was started at {sorted(moments)}"


def every_container_has_a_task(facts: Facts) -> Iterator[str]:
    """Nothing is left of a task that nobody knows."""
    for one in facts.run.containers:
        if one.task not in facts.run.tasks and one.task not in facts.forgotten:
            yield f"{one.host} has {one.id[:12]} of the unknown {one.task}"


def what_is_running_runs(facts: Facts) -> Iterator[str]:
    """RUNNING for the API is running for Docker, the same containers, and for the kernel."""
    places = {one.arn: one.host for one in facts.run.instances}
    told = {
        (places.get(task.instance or "", "?"), container[0])
        for task in facts.run.tasks.values()
        if task.status == "RUNNING"
        for container in task.containers.values()
        # One that is not essential may have ended.
        if container[1] is None
    }
    docker = {(one.host, one.id) for one in facts.run.containers if one.running}
    kernel = {(host, one) for host, ids in facts.run.alive.items() for one in ids}
    for host, container in told - docker:
        yield f"RUNNING, but {host} does not run {container}"
    for host, container in docker - told:
        yield f"{host} runs {container}, which is not RUNNING for the API"
    for host, container in docker ^ kernel:
        yield f"{host}: Docker and the kernel disagree about {container}"


def everything_settled(facts: Facts) -> Iterator[str]:
    """Once faults end, every task is where it should be, and every instance is there."""
    for arn, task in facts.run.tasks.items():
        if task.status != task.desired or task.status not in ("RUNNING", "STOPPED"):
            yield f"{arn} is {task.status}, should be {task.desired}"
    for one in facts.run.instances:
        if one.status != "ACTIVE" or not one.connected:
            yield f"{one.host} is {one.status}, {'' if one.connected else 'not '}connected"


def resources_are_exact(facts: Facts) -> Iterator[str]:
    """What remains of each instance is what its living tasks leave, recounted from definitions."""
    for one in facts.run.instances:
        living = [
            task
            for task in facts.run.tasks.values()
            if task.instance == one.arn and task.status != "STOPPED"
        ]
        cpu = memory = 0
        ports: set[str] = set(one.registered["PORTS"])
        for task in living:
            definition = facts.run.definitions[task.definition.rsplit("/", 1)[1]]
            cpu += definition["cpu"]
            memory += definition["memory"]
            ports |= {str(port) for port in definition["ports"]}
        expected = {
            "CPU": one.registered["CPU"] - cpu,
            "MEMORY": one.registered["MEMORY"] - memory,
            "PORTS": sorted(ports),
        }
        for name, value in expected.items():
            if one.remaining[name] != value:
                yield f"{one.host} has {one.remaining[name]} of {name} left, not {value}"
        running = sum(task.status == "RUNNING" for task in living)
        if (one.running, one.pending) != (running, len(living) - running):
            yield f"{one.host} counts {one.running} + {one.pending}, not {running} of {len(living)}"


def counters_are_exact(facts: Facts) -> Iterator[str]:
    """The cluster's counters equal a recount."""
    living = [task.status for task in facts.run.tasks.values() if task.status != "STOPPED"]
    expected = {
        "registeredContainerInstancesCount": len(facts.run.instances),
        "runningTasksCount": living.count("RUNNING"),
        "pendingTasksCount": len(living) - living.count("RUNNING"),
    }
    for name, value in expected.items():
        if facts.run.counters.get(name) != value:
            yield f"{name} is {facts.run.counters.get(name)}, not {value}"


def the_same_token_is_the_same_tasks(facts: Facts) -> Iterator[str]:
    """However often a client asks with one token, it is told of the same tasks and no others."""
    told: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for call in facts.answered("RunTask"):
        token = call.request["clientToken"]
        arns = tuple(sorted(task.arn for task in call.tasks))
        # A request that placed nothing made nothing that a repetition could give again.
        if arns and told.setdefault(token, arns) != arns:
            yield f"{token} gave {told[token]}, and later {arns}"
        for arn in arns:
            if owner.setdefault(arn, token) != token:
                yield f"{arn} was given to {owner[arn]} and to {token}"


def every_task_was_asked_for(facts: Facts) -> Iterator[str]:
    """No task exists that no client asked for, or beside those that its token was answered with."""
    asked = {c.request["clientToken"] for c in facts.run.calls if c.operation == "RunTask"}
    told: dict[str, set[str]] = defaultdict(set)
    for call in facts.answered("RunTask"):
        told[call.request["clientToken"]] |= {task.arn for task in call.tasks}
    for arn, task in facts.run.tasks.items():
        # `startedBy` carries the token, shortened to what the member may hold.
        token = task.started_by
        if token not in asked:
            yield f"{arn} was asked for by nobody ({token})"
        elif told[token] and arn not in told[token]:
            yield f"{arn} was made besides what {token} was answered with"


def lists_are_complete(facts: Facts) -> Iterator[str]:
    """A list of what is to run holds all that was acknowledged before and is to run after."""
    # What a read that began after the list ended tells to be desired RUNNING was so in the list.
    last_wanted: dict[str, float] = defaultdict(float)
    for arn, history in facts.histories.items():
        for began, _, reading in history:
            if reading.desired == "RUNNING":
                last_wanted[arn] = max(last_wanted[arn], began)
    for call in facts.answered("ListTasks"):
        listed = set(call.arns)
        for arn, at in facts.since.items():
            if at < call.began and last_wanted[arn] > call.ended and arn not in listed:
                yield f"{call.client} did not find {arn} in a list"


def revisions_grow(facts: Facts) -> Iterator[str]:
    """Each registration makes a revision of its own, higher than all that were known before."""
    families: dict[str, list[Call]] = defaultdict(list)
    for call in facts.answered("RegisterTaskDefinition"):
        families[call.request["family"]].append(call)
    for family, calls in families.items():
        revisions = [call.revision for call in calls]
        if len(set(revisions)) < len(revisions):
            yield f"{family} has a revision twice: {sorted(revisions)}"
        calls.sort(key=lambda call: call.began)
        for index, later in enumerate(calls):
            for earlier in calls[:index]:
                if earlier.ended < later.began and earlier.revision > later.revision:
                    yield f"{family}:{earlier.revision} was there before {later.revision}"


def definitions_are_kept(facts: Facts) -> Iterator[str]:
    """Every acknowledged definition is described as it was registered."""
    for call in facts.answered("RegisterTaskDefinition"):
        name = f"{call.request['family']}:{call.revision}"
        kept = facts.run.definitions.get(name)
        if kept is None:
            yield f"{name} is gone"
        elif kept["cpu"] != call.request["cpu"] or kept["memory"] != call.request["memory"]:
            yield f"{name} is {kept}, not {call.request}"


def nothing_is_placed_on_a_draining_instance(facts: Facts) -> Iterator[str]:
    """From the answer to DRAINING until ACTIVE is asked for, an instance gets nothing new."""
    changes = sorted(
        (c for c in facts.run.calls if c.operation == "UpdateContainerInstancesState"),
        key=lambda call: call.began,
    )
    for index, call in enumerate(changes):
        if call.outcome != ANSWERED or call.request["status"] != "DRAINING":
            continue
        instance = call.request["instance"]
        until = min(
            (c.began for c in changes[index + 1 :] if c.request["instance"] == instance),
            default=float("inf"),
        )
        for run_task in facts.first_answers:
            if call.ended < facts.first_attempt(run_task) and run_task.ended < until:
                for task in run_task.tasks:
                    if task.instance == instance:
                        yield f"{task.arn} was placed on the draining {instance}"


def a_reload_changes_nothing(facts: Facts) -> Iterator[str]:
    """One more kill -9 of the server, when all is quiet, leaves every task as it was."""
    for arn, before in facts.run.tasks.items():
        if facts.run.reloaded.get(arn) != before:
            yield f"{arn} was {before}, and is {facts.run.reloaded.get(arn)}"
    for arn in set(facts.run.reloaded) - set(facts.run.tasks):
        yield f"{arn} came out of nothing"


def refusals_have_reasons(facts: Facts) -> Iterator[str]:
    """Clients ask for nothing that may be refused but for want of room or time."""
    for call in facts.run.calls:
        if call.outcome == REFUSED and not (call.error or "").startswith(EXPECTED_REFUSALS):
            yield f"{call.client} {call.operation} was refused: {call.error}"
        if call.operation == "RunTask":
            for reason in call.failures:
                if not reason.startswith(EXPECTED_FAILURES):
                    yield f"{call.client} RunTask failed: {reason}"


def nothing_else_happened(facts: Facts) -> Iterator[str]:
    """No process ended by itself that should not, none panicked."""
    yield from facts.run.incidents


RULES: list[Callable[[Facts], Iterator[str]]] = [
    acknowledged_tasks_are_known,
    acknowledged_tasks_are_found,
    acknowledged_stops_are_stopped,
    stop_orders_are_seen,
    statuses_never_go_back,
    the_end_of_a_task_is_final,
    a_task_stays_where_it_is,
    no_task_runs_twice,
    no_container_starts_twice,
    every_container_has_a_task,
    what_is_running_runs,
    everything_settled,
    resources_are_exact,
    counters_are_exact,
    the_same_token_is_the_same_tasks,
    every_task_was_asked_for,
    lists_are_complete,
    revisions_grow,
    definitions_are_kept,
    nothing_is_placed_on_a_draining_instance,
    a_reload_changes_nothing,
    refusals_have_reasons,
    nothing_else_happened,
]
