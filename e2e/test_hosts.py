"""Three hosts with an Engine each: hosts vanish, others take over, hosts come back (DESIGN 4).

The witness of what runs is each host's own Engine, which answers also while the host is cut off.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import own_account
from support.ecs import Tasks, container
from support.hosts import HostCluster, Hosts
from support.waiting import until

HOSTS = ("h1", "h2", "h3")
LOST_AFTER = 5.0
# How late a loss may be noticed: the server's heartbeats are LOST_AFTER / 4 apart.
NOTICED_WITHIN = 2.0
pytestmark = pytest.mark.timeout(150)


class World(HostCluster):
    """The cluster, and short words for what the tests look at."""

    def __init__(self, hosts: Hosts, folder: Path, account: str) -> None:
        super().__init__(
            hosts, list(HOSTS), folder, account, "--instance-lost-after", f"{LOST_AFTER:.0f}s"
        )
        self.tasks = Tasks(self.ecs, "default", "hosts")
        port = {"containerPort": 80, "hostPort": 9000}
        self.tasks.define(container("main", "trap", "7"))
        self.tasks.define(container("main", "listen", "80", portMappings=[port]), family="port")

    def run_on(self, name: str, family: str = "hosts", count: int = 1) -> list[str]:
        """Runs tasks on one host, and waits for them."""
        self.drain(*(other for other in HOSTS if other != name))
        answer = self.tasks.request(family, count=count)
        self.drain()
        arns = [task["taskArn"] for task in answer["tasks"]]
        assert len(arns) == count, answer["failures"]
        for arn in arns:
            self.tasks.wait(arn, "RUNNING")
        return arns

    def running_on(self, name: str) -> set[str]:
        """ARNs of the tasks whose containers run on a host, from its Engine; none of them twice."""
        found = self.host(name).tasks()
        assert all(len(ids) == 1 for ids in found.values()), found
        return set(found)

    def reserved(self, name: str) -> tuple[int, set[str]]:
        """CPU units and ports that are taken on a host, besides its own."""
        instance = self.instances()[name]
        books = []
        for which in ("registeredResources", "remainingResources"):
            book = {one["name"]: one for one in instance[which]}
            books.append((book["CPU"]["integerValue"], set(book["PORTS"]["stringSetValue"])))
        (cpu, ports), (cpu_left, ports_taken) = books
        return cpu - cpu_left, ports_taken - ports

    def status(self, arn: str) -> str:
        """Last status of a task."""
        return self.tasks.describe(arn)["lastStatus"]

    def clean(self) -> None:
        """Everything plugged in and connected, nothing running, all books empty."""
        self.server.host.heal()
        for name in HOSTS:
            self.host(name).heal()
            if not self.agents[name].alive:
                self.agents[name].start()
        self.wait_connected()
        self.tasks.stop_all()
        self.tasks.arns.clear()
        for name in HOSTS:
            until(lambda: self.reserved(name) == (0, set()), f"nothing reserved on {name}", 30)
            assert self.running_on(name) == set()


@pytest.fixture(scope="module")
def shared(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, account: str) -> Iterator[World]:
    """The processes of this file."""
    world = World(hosts, tmp_path_factory.mktemp("hosts"), own_account(account))
    yield world
    world.close()


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """The same for each test, put in order by the one before."""
    yield shared
    shared.clean()


def test_each_engine_has_its_own_tasks(world: World) -> None:
    """Each host's Engine has the containers of the tasks that were placed there, and only those."""
    placed = {name: world.run_on(name, count=2) for name in HOSTS}
    for name, arns in placed.items():
        assert {world.tasks.describe(arn)["containerInstanceArn"] for arn in arns} == {
            world.arns[name]
        }
        assert world.running_on(name) == set(arns)


def test_a_host_port_is_free_on_the_other_hosts(world: World) -> None:
    """Hosts have ports of their own; the fourth task finds none."""
    answer = world.tasks.request("port", count=4)
    assert len({task["containerInstanceArn"] for task in answer["tasks"]}) == 3
    assert {one["reason"] for one in answer["failures"]} == {"RESOURCE:PORTS"}
    for task in answer["tasks"]:
        world.tasks.wait(task["taskArn"], "RUNNING")
    for name in HOSTS:
        world.host(name).run("sh", "-c", "exec 3<>/dev/tcp/127.0.0.1/9000", check=False)
        assert world.reserved(name) == (10, {"9000"})


@pytest.mark.parametrize("how", ["both", "in", "out"])
def test_a_silent_host_is_lost_and_another_takes_over(world: World, how: str) -> None:
    """The task gets the verdict, what it holds is stale, a replacement runs elsewhere; when the
    host is back its copy is stopped, and what it held is free."""
    (arn,) = world.run_on("h2", "port")
    began = time.monotonic()
    world.host("h2").cut(how)
    task = until(
        lambda: (t := world.tasks.describe(arn))["lastStatus"] == "STOPPED" and t, "the verdict", 15
    )
    took = time.monotonic() - began
    # The last word may have been heard just before the cut, or a heartbeat earlier.
    assert LOST_AFTER * 0.7 < took < LOST_AFTER + NOTICED_WITHIN, took
    assert task["stopCode"] == "InfrastructureHealth" and "lost" in task["stoppedReason"], task
    assert task["desiredStatus"] == "STOPPED"
    assert "exitCode" not in task["containers"][0], "nobody can know"
    instance = world.instances()["h2"]
    assert (instance["agentConnected"], instance["status"]) == (False, "ACTIVE")
    assert (instance["runningTasksCount"], instance["pendingTasksCount"]) == (0, 0)
    assert world.reserved("h2") == (10, {"9000"}), "held until the host itself says that it is free"
    assert world.running_on("h2") == {arn}, "nobody could tell the host"

    replacement = world.tasks.run("port")
    world.tasks.wait(replacement, "RUNNING")
    assert world.tasks.describe(replacement)["containerInstanceArn"] != world.arns["h2"]

    world.host("h2").heal()
    world.wait_connected("h2")
    until(lambda: world.running_on("h2") == set(), "the end of the stale copy")
    until(lambda: world.reserved("h2") == (0, set()), "the end of its reservation")
    later = world.tasks.describe(arn)
    kept = ("lastStatus", "stopCode", "stoppedReason", "stoppedAt")
    assert {key: later[key] for key in kept} == {key: task[key] for key in kept}, (
        "verdicts are final"
    )
    assert world.status(replacement) == "RUNNING"
    assert sum(replacement in world.running_on(name) for name in HOSTS) == 1
    again = world.run_on("h2", "port")
    assert world.running_on("h2") == set(again), "the port is free again"


