"""The life of an agent on a host of its own: upgrade, reboot, a dead Engine, several instances."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import own_account
from support.docker import INSTANCE_LABEL, LABEL
from support.ecs import Tasks, container
from support.hosts import Host, HostAgent, Hosts, HostServer, attribute
from support.processes import BINARY
from support.waiting import until

HOSTS = ("h1",)
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def host(hosts: Hosts) -> Host:
    """The host."""
    return hosts.host("h1")


@pytest.fixture(scope="module")
def host_server(
    hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, account: str
) -> Iterator[HostServer]:
    """The server, on another host."""
    folder = tmp_path_factory.mktemp("life")
    server = HostServer(hosts.host("h0"), folder, own_account(account))
    server.start()
    yield server
    server.kill()


class Life:
    """An agent with an empty Engine in a cluster of its own, and tasks."""

    def __init__(self, server: HostServer, host: Host, folder: Path) -> None:
        self.server, self.host, self.folder = server, host, folder
        self.ecs = server.client()
        # A folder's name is one for each test.
        self.cluster = folder.name
        self.ecs.create_cluster(clusterName=self.cluster)
        self.tasks = Tasks(self.ecs, self.cluster, self.cluster)
        self.agent = HostAgent(server, host, folder, self.cluster)

    def start(self, *arguments: str, count: int = 1) -> list[dict[str, Any]]:
        """Starts the agent; its instances."""
        self.agent.arguments = ["agent", *arguments]
        self.agent.start()
        return self.server.wait_for_instance(self.cluster, count)

    def again(self) -> None:
        """Starts the agent that was there before, and waits until it is back."""
        # Its log has one such line for each time it registered.
        times = self.agent.log.read_text().count("registered") + 1
        self.agent.start()
        until(lambda: self.agent.log.read_text().count("registered") >= times, "the registration")
        self.server.wait_for_instance(self.cluster)

    @property
    def instance(self) -> str:
        """The ARN of the one instance."""
        (arn,) = self.ecs.list_container_instances(cluster=self.cluster)["containerInstanceArns"]
        return arn

    def check_alive(self) -> None:
        """The whole way still works: place, start, stop."""
        arn = self.tasks.start(container("main", "trap", "5"))
        assert self.tasks.stop(arn)["containers"][0]["exitCode"] == 5


@pytest.fixture
def life(host_server: HostServer, host: Host, tmp_path: Path) -> Iterator[Life]:
    """One agent's."""
    life = Life(host_server, host, tmp_path)
    yield life
    life.agent.kill()
    host.boot()
    host.remove_containers()


##### Upgrade


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_is_replaced_in_place(life: Life, number: int) -> None:
    """Another program file, the same data folder: the same instance, the same containers, and what
    happened in between is told."""
    life.start()
    before = life.instance
    life.tasks.define(container("main", "trap", "7"))
    stays, ends, stopped = [task["taskArn"] for task in life.tasks.request(count=3)["tasks"]]
    for arn in (stays, ends, stopped):
        life.tasks.wait(arn, "RUNNING")
    running = life.host.tasks()

    life.agent.end(number)
    assert life.host.tasks() == running, "containers do not care"
    life.host.docker("kill", "--signal", "TERM", *running[ends])
    life.ecs.stop_task(cluster=life.cluster, task=stopped)
    life.agent.program = Path(shutil.copy(BINARY, life.folder / "longshore-next"))
    life.again()

    assert life.tasks.wait(ends, "STOPPED")["containers"][0]["exitCode"] == 7
    assert life.tasks.wait(stopped, "STOPPED")["containers"][0]["exitCode"] == 7
    assert life.tasks.describe(stays)["lastStatus"] == "RUNNING"
    assert life.host.tasks() == {stays: running[stays]}
    assert life.instance == before
    life.check_alive()


##### What happens to the host


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_host_is_rebooted(life: Life, disk: str) -> None:
    """No container runs any longer, or there is none at all: each task is STOPPED and says why."""
    life.start()
    before = life.instance
    life.tasks.define(container("main", "trap", "7"))
    arns = [task["taskArn"] for task in life.tasks.request(count=3)["tasks"]]
    for arn in arns:
        life.tasks.wait(arn, "RUNNING")
    life.host.kill()
    life.agent.kill()
    if disk == "lost":
        shutil.rmtree(life.host.folder / "var/lib/docker/containers")
    life.host.boot()
    life.again()
    for arn in arns:
        task = life.tasks.wait(arn, "STOPPED")
        one = task["containers"][0]
        assert task["stopCode"] == "EssentialContainerExited" and task["stoppedReason"], task
        # An Engine that finds a container dead after its start says 255; nobody knows more.
        assert one.get("exitCode") == (255 if disk == "kept" else None), task
        assert one.get("reason") or disk == "kept", task
    assert life.host.tasks() == {}
    assert life.instance == before
    life.check_alive()


