"""Fixtures: servers, agents, clients, and the promise that nothing is left behind."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks
from support.hosts import Hosts, network
from support.processes import BINARY, LOGS, Agent, AwsCli, Server, tail
from support.registry import Registry
from support.up import Up
from support.wire import Wire
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import Instance


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """Attaches the logs of everything that ran to the report of a failing test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections.extend((f"log of {name}", tail(path)) for name, path in LOGS.items())


@pytest.fixture(scope="session", autouse=True)
def binary() -> Path:
    """The program under test."""
    assert BINARY.exists(), f"build it first (cargo build), or set LONGSHORE_BIN: {BINARY}"
    return BINARY


@pytest.fixture(scope="session")
def account() -> Iterator[str]:
    """The first digits of this run's account ids: whatever carries them is ours, and goes."""
    number = f"9{secrets.randbelow(10**5):05}"
    yield number
    docker.remove(docker.ids_of_account(number))


@pytest.fixture(scope="session")
def images() -> Iterator[None]:
    """The images of the test program."""
    docker.build_images()
    yield
    docker.docker("image", "rm", "--force", docker.TOOL, docker.TOOL_USR1, check=False)


@pytest.fixture
def cached(images: None) -> Iterator[str]:
    """A local image that cannot be pulled: nobody answers where its name says that it is from."""
    name = f"127.0.0.1:1/{docker.TOOL}"
    docker.docker("tag", docker.TOOL, name)
    yield name
    docker.docker("image", "rm", name, check=False)


@pytest.fixture
def stalling_registry(images: None) -> Iterator[Registry]:
    """A registry with an image that no Engine has; it stalls when it is told to."""
    registry = Registry(docker.TOOL, f"stall-{uuid.uuid4().hex[:8]}")
    yield registry
    registry.close()
    docker.docker("image", "rm", "--force", registry.name, check=False)


class Stage:
    """Starts processes in one folder and ends all of them when the scope ends."""

    def __init__(self, folder: Path, account: str) -> None:
        self.folder, self.account = folder, account
        self.processes: list[Server | Agent] = []
        self.known = dict(LOGS)

    def server(self, name: str = "server") -> Server:
        """A running server with an (empty) cluster `default`."""
        server = Server(self.folder / name, self.account)
        self.processes.append(server)
        server.start()
        server.client().create_cluster(clusterName="default")
        return server

    def agent(self, server: Server, cluster: str = "default", **settings: str) -> Agent:
        """A running, registered agent in a cluster."""
        folder = self.folder / f"agent-{len(self.processes)}"
        agent = Agent(server, folder, cluster, **settings)
        self.processes.append(agent)
        agent.start()
        server.wait_for_instance(cluster)
        return agent

    def close(self) -> None:
        """Agents first, so that they do not report the removal of their containers."""
        for process in reversed(self.processes):
            process.kill()
        docker.remove(docker.ids_of_account(self.account))
        LOGS.clear()
        LOGS.update(self.known)


def own_account(account: str) -> str:
    """An account id for one stage, so that its clean-up touches no other stage."""
    return f"{account}{secrets.randbelow(10**6):06}"


@pytest.fixture(scope="module")
def module_stage(tmp_path_factory: pytest.TempPathFactory, account: str) -> Iterator[Stage]:
    """Processes that live as long as a test file."""
    stage = Stage(tmp_path_factory.mktemp("stage"), own_account(account))
    yield stage
    stage.close()


@pytest.fixture
def stage(tmp_path: Path, account: str) -> Iterator[Stage]:
    """Processes of one test."""
    stage = Stage(tmp_path, own_account(account))
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def server(module_stage: Stage) -> Server:
    """The server of a test file."""
    return module_stage.server()


@pytest.fixture(scope="module")
def agent(module_stage: Stage, server: Server, images: None) -> Agent:
    """Our own agent, on the Docker Engine of this machine, in the cluster `default`."""
    return module_stage.agent(server)


