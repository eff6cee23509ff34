"""RunTask that waits instead of failing, on three instances of one Docker Engine, by boto3 and the AWS CLI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Stage
from support.ecs import Tasks, container, refused
from support.processes import AwsCli, Server
from support.waiting import until

SIZE = {"LONGSHORE_INSTANCES": "3", "LONGSHORE_MEMORY": "64", "LONGSHORE_CPU": "1024"}
PATIENT = [{"key": "longshore:max-wait", "value": "10m"}]


@pytest.fixture(scope="module")
def ecs(module_stage: Stage, images: None) -> Any:
    """A client of a server with three instances that have room for one large task each."""
    server = module_stage.server()
    module_stage.agent(server, **SIZE)
    ecs = server.client()
    until(
        lambda: len(ecs.list_container_instances()["containerInstanceArns"]) == 3,
        "three instances",
    )
    return ecs


@pytest.fixture
def tasks(ecs: Any, family: str) -> Iterator[Tasks]:
    """Tasks of a test, which leaves the instances empty."""
    tasks = Tasks(ecs, "default", family)
    yield tasks
    tasks.stop_all()


def large(*command: str) -> dict[str, Any]:
    """A container that fills an instance."""
    return container("main", *(command or ("sleep", "600")), memory=60)


def statuses(tasks: Tasks) -> list[str]:
    answer = tasks.ecs.describe_tasks(cluster=tasks.cluster, tasks=tasks.arns)
    return sorted(task["lastStatus"] for task in answer["tasks"])


def test_the_rest_waits_and_takes_its_turn_as_others_end(tasks: Tasks) -> None:
    answer = tasks.request(tasks.define(large()), count=5, tags=PATIENT)
    assert answer["failures"] == [] and len(answer["tasks"]) == 5
    waiting = [task for task in answer["tasks"] if task["lastStatus"] == "PROVISIONING"]
    placed = [task["taskArn"] for task in answer["tasks"] if task not in waiting]
    assert len(waiting) == 2
    for task in waiting:
        assert "containerInstanceArn" not in task and task["desiredStatus"] == "RUNNING"
        assert [one["lastStatus"] for one in task["containers"]] == ["PENDING"]
    for arn in placed:
        tasks.wait(arn, "RUNNING")
    [cluster] = tasks.ecs.describe_clusters(clusters=[tasks.cluster])["clusters"]
    assert (cluster["runningTasksCount"], cluster["pendingTasksCount"]) == (3, 2)
    home = tasks.describe(placed[0])["containerInstanceArn"]
    tasks.stop(placed[0])
    until(lambda: statuses(tasks) == ["PROVISIONING"] + ["RUNNING"] * 3 + ["STOPPED"], "the next one")
    arns = [task["taskArn"] for task in waiting]
    [next_one] = [arn for arn in arns if tasks.describe(arn)["lastStatus"] == "RUNNING"]
    assert tasks.describe(next_one)["containerInstanceArn"] == home
    assert next_one == min(arns), "the older one"


def test_who_waits_can_be_stopped_and_says_so_through_the_cli(
    tasks: Tasks, module_stage: Stage, tmp_path: Any
) -> None:
    [server] = [one for one in module_stage.processes if isinstance(one, Server)]
    aws = AwsCli(server.data, tmp_path)
    tasks.define(large())
    answer = aws(
        *("run-task", "--task-definition", tasks.family, "--count", "4"),
        *("--tags", "key=longshore:max-wait,value=1h"),
    )
    tasks.arns += [task["taskArn"] for task in answer["tasks"]]
    [waiting] = [task for task in answer["tasks"] if task["lastStatus"] == "PROVISIONING"]
    stopped = aws("stop-task", "--task", waiting["taskArn"], "--reason", "enough")["task"]
    assert (stopped["lastStatus"], stopped["stopCode"]) == ("STOPPED", "UserInitiated")
    assert stopped["stoppedReason"] == "enough" and "containerInstanceArn" not in stopped
    assert waiting["taskArn"] in tasks.listed(desiredStatus="STOPPED")


def test_who_waited_long_enough_says_what_refused_it(tasks: Tasks) -> None:
    definition = tasks.define(container(memory=100))
    short = [{"key": "longshore:max-wait", "value": "2s"}]
    arn = tasks.request(definition, tags=short)["tasks"][0]["taskArn"]
    assert tasks.describe(arn)["lastStatus"] == "PROVISIONING"
    stopped = tasks.wait(arn, "STOPPED")
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert "waited 2 seconds" in stopped["stoppedReason"]
    assert "RESOURCE:MEMORY" in stopped["stoppedReason"]


def test_a_task_that_runs_too_long_is_stopped(tasks: Tasks) -> None:
    limit = [{"key": "longshore:max-run", "value": "2s"}]
    arn = tasks.run(tasks.define(large()), tags=limit)
    stopped = tasks.wait(arn, "STOPPED")
    assert stopped["stopCode"] == "UserInitiated"
    assert stopped["stoppedReason"].endswith("(longshore:max-run)")
    assert (stopped["stoppingAt"] - stopped["startedAt"]).total_seconds() >= 2


def test_the_line_outlives_a_killed_server(tasks: Tasks, module_stage: Stage) -> None:
    [server] = [one for one in module_stage.processes if isinstance(one, Server)]
    arns = [t["taskArn"] for t in tasks.request(tasks.define(large()), count=4, tags=PATIENT)["tasks"]]
    until(lambda: statuses(tasks) == ["PROVISIONING"] + ["RUNNING"] * 3, "three that run")
    server.kill()
    server.start()
    tasks.ecs = server.client()
    assert sorted(statuses(tasks)) == ["PROVISIONING"] + ["RUNNING"] * 3
    first = next(arn for arn in arns if tasks.describe(arn)["lastStatus"] == "RUNNING")
    tasks.stop(first)
    until(lambda: statuses(tasks) == ["RUNNING"] * 3 + ["STOPPED"], "the last one")


def test_a_cluster_makes_its_calls_patient_and_a_bad_tag_is_refused(ecs: Any, family: str) -> None:
    ecs.create_cluster(clusterName=family, tags=PATIENT)
    tasks = Tasks(ecs, family, family)
    arn = tasks.run(tasks.define(container()))
    assert tasks.describe(arn)["lastStatus"] == "PROVISIONING", "there is no instance at all"
    refused(ecs.delete_cluster, "ClusterContainsTasksException", cluster=family)
    bad = [{"key": "longshore:max-wait", "value": "soon"}]
    message = refused(
        *(ecs.run_task, "InvalidParameterException"),
        cluster=family,
        taskDefinition=family,
        tags=bad,
    )
    assert "longshore:max-wait" in message
    tasks.stop(arn)
    ecs.delete_cluster(cluster=family)
