"""A full disk, under the server and under the agent (DESIGN 3.7 and 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support import docker, people
from support.ecs import Tasks, container
from support.processes import Agent, Server
from support.waiting import until


def fill(folder: Path) -> Path:
    """Takes all space that is left on a file system."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


def large(number: int) -> dict[str, Any]:
    """A definition of about 60 KB: room that a store set aside is used up soon."""
    value = f"{number:08}" * 7500
    environment = [{"name": "BALLAST", "value": value}]
    return {
        "family": f"large-{number}",
        "containerDefinitions": [container(environment=environment)],
    }


def test_a_full_disk_makes_the_server_read_only_until_there_is_room(
    small_disk: Path, account: str
) -> None:
    """Writes are refused with a retryable error that says why; reads go on; it recovers alone."""
    server = Server(small_disk, account + "000001")
    ballast: Path | None = None
    try:
        server.log = small_disk.parent / "server.log"
        server.start()
        ecs = server.client()
        ecs.create_cluster(clusterName="before")
        ballast = fill(small_disk)

        written: list[str] = []

        def write_fails() -> ClientError | None:
            for _ in range(20):
                try:
                    answer = ecs.register_task_definition(**large(len(written)))
                except ClientError as error:
                    return error
                written.append(answer["taskDefinition"]["taskDefinitionArn"])
            return None

        error = until(write_fails, "a refused write on a full disk", 60)
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status >= 500, error.response
        message = error.response["Error"]["Message"].lower()
        assert any(word in message for word in ("disk", "space", "read-only")), message
        assert server.alive
        told = people.document(server.data, "status")
        assert told["server"]["readOnly"] and "cannot write" in told["problems"][0]["problem"]

        for _ in range(3):
            assert write_fails(), "writes stay refused"
            assert "before" in ecs.list_clusters()["clusterArns"][0]
            listed = ecs.describe_clusters(clusters=["before"])["clusters"]
            assert [one["status"] for one in listed] == ["ACTIVE"]
        for arn in written:
            ecs.describe_task_definition(taskDefinition=arn)
        refused = f"large-{len(written)}"
        listed = ecs.list_task_definitions(familyPrefix=refused)["taskDefinitionArns"]
        assert listed == [], "what was refused is not there"

        ballast.unlink()

        def recovers() -> bool:
            try:
                ecs.create_cluster(clusterName="after")
                return True
            except ClientError:
                return False

        until(recovers, "writes work again without a restart", 30)
        server.kill()
        server.start()
        ecs = server.client()
        found = ecs.describe_clusters(clusters=["before", "after"])
        assert len(found["clusters"]) == 2
        for arn in written:
            ecs.describe_task_definition(taskDefinition=arn)
    finally:
        server.kill()


def test_reports_of_agents_wait_for_a_server_with_room(
    stage: Any, images: None, small_disk: Path
) -> None:
    """What cannot be written is not acknowledged, so the agent says it again (3.2)."""
    server = Server(small_disk, stage.account)
    server.log = stage.folder / "server.log"
    stage.processes.append(server)
    server.start()
    ecs = server.client()
    ecs.create_cluster()
    stage.agent(server)
    tasks = Tasks(ecs, "default", "full")
    stays, ends = (tasks.start(container("main", "trap", "7")) for _ in range(2))
    ballast = fill(small_disk)

    def refuses() -> bool:
        try:
            for number in range(20):
                ecs.register_task_definition(**large(number))
            return False
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500

    until(refuses, "a refused write", 60)
    docker.docker("kill", "--signal", "TERM", docker.of_task(ends)["main"]["Id"])
    until(lambda: not docker.of_task(ends)["main"]["State"]["Running"], "the container's end")
    assert tasks.describe(stays)["lastStatus"] == "RUNNING", "reads go on"
    ballast.unlink()
    assert tasks.wait(ends, "STOPPED", 60)["containers"][0]["exitCode"] == 7
    server.wait_for_instance()  # sessions end with the state they were told of, and come back
    tasks.wait(tasks.run(), "RUNNING")
    assert docker.of_task(stays)["main"]["State"]["Running"]


@pytest.mark.parametrize("killed", [False, True])
def test_an_agent_on_a_full_disk_waits_and_runs_nothing_twice(
    stage: Any, images: None, small_disk: Path, killed: bool
) -> None:
    """What it cannot remember it does not do; when there is room, it goes on."""
    server: Server = stage.server()
    agent: Agent = stage.agent(server, ECS_DATADIR=str(small_disk))
    tasks = Tasks(server.client(), "default", "full")
    before = tasks.start(container("main", "trap", "7"))
    ballast = fill(small_disk)
    arns = [task["taskArn"] for task in tasks.request(count=10)["tasks"]]
    until(lambda: "No space" in agent.log.read_text(), "a word about it in the log")
    assert agent.alive
    if killed:
        agent.kill()
    ballast.unlink()
    if killed:
        agent.start()
    for arn in arns:
        tasks.wait(arn, "RUNNING", 40)
        copies = docker.inspect(*docker.ids_with(docker.LABEL + "task-arn", arn))
        assert [one["State"]["Running"] for one in copies] == [True]
    assert tasks.stop(before)["containers"][0]["exitCode"] == 7