@pytest.fixture(scope="module")
def ecs(server: Server) -> Any:
    """A boto3 client of the file's server."""
    return server.client()


@pytest.fixture(scope="module")
def wire(server: Server) -> Wire:
    """Raw requests to the file's server."""
    return Wire(server.endpoint, server.key)


@pytest.fixture(scope="module")
def aws(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AwsCli:
    """The AWS CLI, configured by `longshore env`."""
    return AwsCli(server.data, tmp_path_factory.mktemp("home"))


@pytest.fixture
def family() -> str:
    """A family name of its own for each test."""
    return f"f-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def cluster(ecs: Any) -> str:
    """An empty cluster of its own for each test."""
    name = f"c-{uuid.uuid4().hex[:10]}"
    ecs.create_cluster(clusterName=name)
    return name


@pytest.fixture
def tasks(ecs: Any, family: str) -> Iterator[Tasks]:
    """Runs tasks in `default`; whatever still runs after the test is stopped."""
    tasks = Tasks(ecs, "default", family)
    yield tasks
    tasks.stop_all()


@pytest.fixture
def instance(server: Server, cluster: str) -> Instance:
    """A registered instance of the test agent; it has no session yet."""
    instance = Instance(server.endpoint, server.key, cluster)
    instance.register()
    return instance


@pytest.fixture
def started(
    ecs: Any, server: Server, cluster: str, family: str, instance: Instance
) -> Iterator[tuple[Instance, str]]:
    """A task that an agent has been told to run, and whose states the test reports."""
    with Acs(instance) as acs:
        server.wait_for_instance(cluster)
        tasks = Tasks(ecs, cluster, family)
        arn = tasks.run(tasks.define())
        acs.ack(acs.payload())
        yield instance, arn


@pytest.fixture
def fleet(server: Server, cluster: str) -> Iterator[Callable[..., Engine]]:
    """Makes instances that pretend to run whatever they are told."""
    engines: list[Engine] = []

    def add(**options: Any) -> Engine:
        instance = Instance(server.endpoint, server.key, cluster, **options)
        instance.register()
        engines.append(Engine(instance))
        engines[-1].connect()
        server.wait_for_instance(cluster, len(engines))
        return engines[-1]

    yield add
    for engine in engines:
        engine.disconnect()
    failures = [engine.failure for engine in engines if engine.failure]
    assert not failures, failures


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest, images: None) -> Iterator[Hosts]:
    """Hosts with an Engine each, those that the test file names in HOSTS; and `h0` for the server."""
    if os.geteuid():
        pytest.skip("hosts of their own need root")
    with network(*request.module.HOSTS, images=(docker.TOOL,)) as hosts:
        yield hosts


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=192m", "longshore-e2e"]
    if os.geteuid() or subprocess.run(["mount", *options, str(folder)]).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Up]:
    """A data directory for `up`."""
    up = Up(tmp_path / "data")
    yield up
    up.clean()


@pytest.fixture
def outsiders() -> Iterator[list[str]]:
    """Containers that are none of our business, one of them with labels like ours."""
    elsewhere = "arn:aws:ecs:us-east-1:111122223333:container-instance/default/" + "e" * 32
    labels = [
        [],
        ["--label", f"{docker.LABEL}cluster=default", "--label", f"{docker.LABEL}task-arn=x"],
        ["--label", f"{docker.INSTANCE_LABEL}={elsewhere}"],
    ]
    ids = [docker.docker("run", "--detach", *each, docker.TOOL).strip() for each in labels]
    yield ids
    docker.docker("rm", "--force", *ids, check=False)


@pytest.fixture
def json_file(tmp_path: Path) -> Callable[[Any], str]:
    """Writes a value where the AWS CLI can read it, and returns the `file://` argument."""

    def write(value: Any) -> str:
        path = tmp_path / f"{uuid.uuid4().hex}.json"
        path.write_text(json.dumps(value))
        return f"file://{path}"

    return write
