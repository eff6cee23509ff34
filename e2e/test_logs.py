"""`longshore logs`: through the server and the agent, byte by byte, whoever goes away meanwhile."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import admin, docker, people
from support.admin import Admin
from support.ecs import Tasks, container
from support.people import Following
from support.processes import Agent, Server
from support.waiting import until
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import Instance, container_change

Fleet = Callable[..., Engine]
ASKED = "LongshoreReadTaskLogsMessage"


def numbers(lines: list[str], word: str = "out") -> list[int]:
    """The numbers of the lines that tool.c counts."""
    found = (re.search(rf"{word} (\d+)$", line) for line in lines)
    return [int(match.group(1)) for match in found if match]


def gapless(seen: list[int], first: int = 1) -> bool:
    """Whether every line came once, and in order."""
    return seen == list(range(first, first + len(seen)))


##### What was printed


def test_streams_and_containers_are_told_apart(server: Server, agent: Agent, tasks: Tasks) -> None:
    # The long one last: when it ends the other has said all.
    arn = tasks.run(
        tasks.define(
            container("web", "lines", "3", "300", "7"),
            container("side", "lines", "2", "1", essential=False),
        )
    )
    task = tasks.wait(arn, "STOPPED")
    assert {one["name"]: one["exitCode"] for one in task["containers"]} == {"web": 7, "side": 0}

    done = people.run(server.data, "logs", arn)
    out, err = done.stdout.decode().splitlines(), done.stderr.decode().splitlines()
    assert sorted(out) == [
        "side | out 1", "side | out 2", "web  | out 1", "web  | out 2", "web  | out 3",
    ]  # fmt: skip
    assert sorted(err) == [line.replace("out", "err") for line in sorted(out)]
    assert out.index("web  | out 3") == 4, "in the order of time"

    alone = people.run(server.data, "logs", arn, "--container", "web")
    assert alone.stdout == b"out 1\nout 2\nout 3\n" and alone.stderr == b"err 1\nerr 2\nerr 3\n"
    assert "web, side" in people.complaint(server.data, "logs", arn, "--container", "nobody")

    lines = people.text(server.data, "logs", arn, "--output", "json").splitlines()
    entries = [json.loads(line) for line in lines]
    assert len(entries) == 10
    assert set(entries[0]) == {"time", "container", "stream", "message", "partial"}
    assert {(one["container"], one["stream"]) for one in entries} == {
        (name, stream) for name in ("web", "side") for stream in ("stdout", "stderr")
    }
    times = [one["time"] for one in entries]
    assert times == sorted(times)


def witness(arn: str) -> bytes:
    """What Docker has of a task's one container: json-file puts U+FFFD where a byte is no UTF-8."""
    (one,) = docker.of_task(arn).values()
    return subprocess.run(["docker", "logs", one["Id"]], capture_output=True, check=True).stdout


def test_every_byte_arrives(server: Server, agent: Agent, tasks: Tasks) -> None:
    arn = tasks.run(tasks.define(container("main", "odd")))
    tasks.wait(arn, "STOPPED")
    expected = witness(arn)
    assert expected.startswith("größer\n€€€".encode()) and expected.endswith(b"\x1b\nend")
    assert people.run(server.data, "logs", arn).stdout == expected
    entries = [
        json.loads(line)
        for line in people.text(server.data, "logs", arn, "--output", "json").splitlines()
    ]
    joined = b"".join(
        (
            one["message"].encode() if "message" in one else base64.b64decode(one["messageBase64"])
        )
        + (b"" if one["partial"] else b"\n")
        for one in entries
    )
    assert joined == expected


def test_a_terminal_is_one_stream(server: Server, agent: Agent, tasks: Tasks) -> None:
    arn = tasks.run(tasks.define(container("main", "odd", pseudoTerminal=True)))
    tasks.wait(arn, "STOPPED")
    shown = people.run(server.data, "logs", arn)
    assert shown.stdout == witness(arn) and b"\r\n" in shown.stdout and shown.stderr == b""


