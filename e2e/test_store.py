"""`longshore store`: check, backup, restore, dump; beside a server, after damage (DESIGN 3.9)."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.ecs import container
from support.processes import BINARY, Server, clean_environment, refusal
from support.waiting import until
from test_agent.engine import Engine
from test_agent.instance import Instance

SECRET = "correct horse battery staple"
# Nothing is pulled or run: the test agent only says so.
IMAGE = {"image": "nowhere.invalid/image:1"}


def store(
    command: str, data: Path, *arguments: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs `longshore store …`, which must end with `code`."""
    done = subprocess.run(
        [str(BINARY), "store", command, *arguments, "--data-dir", str(data)],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
    )
    assert done.returncode == code, f"{done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def check(data: Path, code: int = 0) -> dict[str, Any]:
    """What `store check` finds."""
    return json.loads(store("check", data, "--output", "json", code=code).stdout)


def dump(data: Path, *arguments: str) -> list[dict[str, Any]]:
    """What `store dump` prints."""
    return [json.loads(line) for line in store("dump", data, *arguments).stdout.splitlines()]


def files(folder: Path) -> dict[Path, bytes]:
    """Everything in a folder, by path."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def spoil(path: Path, at: int) -> None:
    """Changes one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x20
    path.write_bytes(content)


def frame(kind: int, number: int, offset: int, payload: bytes) -> bytes:
    """A record as the store writes it: magic, length, checksum, payload."""
    place = bytes([kind]) + number.to_bytes(8, "little") + offset.to_bytes(8, "little")
    length = len(payload).to_bytes(4, "little")
    checksum = zlib.crc32(place + length + payload).to_bytes(4, "little")
    return b"\xf5LS\xfa" + length + checksum + payload


def define(ecs: Any, family: str, **more: Any) -> str:
    """Registers a definition that the test agent can pretend to run."""
    environment = [{"name": "PASSWORD", "value": SECRET}]
    definition = container(environment=environment) | IMAGE
    answer = ecs.register_task_definition(family=family, containerDefinitions=[definition], **more)
    return answer["taskDefinition"]["taskDefinitionArn"]


@pytest.fixture
def seen(stage: Any) -> Callable[[Server], dict[str, Any]]:
    """Everything that the API tells of a server's state."""

    def look(server: Server) -> dict[str, Any]:
        ecs = server.client()
        names = sorted(
            arn for page in ecs.get_paginator("list_clusters").paginate()
            for arn in page["clusterArns"]
        )  # fmt: skip
        definitions = ecs.list_task_definitions()["taskDefinitionArns"]
        clusters = [
            one
            for start in range(0, len(names), 100)
            for one in ecs.describe_clusters(clusters=names[start : start + 100])["clusters"]
        ]
        return {
            "clusters": clusters,
            "definitions": [
                ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
                for arn in definitions
            ],
            "tasks": [
                ecs.describe_tasks(cluster=name, tasks=arns)["tasks"]
                for name in names
                if (arns := sorted(ecs.list_tasks(cluster=name)["taskArns"]))
            ],
        }

    return look


