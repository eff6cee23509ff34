"""`scripts/hosts` itself: what it breaks it mends, and it leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import docker
from support.hosts import Hosts, network
from support.waiting import until

HOSTS = ("h1", "h2")


def remains(hosts: Hosts) -> list[str]:
    """Processes, folders and control groups of a set of hosts."""
    found = [str(hosts.folder)] if hosts.folder.exists() else []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and str(hosts.folder).encode() in (entry / "cmdline").read_bytes()
            ):
                found.append(entry.name)
        except OSError:
            continue
    groups = hosts.command("groups").strip()
    # Others' groups come and go meanwhile, which a glob does not bear.
    every = (Path(folder) / name for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names)
    return found + [str(path) for path in every if path.match(f"**/{groups}")]


def reaches(hosts: Hosts, source: str, target: str) -> bool:
    """Whether one host can open a connection to another, which listens for that."""
    probe = f"exec 3<>/dev/tcp/{target}/7000 && read -t 1 -u 3 word && [ $word = hello ]"
    done = hosts.command(
        "exec", source, "timeout", "1", "bash", "-c", f"{probe}; echo $?", check=False
    )
    return done.strip() == "0"


def test_a_set_of_hosts_from_beginning_to_end(hosts: Hosts) -> None:
    """Names, cables, power, Engine; twice down is as good as once."""
    one, other = hosts.host("h1"), hosts.host("h2")
    run = ("run", "--detach", "--net", "host", "--name", "listener", docker.TOOL, "listen", "7000")
    other.docker(*run)
    assert one.run("hostname").strip() == "h1"
    until(lambda: reaches(hosts, "h1", "h2"), "a listener")
    for how in ("both", "in", "out"):
        other.cut(how)
        assert not reaches(hosts, "h1", "h2"), how
        assert f"cut off ({how})" in hosts.command("status")
        other.heal()
        assert reaches(hosts, "h1", "h2")
    other.kill()
    assert not reaches(hosts, "h1", "h2")
    other.kill()
    other.boot()
    (listener,) = other.containers()
    assert not listener["State"]["Running"], "power was cut; the disk was kept"
    other.kill_engine()
    assert "does not answer" in hosts.command("status")
    other.start_engine()
    other.docker("start", "listener")
    until(lambda: reaches(hosts, "h1", "h2"), "the listener")
    assert not docker.ids_with("nothing"), "this machine's Engine answers as before"


def test_nothing_is_left(images: None) -> None:
    with network("h1", images=(docker.TOOL,)) as hosts:
        hosts.host("h1").docker("run", "--detach", docker.TOOL)
        assert remains(hosts)
    until(lambda: not remains(hosts), "nothing left", 5)
    hosts.command("down")


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who wants hosts, and will be killed."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_hosts_end_with_whom_they_are_for(owner: subprocess.Popen[bytes]) -> None:
    hosts = Hosts()
    hosts.command("up", "--for", str(owner.pid), "h1")
    assert remains(hosts)
    owner.kill()
    owner.wait()
    until(lambda: not remains(hosts), "the end of the hosts")
