"""What passed so far: committed, and it may only rise."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from conformance.runner import Outcome, Result

FILE = Path(__file__).parent / "baseline.json"
# In place of a list of cases: everything that is not refused for its shape.
WHOLE = "every well-formed request"

# passed, total; unsupported: cases by the message that refuses them; deviations: reasons by case.
Entry = dict[str, Any]


class Unexplained(Exception):
    """Something deviates, and nobody has said why it may."""


def load() -> dict[str, Entry]:
    """The baseline, by operation."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def save(entries: dict[str, Entry]) -> None:
    """Writes the baseline so that a change is a readable diff."""
    FILE.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


def entry(known: Entry | None, results: list[Result], reason: str) -> Entry:
    """What to remember of an operation's results."""
    reasons = (known or {}).get("deviations", {})
    unsupported, deviations = defaultdict(list), {}
    for one in results:
        if one.outcome is Outcome.UNSUPPORTED:
            unsupported[one.why].append(one.case.name)
        elif one.outcome is Outcome.DEVIATES:
            deviations[one.case.name] = reasons.get(one.case.name, reason)
            if not deviations[one.case.name]:
                raise Unexplained(f"{one.case.name}: {one.why}: give a --reason why it may deviate")
    if _whole(results):
        unsupported = {message: WHOLE for message in unsupported}
    passed = sum(one.outcome is Outcome.PASSED for one in results)
    entry: Entry = {"passed": passed, "total": len(results)}
    entry |= {"unsupported": unsupported} if unsupported else {}
    return entry | ({"deviations": deviations} if deviations else {})


def worse(known: dict[str, Entry], operation: str, results: list[Result]) -> list[str]:
    """Where an operation is behind the baseline, a line each."""
    if operation not in known:
        return [f"{operation}: not in the baseline: python -m conformance --update"]
    was = known[operation]
    passed = sum(one.outcome is Outcome.PASSED for one in results)
    lines = []
    if passed < was["passed"]:
        lines.append(f"{operation}: {passed} cases pass, {was['passed']} did")
    excused = set(was.get("deviations", ()))
    listed = list(was.get("unsupported", {}).values())
    unsupported = {name for names in listed if names != WHOLE for name in names} | excused
    for one in results:
        if one.outcome is Outcome.DEVIATES:
            fine = one.case.name in excused
        else:
            fine = one.outcome is Outcome.PASSED or WHOLE in listed or one.case.name in unsupported
        if not fine:
            lines.append(f"{operation}: {one.case.name}: {one.outcome.value}: {one.why}")
    return lines


def _whole(results: list[Result]) -> bool:
    """Whether the operation itself is not there."""
    return results[0].outcome is Outcome.UNSUPPORTED
