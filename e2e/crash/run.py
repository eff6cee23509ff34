"""One run: hosts, load, faults, quiet, and the verdict."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash import rules
from crash.faults import Breaker
from crash.load import FAMILIES, Client, Drainer, Shared
from crash.observed import (
    ANSWERED,
    Container,
    Instance,
    Reading,
    Recorder,
    Sighting,
)
from crash.witness import Witness, running_by_kernel
from support import docker
from support.hosts import Host, HostCluster, Hosts
from support.processes import ecs_client
from support.waiting import until

CLIENTS = 5
# How many tasks run at a time: what two cores start and stop without being all that is measured.
LIVING_PER_INSTANCE = 10
SETTLE_SECONDS = 150
QUIET_SECONDS = 2
PROGRESS_SECONDS = 60


@dataclass(frozen=True)
class Options:
    """What is run."""

    seconds: float
    seed: str
    instances: int
    lost_after: str
    drain: bool
    folder: Path


class Run:
    """A run, from the first host to the verdict."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options, self.say = options, say
        self.recorder = Recorder()
        self.observed = self.recorder.observed
        self.shared = Shared(LIVING_PER_INSTANCE * options.instances)
        self.hosts = Hosts()
        self.names = [f"h{number + 1}" for number in range(options.instances)]

    def go(self) -> list[rules.Violation]:
        """Everything; the hosts are gone afterwards, whatever happened."""
        docker.build_images()
        try:
            self.hosts.up("h0", engine=False)
            self.hosts.up(*self.names, images=(docker.TOOL,))
            self.work()
        finally:
            self._keep_logs()
            self.hosts.down()
            docker.docker("image", "rm", "--force", docker.TOOL, docker.TOOL_USR1, check=False)
            self.observed.save(self.options.folder / "observed.json")
        return rules.check(self.observed)

    def work(self) -> None:
        """Load and faults, then quiet, then the end is written down."""
        keep_alive(self.hosts.host(self.names[0]))
        cluster = HostCluster(
            self.hosts,
            self.names,
            self.options.folder,
            "900000000042",
            "--instance-lost-after",
            self.options.lost_after,
            # So that an hour does not leave ten thousand containers behind.
            ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="90s",
        )
        self.cluster = cluster
        witnesses = [Witness(cluster.host(name), self.recorder) for name in self.names]
        breaker = Breaker(
            cluster, self.recorder, self.options.seed, self.options.folder / "faults.log", 25
        )
        try:
            self._define()
            clients = self._clients()
            breaker.start()
            for client in clients:
                client.start()
            self._watch(clients, breaker)
            breaker.stop()
            self.shared.stop.set()
            for client in clients:
                client.join(90)
                assert not client.is_alive(), f"{client.name} got no answer"
                if client.failure:
                    raise client.failure
            self.say(f"quiet after {dict(sorted(breaker.counts.items()))}")
            self._settle()
            self._reload(breaker)
        finally:
            for witness in witnesses:
                witness.close()
            breaker.close()
            self._panics()
            cluster.close()

    def client(self) -> Any:
        """A connection without retries; what gets no answer soon has an unknown outcome."""
        server = self.cluster.server
        return ecs_client(server.endpoint, server.key, read_timeout=10, connect_timeout=5)

    def _define(self) -> None:
        ecs = self.cluster.server.client()
        for family, containers in FAMILIES.items():
            ecs.register_task_definition(family=family, containerDefinitions=containers)

    def _clients(self) -> list[Client]:
        clients = [
            Client(f"client {n}", self.client(), self.recorder, self.shared, self.options.seed)
            for n in range(CLIENTS)
        ]
        if self.options.drain:
            arns = sorted(self.cluster.arns.values())
            who = ("drainer", self.client(), self.recorder, self.shared, self.options.seed)
            clients.append(Drainer(*who, instances=arns))
        return clients

    def _watch(self, clients: list[Client], breaker: Breaker) -> None:
        """Until the time is over or something is wrong already."""
        began = told = time.monotonic()
        while (now := time.monotonic()) - began < self.options.seconds:
            failed = [one for one in (*clients, breaker) if one.failure]
            if failed or self.observed.incidents:
                self.say(
                    f"ended early: {[one.failure for one in failed]} {self.observed.incidents}"
                )
                return
            if now - told > PROGRESS_SECONDS:
                told = now
                self.say(f"{now - began:.0f} s: {self.figures(breaker)}")
            time.sleep(0.2)

    def figures(self, breaker: Breaker) -> str:
        """How much was done so far."""
        outcomes = Counter(call.outcome for call in list(self.observed.calls))
        tasks = sum(
            len(call.tasks)
            for call in list(self.observed.calls)
            if call.operation == "RunTask" and call.outcome == ANSWERED
        )
        return f"{dict(outcomes)}, {tasks} tasks told of, {breaker.counts.total()} faults"

    ##### The end

    def _settle(self) -> None:
        """Waits until every task is where it should be; if it never is, the rules will say so."""
        try:
            until(self._settled, "every task where it should be", SETTLE_SECONDS)
        except AssertionError as late:
            self.say(str(late)[:300])

    def _settled(self) -> bool:
        """Every task is where it should be, and nothing was done for a while: a short task that has
        just begun is where it should be, too."""
        before = self._tasks()
        instances = self.cluster.instances()
        connected = [one for one in instances.values() if one["agentConnected"]]
        if len(connected) < len(self.names) or not all(
            task.status == task.desired and task.status in ("RUNNING", "STOPPED")
            for task in before.values()
        ):
            return False
        time.sleep(QUIET_SECONDS)
        return self._tasks() == before

    def _tasks(self) -> dict[str, Reading]:
        """Every task that there is, and every one that a client was told of and there still is."""
        ecs = self.client()
        arns: set[str] = set()
        for status in ("RUNNING", "STOPPED"):
            pages = ecs.get_paginator("list_tasks").paginate(desiredStatus=status)
            arns |= {arn for page in pages for arn in page["taskArns"]}
        arns |= {
            task.arn
            for call in self.observed.calls
            if call.operation == "RunTask"
            for task in call.tasks
        }
        found: dict[str, Reading] = {}
        wanted = sorted(arns)
        for start in range(0, len(wanted), 100):
            answer = ecs.describe_tasks(tasks=wanted[start : start + 100])
            found |= {task["taskArn"]: Reading.of(task) for task in answer["tasks"]}
        return found

    def _reload(self, breaker: Breaker) -> None:
        """Writes the end down, kills the server once more, and writes down what is there then."""
        self.observed.tasks = self._tasks()
        self._write_down()
        breaker.processes.kill("server")
        breaker.processes.start("server")
        self.cluster.wait_connected()
        self.observed.reloaded = self._tasks()
        self.observed.ended = time.monotonic()

    def _write_down(self) -> None:
        ecs = self.client()
        for name, one in self.cluster.instances().items():
            self.observed.instances.append(
                Instance(
                    arn=one["containerInstanceArn"],
                    host=name,
                    status=one["status"],
                    connected=one["agentConnected"],
                    running=one["runningTasksCount"],
                    pending=one["pendingTasksCount"],
                    registered=book(one, "registeredResources"),
                    remaining=book(one, "remainingResources"),
                )
            )
        for name in self.names:
            self._containers_of(self.cluster.host(name))
        revisions = ecs.get_paginator("list_task_definitions").paginate()
        for arn in [arn for page in revisions for arn in page["taskDefinitionArns"]]:
            one = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
            mappings = [
                mapping for each in one["containerDefinitions"] for mapping in each["portMappings"]
            ]
            self.observed.definitions[arn.rsplit("/", 1)[1]] = {
                "cpu": sum(each["cpu"] for each in one["containerDefinitions"]),
                "memory": sum(each["memory"] for each in one["containerDefinitions"]),
                "ports": [mapping["hostPort"] for mapping in mappings if mapping.get("hostPort")],
            }
        counted = ecs.describe_clusters()["clusters"][0]
        self.observed.counters = {k: v for k, v in counted.items() if k.endswith("Count")}

    def _containers_of(self, host: Host) -> None:
        for one in host.containers():
            labels = one["Config"]["Labels"] or {}
            if f"{docker.LABEL}task-arn" not in labels:
                continue
            owner = labels[f"{docker.LABEL}task-arn"], labels[f"{docker.LABEL}container-name"]
            state = one["State"]
            self.observed.containers.append(
                Container(host.name, one["Id"], *owner, state["Running"], state["ExitCode"])
            )
            if state["StartedAt"] > "0002":
                ran = Sighting(host.name, *owner, one["Id"], "ran", time.time())
                self.recorder.sighting(ran)
        self.observed.alive[host.name] = running_by_kernel(host)

    def _panics(self) -> None:
        for path in self.options.folder.rglob("*.log"):
            for line in path.read_text(errors="replace").splitlines():
                if "panicked at" in line:
                    self.recorder.incident(f"{path.name}: {line}")

    def _keep_logs(self) -> None:
        """The Engines' own logs go with their hosts."""
        for name in self.names:
            log = self.hosts.folder / name / "var/log/dockerd.log"
            if log.exists():
                shutil.copy(log, self.options.folder / f"dockerd-{name}.log")


def keep_alive(host: Host) -> None:
    """Lets one Engine leave containers alone when it starts again; unasked, Engines stop them."""
    (host.folder / "etc/docker/daemon.json").write_text('{"live-restore": true}')
    host.kill_engine()
    host.start_engine()


def book(instance: dict[str, Any], which: str) -> dict[str, Any]:
    """Resources by name; port lists sorted."""
    return {
        one["name"]: (
            sorted(one["stringSetValue"]) if one["type"] == "STRINGSET" else one["integerValue"]
        )
        for one in instance[which]
    }