def test_an_engine_is_killed(life: Life) -> None:
    """Docker stops what ran without it when it is back; the agent survives, and tells."""
    life.start()
    arn = life.tasks.start(container("main", "trap", "7"))
    (container_id,) = life.host.tasks()[arn]
    life.host.kill_engine()
    life.host.start_engine()
    task = life.tasks.wait(arn, "STOPPED")
    (seen,) = [one for one in life.host.containers() if one["Id"] == container_id]
    assert seen["State"]["Running"] is False
    assert task["containers"][0].get("exitCode") == seen["State"]["ExitCode"]
    assert life.agent.alive
    life.check_alive()


def test_an_engine_that_leaves_containers_alone_is_killed(life: Life) -> None:
    """With Docker's live-restore nothing happens to tasks at all."""
    life.start()
    life.host.kill_engine()
    life.host.start_engine("--live-restore")
    arn = life.tasks.start(container("main", "trap", "7"))
    before = life.host.tasks()
    life.host.kill_engine()
    life.host.start_engine("--live-restore")
    life.check_alive()
    assert life.host.tasks() == before and life.tasks.describe(arn)["lastStatus"] == "RUNNING"
    assert life.tasks.stop(arn)["containers"][0]["exitCode"] == 7
    life.host.kill_engine()
    life.host.start_engine()


##### Several instances on one host


def book(instance: dict[str, Any]) -> dict[str, Any]:
    """Registered resources by name."""
    return {one["name"]: one.get("integerValue") for one in instance["registeredResources"]}


def test_one_agent_is_several_instances(life: Life) -> None:
    """Sizes, zones, attributes and tags as told; one port book for the host, a label for each."""
    sizes = "--instances 3 --cpu 1024,512,256 --memory 900,600,300"
    flags = f"{sizes} --zone us-east-1b,us-east-1c,us-east-1b"
    found = life.start(
        *flags.split(), "--attribute", "rack=r7", "--tag", "team=blue", "--tag", "cost=1", count=3
    )
    arns = sorted(one["containerInstanceArn"] for one in found)
    answer = life.ecs.describe_container_instances(
        cluster=life.cluster, containerInstances=arns, include=["TAGS"]
    )
    instances = {
        attribute(one, "longshore.instance-index"): one for one in answer["containerInstances"]
    }
    sizes = {index: (book(one)["CPU"], book(one)["MEMORY"]) for index, one in instances.items()}
    assert sizes == {"0": (1024, 900), "1": (512, 600), "2": (256, 300)}
    zones = [attribute(instances[i], "ecs.availability-zone") for i in "012"]
    assert zones == ["us-east-1b", "us-east-1c", "us-east-1b"]
    for one in instances.values():
        assert attribute(one, "rack") == "r7"
        assert {tag["key"]: tag["value"] for tag in one["tags"]} == {"team": "blue", "cost": "1"}
    assert len({attribute(one, "longshore.host-id") for one in instances.values()}) == 1

    port = {"containerPort": 80, "hostPort": 9001}
    definition = life.tasks.define(container("main", "listen", "80", portMappings=[port]))
    placed = life.tasks.request(definition, count=3)
    assert len(placed["tasks"]) == 1, "the host has this port once"
    assert {one["reason"] for one in placed["failures"]} == {"RESOURCE:PORTS"}
    life.tasks.wait(placed["tasks"][0]["taskArn"], "RUNNING")
    life.tasks.stop(placed["tasks"][0]["taskArn"])

    big = life.tasks.define(container("main", cpu=600, memory=700))
    (task,) = life.tasks.request(big, count=2)["tasks"]
    assert task["containerInstanceArn"] == instances["0"]["containerInstanceArn"], (
        "no other is as big"
    )
    small = life.tasks.define(container("main", "trap", "7", cpu=10, memory=10))
    placed = life.tasks.request(small, count=6)["tasks"]
    for each in placed:
        life.tasks.wait(each["taskArn"], "RUNNING")
    labels = [each["Config"]["Labels"] for each in life.host.containers()]
    told = {one[f"{LABEL}task-arn"]: one[INSTANCE_LABEL] for one in labels}
    for each in placed:
        assert told[each["taskArn"]] == each["containerInstanceArn"]


def test_the_instances_of_a_host_come_back_together(life: Life) -> None:
    """Each with its own tasks, after the agent was killed."""
    before = {one["containerInstanceArn"] for one in life.start("--instances", "3", count=3)}
    life.tasks.define(container("main", "trap", "7"))
    placed = life.tasks.request(count=8)["tasks"]
    for task in placed:
        life.tasks.wait(task["taskArn"], "RUNNING")
    counts = Counter(task["containerInstanceArn"] for task in placed)
    running = life.host.tasks()
    life.agent.kill()
    life.again()
    found = life.server.wait_for_instance(life.cluster, 3)
    told = {one["containerInstanceArn"]: one["runningTasksCount"] for one in found}
    assert told == {arn: counts[arn] for arn in before}
    assert life.host.tasks() == running
