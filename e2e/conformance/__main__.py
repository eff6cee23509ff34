"""`python -m conformance`: a server of its own, all cases, a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from conformance import baseline, model, sweep
from conformance.runner import Outcome, Result, run
from conformance.world import World
from support.processes import Server


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("conformance", description=__doc__)
    parser.add_argument("operations", nargs="*", help="some operations; all when none is named")
    parser.add_argument("--show", action="store_true", help="every case that does not pass")
    parser.add_argument("--update", action="store_true", help="write what passes to the baseline")
    parser.add_argument(
        "--allow-lower", action="store_true", help="even where it is less than before"
    )
    parser.add_argument("--reason", default="", help="why what deviates newly may do so")
    return parser.parse_args()


def main() -> int:
    """Runs the cases; 1 when something is worse than the baseline."""
    options = arguments()
    operations = model.ecs().operations
    names = options.operations or list(operations)
    if unknown := [name for name in names if name not in operations]:
        print(f"no operation of ECS: {', '.join(unknown)}", file=sys.stderr)
        return 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="longshore-conformance-") as folder:
        server = Server(Path(folder), "999999999999")
        try:
            server.start()
            world = World(server)
            results = {name: run(world, operations[name]) for name in names}
            left = sweep.problems(world)
            world.close()
        finally:
            server.kill()
    print(table(results))
    if options.show:
        print(details(results))
    print(f"{sum(map(len, results.values()))} cases in {time.monotonic() - started:.1f} s")
    known = baseline.load()
    worse = left + [line for name in names for line in baseline.worse(known, name, results[name])]
    if options.update:
        return update(results, known, worse, options)
    print("\n".join(worse or ["as good as the baseline or better"]))
    return 1 if worse else 0


def update(
    results: dict[str, list[Result]],
    known: dict[str, baseline.Entry],
    worse: list[str],
    options: argparse.Namespace,
) -> int:
    """Writes the baseline, unless that would lower it."""
    if worse and not options.allow_lower:
        print("\n".join([*worse, "the baseline may only rise: --allow-lower and --reason TEXT"]))
        return 1
    try:
        entries = {
            name: baseline.entry(known.get(name), results[name], options.reason) for name in results
        }
    except baseline.Unexplained as deviation:
        print(deviation, file=sys.stderr)
        return 1
    baseline.save(known | entries)
    return 0


def table(results: dict[str, list[Result]]) -> str:
    """A line for each operation, and one for all."""
    lines = [f"{'operation':34}{'cases':>8}{'passed':>8}{'unsupported':>13}{'deviates':>10}"]
    everything = [result for each in results.values() for result in each]
    for name, each in [*results.items(), ("all", everything)]:
        counts = [sum(one.outcome is outcome for one in each) for outcome in Outcome]
        passed, unsupported, deviates = counts
        lines.append(f"{name:34}{len(each):>8}{passed:>8}{unsupported:>13}{deviates:>10}")
    return "\n".join(lines)


def details(results: dict[str, list[Result]]) -> str:
    """What does not pass, and why; of an operation that is not there nothing but that."""
    lines = []
    for name, each in results.items():
        absent = each[0].outcome is Outcome.UNSUPPORTED
        for index, one in enumerate(each):
            told = index == 0 or not absent or one.outcome is Outcome.DEVIATES
            if told and one.outcome is not Outcome.PASSED:
                lines.append(f"{name}: {one.case.name}: {one.outcome.value}: {one.why}")
                lines.append(f"    {str(one.request)[:400]}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
