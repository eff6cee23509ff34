"""The one place where the tests wait: a poll with a deadline that says what it waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.05


def until(probe: Callable[[], T], what: str, within: float = 20.0) -> T:
    """Calls `probe` until it answers something true, and returns that answer."""
    deadline = time.monotonic() + within
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:.0f} s: {what} (last answer: {answer!r})")
        time.sleep(POLL_SECONDS)
