"""One data directory brought up and down by the commands for people alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from support import docker
from support.ecs import Tasks
from support.processes import BINARY, LOGS, clean_environment, ecs_client, read_json


class Up:
    """One data directory brought up and down by the commands alone."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.instances: set[str] = set()

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `longshore …` to its end."""
        output = self.data.parent / "output"
        with output.open("wb") as file:
            # A file, not a pipe: what stays in the background must not hold us up.
            done = subprocess.run(
                [str(BINARY), *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=90,
                env=clean_environment(ECS_IMAGE_PULL_BEHAVIOR="prefer-cached"),
            )
        text = output.read_text(errors="replace")
        assert not check or done.returncode == 0, f"longshore {' '.join(arguments)}:\n{text}"
        return subprocess.CompletedProcess(done.args, done.returncode, text, "")

    def up(self, *more: str) -> Any:
        """`longshore up --detach`; a client of what is up then."""
        for name in ("server", "agent"):
            LOGS[f"{name} of up"] = self.data / "log" / f"{name}.log"
        listen = "127.0.0.1:0"
        if facts := read_json(self.data / "server.json"):
            listen = facts["endpoint"].removeprefix("http://")
        self.command("up", "--detach", "--data-dir", str(self.data), "--listen", listen, *more)
        ecs = self.client()
        arns = ecs.list_container_instances()["containerInstanceArns"]
        self.instances |= set(arns)
        return ecs

    def client(self) -> Any:
        """A boto3 client by the files of the data directory."""
        facts = read_json(self.data / "server.json")
        assert facts, "no server.json: nothing is up"
        return ecs_client(facts["endpoint"], read_json(self.data / "root-access-key") or {})

    def down(self, *more: str) -> None:
        """`longshore down`."""
        self.command("down", "--data-dir", str(self.data), *more)

    def processes(self) -> list[int]:
        """Processes whose command line or environment names our data directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                facts = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                program = os.readlink(entry / "exe")
            except OSError:
                continue
            if str(self.data).encode() in facts and Path(program).name == BINARY.name:
                found.append(int(entry.name))
        return found

    def clean(self) -> None:
        """Whatever a failed test left."""
        if self.processes():
            self.command("down", "--data-dir", str(self.data), check=False)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        docker.remove(docker.ids_of_instances(sorted(self.instances)))
        for name in ("server", "agent"):
            LOGS.pop(f"{name} of up", None)


def running(ids: list[str]) -> list[bool]:
    """Which of these containers run."""
    return [one["State"]["Running"] for one in docker.inspect(*ids)]


def of(ecs: Any) -> Tasks:
    """Tasks of the default cluster."""
    return Tasks(ecs, "default", "up")
