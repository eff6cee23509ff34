"""Volumes on a real Docker Engine: paths of the host, volumes of Docker, what stays and what goes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import REGION, Server
from support.waiting import until


@pytest.fixture(scope="module")
def server(module_stage: Any, images: None) -> Server:
    """A server, and an agent that cleans up at once."""
    server: Server = module_stage.server()
    module_stage.agent(server, ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="1s")
    return server


@pytest.fixture
def shared() -> Iterator[str]:
    """A name for a volume that outlives its tasks, and is removed after the test."""
    name = f"lse2e-{uuid.uuid4().hex[:10]}"
    yield name
    docker.docker("volume", "rm", "--force", name, check=False)


def mount(volume: str, path: str = "/data", read_only: bool = False) -> list[dict[str, Any]]:
    """The mount points of a container with one volume."""
    return [{"sourceVolume": volume, "containerPath": path, "readOnly": read_only}]


def volume(name: str) -> dict[str, Any] | None:
    """`docker volume inspect`; none if there is no such volume."""
    found = json.loads(docker.docker("volume", "inspect", name, check=False) or "[]")
    return found[0] if found else None


def printed(arn: str, name: str, line: str) -> None:
    """Waits until a container of a task has printed a line."""
    seen = docker.of_task(arn)[name]
    until(lambda: line in docker.logs(seen).splitlines(), f"{name} to print {line!r}")


def mounted(arn: str, name: str = "main") -> dict[str, Any]:
    """The only mount of a container."""
    (only,) = docker.of_task(arn)[name]["Mounts"]
    return only


def removed(tasks: Tasks, arn: str) -> None:
    """Stops a task and waits until its containers are gone."""
    tasks.stop(arn)
    until(lambda: not docker.of_task(arn), "the containers' removal", 45)


def test_a_path_of_the_host(tasks: Tasks, tmp_path: Path) -> None:
    arn = tasks.start(
        container("main", "put", "/data/file", "hello", mountPoints=mount("files")),
        container("reader", "put", "/data/other", "x", mountPoints=mount("files", read_only=True)),
        volumes=[{"name": "files", "host": {"sourcePath": str(tmp_path)}}],
    )
    printed(arn, "main", "put /data/file")
    assert (tmp_path / "file").read_text() == "hello\n"
    bind = mounted(arn)
    assert (bind["Type"], bind["Source"], bind["RW"]) == ("bind", str(tmp_path), True)
    assert mounted(arn, "reader")["RW"] is False
    assert not (tmp_path / "other").exists(), "it may only read"
    described = tasks.ecs.describe_task_definition(taskDefinition=tasks.family)["taskDefinition"]
    assert described["volumes"] == [{"name": "files", "host": {"sourcePath": str(tmp_path)}}]


def test_a_volume_of_the_task_is_shared_by_its_containers_and_goes_with_them(tasks: Tasks) -> None:
    arn = tasks.start(
        container("main", "put", "/data/file", "hello", mountPoints=mount("scratch")),
        container(
            "reader", "get", "/in/file", essential=False, mountPoints=mount("scratch", "/in")
        ),
        volumes=[{"name": "scratch", "host": {}}],
    )
    printed(arn, "reader", "got hello")
    name = mounted(arn)["Name"]
    assert name.startswith(f"ecs-{tasks.family}-1-scratch-")
    assert mounted(arn, "reader")["Name"] == name
    removed(tasks, arn)
    until(lambda: volume(name) is None, "the volume's removal", 15)


def test_a_volume_of_docker_with_driver_options_and_labels(tasks: Tasks) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    configuration = {
        "scope": "task",
        "driver": "local",
        "driverOpts": options,
        "labels": {"team": "red"},
    }
    arn = tasks.start(
        container(mountPoints=mount("fast")),
        volumes=[{"name": "fast", "dockerVolumeConfiguration": configuration}],
    )
    name = mounted(arn)["Name"]
    found = volume(name)
    assert found and found["Options"] == options and found["Driver"] == "local"
    assert found["Labels"]["team"] == "red"
    assert found["Labels"][docker.LABEL + "task-arn"] == arn
    removed(tasks, arn)
    until(lambda: volume(name) is None, "the volume's removal", 15)


def sharing(tasks: Tasks, name: str, autoprovision: bool, *command: str) -> str:
    """Defines a task with a volume that is not its own."""
    configuration = {"scope": "shared", "autoprovision": autoprovision, "labels": {"team": "red"}}
    return tasks.define(
        container("main", *command, mountPoints=mount(name)),
        volumes=[{"name": name, "dockerVolumeConfiguration": configuration}],
    )


def test_a_shared_volume_outlives_its_tasks(tasks: Tasks, shared: str) -> None:
    first = tasks.run(sharing(tasks, shared, True, "put", "/data/file", "kept"))
    tasks.wait(first, "RUNNING")
    printed(first, "main", "put /data/file")
    assert mounted(first)["Name"] == shared
    removed(tasks, first)
    found = volume(shared)
    assert found and found["Labels"] == {"team": "red"}
    second = tasks.run(sharing(tasks, shared, False, "get", "/data/file"))
    assert tasks.wait(second, "STOPPED")["containers"][0]["exitCode"] == 0


def test_a_shared_volume_that_nobody_made_is_named(tasks: Tasks, shared: str) -> None:
    arn = tasks.run(sharing(tasks, shared, False))
    stopped = tasks.wait(arn, "STOPPED", 60)
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert f"volume {shared} does not exist" in stopped["stoppedReason"]
    assert volume(shared) is None, "Docker was not asked to make it in passing"


def test_a_driver_that_is_not_there_is_no_place_for_a_task(tasks: Tasks) -> None:
    configuration = {"scope": "task", "driver": "nobody/has-this"}
    definition = tasks.define(
        container(mountPoints=mount("v")),
        volumes=[{"name": "v", "dockerVolumeConfiguration": configuration}],
    )
    (failure,) = tasks.request(definition)["failures"]
    assert failure["reason"] == "ATTRIBUTE"
    assert "docker-plugin.nobody/has-this" in failure["detail"]


def test_a_shared_volume_must_be_as_described_where_that_is_asked_for(
    stage: Any, images: None, shared: str
) -> None:
    """ECS_SHARED_VOLUME_MATCH_FULL_CONFIG."""
    server: Server = stage.server()
    stage.agent(server, ECS_SHARED_VOLUME_MATCH_FULL_CONFIG="true")
    docker.docker("volume", "create", "--label", "team=blue", shared)
    tasks = Tasks(server.client(), "default", "picky")
    stopped = tasks.wait(tasks.run(sharing(tasks, shared, True)), "STOPPED", 60)
    assert f"volume {shared} exists, and is not as" in stopped["stoppedReason"]


def test_a_network_file_system_is_mounted_as_amazon_recommends(stage: Any, images: None) -> None:
    """Nobody serves NFS here: that Docker is told how to mount it, and tries, is all there is to see."""
    server: Server = stage.server()
    hosts = json.dumps({"fs-87654321": "nas.invalid"})
    # It is looked at before it is removed.
    stage.agent(server, LONGSHORE_EFS_HOSTS=hosts, ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="1h")
    tasks = Tasks(server.client(), "default", "nfs")
    for file_system, host in [
        ("fs-12345678", f"fs-12345678.efs.{REGION}.amazonaws.com"),
        ("fs-87654321", "nas.invalid"),
    ]:
        efs = {"fileSystemId": file_system, "rootDirectory": "/export"}
        definition = tasks.define(
            container(mountPoints=mount("efs")),
            volumes=[{"name": "efs", "efsVolumeConfiguration": efs}],
        )
        arn = tasks.run(definition)
        stopped = tasks.wait(arn, "STOPPED", 60)
        assert stopped["stopCode"] == "TaskFailedToStart"
        assert stopped["containers"][0]["reason"].startswith("CannotStartContainerError"), stopped
        seen = docker.of_task(arn)["main"]
        (bind,) = seen["HostConfig"]["Binds"]
        name = bind.removesuffix(":/data")
        try:
            found = volume(name)
            assert found and found["Driver"] == "local"
            recommended = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
            assert found["Options"] == {
                "type": "nfs",
                "device": ":/export",
                "o": f"addr={host},{recommended}",
            }
        finally:
            docker.docker("rm", "--force", seen["Id"], check=False)
            docker.docker("volume", "rm", "--force", name, check=False)