def test_a_long_log_comes_in_pages_and_whole(server: Server, agent: Agent, tasks: Tasks) -> None:
    """More than one answer holds; and what is shown is what Docker has."""
    arn = tasks.run(tasks.define(container("main", "lines", "30000", "0")))
    tasks.wait(arn, "STOPPED", within=60)
    done = people.run(server.data, "logs", arn)
    assert numbers(done.stdout.decode().splitlines()) == list(range(1, 30_001))
    assert numbers(done.stderr.decode().splitlines(), "err") == list(range(1, 30_001))
    (one,) = docker.of_task(arn).values()
    assert done.stdout.decode() == docker.logs(one)


def test_the_end_of_it_and_the_last_minutes(server: Server, agent: Agent, tasks: Tasks) -> None:
    arn = tasks.run(tasks.define(container("main", "lines", "9", "1")))
    tasks.wait(arn, "STOPPED")
    # Docker counts lines of both streams.
    last = people.run(server.data, "logs", "--tail", "4", arn)
    assert last.stdout == b"out 8\nout 9\n" and last.stderr == b"err 8\nerr 9\n"
    assert people.run(server.data, "logs", "--tail", "0", arn).stdout == b""
    assert numbers(people.text(server.data, "logs", "--since", "10m", arn).splitlines()) == [
        *range(1, 10)
    ]
    timed = people.text(server.data, "logs", "--timestamps", "--tail", "2", arn)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z out 9\n", timed)


##### Following


def test_following_goes_on_until_the_task_has_stopped(
    server: Server, agent: Agent, tasks: Tasks
) -> None:
    arn = tasks.start(container("main", "lines", "1000000", "20"))
    with Following(server.data, "--tail", "2", arn) as following:
        following.until(30)
        (one,) = docker.of_task(arn).values()
        tasks.stop(arn)
        assert following.ended() == 0
        seen = numbers(following.lines)
        assert gapless(seen, seen[0])
        assert seen[-1] == numbers(docker.logs(one).splitlines())[-1], "to the last line"


def test_following_may_begin_before_there_is_a_container(
    server: Server, agent: Agent, tasks: Tasks
) -> None:
    first = container("first", "exit", "0", "1500", essential=False)
    second = container(
        "second", "lines", "3", "1", dependsOn=[{"containerName": "first", "condition": "COMPLETE"}]
    )
    arn = tasks.run(tasks.define(first, second))
    with Following(server.data, arn) as following:
        assert following.ended() == 0
        assert numbers(following.lines) == [1, 2, 3], following.errors


def test_ctrl_c_is_no_failure(server: Server, agent: Agent, tasks: Tasks) -> None:
    arn = tasks.start(container("main", "lines", "1000000", "50"))
    with Following(server.data, arn) as following:
        following.until(3)
        following.child.send_signal(signal.SIGINT)
        assert following.ended(10) == 0
        assert [line for line in following.errors if not line.startswith("err ")] == []


def test_following_outlives_server_and_agent(stage: Any, images: None) -> None:
    server: Server = stage.server()
    agent: Agent = stage.agent(server)
    ecs = server.client()
    tasks = Tasks(ecs, "default", f"f-{uuid.uuid4().hex[:8]}")
    arn = tasks.start(container("main", "lines", "1000000", "20"))
    with Following(server.data, arn) as following:
        count = len(following.until(10))
        server.kill()
        server.start()
        server.wait_for_instance()
        count = len(following.until(count + 50, 40))
        agent.kill()
        agent.start()
        count = len(following.until(count + 50, 60))
        tasks.stop(arn)
        assert following.ended(60) == 0, following.errors
        assert gapless(numbers(following.lines)), following.lines
        assert any("waiting, and trying again" in line for line in following.errors)


##### What cannot be had


def test_why_there_are_no_logs(server: Server, agent: Agent, tasks: Tasks) -> None:
    missing = tasks.run(tasks.define(container("main", image="127.0.0.1:9/nothing:1")))
    tasks.wait(missing, "STOPPED", within=60)
    complaint = people.complaint(server.data, "logs", missing)
    assert "never created" in complaint and "CannotPullContainerError" in complaint

    cleaned = tasks.run(tasks.define(container("main", "lines", "2", "1")))
    tasks.wait(cleaned, "STOPPED")
    docker.remove([one["Id"] for one in docker.of_task(cleaned).values()])
    complaint = people.complaint(server.data, "logs", cleaned)
    assert "was removed" in complaint and "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION" in complaint


