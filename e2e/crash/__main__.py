"""`python -m crash`: see `--help`."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="crash", description="Load, kill -9, and a verdict.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="of load and faults")
    parser.add_argument(
        "--instances", type=int, default=3, help="hosts with an agent and an Engine"
    )
    parser.add_argument("--lost-after", default="8s", help="the server's --instance-lost-after")
    parser.add_argument("--no-drain", action="store_true", help="leave the instances ACTIVE")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a clean run, too")
    parser.add_argument(
        "--judge", type=Path, metavar="FILE", help="only judge an observed.json again"
    )
    return parser.parse_args()


def main() -> int:
    """Runs, judges, and tells."""
    arguments = parse()
    if arguments.judge:
        from crash.observed import Observed

        return tell(rules_of(Observed.load(arguments.judge)))

    folder = ROOT / "target" / "crash" / f"{time.strftime('%m%d-%H%M%S')}-{arguments.seed}"
    folder.mkdir(parents=True)
    # A copy, because who works on the code meanwhile builds anew; named before anything reads it.
    program = Path(os.environ.get("LONGSHORE_BIN", ROOT / "target" / "debug" / "longshore"))
    shutil.copy2(program, folder / "longshore")
    os.environ["LONGSHORE_BIN"] = str(folder / "longshore")
    from crash.run import Options, Run

    again = f"python -m crash --minutes {arguments.minutes:g} --seed {arguments.seed}"
    say(f"{again} --instances {arguments.instances}")
    options = Options(
        seconds=arguments.minutes * 60,
        seed=arguments.seed,
        instances=arguments.instances,
        lost_after=arguments.lost_after,
        drain=not arguments.no_drain,
        folder=folder,
    )
    violations = None
    try:
        run = Run(options, say)
        violations = run.go()
    finally:
        if violations is None or violations or arguments.keep:
            say(f"logs, faults and everything observed: {folder}")
        else:
            shutil.rmtree(folder)
    return tell(violations)


def rules_of(observed: object) -> list:
    """Judges what was observed."""
    from crash import rules

    return rules.check(observed)


def tell(violations: list) -> int:
    """The verdict, and the exit code."""
    for violation in violations[:50]:
        say(f"✘ {violation}")
    say("✔ nothing lost, nothing twice" if not violations else f"✘ {len(violations)} violation(s)")
    return 1 if violations else 0


def say(text: str) -> None:
    """One line, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
