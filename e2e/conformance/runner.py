"""Sends the cases of an operation and judges what comes back."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conformance.answers import forgotten, problems_of_error, problems_of_success
from conformance.cases import Case, Expectation, cases
from conformance.expected import UNSUPPORTED, refusals
from conformance.model import Operation
from conformance.samples import Samples
from conformance.wire import NoAnswer
from conformance.world import World
from support.wire import Answer

# What a refusal says when it is ours and not ECS's.
NOT_YET = "Longshore does not"


class Outcome(enum.Enum):
    """What became of a case."""

    PASSED = "passed"
    # Refused by name, as what Longshore does not do yet.
    UNSUPPORTED = "unsupported"
    # Anything else than ECS answers.
    DEVIATES = "deviates"


@dataclass(frozen=True)
class Result:
    """A case, what became of it, and why."""

    case: Case
    outcome: Outcome
    # The refusal's message, or what is wrong with the answer.
    why: str = ""
    request: Any = None


def run(world: World, operation: Operation) -> list[Result]:
    """Runs all cases of an operation."""
    samples = Samples(world, operation.name, operation.input)
    results = [_run(world, operation, samples, case) for case in cases(operation, samples)]
    twice = [name for name, times in Counter(one.case.name for one in results).items() if times > 1]
    assert not twice, f"{operation.name}: cases with one name: {twice}"
    return results


def _run(world: World, operation: Operation, samples: Samples, case: Case) -> Result:
    # What is refused for its shape uses nothing up.
    untouched = case.expectation in (Expectation.REFUSED, Expectation.UNREADABLE)
    request = case.make(samples.base if untouched else samples.request())
    try:
        answer = world.caller.call(operation.name, request)
    except NoAnswer as cause:
        return Result(case, Outcome.DEVIATES, str(cause), request)
    outcome, why = judge(operation, case, request, answer)
    return Result(case, outcome, why, request)


def judge(operation: Operation, case: Case, request: Any, answer: Answer) -> tuple[Outcome, str]:
    """What an answer means for a case."""
    may_succeed = case.expectation in (Expectation.ACCEPTED, Expectation.ANSWERED)
    if answer.status == 200:
        if not may_succeed:
            return _outcome(["it was accepted"])
        problems = problems_of_success(operation, answer)
        return _outcome(problems or forgotten(operation, request, answer))
    problems = problems_of_error(operation, answer)
    if problems:
        return _outcome(problems)
    named = f"{answer.error}: {answer.message}"
    # Task definitions are refused with a ClientException, whatever for.
    not_yet = answer.error == UNSUPPORTED or NOT_YET in answer.message
    if not_yet and may_succeed:
        names = (operation.name, *_names(request))
        if any(name in answer.message for name in names):
            return Outcome.UNSUPPORTED, answer.message
        return _outcome([f"it names nothing of the request: {named}"])
    if answer.error not in refusals(operation.name, set(operation.errors), case):
        problems.append(named)
    elif not may_succeed and case.member.lower() not in answer.message.lower():
        problems.append(f"it does not name {case.member}: {named}")
    return _outcome(problems)


def _outcome(problems: list[str]) -> tuple[Outcome, str]:
    return (Outcome.DEVIATES, "; ".join(problems[:5])) if problems else (Outcome.PASSED, "")


def _names(request: Any) -> Iterator[str]:
    """The names of all members that a request has."""
    if isinstance(request, dict):
        yield from request
    for inner in request.values() if isinstance(request, dict) else request:
        if isinstance(inner, dict | list):
            yield from _names(inner)
