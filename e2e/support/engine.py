"""A Docker Engine of a test's own, to be stopped in the middle of its work or to run out of disk."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

from support.docker import LABEL, TOOL
from support.waiting import until


class OwnEngine:
    """`dockerd` with all its state in one folder, and without networks: tasks use the host's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A socket's path is short, and pytest's folders are not.
        self.socket = Path(f"/run/longshore-e2e-{secrets.token_hex(6)}.sock")
        self.child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self.socket}"

    def start(self) -> OwnEngine:
        """Starts it, and waits until it answers."""
        places = {"data-root": "data", "exec-root": "run", "pidfile": "docker.pid"}
        options = [f"--{name}={self.folder / place}" for name, place in places.items()]
        options += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        (self.folder / "docker.pid").unlink(missing_ok=True)
        with (self.folder / "dockerd.log").open("ab") as log:
            self.child = subprocess.Popen(
                ["dockerd", f"--host={self.url}", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        version = ("version", "--format", "{{.Server.Version}}")
        until(lambda: self.docker(*version, check=False).strip(), "an answer of the Engine", 60)
        return self

    def docker(self, *arguments: str, check: bool = True, **more: Any) -> str:
        """This machine's `docker` command, with this Engine."""
        command = ["docker", "--host", self.url, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, **more)
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def load(self, image: str = TOOL) -> None:
        """Copies an image of the machine's Engine."""
        saved = subprocess.run(["docker", "save", image], check=True, capture_output=True).stdout
        command = ["docker", "--host", self.url, "load", "--quiet"]
        subprocess.run(command, input=saved, check=True, capture_output=True)

    def signal(self, number: int) -> None:
        """To the daemon alone: SIGSTOP makes it hang, SIGCONT lets it go on."""
        assert self.child is not None
        self.child.send_signal(number)

    def of_task(self, task_arn: str) -> list[dict[str, Any]]:
        """`docker inspect` of a task's containers, running or not."""
        label = f"label={LABEL}task-arn={task_arn}"
        ids = self.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", label).split()
        return json.loads(self.docker("inspect", *ids)) if ids else []

    def end(self) -> None:
        """Removes every container, and ends the Engine with what it started."""
        if self.child is None:
            return
        self.signal(signal.SIGCONT)
        if ids := self.docker("ps", "--all", "--quiet", check=False).split():
            self.docker("rm", "--force", "--volumes", *ids, check=False)
        self.child.terminate()
        try:
            self.child.wait(30)
        finally:
            self.child.kill()
            self.child.wait()
            self.socket.unlink(missing_ok=True)
