"""RunTask without Docker: placement, failures, idempotency, filters (ECS-SEMANTICS 1, 4, 6).

The instances are played by the test agent, so that their size is the test's choice.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.ecs import Tasks, container, refused
from support.processes import Server
from support.waiting import until
from support.wire import Wire
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import Instance

Fleet = Callable[..., Engine]


@pytest.fixture
def tasks(ecs: Any, cluster: str, family: str) -> Tasks:
    """Tasks in the test's own cluster."""
    return Tasks(ecs, cluster, family)


def test_a_cluster_without_instances_refuses(tasks: Tasks) -> None:
    definition = tasks.define()
    message = refused(
        tasks.ecs.run_task,
        "InvalidParameterException",
        cluster=tasks.cluster,
        taskDefinition=definition,
    )
    assert message == "No Container Instances were found in your cluster."


@pytest.mark.parametrize(
    ("size", "need", "reason"),
    [
        ({"memory": 100}, {"memory": 101}, "RESOURCE:MEMORY"),
        ({"cpu": 100}, {"cpu": 101}, "RESOURCE:CPU"),
        ({}, {"portMappings": [{"containerPort": 80, "hostPort": 22}]}, "RESOURCE:PORTS"),
    ],
)
def test_what_does_not_fit_is_a_failure_with_its_reason(
    tasks: Tasks, fleet: Fleet, size: dict[str, int], need: dict[str, Any], reason: str
) -> None:
    arn = fleet(**size).instance.arn
    answer = tasks.request(tasks.define(container(**need)))
    assert answer["tasks"] == []
    assert [(one["arn"], one["reason"]) for one in answer["failures"]] == [(arn, reason)]


def test_a_taken_host_port_is_not_given_twice(tasks: Tasks, fleet: Fleet) -> None:
    """Per protocol: the same number over UDP is another port."""
    engine = fleet()
    tcp = tasks.define(container(portMappings=[{"containerPort": 80, "hostPort": 8080}]))
    udp = tasks.define(
        container(portMappings=[{"containerPort": 80, "hostPort": 8080, "protocol": "udp"}])
    )
    first = tasks.run(tcp)
    answer = tasks.request(tcp)
    assert [one["reason"] for one in answer["failures"]] == ["RESOURCE:PORTS"]
    tasks.run(udp)
    tasks.wait(first, "RUNNING")
    tasks.stop(first)
    tasks.run(tcp)
    assert engine.instance.arn == answer["failures"][0]["arn"]


def test_as_many_as_fit_are_placed(tasks: Tasks, fleet: Fleet) -> None:
    fleet(memory=100)
    answer = tasks.request(tasks.define(container(memory=40)), count=4)
    assert len(answer["tasks"]) == 2
    assert answer["failures"] and {f["reason"] for f in answer["failures"]} == {"RESOURCE:MEMORY"}


def test_tasks_go_where_they_fit(tasks: Tasks, fleet: Fleet) -> None:
    small, large = fleet(memory=50), fleet(memory=500)
    answer = tasks.request(tasks.define(container(memory=60)), count=8)
    assert {one["containerInstanceArn"] for one in answer["tasks"]} == {large.instance.arn}
    assert small.starts == []


def test_random_placement_uses_every_instance(tasks: Tasks, fleet: Fleet) -> None:
    arns = {fleet().instance.arn for _ in range(3)}
    definition = tasks.define(container(memory=8, cpu=1))
    used = set()
    for _ in range(4):
        answer = tasks.request(definition, count=10)
        used |= {one["containerInstanceArn"] for one in answer["tasks"]}
    assert used == arns, "40 tasks at random: 3 × (2/3)^40 to miss one"


def test_a_disconnected_instance_is_no_place(
    tasks: Tasks, instance: Instance, fleet: Fleet
) -> None:
    """Its failure reason is AGENT (AGENT-PROTOCOL 9.1, ECS-SEMANTICS 4)."""
    definition = tasks.define()
    answer = tasks.request(definition)
    assert [(f["arn"], f["reason"]) for f in answer["failures"]] == [(instance.arn, "AGENT")]
    connected = fleet()
    for _ in range(5):
        placed = tasks.request(definition)["tasks"]
        assert [one["containerInstanceArn"] for one in placed] == [connected.instance.arn]


