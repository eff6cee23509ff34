"""awsvpc on real Engines: a network for each task, reached on its host and from another, guarded
by security groups.

Two hosts with an Engine each. What a task can reach is tried from inside of its network namespace;
the witnesses are `docker inspect` and the kernel of the host.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import own_account
from support.docker import LABEL
from support.ecs import Tasks, container
from support.hosts import Host, HostCluster, Hosts
from support.waiting import until

HOSTS = ("h1", "h2")
SUBNET, OPEN, WEB, DATABASE = "subnet-0a", "sg-0a", "sg-0b", "sg-0c"
PORT, OTHER_PORT, HOST_PORT = 8080, 8081, 9000
NAME_SERVER, DNS_PORT = "10.88.0.10", 53  # h0, where the server runs
CONFIGURED = (
    *("--subnet", f"{SUBNET}=10.212.0.0/16"),
    *("--task-dns", NAME_SERVER),
    *("--security-group", f"{OPEN}=in all 0.0.0.0/0"),
    *("--security-group", f"{WEB}=in tcp {PORT} 0.0.0.0/0"),
    *("--security-group", f"{DATABASE}=in tcp {PORT} {WEB},out tcp 9 127.0.0.0/8"),
)
PAUSE = "~internal~ecs~pause"
# Devices and chains that are a single task's.
OF_A_TASK = re.compile(r"\bls[0-9a-f]{4}-[0-9a-f]{8}|LS[0-9a-f]{4}-(from|to)-")
pytestmark = pytest.mark.timeout(180)


class World(HostCluster):
    """The cluster, and short words for what the tests look at."""

    def __init__(self, hosts: Hosts, folder: Path, account: str) -> None:
        super().__init__(hosts, list(HOSTS), folder, account, *CONFIGURED)
        self.tasks = Tasks(self.ecs, "default", "net")
        listeners = [
            container(name, "listen", str(port))
            for name, port in (("main", PORT), ("side", OTHER_PORT))
        ]
        self.tasks.define(*listeners, networkMode="awsvpc")
        published = [{"containerPort": PORT, "hostPort": HOST_PORT}]
        self.tasks.define(
            container("main", "listen", str(PORT), portMappings=published), family="bridge"
        )

    def start(self, name: str, family: str, **more: Any) -> dict[str, Any]:
        """Runs a task on one host, and waits for it."""
        answer = self.ecs.start_task(
            cluster="default", taskDefinition=family, containerInstances=[self.arns[name]], **more
        )
        assert not answer["failures"], answer["failures"]
        arn = answer["tasks"][0]["taskArn"]
        self.tasks.arns.append(arn)
        return self.tasks.wait(arn, "RUNNING", 60)

    def run_on(self, name: str, *groups: str, family: str = "net") -> Task:
        """Runs a task with a network of its own on one host, and waits for it."""
        network = {"subnets": [SUBNET], "securityGroups": list(groups or (OPEN,))}
        described = self.start(
            name, family, networkConfiguration={"awsvpcConfiguration": network}
        )
        return Task(self.host(name), described)

    def run_bridge_on(self, name: str) -> Container:
        """Runs a task of network mode bridge, which publishes `HOST_PORT`."""
        return Container(self.host(name), self.start(name, "bridge")["taskArn"])

    def clean(self) -> None:
        """No task, and nothing of one on any host."""
        for agent in self.agents.values():
            if not agent.alive:
                agent.start()
        self.wait_connected()
        self.tasks.stop_all()
        self.tasks.arns.clear()
        for name in HOSTS:
            until(lambda: traces(self.host(name)) == [], f"nothing left on {name}", 30)


class Container:
    """A running task, from the network of its container `main`."""

    def __init__(self, host: Host, arn: str) -> None:
        self.host, self.arn = host, arn

    def containers(self) -> dict[str, dict[str, Any]]:
        """`docker inspect` of its containers, by name."""
        found = [one for one in self.host.containers() if self.labels(one)["task-arn"] == self.arn]
        return {self.labels(one)["container-name"]: one for one in found}

    @staticmethod
    def labels(one: dict[str, Any]) -> dict[str, str]:
        """The labels that agents give."""
        labels = one["Config"]["Labels"] or {}
        return {
            name: labels.get(f"{LABEL}{name}", "") for name in ("task-arn", "container-name")
        }

    def inside(self, *command: str, check: bool = True, of: str = "main") -> str:
        """Runs a command of the host in the network of a container."""
        pid = self.containers()[of]["State"]["Pid"]
        return self.host.run("nsenter", "--target", str(pid), "--net", *command, check=check)

    def reaches(self, address: str, port: int = PORT) -> bool:
        """Whether the listener there says hello to this task."""
        return self.inside(*connect(address, port), check=False) == "hello"


class Task(Container):
    """A running task with a network of its own."""

    def __init__(self, host: Host, described: dict[str, Any]) -> None:
        super().__init__(host, described["taskArn"])
        self.described = described
        (attachment,) = described["attachments"]
        self.attachment = attachment
        self.details = {one["name"]: one["value"] for one in attachment["details"]}
        self.address = self.details["privateIPv4Address"]

    def seen_as(self) -> str:
        """The address that others outside of the task network see."""
        ask = f"exec 3<>/dev/udp/{NAME_SERVER}/{DNS_PORT}; echo >&3; timeout 1 head -c 10 <&3"
        return self.inside("bash", "-c", ask, check=False)


def connect(address: str, port: int) -> list[str]:
    """A command that says what a listener says."""
    talk = f"exec 3<>/dev/tcp/{address}/{port}; head -c 5 <&3"
    return ["timeout", "2", "bash", "-c", talk]


@contextlib.contextmanager
def name_server(hosts: Hosts) -> Iterator[None]:
    """Something at `NAME_SERVER` that knows one thing: who asks."""
    opened: queue.Queue[socket.socket] = queue.Queue()

    def serve() -> None:
        hosts.enter("h0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.bind((NAME_SERVER, DNS_PORT))
            opened.put(own)
            while (asked := own.recvfrom(99))[0] != b"end":
                own.sendto(asked[1][0].encode(), asked[1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    own = opened.get(timeout=10)
    try:
        yield
    finally:
        # A socket belongs to the network it was made in, whoever uses it.
        own.sendto(b"end", (NAME_SERVER, DNS_PORT))
        thread.join()


def traces(host: Host) -> list[str]:
    """What a host has of tasks' networks: devices, routes and rules of single tasks."""
    lines = [
        line
        for command in (("iptables-save",), ("ip", "-o", "link"), ("ip", "route"))
        for line in host.run(*command).splitlines()
    ]
    return [line for line in lines if OF_A_TASK.search(line)]