def test_a_driver_that_gives_nothing_back_does_not_hide_the_other_container(
    stage: Any, images: None
) -> None:
    server: Server = stage.server()
    stage.agent(server, ECS_AVAILABLE_LOGGING_DRIVERS='["json-file", "gelf"]')
    tasks = Tasks(server.client(), "default", f"f-{uuid.uuid4().hex[:8]}")
    # Nobody listens there, and nobody has to.
    options = {"gelf-address": "udp://127.0.0.1:9", "cache-disabled": "true"}
    gelf = {"logDriver": "gelf", "options": options}
    arn = tasks.run(
        tasks.define(
            container("main", "lines", "2", "100"),
            container("mute", "lines", "2", "1", essential=False, logConfiguration=gelf),
        )
    )
    tasks.wait(arn, "STOPPED")
    done = people.run(server.data, "logs", arn, code=1)
    assert numbers(done.stdout.decode().splitlines()) == [1, 2]
    assert b"LogsUnavailableException" in done.stderr and b"json-file" in done.stderr


def test_an_agent_that_is_away_or_not_ours(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    engine = fleet()
    tasks = Tasks(ecs, cluster, f"f-{cluster}")
    arn = tasks.start()
    complaint = people.complaint(server.data, "logs", arn)
    assert "UnsupportedFeatureException" in complaint and "docker logs" in complaint
    tasks.stop_all()
    assert engine.failure is None


##### Who may answer


class Ours:
    """The test agent with a machine's own key, and the attribute that tells our agent."""

    def __init__(self, server: Server, owner: Admin, cluster: str) -> None:
        token_id, secret = owner("CreateJoinToken", cluster=cluster)["token"].split(".", 1)
        machine = Admin(server, {"accessKeyId": token_id, "secretAccessKey": secret})
        self.key = machine("JoinContainerInstance", clientToken=str(uuid.uuid4()))
        self.instance = Instance(server.endpoint, self.key, cluster)
        self.instance.custom = [{"name": "longshore.host-id", "value": uuid.uuid4().hex}]
        self.instance.register()
        self.submit = Admin(server, self.key)

    def answer(self, request: dict[str, Any], text: str = "hello\n") -> dict[str, Any]:
        """SubmitTaskLogs with one line."""
        data = base64.b64encode(text.encode()).decode()
        entry = {"time": "2026-01-01T00:00:00.000000000Z", "stream": "stdout", "data": data}
        return self.submit(
            "SubmitTaskLogs",
            requestId=request["messageId"],
            entries=[entry],
            position="1.0/1",
            end=True,
        )


class Reader(threading.Thread):
    """A call of GetTaskLogs that waits."""

    def __init__(self, owner: Admin, **request: Any) -> None:
        super().__init__(daemon=True)
        self.owner, self.request = owner, request
        self.page: dict[str, Any] = {}
        self.error: admin.Refused | None = None
        self.start()

    def run(self) -> None:
        try:
            self.page = self.owner("GetTaskLogs", **self.request)
        except admin.Refused as error:
            self.error = error


@pytest.fixture
def owner(server: Server) -> Admin:
    """Longshore's own operations, with the root access key."""
    return Admin(server)


Placed = tuple[Ours, Acs, str]


@pytest.fixture
def placed(server: Server, ecs: Any, owner: Admin, cluster: str) -> Iterator[Placed]:
    """A connected machine, its session, and a task that is placed on it."""
    machine = Ours(server, owner, cluster)
    with Acs(machine.instance) as acs:
        server.wait_for_instance(cluster)
        tasks = Tasks(ecs, cluster, f"f-{cluster}")
        yield machine, acs, tasks.run(tasks.define())


def test_only_the_asked_machine_answers_and_only_once(
    server: Server, owner: Admin, cluster: str, placed: Placed
) -> None:
    asked, acs, arn = placed
    other = Ours(server, owner, cluster)
    acs.payload()
    asked.instance.submit(arn, "RUNNING", [container_change("main", "RUNNING")])
    reader = Reader(owner, cluster=cluster, task=arn, tail=5, waitSeconds=5)
    request = acs.receive(ASKED)
    assert (request["taskArn"], request["containerName"]) == (arn, "main")
    assert (request["tail"], request["wait"]) == (5, 5000)

    def refused(machine: Ours, code: str, **change: str) -> None:
        with pytest.raises(admin.Refused) as caught:
            machine.answer({**request, **change})
        assert caught.value.code == code

    refused(asked, "ResourceNotFoundException", messageId=str(uuid.uuid4()))
    refused(other, "AccessDeniedException")
    owner("RevokeInstanceIdentity", accessKeyId=other.key["accessKeyId"])
    refused(other, "UnrecognizedClientException")
    with pytest.raises(admin.Refused) as caught:
        asked.submit("GetTaskLogs", cluster=cluster, task=arn)
    assert caught.value.code == "AccessDeniedException", "a machine reads nobody's logs"

    asked.answer(request)
    reader.join(10)
    assert reader.page["entries"][0]["data"] == base64.b64encode(b"hello\n").decode()
    refused(asked, "ResourceNotFoundException")


def test_a_key_that_is_revoked_meanwhile_answers_nothing(
    server: Server, owner: Admin, cluster: str, placed: Placed
) -> None:
    asked, acs, arn = placed
    reader = Reader(owner, cluster=cluster, task=arn)
    request = acs.receive(ASKED)
    owner("RevokeInstanceIdentity", accessKeyId=asked.key["accessKeyId"])
    with pytest.raises(admin.Refused) as caught:
        asked.answer(request)
    assert caught.value.code == "UnrecognizedClientException"
    reader.join(20)
    assert reader.error and reader.error.code == "TargetNotConnectedException"
    until(
        lambda: "not connected" in people.complaint(server.data, "logs", arn),
        "the server to notice that the agent is gone",
    )


def test_readers_are_throttled_and_others_are_served(
    server: Server, ecs: Any, cluster: str, placed: Placed
) -> None:
    asked, acs, arn = placed
    readers = [Reader(Admin(server), cluster=cluster, task=arn, waitSeconds=5) for _ in range(160)]
    requests = [acs.receive(ASKED) for _ in range(128)]
    acs.nothing(ASKED, 1)
    ecs.list_tasks(cluster=cluster)
    for request in requests:
        asked.answer(request)
    for reader in readers:
        reader.join(30)
    throttled = [one for one in readers if one.error]
    assert {one.error.code for one in throttled if one.error} == {"ThrottlingException"}
    assert len(throttled) == 32 and sum(bool(one.page) for one in readers) == 128


def test_a_follower_among_too_many_waits_for_its_turn(
    server: Server, cluster: str, placed: Placed
) -> None:
    asked, acs, arn = placed
    acs.payload()
    asked.instance.submit(arn, "RUNNING", [container_change("main", "RUNNING")])
    readers = [Reader(Admin(server), cluster=cluster, task=arn, waitSeconds=5) for _ in range(128)]
    requests = [acs.receive(ASKED) for _ in readers]
    with Following(server.data, arn) as following:
        until(lambda: "ThrottlingException" in "".join(following.errors), "it to be throttled")
        for request in requests:
            asked.answer(request)
        asked.answer(acs.receive(ASKED), "its turn\n")
        assert following.until(1) == ["its turn"]
        assert len(following.errors) == 1 and following.child.poll() is None, following.errors
    for reader in readers:
        reader.join(30)


def test_a_reader_that_has_gone_leaves_its_place(
    owner: Admin, cluster: str, placed: Placed
) -> None:
    asked, acs, arn = placed
    request = {"cluster": cluster, "task": arn, "waitSeconds": 10}
    readers = [owner.begin("GetTaskLogs", **request) for _ in range(128)]
    for _ in readers:
        acs.receive(ASKED)
    with pytest.raises(admin.Refused, match="ThrottlingException"):
        owner("GetTaskLogs", **request)
    for reader in readers:
        reader.close()

    def is_taken_up() -> bool:
        Reader(owner, **request)
        with contextlib.suppress(AssertionError):
            asked.answer(acs.receive(ASKED, 0.5))
            return True
        return False

    until(is_taken_up, "a place among the readers", 3)


def test_what_is_no_position_is_not_the_beginning(
    owner: Admin, cluster: str, placed: Placed
) -> None:
    _asked, acs, arn = placed
    for position in ("mangled", "1.0", "1.0/", "1.0/1/x"):
        with pytest.raises(admin.Refused, match="position must be") as caught:
            owner("GetTaskLogs", cluster=cluster, task=arn, position=position)
        assert caught.value.code == "InvalidParameterException"
    acs.nothing(ASKED, 1)