@pytest.mark.parametrize("count", [0, 11, -1])
def test_count_is_one_to_ten(tasks: Tasks, fleet: Fleet, count: int) -> None:
    fleet()
    codes = ("InvalidParameterException", "ClientException")
    refused(
        tasks.ecs.run_task,
        *codes,
        cluster=tasks.cluster,
        taskDefinition=tasks.define(),
        count=count,
    )


def test_ten_tasks_in_one_call_have_ten_arns(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    answer = tasks.request(tasks.define(), count=10)
    arns = [one["taskArn"] for one in answer["tasks"]]
    assert len(set(arns)) == 10 and answer["failures"] == []
    for one in answer["tasks"]:
        prefix = f":task/{tasks.cluster}/"
        assert prefix in one["taskArn"] and len(one["taskArn"].split(prefix)[1]) == 32
        assert one["clusterArn"].endswith(f":cluster/{tasks.cluster}")
        assert one["taskDefinitionArn"].endswith(f"/{tasks.family}:1")
        assert one["desiredStatus"] == "RUNNING"
        assert one["lastStatus"] in ("PROVISIONING", "PENDING")
        assert one["group"] == f"family:{tasks.family}"
        assert one["createdAt"] and one["version"] >= 1
        assert [each["name"] for each in one["containers"]] == ["main"]


def test_the_same_client_token_gives_the_same_tasks(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    definition = tasks.define()
    token = str(uuid.uuid4())
    first = tasks.request(definition, count=2, clientToken=token)
    second = tasks.request(definition, count=2, clientToken=token)
    assert [t["taskArn"] for t in first["tasks"]] == [t["taskArn"] for t in second["tasks"]]
    assert len(tasks.listed()) == 2
    refused(
        tasks.ecs.run_task,
        "ConflictException",
        cluster=tasks.cluster,
        taskDefinition=definition,
        count=3,
        clientToken=token,
    )
    assert len(tasks.listed()) == 2


def test_one_token_used_at_the_same_time_runs_once(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    definition, token = tasks.define(), str(uuid.uuid4())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: tasks.request(definition, clientToken=token), range(8)))
    assert len({answer["tasks"][0]["taskArn"] for answer in answers}) == 1
    assert len(tasks.listed()) == 1


def test_a_token_is_at_most_64_characters(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    refused(
        tasks.ecs.run_task,
        "InvalidParameterException",
        "ClientException",
        cluster=tasks.cluster,
        taskDefinition=tasks.define(),
        clientToken="t" * 65,
    )


def test_tasks_are_listed_by_filters(tasks: Tasks, fleet: Fleet) -> None:
    one, two = fleet(), fleet()
    definition = tasks.define()
    mine = tasks.run(definition, startedBy="me", group="batch")
    other = tasks.run(tasks.define(family=tasks.family + "-b"))
    for arn in (mine, other):
        tasks.wait(arn, "RUNNING")
    assert set(tasks.listed()) == {mine, other}
    assert tasks.listed(startedBy="me") == [mine]
    assert tasks.listed(family=tasks.family) == [mine]
    assert tasks.listed(family="nothing") == []
    assert tasks.listed(desiredStatus="STOPPED") == []
    spread = {
        arn for engine in (one, two) for arn in tasks.listed(containerInstance=engine.instance.arn)
    }
    assert spread == {mine, other}
    home = tasks.describe(mine)["containerInstanceArn"]
    assert mine in tasks.listed(containerInstance=home, family=tasks.family)
    assert tasks.describe(mine)["group"] == "batch"
    assert tasks.describe(mine)["startedBy"] == "me"
    tasks.stop(mine)
    assert tasks.listed() == [other]
    assert tasks.listed(desiredStatus="STOPPED") == [mine]
    assert tasks.listed(startedBy="me") == []
    assert tasks.listed(startedBy="me", desiredStatus="STOPPED") == [mine]
    assert tasks.listed(family=tasks.family, desiredStatus="STOPPED", launchType="EC2") == [mine]
    assert tasks.listed(launchType="EXTERNAL") == tasks.listed(desiredStatus="PENDING") == []
    message = refused(
        tasks.ecs.list_tasks,
        "InvalidParameterException",
        cluster=tasks.cluster,
        startedBy="me",
        family=tasks.family,
    )
    assert message == "cannot specify startedBy with other arguments"


def test_listing_tasks_pages_through_all_once(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    definition = tasks.define(container(cpu=1, memory=8))
    arns = [t["taskArn"] for _ in range(2) for t in tasks.request(definition, count=10)["tasks"]]
    listed = tasks.listed(PaginationConfig={"PageSize": 7})
    assert len(listed) == 20 and set(listed) == set(arns)


def test_unknown_tasks_are_failures_and_short_ids_work(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    arn = tasks.run(tasks.define())
    short = arn.rsplit("/", 1)[1]
    answer = tasks.ecs.describe_tasks(cluster=tasks.cluster, tasks=[short, "0" * 32])
    assert [one["taskArn"] for one in answer["tasks"]] == [arn]
    (failure,) = answer["failures"]
    assert failure["reason"] == "MISSING" and failure["arn"].endswith("0" * 32)
    refused(tasks.ecs.stop_task, "InvalidParameterException", cluster=tasks.cluster, task="0" * 32)


def test_an_override_for_an_unknown_container_is_refused(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    overrides = {"containerOverrides": [{"name": "ghost", "command": ["x"]}]}
    message = refused(
        tasks.ecs.run_task,
        "InvalidParameterException",
        "ClientException",
        cluster=tasks.cluster,
        taskDefinition=tasks.define(),
        overrides=overrides,
    )
    assert "ghost" in message


def test_a_stopped_definition_keeps_its_tasks(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    definition = tasks.define()
    arn = tasks.run(definition)
    tasks.ecs.deregister_task_definition(taskDefinition=definition)
    tasks.wait(arn, "RUNNING")
    assert tasks.describe(arn)["taskDefinitionArn"] == definition


def test_no_instance_is_ever_overbooked(tasks: Tasks, fleet: Fleet) -> None:
    """Many callers at once; invariant 3 of DESIGN 7.1."""
    engines = [fleet(memory=100, cpu=1000) for _ in range(3)]
    definition = tasks.define(container(memory=30, cpu=1))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: tasks.request(definition, count=2), range(12)))
    placed = [one for answer in answers for one in answer["tasks"]]
    assert len(placed) == 9, "three on each of three instances"
    until(lambda: sum(len(engine.starts) for engine in engines) == 9, "all payloads arrived")
    assert [len(engine.starts) for engine in engines] == [3, 3, 3]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("enableExecuteCommand", True),
        ("launchType", "MANAGED_INSTANCES"),
    ],
)
def test_what_is_not_obeyed_yet_is_refused_by_name(
    tasks: Tasks, fleet: Fleet, member: str, value: Any
) -> None:
    """It never pretends (ECS-SEMANTICS 8)."""
    fleet()
    message = refused(
        tasks.ecs.run_task,
        "UnsupportedFeatureException",
        cluster=tasks.cluster,
        taskDefinition=tasks.define(),
        **{member: value},
    )
    assert member in message
    assert tasks.listed() == []


def test_an_attribute_that_is_missing_is_the_failure_s_reason(tasks: Tasks, server: Server) -> None:
    """`requiresAttributes` decide where a task fits (ECS-SEMANTICS 5)."""
    instance = Instance(server.endpoint, server.key, tasks.cluster)
    registration = instance.registration()
    ordering = "ecs.capability.container-ordering"
    attributes = [one for one in registration["attributes"] if one["name"] != ordering]
    answer = instance.call("RegisterContainerInstance", registration | {"attributes": attributes})
    instance.arn = answer["containerInstance"]["containerInstanceArn"]
    definition = tasks.define(
        container("one", dependsOn=[{"containerName": "two", "condition": "START"}]),
        container("two"),
    )
    described = tasks.ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
    assert {"name": ordering} in described["requiresAttributes"]
    with Acs(instance):
        server.wait_for_instance(tasks.cluster)
        failures = tasks.request(definition)["failures"]
    assert [(one["arn"], one["reason"]) for one in failures] == [(instance.arn, "ATTRIBUTE")]


def test_lists_and_describes_are_bounded(tasks: Tasks, wire: Wire) -> None:
    """100 at a time, as ECS documents."""
    ids = ["0" * 32] * 101
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DescribeTasks", {"tasks": ids}),
        ("DescribeTasks", {"tasks": []}),
        ("DescribeContainerInstances", {"containerInstances": ids}),
        ("ListTasks", {"maxResults": 0}),
        ("ListTasks", {"maxResults": 101}),
        ("ListContainerInstances", {"maxResults": 101}),
    ]
    for operation, body in calls:
        answer = wire.call(operation, {"cluster": tasks.cluster, **body})
        assert answer.status == 400, (operation, body, answer)
        assert answer.error in ("InvalidParameterException", "ClientException"), answer
