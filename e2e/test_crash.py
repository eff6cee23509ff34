"""kill -9 of the server and of the agent: nothing acknowledged is lost, nothing runs twice.

A hundred real containers run throughout; the tests of this file share them (DESIGN 4 and 7).
"""

from __future__ import annotations

import random
import signal
import threading
import uuid
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from support import docker
from support.ecs import Tasks, container
from support.processes import Agent, Server
from support.waiting import until
from test_agent.engine import Engine
from test_agent.instance import Instance

pytestmark = pytest.mark.timeout(240)
COUNT = 100
# What Docker 20.10 grants at least, and little enough CPU for a hundred on two cores.
TINY = {"memory": 6, "cpu": 5}


class Hundred:
    """A hundred running tasks, and their containers as Docker first showed them."""

    def __init__(self, server: Server, agent: Agent) -> None:
        self.server, self.agent = server, agent
        self.tasks = Tasks(server.client(), "default", "hundred")
        definition = self.tasks.define(container("main", "trap", "7", **TINY))
        for _ in range(COUNT // 10):
            answer = self.tasks.request(definition, count=10)
            assert len(answer["tasks"]) == 10, answer["failures"]
        self.arns = set(self.tasks.arns)
        (self.instance,) = server.wait_for_instance()
        until(lambda: self.running() == self.arns, "all hundred RUNNING", 150)
        self.before = self.containers()
        assert set(self.before) == self.arns

    def running(self) -> set[str]:
        """The tasks that are RUNNING for the API."""
        arns = self.tasks.listed()
        found: list[dict[str, Any]] = []
        for start in range(0, len(arns), 100):
            answer = self.tasks.ecs.describe_tasks(
                cluster="default", tasks=arns[start : start + 100]
            )
            found += answer["tasks"]
        return {task["taskArn"] for task in found if task["lastStatus"] == "RUNNING"}

    def containers(self) -> dict[str, tuple[str, str]]:
        """Task ARN → id and start time of its running container, from Docker alone."""
        found = [one for one in docker.of_account(self.server.account) if one["State"]["Running"]]
        label = docker.LABEL + "task-arn"
        copies = Counter(one["Config"]["Labels"][label] for one in found)
        assert not [arn for arn, count in copies.items() if count > 1], "a task runs twice"
        return {
            one["Config"]["Labels"][label]: (one["Id"], one["State"]["StartedAt"]) for one in found
        }

    def check_untouched(self) -> None:
        """Every container is the very one that ran before, and runs."""
        now = self.containers()
        lost = [arn for arn in self.arns if now.get(arn) != self.before[arn]]
        assert not lost, f"{len(lost)} of {len(self.arns)} containers were stopped or restarted"

    def check_all_known(self) -> None:
        """The API knows each of them as RUNNING, on the same instance, and no other."""
        until(lambda: self.running() == self.arns, "exactly the same tasks RUNNING", 30)
        assert set(self.tasks.listed()) == self.arns
        (instance,) = self.server.wait_for_instance()
        assert instance["containerInstanceArn"] == self.instance["containerInstanceArn"]
        assert instance["runningTasksCount"] == len(self.arns)
        self.check_untouched()

    def check_new_tasks_run(self) -> None:
        """The whole way still works: place, start, stop."""
        arn = self.tasks.run("hundred")
        self.tasks.wait(arn, "RUNNING")
        assert self.tasks.stop(arn)["containers"][0]["exitCode"] == 7


@pytest.fixture(scope="module")
def hundred(server: Server, agent: Agent) -> Hundred:
    """The shared hundred."""
    return Hundred(server, agent)


def test_the_server_killed_with_a_hundred_tasks(hundred: Hundred) -> None:
    """All run on, all known, none twice, and no report is needed for that."""
    hundred.server.kill()
    hundred.check_untouched()
    hundred.server.start()
    assert set(hundred.tasks.listed()) == hundred.arns, "known before the agent is back"
    hundred.server.wait_for_instance()
    hundred.check_all_known()
    hundred.check_new_tasks_run()


def test_the_agent_killed_with_a_hundred_tasks(hundred: Hundred) -> None:
    """Taken over by label and state file; the same agent is the same instance."""
    hundred.agent.kill()
    hundred.check_untouched()
    hundred.agent.start()
    hundred.server.wait_for_instance()
    hundred.check_all_known()
    hundred.check_new_tasks_run()


def test_what_happened_while_the_agent_was_dead_is_reported(hundred: Hundred) -> None:
    hundred.agent.kill()
    ended, removed = sorted(hundred.arns)[:2]
    docker.docker("kill", "--signal", "TERM", hundred.before[ended][0])
    docker.docker("rm", "--force", hundred.before[removed][0])
    until(lambda: ended not in hundred.containers(), "the container's end")
    hundred.agent.start()
    task = hundred.tasks.wait(ended, "STOPPED")
    assert task["containers"][0]["exitCode"] == 7
    assert task["stopCode"] == "EssentialContainerExited"
    gone = hundred.tasks.wait(removed, "STOPPED")
    assert "exitCode" not in gone["containers"][0]
    hundred.arns -= {ended, removed}
    hundred.check_all_known()


def test_an_order_given_while_the_agent_was_dead_is_obeyed(hundred: Hundred) -> None:
    hundred.agent.kill()
    arn = min(hundred.arns)
    hundred.tasks.ecs.stop_task(cluster="default", task=arn)
    hundred.agent.start()
    assert hundred.tasks.wait(arn, "STOPPED")["containers"][0]["exitCode"] == 7
    hundred.arns -= {arn}
    hundred.check_all_known()


def test_an_agent_that_ends_cleanly_leaves_its_containers(hundred: Hundred) -> None:
    """SIGTERM: state saved, exit 0, containers keep running (AGENT-PROTOCOL 5.14)."""
    assert hundred.agent.end(signal.SIGTERM) == 0
    hundred.check_untouched()
    hundred.agent.start()
    hundred.check_all_known()


def test_both_killed_at_once(hundred: Hundred) -> None:
    """The agent comes up first and finds nobody; it waits or is started again."""
    hundred.server.kill()
    hundred.agent.kill()
    hundred.check_untouched()
    hundred.server.start()
    hundred.agent.start()
    hundred.server.wait_for_instance()
    hundred.check_all_known()
    hundred.check_new_tasks_run()


def test_an_event_while_the_server_was_dead_is_reported(hundred: Hundred) -> None:
    """The agent repeats its report until somebody answers (AGENT-PROTOCOL 3.2)."""
    arn = max(hundred.arns)
    hundred.server.kill()
    docker.docker("kill", "--signal", "TERM", hundred.before[arn][0])
    hundred.server.start()
    assert hundred.tasks.wait(arn, "STOPPED", 60)["containers"][0]["exitCode"] == 7
    hundred.arns -= {arn}
    hundred.check_all_known()


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_server_killed_in_a_stream_of_requests(stage: Any, seed: int) -> None:
    """Each acknowledged task is known afterwards, and the same token is the same task."""
    server = stage.server()
    instance = Instance(server.endpoint, server.key, cpu=10**7, memory=10**7)
    instance.register()
    engine = Engine(instance)
    engine.connect()
    server.wait_for_instance()
    Tasks(server.client(), "default", "stream").define(container(cpu=1, memory=6))

    limit = random.Random(seed).randint(20, 250)
    answered: dict[str, list[str]] = {}
    enough = threading.Event()

    def caller() -> None:
        ecs = server.client()
        while True:
            token = str(uuid.uuid4())
            try:
                answer = ecs.run_task(taskDefinition="stream", count=2, clientToken=token)
            except (BotoCoreError, ClientError):
                return
            answered[token] = [task["taskArn"] for task in answer["tasks"]]
            if len(answered) >= limit:
                enough.set()

    callers = [threading.Thread(target=caller, daemon=True) for _ in range(4)]
    for thread in callers:
        thread.start()
    assert enough.wait(60), f"only {len(answered)} answers"
    server.kill()
    for thread in callers:
        thread.join(40)
    engine.disconnect()

    server.start()
    ecs = server.client()
    arns = [arn for group in answered.values() for arn in group]
    assert len(arns) == len(set(arns)) == 2 * len(answered)
    for start in range(0, len(arns), 100):
        answer = ecs.describe_tasks(tasks=arns[start : start + 100])
        assert answer["failures"] == []
    token, first = next(iter(answered.items()))
    again = ecs.run_task(taskDefinition="stream", count=2, clientToken=token)
    assert [task["taskArn"] for task in again["tasks"]] == first

    pages = ecs.get_paginator("list_tasks").paginate()
    living = [arn for page in pages for arn in page["taskArns"]]
    assert set(arns) <= set(living)
    (one,) = ecs.describe_container_instances(containerInstances=[instance.arn])[
        "containerInstances"
    ]
    left = {each["name"]: each.get("integerValue") for each in one["remainingResources"]}
    assert left["CPU"] == 10**7 - len(living), "reservations are derived from the tasks"
    assert left["MEMORY"] == 10**7 - 6 * len(living)