def test_a_short_silence_changes_nothing(world: World) -> None:
    """A host that is back in time keeps its tasks, untouched."""
    arns = world.run_on("h3", count=2)
    before = world.host("h3").tasks()
    world.host("h3").cut()
    # What is lost on the way is sent again after twice as long as it takes to notice.
    time.sleep(LOST_AFTER / 5)
    world.host("h3").heal()
    world.wait_connected("h3")
    time.sleep(LOST_AFTER)
    assert [world.status(arn) for arn in arns] == ["RUNNING", "RUNNING"]
    assert world.host("h3").tasks() == before


def test_a_host_without_power_is_lost_and_comes_back_empty(world: World) -> None:
    """After a real loss there is no copy to stop; the host is an instance as before."""
    arns = world.run_on("h3", count=2)
    world.host("h3").kill()
    world.agents["h3"].kill()
    for arn in arns:
        assert world.tasks.wait(arn, "STOPPED")["stopCode"] == "InfrastructureHealth"
    world.host("h3").boot()
    world.agents["h3"].start()
    world.wait_connected("h3")
    until(lambda: world.reserved("h3") == (0, set()), "the end of the reservations")
    assert world.instances()["h3"]["containerInstanceArn"] == world.arns["h3"]
    fresh = world.run_on("h3")
    assert world.running_on("h3") == set(fresh)


def test_a_new_server_gives_absent_agents_time(world: World) -> None:
    """Whoever is away when a server starts is not lost before it could have come back."""
    (arn,) = world.run_on("h2")
    before = world.host("h2").tasks()
    world.host("h2").cut()
    world.server.kill()
    world.server.start()
    world.wait_connected("h1", "h3")
    time.sleep(1.5 * LOST_AFTER)
    assert world.status(arn) == "RUNNING"
    world.host("h2").heal()
    world.wait_connected("h2")
    assert world.status(arn) == "RUNNING" and world.host("h2").tasks() == before


def test_agents_stay_at_their_work_while_the_server_is_away(world: World) -> None:
    """No container is stopped or started because of it."""
    arns = {arn for name in HOSTS for arn in world.run_on(name)}
    before = {name: world.host(name).tasks() for name in HOSTS}
    world.server.kill()
    time.sleep(LOST_AFTER)
    world.server.start()
    world.wait_connected()
    assert {name: world.host(name).tasks() for name in HOSTS} == before
    assert {world.status(arn) for arn in arns} == {"RUNNING"}


def test_when_all_vanish_nothing_is_evicted(world: World) -> None:
    """It is the server that is cut off: the brake holds until it hears of them again."""
    arns = [arn for name in HOSTS for arn in world.run_on(name)]
    before = {name: world.host(name).tasks() for name in HOSTS}
    world.server.host.cut()
    world.wait_connected(connected=False)
    time.sleep(LOST_AFTER + NOTICED_WITHIN)
    assert {world.status(arn) for arn in arns} == {"RUNNING"}
    # Agents back off for longer than LOST_AFTER; anew started, all of them are back at once.
    for agent in world.agents.values():
        agent.kill()
    world.server.host.heal()
    for agent in world.agents.values():
        agent.start()
    world.wait_connected()
    time.sleep(1)
    assert {world.status(arn) for arn in arns} == {"RUNNING"}
    assert {name: world.host(name).tasks() for name in HOSTS} == before


def test_an_operator_releases_the_brake(world: World) -> None:
    arns = [arn for name in HOSTS for arn in world.run_on(name)]
    world.server.host.cut()
    world.wait_connected(connected=False)
    time.sleep(LOST_AFTER)
    assert {world.status(arn) for arn in arns} == {"RUNNING"}
    data = str(world.server.data)
    world.server.host.longshore("instance", "evict", "--cluster", "default", "--data-dir", data)
    for arn in arns:
        assert world.tasks.wait(arn, "STOPPED")["stopCode"] == "InfrastructureHealth"
    for name in HOSTS:
        assert len(world.running_on(name)) == 1, "nobody could tell the hosts"
    # The copies are stopped when the hosts are back: the fixture looks.


def test_decisions_are_told(world: World) -> None:
    """An operator finds in the server's log what was decided and why."""
    log = world.server.log.read_text()
    for word in (
        "vanished: lost if",
        "is lost with 1 tasks",
        "is back, lost",
        "brake: 3 of 3 hosts",
        "released",
    ):
        assert word in log, f"no word of {word}"