@pytest.fixture(scope="module")
def shared(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, account: str) -> Iterator[World]:
    """The processes of this file."""
    world = World(hosts, tmp_path_factory.mktemp("awsvpc"), own_account(account))
    yield world
    world.close()


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """The same for each test, put in order by the one before."""
    yield shared
    shared.clean()


def test_containers_of_a_task_share_one_network(world: World) -> None:
    """One namespace, which the pause container holds; nobody is told of that one."""
    task = world.run_on("h1")
    containers = task.containers()
    assert set(containers) == {"main", "side", PAUSE}
    pause = containers[PAUSE]
    assert pause["HostConfig"]["NetworkMode"] == "none"
    for name in ("main", "side"):
        assert containers[name]["HostConfig"]["NetworkMode"] == f"container:{pause['Id']}", name
    assert {one["name"] for one in task.described["containers"]} == {"main", "side"}
    for port in (PORT, OTHER_PORT):
        assert task.reaches("127.0.0.1", port) and task.reaches(task.address, port)


def test_a_task_has_the_interface_that_is_described(world: World) -> None:
    """Address, hardware address and name, as `describe-tasks` says."""
    task = world.run_on("h1")
    (eth0,) = json.loads(task.inside("ip", "-json", "address", "show", "dev", "eth0"))
    assert eth0["address"] == task.details["macAddress"]
    assert [one["local"] for one in eth0["addr_info"]] == [task.address]
    assert task.attachment["status"] == "ATTACHED"
    for one in task.described["containers"]:
        (interface,) = one["networkInterfaces"]
        assert interface["privateIpv4Address"] == task.address
        assert interface["attachmentId"] == task.attachment["id"]
    stopped = world.tasks.stop(task.arn)
    assert [one["status"] for one in stopped["attachments"]] == ["DELETED"]


def test_names_are_the_tasks(world: World) -> None:
    """Its own name and the name servers are those that every container sees."""
    search = {"dnsSearchDomains": ["corp.test"]}
    world.tasks.define(
        container("main"), container("side", **search), family="names", networkMode="awsvpc"
    )
    task = world.run_on("h1", family="names")
    name = task.details["privateDnsName"]
    for one in task.containers().values():
        paths = (one[path].lstrip("/") for path in ("HostsPath", "ResolvConfPath"))
        hosts, resolver = ((task.host.folder / path).read_text() for path in paths)
        assert f"{task.address}\t{name}" in hosts
        assert re.findall(r"^(nameserver|search) (.*)$", resolver, re.MULTILINE) == [
            ("search", "corp.test"),
            ("nameserver", NAME_SERVER),
        ]
    assert task.containers()[PAUSE]["Config"]["Hostname"] == name


