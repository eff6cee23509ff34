"""The short form of `make crash`: half a minute of load on three hosts while all is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import BINARY


@pytest.mark.timeout(300)
def test_half_a_minute_of_kills_loses_and_repeats_nothing() -> None:
    """What is judged is in `crash/rules.py`. The output has the seed, and the logs' folder."""
    done = subprocess.run(
        [sys.executable, "-m", "crash", "--minutes", "0.5"],
        cwd=Path(__file__).parent,
        env=os.environ | {"LONGSHORE_BIN": str(BINARY)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
