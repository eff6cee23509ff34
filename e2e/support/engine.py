"""A Docker Engine of a test's own, to be stopped in the middle of its work or to run out of disk."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from support.docker import LABEL, TOOL
from support.waiting import until

T = TypeVar("T")


CLONE_NEWNET = 0x40000000
# An Engine that is to have no bridge removes the one that it finds, so it must not find the machine's.
START = 'ip link set lo up && exec dockerd "$@"'


class OwnEngine:
    """`dockerd` with all its state in one folder, on a network of its own that has nothing but a loopback interface: tasks use
    that, as `host`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        # Paths of sockets are short, and pytest's folders are not.
        self.run = Path(f"/run/longshore-e2e-{secrets.token_hex(6)}")
        self.socket = self.run / "docker.sock"
        self.child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self.socket}"

    def start(self) -> OwnEngine:
        """Starts it, and waits until it answers."""
        self.run.mkdir(exist_ok=True)
        options = [f"--data-root={self.folder / 'data'}", f"--exec-root={self.run}"]
        options += [f"--pidfile={self.run / 'docker.pid'}", "--bridge=none"]
        options += ["--iptables=false", "--ip6tables=false", *self.options]
        with (self.folder / "dockerd.log").open("ab") as log:
            self.child = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", START, "dockerd", f"--host={self.url}", *options],
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

    def inside(self, make: Callable[[], T]) -> T:
        """What `make` answers on the Engine's network: a socket belongs where it was made."""
        assert self.child is not None
        namespace, made = Path(f"/proc/{self.child.pid}/ns/net"), []

        def enter() -> None:
            with namespace.open() as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(make())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return made[0]

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
            # An Engine mounts its folders upon themselves, and leaves them so.
            places = (f"{self.folder}/data", f"{self.run}/")
            mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").open()]
            for mount in reversed([mount for mount in mounts if mount.startswith(places)]):
                subprocess.run(["umount", "--lazy", mount], check=False)
            shutil.rmtree(self.run, ignore_errors=True)


@contextlib.contextmanager
def own_engine(parent: Path, *options: str) -> Iterator[OwnEngine]:
    """An Engine that has started and has the test program's image; ended afterwards."""
    if os.geteuid():
        pytest.skip("an Engine of its own needs root")
    folder = parent / "engine"
    folder.mkdir()
    engine = OwnEngine(folder, *options)
    try:
        engine.start()
        engine.load()
        yield engine
    finally:
        engine.end()
