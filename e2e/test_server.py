"""The server as a process: files it keeps, shutdown, damage, a full disk (DESIGN 3.7, 3.9)."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from support.ecs import container
from support.processes import BINARY, LOGS, Server, clean_environment, read_json, refusal
from support.waiting import until


def test_a_clean_end_removes_the_address_and_keeps_the_rest(stage: Any) -> None:
    server: Server = stage.server()
    key = server.key
    facts = read_json(server.data / "server.json")
    assert facts == {
        "endpoint": server.endpoint,
        "pid": facts["pid"],
        "region": "us-east-1",
        "accountId": server.account,
        "listen": server.listen,
    }
    assert server.end(signal.SIGTERM) == 0
    assert not (server.data / "server.json").exists()
    server.start()
    assert server.key == key
    assert server.client().list_clusters()["clusterArns"]


def test_requests_in_flight_are_answered_before_the_end(stage: Any) -> None:
    """Graceful shutdown: each call that was sent gets its answer or a refused connection."""
    server: Server = stage.server()
    answered: list[str] = []
    odd: list[Exception] = []
    many = threading.Event()

    def caller() -> None:
        ecs = server.client()
        while True:
            name = f"c-{uuid.uuid4().hex}"
            try:
                ecs.create_cluster(clusterName=name)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    odd.append(error)
                return
            except BotoCoreError:
                return
            answered.append(name)
            if len(answered) > 30:
                many.set()

    callers = [threading.Thread(target=caller, daemon=True) for _ in range(4)]
    for thread in callers:
        thread.start()
    assert many.wait(30)
    assert server.end(signal.SIGTERM) == 0
    for thread in callers:
        thread.join(40)
    assert not odd
    server.start()
    ecs = server.client()
    for start in range(0, len(answered), 100):
        answer = ecs.describe_clusters(clusters=answered[start : start + 100])
        assert answer["failures"] == []


def test_one_data_directory_has_one_server(stage: Any) -> None:
    server: Server = stage.server()
    assert refusal(server.data), "it says what to do next"
    assert read_json(server.data / "server.json")["pid"] == server.child.pid
    assert server.client().list_clusters()["clusterArns"]


def test_a_taken_address_is_named(stage: Any, tmp_path: Path) -> None:
    server: Server = stage.server()
    assert server.listen in refusal(tmp_path / "other", server.listen)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_survives_a_restart(stage: Any, signal_number: int) -> None:
    server: Server = stage.server()
    ecs = server.client()
    for number in range(5):
        ecs.create_cluster(clusterName=f"kept-{number}")
        ecs.register_task_definition(family="kept", containerDefinitions=[container()])
    ecs.delete_cluster(cluster="kept-0")
    before = (
        ecs.describe_clusters(clusters=[f"kept-{n}" for n in range(5)])["clusters"],
        ecs.list_task_definitions()["taskDefinitionArns"],
        ecs.describe_task_definition(taskDefinition="kept")["taskDefinition"],
    )
    server.end(signal_number)
    server.start()
    ecs = server.client()
    after = (
        ecs.describe_clusters(clusters=[f"kept-{n}" for n in range(5)])["clusters"],
        ecs.list_task_definitions()["taskDefinitionArns"],
        ecs.describe_task_definition(taskDefinition="kept")["taskDefinition"],
    )
    assert after == before


def test_a_damaged_store_refuses_to_load_and_names_the_way_out(stage: Any) -> None:
    """A damaged record that valid ones follow is never skipped in silence (DESIGN 3.9)."""
    server: Server = stage.server()
    ecs = server.client()
    for number in range(200):
        ecs.create_cluster(clusterName=f"victim-{number:04}-{'x' * 60}")
    server.kill()
    spoiled = 0
    for path in (server.data / "store").rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        place = content.find(b"victim-0010-")
        if place >= 0:
            path.write_bytes(content[:place] + b"VICTIM" + content[place + 6 :])
            spoiled += 1
    if not spoiled:
        pytest.skip("the store does not keep names in clear, so this test cannot aim")
    said = refusal(server.data, account=server.account)
    assert "store check" in said or "restore" in said, said


def test_environment_variables_stand_for_flags(tmp_path: Path, account: str) -> None:
    """Each flag of the server has a variable `LONGSHORE_*` (DESIGN 8)."""
    data = tmp_path / "data"
    log = tmp_path / "log"
    LOGS["server of the variables"] = log
    number = account + "000002"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(BINARY), "server"],
            stdout=output,
            stderr=output,
            env=clean_environment(
                LONGSHORE_DATA_DIR=str(data),
                LONGSHORE_LISTEN="127.0.0.1:0",
                LONGSHORE_ACCOUNT_ID=number,
                LONGSHORE_REGION="eu-west-3",
            ),
        )
    try:
        facts = until(lambda: read_json(data / "server.json"), "server.json", 15)
        assert (facts["region"], facts["accountId"]) == ("eu-west-3", number)
    finally:
        child.kill()
        child.wait()
        LOGS.pop("server of the variables")
        shutil.rmtree(data, ignore_errors=True)


def test_logs_are_structured(server: Server) -> None:
    """One JSON object a line, or `key=value` text; the request id is in it."""
    with pytest.raises(ClientError) as refused:
        server.client().list_tasks(cluster="nobody-made-it")
    wanted = refused.value.response["ResponseMetadata"]["RequestId"]
    lines = until(
        lambda: [line for line in server.log.read_text().splitlines() if wanted in line],
        "the request id in the log",
        5,
    )
    for line in lines:
        if line.startswith("{"):
            json.loads(line)
