"""StartTask: the caller picks the instances (ECS-SEMANTICS 4). The door for custom schedulers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container, refused
from support.processes import Agent, AwsCli, Server
from support.waiting import until
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import Instance

Fleet = Callable[..., Engine]


@pytest.fixture
def mine(ecs: Any, cluster: str, family: str) -> Tasks:
    """Tasks in the test's own cluster, whose instances are played by the test agent."""
    return Tasks(ecs, cluster, family)


def start(tasks: Tasks, *instances: str, **more: Any) -> dict[str, Any]:
    """StartTask of the test's family, as it is answered."""
    answer = tasks.ecs.start_task(
        cluster=tasks.cluster,
        taskDefinition=more.pop("taskDefinition", tasks.family),
        containerInstances=list(instances),
        **more,
    )
    tasks.arns += [task["taskArn"] for task in answer["tasks"]]
    return answer


def reasons(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """ARN and reason of each failure."""
    return [(one["arn"], one["reason"]) for one in answer["failures"]]


def test_a_container_runs_where_the_caller_says(
    tasks: Tasks, agent: Agent, server: Server, aws: AwsCli
) -> None:
    """AWS CLI in, a Docker container out, `docker inspect` as the witness."""
    (instance,) = server.wait_for_instance()
    arn = instance["containerInstanceArn"]
    tasks.define(container("main", "listen", "8080"))
    overrides = {
        "containerOverrides": [
            {"name": "main", "environment": [{"name": "WHO", "value": "me"}], "memory": 24}
        ]
    }
    answer = start(tasks, arn.rsplit("/", 1)[1], overrides=overrides, startedBy="scheduler-1")
    (task,) = answer["tasks"]
    assert answer["failures"] == [] and task["containerInstanceArn"] == arn
    aws("wait", "tasks-running", "--tasks", task["taskArn"])
    seen = docker.of_task(task["taskArn"])["main"]
    assert seen["State"]["Running"] and docker.environment(seen)["WHO"] == "me"
    assert seen["HostConfig"]["Memory"] == 24 << 20
    assert seen["Config"]["Labels"][docker.INSTANCE_LABEL] == arn
    assert aws("list-tasks", "--started-by", "scheduler-1")["taskArns"] == [task["taskArn"]]
    told = aws(
        "start-task", "--task-definition", tasks.family, "--container-instances", arn, "0" * 32
    )
    tasks.arns += [one["taskArn"] for one in told["tasks"]]
    assert len(told["tasks"]) == 1
    assert [one["reason"] for one in told["failures"]] == ["MISSING"]
    tasks.stop(task["taskArn"])
    assert docker.of_task(task["taskArn"])["main"]["State"]["Status"] == "exited"


def test_each_named_instance_gets_one(mine: Tasks, fleet: Fleet) -> None:
    engines = [fleet() for _ in range(3)]
    arns = [engine.instance.arn for engine in engines]
    definition = mine.define()
    answer = start(
        mine,
        arns[2],
        arns[0].rsplit("/", 1)[1],
        group="batch",
        startedBy="me",
        tags=[{"key": "team", "value": "blue"}],
        enableECSManagedTags=True,
    )
    assert answer["failures"] == []
    homes = [task["containerInstanceArn"] for task in answer["tasks"]]
    assert homes == [arns[2], arns[0]], "in the order of the request"
    for task in answer["tasks"]:
        assert task["taskDefinitionArn"] == definition
        assert (task["group"], task["startedBy"], task["launchType"]) == ("batch", "me", "EC2")
        mine.wait(task["taskArn"], "RUNNING")
        told = mine.ecs.describe_tasks(
            cluster=mine.cluster, tasks=[task["taskArn"]], include=["TAGS"]
        )
        assert told["tasks"][0]["tags"] == [
            {"key": "team", "value": "blue"},
            {"key": "aws:ecs:clusterName", "value": mine.cluster},
        ]
    assert [len(engine.starts) for engine in engines] == [1, 0, 1]


def test_each_instance_that_cannot_take_it_says_why(
    mine: Tasks, fleet: Fleet, instance: Instance
) -> None:
    small, busy, drains, fits = fleet(memory=50), fleet(memory=100), fleet(), fleet()
    gone = fleet()
    mine.define(container(memory=80, portMappings=[{"containerPort": 80, "hostPort": 8080}]))
    mine.ecs.update_container_instances_state(
        cluster=mine.cluster, containerInstances=[drains.instance.arn], status="DRAINING"
    )
    gone.disconnect()
    mine.ecs.deregister_container_instance(
        cluster=mine.cluster, containerInstance=gone.instance.arn, force=True
    )
    start(mine, busy.instance.arn)
    unknown = small.instance.arn.rsplit("/", 1)[0] + "/" + "0" * 32
    answer = start(
        mine,
        small.instance.arn,
        busy.instance.arn,
        drains.instance.arn,
        gone.instance.arn,
        instance.arn,
        unknown,
        fits.instance.arn,
    )
    (placed,) = answer["tasks"]
    assert placed["containerInstanceArn"] == fits.instance.arn
    assert reasons(answer) == [
        (small.instance.arn, "RESOURCE:MEMORY"),
        (busy.instance.arn, "RESOURCE:MEMORY"),
        (drains.instance.arn, "INACTIVE"),
        (gone.instance.arn, "INACTIVE"),
        (instance.arn, "AGENT"),
        (unknown, "MISSING"),
    ]
    assert small.starts == drains.starts == []
    answer = start(mine, fits.instance.arn)
    assert reasons(answer) == [(fits.instance.arn, "RESOURCE:PORTS")]


def test_one_instance_named_twice_gets_two_while_there_is_room(mine: Tasks, fleet: Fleet) -> None:
    arn = fleet(memory=100).instance.arn
    mine.define(container(memory=40))
    answer = start(mine, arn, arn, arn)
    assert len(answer["tasks"]) == 2 and reasons(answer) == [(arn, "RESOURCE:MEMORY")]


@pytest.mark.parametrize(
    ("member", "value", "code", "word"),
    [
        ("containerInstances", [], "InvalidParameterException", "cannot be empty."),
        ("containerInstances", ["0" * 32] * 11, "InvalidParameterException", "containerInstances"),
        ("containerInstances", ["nonsense"], "InvalidParameterException", "[32,36]"),
        ("cluster", "nowhere", "ClusterNotFoundException", "Cluster not found."),
        ("taskDefinition", "nothing:1", "ClientException", "TaskDefinition not found."),
        ("startedBy", "s" * 37, "InvalidParameterException", "startedBy"),
        ("propagateTags", "SERVICE", "InvalidParameterException", "propagateTags"),
        (
            "overrides",
            {"containerOverrides": [{"name": "ghost", "cpu": 1}]},
            "InvalidParameterException",
            "Override for container named ghost is not a container in the TaskDefinition.",
        ),
        ("enableExecuteCommand", True, "UnsupportedFeatureException", "enableExecuteCommand"),
        ("referenceId", "r", "UnsupportedFeatureException", "referenceId"),
        (
            "networkConfiguration",
            {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
            "InvalidParameterException",
            "Network Configuration is not valid for the given networkMode",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(
    mine: Tasks, fleet: Fleet, member: str, value: Any, code: str, word: str
) -> None:
    engine = fleet()
    request = {
        "cluster": mine.cluster,
        "taskDefinition": mine.define(),
        "containerInstances": [engine.instance.arn],
    }
    assert word in refused(mine.ecs.start_task, code, **request | {member: value})
    assert mine.listed() == [] and engine.starts == []


def test_an_instance_of_another_cluster_is_nobody_s(mine: Tasks, fleet: Fleet, ecs: Any) -> None:
    engine = fleet()
    other = f"c-{uuid.uuid4().hex[:10]}"
    ecs.create_cluster(clusterName=other)
    message = refused(
        ecs.start_task,
        "InvalidParameterException",
        cluster=other,
        taskDefinition=mine.define(),
        containerInstances=[engine.instance.arn],
    )
    assert message == (
        f"Invalid identifier: Identifier is for cluster {mine.cluster}. Your cluster is {other}"
    )


def test_what_was_started_survives_the_server(stage: Any, family: str) -> None:
    """Durable before it is answered, and ordered again when the agent comes back."""
    server = stage.server()
    instance = Instance(server.endpoint, server.key, "default")
    instance.register()
    # It acknowledges nothing: what it acknowledged would not be ordered again.
    with Acs(instance):
        server.wait_for_instance()
        tasks = Tasks(server.client(), "default", family)
        tasks.define()
        (task,) = start(tasks, instance.arn)["tasks"]
        server.kill()
    server.start()
    tasks = Tasks(server.client(), "default", family)
    assert tasks.describe(task["taskArn"])["containerInstanceArn"] == instance.arn
    with Engine(instance) as engine:
        until(lambda: task["taskArn"] in engine.tasks, "the order")
        tasks.wait(task["taskArn"], "RUNNING")