def test_a_container_may_have_no_network(world: World) -> None:
    """`disableNetworking` is obeyed also where there is a task's network."""
    world.tasks.define(
        container("main", "listen", str(PORT)),
        container("alone", disableNetworking=True),
        family="alone",
        networkMode="awsvpc",
    )
    task = world.run_on("h1", family="alone")
    devices = json.loads(task.inside("ip", "-json", "link", of="alone"))
    assert [one["ifname"] for one in devices] == ["lo"]
    assert task.reaches(task.address)


def test_tasks_reach_each_other_on_a_host_and_across_hosts(world: World) -> None:
    """Each by the other's address."""
    near, beside, far = world.run_on("h1"), world.run_on("h1"), world.run_on("h2")
    for one, other in ((near, beside), (beside, near), (near, far), (far, near)):
        way = f"{one.address} → {other.address}"
        until(lambda: one.reaches(other.address), way, 10)
    (eth0,) = json.loads(near.inside("ip", "-json", "link", "show", "dev", "eth0"))
    assert eth0["mtu"] == 1500 - 50, "a full packet fits into one of the overlay's"


def test_hosts_and_bridges_reach_tasks_and_tasks_reach_them(world: World) -> None:
    """The network mode of the one does not matter to the other."""
    tasks = {name: world.run_on(name) for name in HOSTS}
    bridges = {name: world.run_bridge_on(name) for name in HOSTS}
    for here in HOSTS:
        for there in HOSTS:
            address = tasks[there].address
            where = f"{here} → {there}"
            assert world.host(here).run(*connect(address, PORT), check=False) == "hello", where
            assert bridges[here].reaches(address), f"bridge on {where}"
            assert tasks[here].reaches(world.host(there).address, HOST_PORT), f"{where}, published"


def test_what_leaves_the_task_network_has_the_hosts_address(world: World) -> None:
    """Who is no host of ours knows no way to a task's address, and yet it gets its answers."""
    with name_server(world.hosts):
        for name in HOSTS:
            task = world.run_on(name)
            until(lambda: task.seen_as() == world.host(name).address, f"{name} is seen", 15)


def test_a_security_group_blocks_what_it_does_not_allow(world: World) -> None:
    """The database takes what the web sends, and sends nothing itself; on either host."""
    web, database = world.run_on("h1", WEB), world.run_on("h2", DATABASE)
    stranger = world.run_on("h1", OPEN)
    until(lambda: web.reaches(database.address), "the web reaches the database", 10)
    assert not web.reaches(database.address, OTHER_PORT)
    assert not stranger.reaches(database.address)
    assert world.host("h2").run(*connect(database.address, PORT), check=False) == "", "its own host"
    assert stranger.reaches(web.address) and not stranger.reaches(web.address, OTHER_PORT)
    assert not database.reaches(web.address)
    assert database.reaches("127.0.0.1")
    newer = world.run_on("h2", WEB)
    until(lambda: newer.reaches(database.address), "the group's newest member reaches it, too", 10)


def test_after_the_stop_nothing_is_left(world: World) -> None:
    """Nothing of the task is on its host, others do not reach it, and the next one is reached."""
    stays, goes = world.run_on("h1"), world.run_on("h1")
    assert stays.reaches(goes.address)
    before = traces(stays.host)
    world.tasks.stop(goes.arn)
    until(lambda: len(traces(stays.host)) < len(before), "its network is gone", 10)
    left = "\n".join(traces(stays.host))
    assert goes.address not in left and stays.address in left
    assert not stays.reaches(goes.address)
    assert stays.reaches(world.run_on("h1").address)


def test_an_agent_that_is_killed_leaves_traffic_flowing(world: World) -> None:
    """And the next one takes over what is there."""
    near, far = world.run_on("h1"), world.run_on("h2")
    before = traces(near.host)
    world.agents["h1"].kill()
    assert near.reaches(far.address) and far.reaches(near.address)
    world.agents["h1"].start()
    world.wait_connected()
    assert near.reaches(far.address) and far.reaches(near.address)
    third = world.run_on("h1")
    assert set(before) <= set(traces(near.host)), "nothing was made anew"
    assert third.reaches(near.address) and third.reaches(far.address)
    assert far.reaches(third.address)


def test_what_ended_without_an_agent_is_taken_down_by_the_next(world: World) -> None:
    """Its network goes when the agent that made it is no more, too."""
    task, other = world.run_on("h1"), world.run_on("h1")
    world.agents["h1"].kill()
    ids = [one["Id"] for one in task.containers().values()]
    task.host.docker("rm", "--force", *ids)
    world.agents["h1"].start()
    world.tasks.wait(task.arn, "STOPPED")
    until(lambda: task.address not in "\n".join(traces(task.host)), "its network is gone", 15)
    assert other.reaches(other.address)
