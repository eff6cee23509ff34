"""The commands for people, as a person or a script runs them."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import IO, Any

from support.processes import BINARY, clean_environment
from support.waiting import until


def run(
    data: Path | None, *arguments: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Runs `longshore …` against a data directory, to its end, which must be with this exit code."""
    where = ["--data-dir", str(data)] if data else []
    done = subprocess.run(
        [str(BINARY), *arguments, *where],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=90,
        env=clean_environment(**environment),
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def text(data: Path | None, *arguments: str, **environment: str) -> str:
    """What a command prints for people."""
    return run(data, *arguments, **environment).stdout.decode()


def document(data: Path | None, *arguments: str, code: int = 0) -> Any:
    """What a command prints for programs."""
    return json.loads(run(data, *arguments, "--output", "json", code=code).stdout)


def complaint(data: Path | None, *arguments: str, code: int = 1) -> str:
    """What a command that fails says, on standard error."""
    return run(data, *arguments, code=code).stderr.decode()


def written(data: Path, out: IO[bytes], *arguments: str) -> tuple[int, str]:
    """Runs a command that writes there; its exit code, and what it complains of."""
    done = subprocess.run(
        [str(BINARY), *arguments, "--data-dir", str(data)],
        stdout=out,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env=clean_environment(),
    )
    return done.returncode, done.stderr.decode()


class Following:
    """`longshore logs --follow` while it runs: its lines as they come."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.child = subprocess.Popen(
            [str(BINARY), "logs", "--follow", *arguments, "--data-dir", str(data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=clean_environment(),
        )
        assert self.child.stdout and self.child.stderr
        self.readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.child.stdout, self.lines), (self.child.stderr, self.errors))
        ]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.decode(errors="replace").rstrip("\n"))

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(10)

    def until(self, count: int, within: float = 20) -> list[str]:
        """Waits for so many lines."""
        until(lambda: len(self.lines) >= count, f"{count} lines of logs", within)
        return list(self.lines)

    def ended(self, within: float = 30) -> int:
        """Waits for the end by itself; the exit code."""
        code = self.child.wait(within)
        for reader in self.readers:
            reader.join(10)
        return code
