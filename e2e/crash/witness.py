"""Who sees containers without asking Longshore: Docker's events, Docker's files, and the kernel.

Docker's events are lost with the Engine, so they are not enough; the kernel does not tell of what
lived for less than a glance, so it is not enough, either. An Engine's files name the task of each
container, also while it is dead.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

from crash.observed import Recorder, Sighting
from support.docker import LABEL
from support.hosts import SCRIPT, Host

GLANCE_SECONDS = 0.25


class Witness:
    """Watches the containers of one host until it is told to stop."""

    def __init__(self, host: Host, recorder: Recorder) -> None:
        self.host, self.recorder = host, recorder
        self.stop = threading.Event()
        self.seen: set[tuple[str, str, float]] = set()
        # Container id → (task ARN, container name), as its Engine wrote it.
        self.labels: dict[str, tuple[str, str]] = {}
        self.events: subprocess.Popen[str] | None = None
        self.threads = [
            threading.Thread(target=target, daemon=True) for target in (self._listen, self._look)
        ]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """Ends both ways of watching."""
        self.stop.set()
        if self.events:
            self.events.kill()
        for thread in self.threads:
            thread.join(10)

    def _listen(self) -> None:
        """Docker's events. A new Engine is asked for all it has; their times tell them apart."""
        since = time.time()
        shape = "{{json .}}"
        command = [str(SCRIPT), "docker", self.host.name, "events", "--filter", "type=container"]
        command += ["--filter", "event=create", "--filter", "event=start", "--format", shape]
        environment = os.environ | {"LONGSHORE_HOSTS_DIR": str(self.host.hosts.folder)}
        while not self.stop.wait(0.2):
            self.events = subprocess.Popen(
                [*command, "--since", f"{since:.3f}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            assert self.events.stdout
            for line in self.events.stdout:
                event = json.loads(line)
                labels = event["Actor"]["Attributes"]
                if f"{LABEL}task-arn" in labels:
                    owner = labels[f"{LABEL}task-arn"], labels[f"{LABEL}container-name"]
                    what = "created" if event["Action"] == "create" else "start"
                    self._saw(event["Actor"]["ID"], owner, what, event["timeNano"] / 1e9)
            self.events.wait()

    def _look(self) -> None:
        """The kernel: which containers have processes at this moment."""
        while not self.stop.wait(GLANCE_SECONDS):
            for container in running_by_kernel(self.host):
                if owner := self._owner(container):
                    self._saw(container, owner, "ran", 0.0)

    def _owner(self, container: str) -> tuple[str, str] | None:
        if container not in self.labels:
            path = self.host.folder / "var/lib/docker/containers" / container / "config.v2.json"
            try:
                labels = json.loads(path.read_text())["Config"]["Labels"] or {}
                owner = labels[f"{LABEL}task-arn"], labels[f"{LABEL}container-name"]
            except (OSError, ValueError, KeyError):
                return None  # just made, or just gone: another glance or the events will tell
            self.labels[container] = owner
        return self.labels[container]

    def _saw(self, container: str, owner: tuple[str, str], what: str, at: float) -> None:
        if (container, what, at) in self.seen:
            return
        self.seen.add((container, what, at))
        # What has no time of its own was seen now.
        self.recorder.sighting(Sighting(self.host.name, *owner, container, what, at or time.time()))


def running_by_kernel(host: Host) -> list[str]:
    """Ids of a host's containers whose program has begun and not ended, from control groups."""
    found = []
    for group in groups_of(host):
        for folder, folders, _ in os.walk(group):
            name = Path(folder).name
            if len(name) == 64:
                folders.clear()
                try:
                    processes = Path(folder, "cgroup.procs").read_text().split()
                except OSError:
                    continue  # ended meanwhile
                if any(has_begun(pid) for pid in processes):
                    found.append(name)
    return found


def has_begun(pid: str) -> bool:
    """Whether a process is a program, and not the runtime that waits for the word to become one: an
    Engine that is killed between create and start leaves such behind, for ever."""
    try:
        return not Path(f"/proc/{pid}/comm").read_text().startswith("runc:[")
    except OSError:
        return False


def groups_of(host: Host) -> list[Path]:
    """The control group in which all of a host lives."""
    try:
        pid = (host.folder / "pid").read_text().strip()
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return []  # it is off
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return [Path("/sys/fs/cgroup/memory" + path)]
    return [Path("/sys/fs/cgroup" + lines[0].split(":", 2)[2]).parent]
