"""A bare Debian machine without systemd: a root, processes, mounts and a network of its own."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from support.waiting import until

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
MIRROR = "http://deb.debian.org/debian"
# What the machine will install: it is brought there beforehand, since its network leads nowhere.
PACKAGES = ["docker.io", "iptables", "ca-certificates"]
# What a kernel gives to every machine, then the root: by more than chroot, where no Engine works.
INIT = """
set -eu
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount --rbind /sys/fs/cgroup "$1/sys/fs/cgroup"
mount --rbind /dev "$1/dev"
cd "$1"
mkdir old
pivot_root . old
exec chroot . sh -c 'umount -l /old; echo ready >/ready; while :; do sleep 1000 & wait $!; done'
"""


def make_root(folder: Path) -> None:
    """Debian's smallest root, packages in apt's cache. LONGSHORE_BARE_ROOT names a ready one."""
    ready = os.environ.get("LONGSHORE_BARE_ROOT")
    if ready:
        subprocess.run(["cp", "-a", ready, str(folder)], check=True)
        return
    make = ["debootstrap", "--variant=minbase", "bookworm", str(folder), MIRROR]
    subprocess.run(make, check=True, capture_output=True, timeout=600)
    (folder / "etc/apt/apt.conf.d/docker-clean").unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    fetch = ["install", "-qq", "--no-install-recommends", "--download-only", *PACKAGES]
    for arguments in (["update", "-qq"], fetch):
        command = ["chroot", str(folder), "apt-get", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=300)


class BareMachine:
    """A machine that was just switched on. Whoever leaves it cuts its power, and removes it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.name = f"bare-{os.getpid()}"
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> BareMachine:
        make_root(self.root)
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run([*self.network(), "ip", "link", "set", "lo", "up"], check=True)
        own = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        init = ["sh", "-c", INIT, "init", str(self.root)]
        self.child = subprocess.Popen([*self.network(), *own, *init])
        until((self.root / "ready").exists, "the bare machine")
        return self

    def __exit__(self, *_: object) -> None:
        if self.child:
            self.child.kill()
            self.child.wait(10)
        subprocess.run(["ip", "netns", "delete", self.name], check=False)
        # A process that is just ending may still hold a mount of its own there.
        until(
            lambda: (
                subprocess.run(["rm", "-rf", str(self.root)], capture_output=True).returncode == 0
            ),
            "its end",
        )

    def network(self) -> list[str]:
        """What to put before a command that is to run on its network, but not on the machine."""
        return ["ip", "netns", "exec", self.name]

    def on_network(self, call: Callable[[], T]) -> T:
        """Calls this with sockets on the machine's network: a thread has a network of its own."""
        answers: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{self.name}") as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            try:
                answers.append(call())
            except BaseException as error:  # noqa: BLE001 (told to whoever waits)
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]

    def first_process(self) -> int:
        """The number of the machine's first process, as this machine counts."""
        assert self.child
        number = self.child.pid
        return int(Path(f"/proc/{number}/task/{number}/children").read_text())

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command there, as root, with nothing but this in its environment."""
        enter = [
            "nsenter",
            f"--target={self.first_process()}",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--net",
        ]
        clean = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
        }
        return subprocess.run(
            [*enter, "--root", "--wd", *command],
            env=clean | environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
