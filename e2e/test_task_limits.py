"""What containers of a task are bounded by, and share, together: a cgroup; process and IPC namespaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import Server
from support.waiting import until

CGROUPS = Path("/sys/fs/cgroup")
PAUSE = "~internal~ecs~pause~namespace"


def engine() -> dict[str, Any]:
    """What Docker says of itself."""
    return json.loads(docker.docker("info", "--format", "{{json .}}"))


def limits(task_id: str) -> dict[str, str]:
    """The limits of a task's cgroup, as the kernel has them."""
    files = {
        "1": {
            "memory": "memory/ecs/{}/memory.limit_in_bytes",
            "cpu": "cpu/ecs/{}/cpu.cfs_quota_us",
            "shares": "cpu/ecs/{}/cpu.shares",
            "pids": "pids/ecs/{}/pids.max",
        },
    }[engine()["CgroupVersion"]]
    read = {name: CGROUPS / path.format(task_id) for name, path in files.items()}
    return {name: path.read_text().strip() for name, path in read.items() if path.exists()}


first_version = pytest.mark.skipif(
    engine()["CgroupVersion"] != "1" or engine()["CgroupDriver"] != "cgroupfs",
    reason="the kernel's files of the first version are looked at",
)


def bare(name: str, *command: str, **more: Any) -> dict[str, Any]:
    """A container without a limit of its own."""
    definition = container(name, *command, **more)
    del definition["memory"]
    return definition


@first_version
def test_a_task_is_bounded_as_a_whole(stage: Any, images: None) -> None:
    """Task cpu and memory: a cgroup around all containers, gone with them (AGENT-PROTOCOL 5.6)."""
    server: Server = stage.server()
    stage.agent(server, ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="1s", ECS_TASK_PIDS_LIMIT="64")
    tasks = Tasks(server.client(), "default", "bounded")
    arn = tasks.start(
        bare("main", cpu=200), container("other", memory=20), cpu="256", memory="64"
    )
    task_id = arn.rsplit("/", 1)[1]
    found = limits(task_id)
    assert (found["memory"], found["cpu"]) == (str(64 << 20), "25000"), found
    assert (found["shares"], found["pids"]) == (str(200 + 10), "64"), found
    seen = docker.of_task(arn)
    assert sorted(seen) == ["main", "other"]
    for one in seen.values():
        assert one["HostConfig"]["CgroupParent"] == f"/ecs/{task_id}"
        assert one["HostConfig"]["NanoCpus"] == 0, "it is the task that is bounded"
        own = Path(f"/proc/{one['State']['Pid']}/cgroup").read_text()
        assert f"/ecs/{task_id}/{one['Id']}" in own
    assert (seen["main"]["HostConfig"]["Memory"], seen["other"]["HostConfig"]["Memory"]) == (
        0,
        20 << 20,
    )
    tasks.stop(arn)
    until(lambda: not docker.of_task(arn), "the containers' removal", 45)
    left = lambda: [path for path in CGROUPS.glob(f"*/ecs/{task_id}") if path.exists()]
    until(lambda: not left(), "the cgroups' removal", 15)


@first_version
def test_a_process_is_killed_at_its_task_s_limit(stage: Any, images: None) -> None:
    """The container has no limit of its own; that of the task holds."""
    server: Server = stage.server()
    stage.agent(server)
    tasks = Tasks(server.client(), "default", "greedy")
    arn = tasks.run(tasks.define(bare("main", "oom"), memory="32"))
    (main,) = tasks.wait(arn, "STOPPED", 60)["containers"]
    assert main["exitCode"] == 137
    tasks.stop_all()


def test_without_cgroups_bounded_tasks_are_not_placed(stage: Any, images: None) -> None:
    """ECS_ENABLE_TASK_CPU_MEM_LIMIT=false: the reason names what the instance lacks."""
    server: Server = stage.server()
    stage.agent(server, ECS_ENABLE_TASK_CPU_MEM_LIMIT="false")
    tasks = Tasks(server.client(), "default", "unbounded")
    (failure,) = tasks.request(tasks.define(memory="64"))["failures"]
    assert failure["reason"] == "ATTRIBUTE"
    assert "task-cpu-mem-limit" in failure["detail"]


@pytest.mark.usefixtures("agent")
class TestNamespaces:
    """pidMode and ipcMode (AGENT-PROTOCOL 5.10)."""

    def test_processes_of_the_host(self, tasks: Tasks) -> None:
        arn = tasks.start(container("main", "processes"), pidMode="host", ipcMode="host")
        seen = docker.of_task(arn)["main"]
        assert (seen["HostConfig"]["PidMode"], seen["HostConfig"]["IpcMode"]) == ("host", "host")
        printed = until(lambda: logs_until(seen, "that is all"), "the processes")
        assert sum(line.startswith("process ") for line in printed) > 10

    def test_processes_of_the_task(self, tasks: Tasks) -> None:
        first = container("first", "sleep")
        second = container(
            "second",
            "processes",
            dependsOn=[{"containerName": "first", "condition": "START"}],
            essential=False,
        )
        arn = tasks.start(first, second, pidMode="task")
        seen = docker.of_task(arn)
        pause = seen.pop(PAUSE)
        assert sorted(seen) == ["first", "second"]
        for one in seen.values():
            assert one["HostConfig"]["PidMode"] == f"container:{pause['Id']}"
        printed = until(lambda: logs_until(seen["second"], "that is all"), "the processes")
        processes = sorted(line.split(" ", 2)[2] for line in printed if line.startswith("process"))
        assert processes == ["/pause", "/tool processes", "/tool sleep"]
        assert "process 1 /pause" in printed

        described = tasks.describe(arn)["containers"]
        assert sorted(one["name"] for one in described) == ["first", "second"]
        stopped = tasks.stop(arn)
        assert {one["exitCode"] for one in stopped["containers"]} == {143}
        assert docker.of_task(arn)[PAUSE]["State"]["ExitCode"] == 0, "it leaves when it is told to"

    def test_shared_memory_of_the_task(self, tasks: Tasks) -> None:
        writer = container("writer", "share", "hello")
        reader = container("reader", "shared", essential=False)
        arn = tasks.start(writer, reader, ipcMode="task")
        seen = docker.of_task(arn)
        assert seen[PAUSE]["HostConfig"]["IpcMode"] == "shareable"
        until(lambda: logs_until(seen["reader"], "found hello"), "the text in shared memory")

    def test_memory_is_not_shared_by_default(self, tasks: Tasks) -> None:
        writer = container("writer", "share", "hello")
        reader = container("reader", "shared", essential=False)
        arn = tasks.start(writer, reader)
        seen = docker.of_task(arn)
        assert PAUSE not in seen
        until(lambda: logs_until(seen["reader"], "found nothing"), "nothing")

    def test_a_task_ends_with_its_namespaces(self, tasks: Tasks) -> None:
        arn = tasks.start(container("main", "sleep"), ipcMode="task")
        docker.docker("kill", docker.of_task(arn)[PAUSE]["Id"])
        assert tasks.wait(arn, "STOPPED")["stopCode"] == "EssentialContainerExited"


def logs_until(seen: dict[str, Any], last: str) -> list[str] | None:
    """What a container printed, once that line is among it."""
    lines = docker.logs(seen).splitlines()
    return lines if last in lines else None