def test_a_damaged_store_is_refused_found_and_brought_back(
    stage: Any, tmp_path: Path, seen: Callable[[Server], dict[str, Any]]
) -> None:
    """The server's refusal leads to the check, the check to the place and to the restore."""
    server: Server = stage.server()
    ecs = server.client()
    for number in range(30):
        ecs.create_cluster(clusterName=f"c-{number:03}")
    define(ecs, "web")
    before = seen(server)
    backup = tmp_path / "backup"
    store("backup", server.data, str(backup))
    assert backup.stat().st_mode & 0o777 == 0o600
    server.kill()
    whole = check(server.data)
    assert whole["healthy"] and whole["format"] == 1 and whole["inUse"] is None
    assert whole["kinds"] == {"clusters": 31, "definitions": 1, "families": 1}

    (log,) = (server.data / "store").glob("log-*")
    place = log.read_bytes().index(b"c-010")
    spoil(log, place)
    said = refusal(server.data, account=server.account)
    assert "Nothing was repaired" in said and log.name in said, said
    assert f"longshore store check --data-dir {server.data}" in said, said
    assert f"longshore store restore FILE --data-dir {server.data} --force" in said, said

    untouched = files(server.data)
    found = check(server.data, code=1)
    assert files(server.data) == untouched, "a check writes nothing"
    (damage,) = found["damage"]
    assert damage["file"] == log.name and place - 100 < damage["offset"] < place, damage
    assert damage["lost"].startswith("commits after number "), damage
    told = store("check", server.data, code=1)
    assert log.name in told.stderr and f"at byte {damage['offset']}" in told.stderr
    assert f"longshore store restore FILE --data-dir {server.data} --force" in told.stderr
    store("backup", server.data, str(tmp_path / "of-damage"), code=1)
    assert not (tmp_path / "of-damage").exists()

    refused = store("restore", server.data, str(backup), code=1)
    assert "--force" in refused.stderr
    assert files(server.data) == untouched, "a refused restore touches nothing"
    store("restore", server.data, str(backup), "--force")
    (aside,) = server.data.glob("store.*.old")
    assert (aside / log.name).read_bytes() == untouched[log]
    server.start()
    assert seen(server) == before
    server.client().create_cluster(clusterName="and-on")


