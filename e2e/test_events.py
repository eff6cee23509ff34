"""The event stream: complete, in order, in EventBridge's format, and resumable from any cursor."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from support import people
from support.admin import Admin
from support.ecs import Tasks, container
from support.events import INSTANCE, TASK, Stream, history, request
from support.processes import Agent, Server
from support.waiting import until
from test_agent.engine import Engine

Fleet = Callable[..., Engine]
LIFE = [
    ("PENDING", "RUNNING"),
    ("RUNNING", "RUNNING"),
    ("RUNNING", "STOPPED"),
    ("STOPPED", "STOPPED"),
]


def refused(answer: Any) -> tuple[int, str, str]:
    """Status, code and message of a refusal."""
    body = json.loads(answer.read())
    return answer.status, body["__type"].rsplit("#", 1)[-1], body.get("message", "")


def test_the_life_of_a_real_task_is_told(server: Server, agent: Agent, tasks: Tasks) -> None:
    server.wait_for_instance()
    with Stream(server, detail_type=TASK) as stream:
        arn = tasks.start(container("main", "sleep", "60"))
        tasks.stop(arn)
        events = stream.until(arn, "STOPPED")
    assert history(events, arn) == LIFE
    first, last = events[0], events[-1]
    assert (first["version"], first["source"]) == ("0", "aws.ecs")
    assert (first["account"], first["region"]) == (server.account, "us-east-1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["time"])
    assert len({event["id"] for event in events}) == len(events)
    assert "startedAt" not in first["detail"] and "stopCode" not in first["detail"]
    # What is told at the end is what DescribeTasks says, but for the spelling of times and the tags.
    described = tasks.describe(arn)
    detail = last["detail"]
    for name in ("taskArn", "clusterArn", "lastStatus", "stopCode", "stoppedReason", "version"):
        assert detail[name] == described[name], name
    assert detail["containers"][0]["exitCode"] == described["containers"][0]["exitCode"]
    milliseconds = described["stoppedAt"].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", detail["stoppedAt"])
    assert detail["stoppedAt"][17:23] == milliseconds[17:23]
    # And the same once more, from the beginning of what is remembered.
    with Stream(server, after="oldest", follow="false", detail_type=TASK) as again:
        assert history(again.rest(), arn) == LIFE


def test_a_server_that_is_killed_goes_on_where_each_reader_was(
    server: Server, agent: Agent, tasks: Tasks
) -> None:
    server.wait_for_instance()
    tasks.define(container("main", "sleep", "600"))
    one, other = Stream(server, cluster="default"), Stream(server, cluster="default")
    arns = [tasks.run() for _ in range(6)]
    one.until(arns[0], "RUNNING")
    other.until(arns[0], "PENDING")
    server.kill()
    for reader in (one, other):
        reader.answer.close()
    server.start()
    later = [
        Stream(server, cluster="default", last=one.cursor),
        Stream(server, cluster="default", after=other.cursor),
    ]
    for arn in arns:
        tasks.wait(arn, "RUNNING", 60)
    with Stream(server, after="oldest", cluster="default", follow="false") as whole:
        expected = [event["id"] for event in whole.rest()]
    for before, after in zip((one, other), later, strict=True):
        ids = [event["id"] for event in before.seen]
        while ids[-1] != expected[-1]:
            event = after.next()
            assert event
            ids.append(event["id"])
        # Both began at the same place, and saw everything once.
        assert ids == expected[-len(ids) :]
        for arn in arns:
            assert history(before.seen + after.seen, arn) == LIFE[:2]
        after.answer.close()


def test_instances_are_told_of_and_filters_obeyed(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    with Stream(server, cluster=cluster, detail_type=INSTANCE) as stream:
        engine = fleet()
        arn = engine.instance.arn
        tasks = Tasks(ecs, cluster, f"f-{cluster}")
        tasks.define(container())
        tasks.run()
        ecs.update_container_instances_state(
            cluster=cluster, containerInstances=[arn], status="DRAINING"
        )
        ecs.put_attributes(
            cluster=cluster, attributes=[{"name": "rack", "value": "7", "targetId": arn}]
        )
        engine.disconnect()
        told = []
        for _ in range(5):
            event = stream.next()
            assert event and event["detail-type"] == INSTANCE and event["resources"] == [arn]
            told.append((event["detail"]["status"], event["detail"]["agentConnected"]))
        assert told == [
            ("ACTIVE", False),
            ("ACTIVE", True),
            ("DRAINING", True),
            ("DRAINING", True),
            ("DRAINING", False),
        ]
        versions = [event["detail"]["version"] for event in stream.seen]
        assert versions == sorted(set(versions))
        assert {"name": "rack", "value": "7"} in stream.seen[-1]["detail"]["attributes"]
        engine.connect()


def test_what_is_asked_wrongly_is_refused(server: Server, cluster: str) -> None:
    token = Admin(server)("CreateJoinToken", cluster=cluster)["token"].split(".", 1)
    joiner = {"accessKeyId": token[0], "secretAccessKey": token[1]}
    machine = Admin(server, joiner)("JoinContainerInstance", clientToken="machine-of-the-test")
    for key in (joiner, machine):
        assert refused(request(server, key))[:2] == (400, "AccessDeniedException")
    stranger = {"accessKeyId": "AKIASTRANGER", "secretAccessKey": "guess"}
    assert refused(request(server, stranger))[1] == "UnrecognizedClientException"
    for query, status, said in (
        ({"after": "nonsense"}, 400, "nonsense"),
        ({"after": "9999999999999999"}, 400, "ahead of everything"),
        ({"cluster": "nowhere"}, 400, "Cluster not found"),
        ({"detail_type": "ECS Service Action"}, 400, "ECS Service Action"),
        ({"colour": "red"}, 400, "colour"),
    ):
        answer = refused(request(server, **query))
        assert answer[0] == status and said in answer[2], answer
    for name, values in (("after", ("oldest", "latest")), ("cluster", ("default", cluster))):
        answer = refused(request(server, repeated=[(name, value) for value in values]))
        assert answer[0] == 400 and f"'{name}' is given twice" in answer[2], answer


def change(ecs: Any, cluster: str, engine: Engine, times: int) -> None:
    """Changes an instance so often."""
    for rack in range(times):
        attribute = {"name": "rack", "value": str(rack), "targetId": engine.instance.arn}
        ecs.put_attributes(cluster=cluster, attributes=[attribute])


def test_a_cursor_behind_which_something_is_forgotten_is_refused(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    """An instance remembers its newest sixteen changes."""
    engine = fleet()
    with Stream(server, cluster=cluster) as stream:
        stale = stream.cursor
    change(ecs, cluster, engine, 15)
    with Stream(server, after=stale, cluster=cluster, follow="false") as again:
        assert len(again.rest()) == 15
    change(ecs, cluster, engine, 10)
    status, code, message = refused(request(server, after=stale, cluster=cluster))
    assert (status, code) == (410, "CursorExpiredException")
    said = people.complaint(server.data, "events", "--since", stale)
    assert "CursorExpiredException" in said
    # The cursor that the refusal names is good, and so is the old one for who reads of tasks alone.
    named = re.search(r"take the cursor (\d+)", message)
    assert named
    for query in ({"after": named[1]}, {"after": stale, "detail_type": TASK}):
        with Stream(server, cluster=cluster, follow="false", **query) as begun:
            assert begun.rest() == []


def test_there_are_so_many_readers_and_no_more(stage: Any) -> None:
    server: Server = stage.server()
    readers = [Stream(server) for _ in range(64)]
    assert refused(request(server))[:2] == (400, "ThrottlingException")
    readers.pop().answer.close()

    def admitted() -> bool:
        answer = request(server)
        answer.close()
        return answer.status == 200

    until(admitted, "room for another reader", 30)
    for reader in readers:
        reader.answer.close()


def test_a_stream_that_the_server_breaks_off_has_no_proper_end(stage: Any) -> None:
    server: Server = stage.server()
    stream = Stream(server)
    server.end()
    with pytest.raises(http.client.IncompleteRead):
        stream.answer.read()
    server.start()
    with Stream(server, after="oldest", follow="false") as whole:
        whole.answer.read()


def test_a_reader_that_does_not_read_holds_up_nobody(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    """It is served again from where it was, with everything."""
    fleet(cpu=100_000, memory=100_000)
    tasks = Tasks(ecs, cluster, f"f-{cluster}")
    # Large documents fill the sockets' buffers soon.
    tasks.define(container(environment=[{"name": "TEXT", "value": "x" * 100}]))
    big = {"containerOverrides": [{"name": "main", "command": ["x" * 7_000]}]}
    slow = Stream(server, cluster=cluster)
    began = time.monotonic()
    made = []
    for _ in range(30):
        made += [task["taskArn"] for task in tasks.request(count=10, overrides=big)["tasks"]]
    with Stream(server, after=slow.cursor, cluster=cluster) as quick:
        for arn in made[-10:]:
            quick.until(arn, "RUNNING")
    assert time.monotonic() - began < 60
    for arn in made[-10:]:
        slow.until(arn, "RUNNING")
    slow.answer.close()
    assert [event["id"] for event in slow.seen] == [event["id"] for event in quick.seen]


def test_a_reader_that_falls_behind_what_is_remembered_is_not_told_that_this_was_all(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    engine = fleet(cpu=100_000, memory=100_000)
    tasks = Tasks(ecs, cluster, f"f-{cluster}")
    tasks.define(container(environment=[{"name": "TEXT", "value": "x" * 100}]))
    big = {"containerOverrides": [{"name": "main", "command": ["x" * 7_000]}]}
    with Stream(server, cluster=cluster) as stream:
        begin = stream.cursor
    for _ in range(60):
        tasks.request(count=10, overrides=big)
    # It takes what its socket takes, and is far from the end when that is forgotten.
    slow = Stream(server, after=begin, cluster=cluster, follow="false")
    change(ecs, cluster, engine, 40)
    with pytest.raises(http.client.IncompleteRead):
        slow.answer.read()


def test_people_see_it_and_scripts_go_on(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    fleet()
    tasks = Tasks(ecs, cluster, f"f-{cluster}")
    tasks.define(container())
    arn = tasks.run()
    tasks.wait(arn, "RUNNING")
    text = people.text(server.data, "events", "--cluster", cluster, "--type", "task")
    lines = [line for line in text.splitlines() if arn.rsplit("/", 1)[1] in line]
    assert len(lines) == 2 and "PENDING (wanted RUNNING)" in lines[0] and "RUNNING" in lines[1]
    out = people.run(server.data, "events", "--cluster", cluster, "--output", "json").stdout
    cursor = json.loads(out.splitlines()[-1])["cursor"]
    tasks.stop(arn)
    out = people.run(
        server.data, "events", "--since", cursor, "--cluster", cluster, "--output", "json"
    ).stdout
    later = [json.loads(line)["event"] for line in out.splitlines()]
    assert history(later, arn) == LIFE[2:]
    assert "nonsense" in people.complaint(server.data, "events", "--since", "nonsense")
