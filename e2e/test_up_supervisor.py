"""What is left when `longshore up` itself is killed, and who may touch it (issue item 2)."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from support import docker
from support.ecs import container
from support.processes import read_json, wait_for_instances
from support.up import Up, of, running
from support.waiting import until

pytestmark = [pytest.mark.usefixtures("images"), pytest.mark.timeout(150)]

CHILDREN = ("server", "agent")


def pids(up: Up, *names: str) -> dict[str, int]:
    """The processes that up.json names."""
    record = read_json(up.data / "up.json") or {}
    return {name: record[name]["pid"] for name in names if record[name]}


def kill(up: Up, *names: str) -> None:
    """kill -9, and wait until they are gone."""
    for pid in (victims := pids(up, *names)).values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(victims.values()) & set(up.processes()), "the end of the killed", 10)


def test_a_new_up_takes_over_what_a_killed_one_left(front: Up) -> None:
    ecs = front.up()
    arn = of(ecs).start(container())
    before, children = docker.of_task(arn)["main"], pids(front, *CHILDREN)
    kill(front, "supervisor")
    assert set(front.processes()) == set(children.values()), "they live on by themselves"
    ecs = front.up()
    assert pids(front, *CHILDREN) == children, "and are not started anew"
    assert docker.of_task(arn)["main"]["State"]["StartedAt"] == before["State"]["StartedAt"]

    # Taken over is not orphaned: one that dies is started again, and down ends both.
    kill(front, "server")
    facts = front.data / "server.json"
    until(lambda: (read_json(facts) or {}).get("pid") not in (None, children["server"]), "a server")
    wait_for_instances(front.client(), "default", 1)
    front.down()
    assert front.processes() == []
    assert running([before["Id"]]) == [False]


def test_down_without_server_and_agent_stops_its_containers_alone(
    front: Up, outsiders: list[str]
) -> None:
    ecs = front.up()
    arn = of(ecs).start(container("main", "trap", "7"))
    container_id = docker.of_task(arn)["main"]["Id"]
    kill(front, "supervisor")
    kill(front, *CHILDREN)
    refused = front.command("env", "--data-dir", str(front.data), check=False)
    assert refused.returncode != 0 and "start Longshore first" in refused.stdout, refused.stdout
    front.down()
    assert running([container_id]) == [False]
    assert docker.inspect(container_id)[0]["State"]["ExitCode"] == 7, "it was asked, not killed"
    assert running(outsiders) == [True, True, True]
    ecs = front.up()
    task = of(ecs).wait(arn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 7, "what happened meanwhile is reported"


def test_a_record_that_names_strangers_harms_nobody(front: Up) -> None:
    """Pids are used again; down must not trust them."""
    front.up()
    front.down()
    path = front.data / "up.json"
    stranger = f'{{"pid": {os.getpid()}, "startTime": 1}}'
    text = path.read_text()
    for name in ("supervisor", *CHILDREN):
        text = text.replace(f'"{name}": null', f'"{name}": {stranger}')
    assert text.count(stranger) == 3
    path.write_text(text)
    front.down()  # and this process goes on


def test_what_cannot_be_had_is_said_plainly(front: Up, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        arguments = ("up", "--detach", "--data-dir", str(front.data), "--listen", address)
        refused = front.command(*arguments, check=False)
        assert refused.returncode != 0 and address in refused.stdout, refused.stdout
        assert "--listen" in refused.stdout, "what to do"
    front.up()
    other = front.command(
        "up", "--detach", "--data-dir", str(front.data), "--instances", "2", check=False
    )
    assert other.returncode != 0 and " down --keep-tasks --data-dir" in other.stdout, other.stdout
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    wrong = front.command("up", "--data-dir", str(front.data), "--run", str(broken), check=False)
    assert wrong.returncode != 0 and "broken.json" in wrong.stdout, wrong.stdout