def test_a_damaged_run_is_named_too(stage: Any) -> None:
    """Folded records are read to their last byte, by the server and by the check."""
    server: Server = stage.server()
    ecs = server.client()
    ballast = "x" * 60_000
    environment = [{"name": "BALLAST", "value": ballast}]
    definition = container(environment=environment) | IMAGE

    def folded() -> list[Path]:
        for _ in range(20):
            ecs.register_task_definition(family="large", containerDefinitions=[definition])
        return list((server.data / "store").glob("run-*"))

    until(folded, "a run", 60)
    server.end(signal.SIGTERM)
    run = sorted((server.data / "store").glob("run-*"))[0]
    spoil(run, run.stat().st_size // 2)
    said = refusal(server.data, account=server.account)
    assert run.name in said and "longshore store check" in said, said
    found = check(server.data, code=1)
    assert [damage["file"] for damage in found["damage"]] == [run.name]


def test_records_that_mean_nothing_are_refused_with_the_way_out(stage: Any) -> None:
    """Whole on disk, and yet nothing that a server can start on."""
    server: Server = stage.server()
    server.kill()
    number = check(server.data)["commitNumber"]
    (log,) = (server.data / "store").glob("log-*")
    content = log.read_bytes().rstrip(b"\0")
    key, value = b"codd", b'{"id":99}'
    payload = struct.pack("<QIQI", number, 1, number + 1, 1)
    payload += struct.pack("<BII", 1, len(key), len(value)) + key + value
    log.write_bytes(content + frame(1, 1, len(content), payload))
    said = refusal(server.data, account=server.account)
    assert "the record codd is not readable" in said, said
    assert f"longshore store check --data-dir {server.data}" in said, said
    found = check(server.data, code=1)
    assert not found["healthy"] and found["damage"] == []
    assert "the record codd is not readable" in found["unreadableRecords"][0]
    assert "codd" in store("dump", server.data, code=1).stderr


def test_a_backup_under_load_holds_what_was_acknowledged(
    stage: Any, tmp_path: Path, seen: Callable[[Server], dict[str, Any]]
) -> None:
    """Whatever was answered before it began is in it, and it is a prefix: no gaps."""
    server: Server = stage.server()
    define(server.client(), "web")
    answered: list[int] = []
    ending = threading.Event()

    def caller() -> None:
        ecs = server.client()
        number = 0
        while not ending.is_set():
            ecs.create_cluster(clusterName=f"c-{number:05}")
            answered.append(number)
            number += 1

    thread = threading.Thread(target=caller, daemon=True)
    thread.start()
    rounds = []
    for round in range(5):
        until(lambda: len(answered) > 20 * (round + 1), "some load", 30)
        before = len(answered)
        backup = tmp_path / f"backup-{round}"
        store("backup", server.data, str(backup), "--with-keys")
        live = check(server.data)
        assert live["healthy"] and live["inUse"] == {"pid": server.child.pid}
        rounds.append((before, len(answered), backup))
    ending.set()
    thread.join(30)
    final = seen(server)
    described = {one["clusterName"]: one for one in final["clusters"]}
    for before, after, backup in rounds:
        restored = Server(tmp_path / backup.name.replace("backup", "server"), server.account)
        stage.processes.append(restored)
        store("restore", restored.data, str(backup))
        restored.start()
        assert restored.key == server.key
        found = seen(restored)
        names = [one["clusterName"] for one in found["clusters"] if one["clusterName"] != "default"]
        assert names == [f"c-{number:05}" for number in range(len(names))], "a prefix"
        assert before <= len(names) <= after + 1
        for one in found["clusters"]:
            assert one == described[one["clusterName"]]
        assert found["definitions"] == final["definitions"]
        restored.kill()


def test_agents_follow_a_restored_store(stage: Any, tmp_path: Path) -> None:
    """They saw later numbers and later tasks (AGENT-PROTOCOL 2.8), and obey all the same."""
    server: Server = stage.server()
    ecs = server.client()
    definition = define(ecs, "web")
    instance = Instance(server.endpoint, server.key)
    instance.register()

    def run() -> str:
        (task,) = ecs.run_task(taskDefinition=definition)["tasks"]
        until(lambda: status(task["taskArn"]) == "RUNNING", "a running task")
        return task["taskArn"]

    def status(arn: str) -> str:
        (task,) = server.client().describe_tasks(tasks=[arn])["tasks"]
        return task["lastStatus"]

    with Engine(instance) as engine:
        server.wait_for_instance()
        stays, ends = run(), run()
        backup = tmp_path / "backup"
        store("backup", server.data, str(backup))
        later = run()
        ecs.stop_task(task=ends)
        until(lambda: status(ends) == "STOPPED", "the task's end")
        for _ in range(20):
            ecs.stop_task(task=run())
        seen = engine.timeline.highest
        refused = store("restore", server.data, str(backup), "--force", code=1)
        assert f"pid {server.child.pid}" in refused.stderr, "a server uses it"
        server.end(signal.SIGTERM)
        engine.disconnect()

        store("restore", server.data, str(backup), "--force")
        server.start()
        ecs = server.client()
        engine.connect()
        server.wait_for_instance()
        until(lambda: later not in engine.tasks, "the stop of a task that nobody knows any more")
        assert engine.timeline.highest > seen + 2**32
        assert stays in engine.tasks and status(stays) == "RUNNING"
        assert engine.starts.count(stays) == 1
        known = ecs.list_tasks()["taskArns"]
        assert sorted(known) == sorted([stays, ends]), "as it was at the backup"
        ecs.stop_task(task=ends)
        until(lambda: status(ends) == "STOPPED", "the word of the agent about a task long gone")
        assert run() in engine.tasks
        assert engine.dropped == [later], "its end interests nobody"
        assert not engine.failure


def test_a_torn_end_is_cut_off_and_told(stage: Any) -> None:
    """What was being written when the machine stopped was promised to nobody."""
    server: Server = stage.server()
    server.client().create_cluster(clusterName="kept")
    server.kill()
    (log,) = (server.data / "store").glob("log-*")
    content = log.read_bytes().rstrip(b"\0")
    log.write_bytes(content + frame(1, 1, len(content), b"half a record")[:-5])
    found = check(server.data)
    assert found["healthy"]
    assert found["tornTail"] == {"file": log.name, "offset": len(content), "bytes": 20}
    assert "cuts them off" in store("check", server.data).stdout
    server.start()
    assert "was being written when the machine stopped" in server.log.read_text()
    assert len(server.client().list_clusters()["clusterArns"]) == 2
    assert check(server.data)["tornTail"] is None


def test_a_newer_format_is_refused_by_name(stage: Any, tmp_path: Path) -> None:
    """Whoever goes back to an older release is told so, and nothing is touched."""
    server: Server = stage.server()
    backup = tmp_path / "backup"
    store("backup", server.data, str(backup))
    server.kill()
    manifest = server.data / "store" / "MANIFEST"
    payload = bytearray(manifest.read_bytes()[12:])
    payload[0] = 7
    manifest.write_bytes(frame(3, 0, 0, bytes(payload)))
    before = files(server.data)
    told = [store(command, server.data, code=1).stderr for command in ("check", "dump")]
    for said in (refusal(server.data, account=server.account), *told):
        assert "format 7" in said and "newer" in said, said
    assert files(server.data) == before

    content = backup.read_bytes()
    newer = b"Hlongshore backup" + (9).to_bytes(4, "little") + bytes(8)
    (tmp_path / "newer").write_bytes(frame(6, 0, 0, newer) + content[len(newer) + 12 :])
    said = store("restore", tmp_path / "other", str(tmp_path / "newer"), code=1).stderr
    assert "format 9" in said and "newer" in said, said
    assert not (tmp_path / "other").exists()


def test_a_backup_that_is_not_whole_touches_nothing(stage: Any, tmp_path: Path) -> None:
    """Cut off, changed, or none at all: the present store stays as it is."""
    server: Server = stage.server()
    backup = tmp_path / "backup"
    store("backup", server.data, str(backup))
    server.kill()
    before = files(server.data)
    content = backup.read_bytes()
    for bad in (content[:-1], content[: len(content) // 2], content + b"x", b"", b"not a backup"):
        backup.write_bytes(bad)
        said = store("restore", server.data, str(backup), "--force", code=1).stderr
        assert "Nothing was changed" in said, said
        assert files(server.data) == before
    said = store("restore", server.data, str(tmp_path / "missing"), "--force", code=1).stderr
    assert "missing" in said


def test_a_backup_of_another_region_is_not_mixed_in(stage: Any, tmp_path: Path) -> None:
    """Region and account stand in every ARN that the store's clients hold."""
    server: Server = stage.server()
    backup = tmp_path / "backup"
    store("backup", server.data, str(backup))
    server.kill()
    other = tmp_path / "other"
    other.mkdir()
    (other / "scope.json").write_text(json.dumps({"region": "eu-west-1", "accountId": "1" * 12}))
    said = store("restore", other, str(backup), code=1).stderr
    assert "scope.json" in said and not (other / "store").exists(), said
    shutil.rmtree(other)
    store("restore", other, str(backup))
    assert json.loads((other / "scope.json").read_text())["accountId"] == server.account
    assert not (other / "server-key").exists(), "keys come along only when they were asked for"


def test_a_dump_shows_everything_but_secrets(stage: Any) -> None:
    """JSON lines of every record, beside the server, that jq and grep can take."""
    server: Server = stage.server()
    ecs = server.client()
    definition = define(ecs, "web")
    instance = Instance(server.endpoint, server.key)
    instance.register()
    with Engine(instance):
        server.wait_for_instance()
        overrides = {
            "containerOverrides": [
                {"name": "main", "environment": [{"name": "TOKEN", "value": SECRET}]}
            ]
        }
        (task,) = ecs.run_task(taskDefinition=definition, overrides=overrides)["tasks"]
        records = dump(server.data)
        assert {record["kind"] for record in records} >= {
            "clusters", "definitions", "families", "instances", "tasks", "client-tokens",
        }  # fmt: skip
        assert SECRET not in json.dumps(records)
        shown = dump(server.data, "--kind", "tasks")
        (overridden,) = (record["value"]["overrides"]["containerOverrides"] for record in shown)
        (variable,) = overridden[0]["environment"]
        assert variable == {"name": "TOKEN", "value": "(redacted)"}
        assert task["taskArn"].rsplit("/", 1)[1] in json.dumps(shown)
        assert json.dumps(dump(server.data, "--with-values")).count(SECRET) == 2
        some = dump(server.data, "--kind", "clusters", "--kind", "families")
        assert {record["kind"] for record in some} == {"clusters", "families"}


def test_where_there_is_no_store_it_says_so(tmp_path: Path) -> None:
    """A mistyped directory is told, and not made."""
    for command in ("check", "dump"):
        said = store(command, tmp_path / "nowhere", code=1).stderr
        assert "no store" in said and "--data-dir" in said, said
    said = store("backup", tmp_path / "nowhere", str(tmp_path / "backup"), code=1).stderr
    assert "no store" in said
    assert list(tmp_path.iterdir()) == []
