"""What goes wrong around containers: an Engine that hangs or has no room, a registry that stalls, a server that is out of
reach, two hundred tasks at once, processes that will not end or end at once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.engine import OwnEngine, own_engine
from support.processes import Agent, Server
from support.proxy import DockerProxy
from support.registry import Registry
from support.waiting import until

# What Docker 20.10 grants at least, and little enough CPU for two hundred on two cores.
TINY = {"memory": 6, "cpu": 5}


##### An Engine of one's own


@pytest.fixture
def engine(tmp_path: Path, images: None) -> Iterator[OwnEngine]:
    """An Engine that belongs to the test."""
    with own_engine(tmp_path) as engine:
        yield engine


def starts(engine: OwnEngine, arn: str) -> list[bool]:
    """The containers of a task: for each, whether it runs."""
    return [one["State"]["Running"] for one in engine.of_task(arn)]


@pytest.mark.timeout(240)
def test_an_engine_that_hangs_is_waited_for(stage: Any, engine: OwnEngine) -> None:
    """Nothing counts as stopped, nothing starts twice, and what was ordered meanwhile is carried out."""
    server: Server = stage.server()
    agent: Agent = stage.agent(server, DOCKER_HOST=engine.url)
    tasks = Tasks(server.client(), "default", "hang")
    definition = tasks.define(container("main", "trap", "7", **TINY), networkMode="host")
    stays, goes, ends = [task["taskArn"] for task in tasks.request(definition, count=3)["tasks"]]
    for arn in (stays, goes, ends):
        tasks.wait(arn, "RUNNING", 60)
    before = {arn: engine.of_task(arn)[0]["State"]["StartedAt"] for arn in (stays, goes, ends)}
    process = engine.of_task(ends)[0]["State"]["Pid"]

    engine.signal(signal.SIGSTOP)
    os.kill(process, signal.SIGTERM)
    tasks.ecs.stop_task(task=goes)
    late = tasks.run(definition)
    # Longer than the Engine may take for a look.
    time.sleep(35)
    for arn in (stays, goes, ends):
        assert tasks.describe(arn)["lastStatus"] in ("RUNNING", "DEACTIVATING", "STOPPING"), arn
    assert tasks.describe(late)["lastStatus"] in ("PROVISIONING", "PENDING", "ACTIVATING")
    assert agent.alive and server.wait_for_instance()[0]["agentConnected"]
    engine.signal(signal.SIGCONT)

    assert tasks.wait(goes, "STOPPED", 60)["containers"][0]["exitCode"] == 7
    assert tasks.wait(ends, "STOPPED", 60)["containers"][0]["exitCode"] == 7
    tasks.wait(late, "RUNNING", 60)
    assert starts(engine, late) == [True] and starts(engine, stays) == [True]
    for arn, began in before.items():
        assert [one["State"]["StartedAt"] for one in engine.of_task(arn)] == [began]


@pytest.mark.timeout(300)
def test_an_engine_that_hangs_while_it_starts_a_container(stage: Any, engine: OwnEngine) -> None:
    """A start that takes longer than it may is undone: the task ends and says why, and nothing runs on."""
    server: Server = stage.server()
    starts_asked: list[bytes] = []
    hangs = threading.Event()

    def watch(request: bytes) -> None:
        """The third start and all that is asked after it find an Engine that hangs."""
        head = request.split(b"\r\n", 1)[0]
        if head.startswith(b"POST ") and b"/start" in head:
            starts_asked.append(head)
            if len(starts_asked) == 3:
                engine.signal(signal.SIGSTOP)
                hangs.set()

    proxy = DockerProxy(stage.folder / "docker.sock", str(engine.socket), watch)
    stage.agent(server, DOCKER_HOST=proxy.url, ECS_CONTAINER_START_TIMEOUT="45s")
    tasks = Tasks(server.client(), "default", "hang-start")
    definition = tasks.define(container("main", **TINY), networkMode="host")
    arns = [task["taskArn"] for task in tasks.request(definition, count=10)["tasks"]]
    assert hangs.wait(60)
    time.sleep(60)
    engine.signal(signal.SIGCONT)
    timed_out = 0
    for arn in arns:

        def settled(arn: str = arn) -> dict[str, Any] | None:
            task = tasks.describe(arn)
            return task if task["lastStatus"] in ("RUNNING", "STOPPED") else None

        task = until(settled, f"the fate of {arn}", 120)
        running = [one["Id"] for one in engine.of_task(arn) if one["State"]["Running"]]
        if task["lastStatus"] == "RUNNING":
            assert running == [task["containers"][0]["runtimeId"]]
        else:
            reason = task["containers"][0]["reason"]
            assert running == [] and reason.startswith("DockerTimeoutError"), task
            timed_out += "to started" in reason
    assert timed_out >= 1


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.timeout(240)
def test_an_engine_without_room(
    stage: Any, tmp_path: Path, images: None, guarded: bool
) -> None:
    """Its disk is full: a pull fails and says so, in the agent's words where it guards the disk and in the Engine's where it
    does not; what runs goes on, and with room again all is well."""
    if os.geteuid():
        pytest.skip("mounting a disk needs root")
    disk, folder = tmp_path / "disk.img", tmp_path / "engine"
    folder.mkdir()
    with disk.open("wb") as file:
        file.truncate(160 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(disk), str(folder)]).returncode:
        pytest.skip("this machine mounts no loop devices")
    engine = OwnEngine(folder)
    registry: Registry | None = None
    try:
        engine.start()
        engine.load()
        registry = Registry(docker.TOOL, f"room-{uuid.uuid4().hex[:8]}", engine)
        server: Server = stage.server()
        guard = {} if guarded else {"LONGSHORE_DISK_MIN_FREE": "0"}
        stage.agent(server, DOCKER_HOST=engine.url, **guard)
        tasks = Tasks(server.client(), "default", "room")
        local = tasks.define(container("main", "trap", "7", **TINY), networkMode="host")
        runs = tasks.run(local)
        tasks.wait(runs, "RUNNING", 60)
        ballast = folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
        remote = container("main", "trap", "7", image=registry.name, **TINY)
        pulled = tasks.define(remote, networkMode="host")
        failed = tasks.wait(tasks.run(pulled), "STOPPED", 120)
        words = "disk pressure: 0 MiB are free" if guarded else "no space left"
        assert words in failed["containers"][0]["reason"], failed
        assert failed["stopCode"] == "TaskFailedToStart"
        assert tasks.describe(runs)["lastStatus"] == "RUNNING"
        ballast.unlink()
        tasks.wait(tasks.run(pulled), "RUNNING", 60)
        assert tasks.stop(runs)["containers"][0]["exitCode"] == 7
    finally:
        if registry:
            registry.close()
        for process in reversed(stage.processes):
            process.kill()
        engine.end()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


##### Registries


@pytest.mark.timeout(240)
def test_a_registry_that_stalls_in_the_middle_of_a_pull(stage: Any, stalling_registry: Registry) -> None:
    """It is given up after a minute of silence and asked again; a task that waits for it can be stopped at once, and those that
    need nothing from it are not held up."""
    server: Server = stage.server()
    stage.agent(server)
    tasks = Tasks(server.client(), "default", "stall")
    stalling_registry.stalls = 1
    definition = tasks.define(container("main", "trap", "7", image=stalling_registry.name))
    waits, stopped = [task["taskArn"] for task in tasks.request(definition, count=2)["tasks"]]
    until(lambda: stalling_registry.stalls == 0, "a stalled layer")
    tasks.start(container("main"), family="local")
    assert tasks.stop(stopped, 10)["lastStatus"] == "STOPPED"
    assert tasks.describe(waits)["lastStatus"] == "PENDING"
    task = tasks.wait(waits, "RUNNING", 120)
    assert len(docker.ids_with(docker.LABEL + "task-arn", waits)) == 1
    assert (task["pullStoppedAt"] - task["pullStartedAt"]).total_seconds() > 55


##### Processes


@pytest.mark.timeout(400)
def test_two_hundred_tasks_at_once_on_one_instance(stage: Any, images: None) -> None:
    """All run, each once; all end, each with its own exit code."""
    server: Server = stage.server()
    stage.agent(server)
    tasks = Tasks(server.client(), "default", "crowd")
    definition = tasks.define(container("main", "trap", "7", **TINY), networkMode="none")
    for _ in range(20):
        assert len(tasks.request(definition, count=10)["tasks"]) == 10
    arns = tasks.arns

    def last(status: str) -> bool:
        found = []
        for start in range(0, len(arns), 100):
            found += tasks.ecs.describe_tasks(tasks=arns[start : start + 100])["tasks"]
        return Counter(task["lastStatus"] for task in found) == {status: len(arns)}

    until(lambda: last("RUNNING"), "two hundred RUNNING", 180)
    label = docker.LABEL + "task-arn"
    owners = Counter(one["Config"]["Labels"][label] for one in docker.of_account(server.account))
    assert owners == Counter(arns)
    for arn in arns:
        tasks.ecs.stop_task(task=arn)
    until(lambda: last("STOPPED"), "two hundred STOPPED", 180)
    codes = Counter(one["State"]["ExitCode"] for one in docker.of_account(server.account))
    assert codes == {7: len(arns)}


def test_a_process_that_ignores_its_stop_is_killed(agent: Agent, tasks: Tasks) -> None:
    """After its own time and not before; its neighbour, which listens, ends at once."""
    arn = tasks.start(
        container("deaf", "stubborn", stopTimeout=4), container("main", "trap", "7", stopTimeout=60)
    )
    began = time.monotonic()
    task = tasks.stop(arn)
    assert 3.5 < time.monotonic() - began < 25
    codes = {one["name"]: one["exitCode"] for one in task["containers"]}
    assert codes == {"deaf": 137, "main": 7}


def test_processes_that_end_at_once(agent: Agent, tasks: Tasks) -> None:
    """They ran: the end is told with its exit code, and that they ran at all comes before it."""
    definition = tasks.define(container("main", "exit", "3", **TINY))
    for task in tasks.request(definition, count=10)["tasks"]:
        told = tasks.wait(task["taskArn"], "STOPPED", 60)
        main = told["containers"][0]
        assert (main["exitCode"], told["stopCode"]) == (3, "EssentialContainerExited"), told
        assert main["runtimeId"] and told["startedAt"] <= told["stoppedAt"]
        (one,) = docker.of_task(task["taskArn"]).values()
        assert one["RestartCount"] == 0 and one["Id"] == main["runtimeId"]


##### The way to the server


@pytest.mark.parametrize("seconds", [1, 20])
@pytest.mark.timeout(240)
def test_a_server_out_of_reach(stage: Any, images: None, seconds: int) -> None:
    """What happens meanwhile is told afterwards, in its order, and nothing ran twice. The server is silent rather than gone:
    whoever talks to it hears nothing at all."""
    server: Server = stage.server()
    stage.agent(server)
    tasks = Tasks(server.client(), "default", "cut")
    long = tasks.define(container("main", "trap", "7", **TINY))
    stays, ends = [task["taskArn"] for task in tasks.request(long, count=2)["tasks"]]
    for arn in (stays, ends):
        tasks.wait(arn, "RUNNING")
    pair = (
        container("first", "exit", "0", "1500", essential=False, **TINY),
        container(
            "main",
            "exit",
            "3",
            "300",
            dependsOn=[{"containerName": "first", "condition": "SUCCESS"}],
            **TINY,
        ),
    )
    meanwhile = tasks.run(tasks.define(*pair, family="pair"))
    until(lambda: docker.of_task(meanwhile).get("first"), "its first container")

    server.deliver(signal.SIGSTOP)
    docker.docker("kill", "--signal", "TERM", docker.of_task(ends)["main"]["Id"])
    time.sleep(seconds)
    server.deliver(signal.SIGCONT)

    told = tasks.wait(meanwhile, "STOPPED", 90)
    codes = {one["name"]: one["exitCode"] for one in told["containers"]}
    assert codes == {"first": 0, "main": 3}
    assert told["startedAt"] <= told["stoppedAt"], "that it ran was told before its end"
    assert tasks.wait(ends, "STOPPED", 90)["containers"][0]["exitCode"] == 7
    server.wait_for_instance()
    assert tasks.describe(stays)["lastStatus"] == "RUNNING"
    for arn, names in ((stays, 1), (ends, 1), (meanwhile, 2)):
        assert len(docker.ids_with(docker.LABEL + "task-arn", arn)) == names
    assert tasks.stop(stays)["containers"][0]["exitCode"] == 7
