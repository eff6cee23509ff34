"""The cluster query language, as the filter of ListContainerInstances (ECS-SEMANTICS 6)."""

from __future__ import annotations

from typing import Any

import pytest

from support.ecs import Tasks, container, refused
from support.processes import AwsCli, Server
from test_agent.engine import Engine
from test_agent.instance import VERSION, Instance


def meant(ecs: Any, cluster: str, expression: str, **more: Any) -> list[str]:
    """The instances that an expression means, from pages of two."""
    pages = ecs.get_paginator("list_container_instances").paginate(
        cluster=cluster, filter=expression, PaginationConfig={"PageSize": 2}, **more
    )
    return [arn for page in pages for arn in page["containerInstanceArns"]]


@pytest.fixture
def racks(ecs: Any, server: Server, cluster: str) -> list[str]:
    """Five instances, the agents of which never connect, in racks 1 to 5; rack 5 is empty of a stack."""
    arns = []
    for rack in range(1, 6):
        instance = Instance(server.endpoint, server.key, cluster)
        instance.custom = [{"name": "rack", "value": str(rack)}]
        arns.append(instance.register()["containerInstanceArn"])
    stacks = [
        {"name": "stack", "value": f"stack {'ab'[n % 2]}", "targetId": arn}
        for n, arn in enumerate(arns[:4])
    ]
    ecs.put_attributes(cluster=cluster, attributes=stacks)
    return arns


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("attribute:ecs.os-type == linux", [1, 2, 3, 4, 5]),
        ("attribute:rack in [1, 3, 9]", [1, 3]),
        ("attribute:rack not_in [1, 3, 9]", [2, 4, 5]),
        ("attribute:rack >= 3 and attribute:rack < 5", [3, 4]),
        ("attribute:stack exists", [1, 2, 3, 4]),
        ("attribute:stack !exists", [5]),
        ("attribute:stack == 'stack a'", [1, 3]),
        ("attribute:stack != \"stack a\"", [2, 4, 5]),
        ("attribute:stack =~ '.* (a|c)' || attribute:rack == 5", [1, 3, 5]),
        ("not(attribute:rack == 2 or attribute:stack exists)", [5]),
        ("!attribute:rack matches [1-4]", [5]),
        ("attribute:com.amazonaws.ecs.capability.docker-remote-api.1.24 exists", [1, 2, 3, 4, 5]),
        ("agentConnected == false", [1, 2, 3, 4, 5]),
        ("agentConnected == true", []),
        ("registeredAt > 2018-06-18T22:28:28Z", [1, 2, 3, 4, 5]),
        ("registeredAt < 2018-06-18", []),
        ("runningTasksCount == 0", [1, 2, 3, 4, 5]),
        ("task:group == service:production", []),
        ("ec2InstanceId in ['i-abcd1234', 'i-wxyx7890']", []),
    ],
)
def test_expressions_mean_what_is_documented(
    ecs: Any, cluster: str, racks: list[str], expression: str, expected: list[int]
) -> None:
    assert [racks.index(arn) + 1 for arn in meant(ecs, cluster, expression)] == expected


def test_a_filter_and_a_status_combine(ecs: Any, cluster: str, racks: list[str]) -> None:
    ecs.update_container_instances_state(
        cluster=cluster, containerInstances=racks[:2], status="DRAINING"
    )
    assert meant(ecs, cluster, "attribute:rack < 4", status="DRAINING") == racks[:2]
    assert meant(ecs, cluster, "attribute:rack < 4", status="ACTIVE") == racks[2:3]


def test_pages_neither_repeat_nor_lose_while_attributes_change(
    ecs: Any, cluster: str, racks: list[str]
) -> None:
    request = {"cluster": cluster, "filter": "attribute:rack <= 4", "maxResults": 2}
    first = ecs.list_container_instances(**request)
    change = [
        {"name": "rack", "value": "9", "targetId": racks[0]},
        {"name": "rack", "value": "0", "targetId": racks[4]},
    ]
    ecs.put_attributes(cluster=cluster, attributes=change)
    rest = ecs.list_container_instances(**request, nextToken=first["nextToken"])
    last = ecs.list_container_instances(**request, nextToken=rest["nextToken"])
    assert first["containerInstanceArns"] == racks[:2]
    assert rest["containerInstanceArns"] + last["containerInstanceArns"] == racks[2:]
    message = refused(
        ecs.list_container_instances,
        "InvalidParameterException",
        cluster=cluster,
        filter="attribute:rack <= 5",
        nextToken=first["nextToken"],
    )
    assert "nextToken" in message


def test_running_instances_are_found_by_what_runs_there(
    ecs: Any, cluster: str, family: str, fleet: Any
) -> None:
    engines: list[Engine] = [fleet() for _ in range(2)]
    arns = [engine.instance.arn for engine in engines]
    tasks = Tasks(ecs, cluster, family)
    task = tasks.run(tasks.define(container()), group="night")
    tasks.wait(task, "RUNNING")
    home = tasks.describe(task)["containerInstanceArn"]
    idle = next(arn for arn in arns if arn != home)
    assert meant(ecs, cluster, "task:group == night") == [home]
    assert meant(ecs, cluster, "task:group != night") == [idle]
    assert meant(ecs, cluster, "runningTasksCount > 0") == [home]
    assert meant(ecs, cluster, f"agentVersion == {VERSION} and agentConnected == true") == arns
    assert meant(ecs, cluster, "agentVersion < 1.57.0") == []
    tasks.stop(task)
    assert meant(ecs, cluster, "task:group exists") == []


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("attribute:rack ==", "expected an argument, found the end (at character 18)"),
        ("rack == 1", "'rack' is no subject"),
        ("attribute:rack in 1", "(at character 19)"),
        ("agentVersion =~ 1.*", "agentVersion cannot be compared with '=~' (at character 14)"),
        ("registeredAt < yesterday", "'yesterday' must be a date"),
        ("attribute:rack =~ '(?=1).'", "look-around"),
        ("attribute:rack =~ '(1)\\1'", "back-references"),
        ("attribute:rack == " + "1" * 2000, "longer than 2000 characters"),
        ("(" * 100 + "attribute:rack exists" + ")" * 100, "nested more than 32 deep"),
    ],
)
def test_malformed_expressions_are_refused(
    ecs: Any, cluster: str, expression: str, words: str
) -> None:
    message = refused(
        ecs.list_container_instances, "InvalidParameterException", cluster=cluster, filter=expression
    )
    assert words in message


def test_the_command_line_filters(aws: AwsCli, cluster: str, racks: list[str]) -> None:
    answer = aws(
        "list-container-instances",
        *("--cluster", cluster),
        *("--filter", "attribute:stack == 'stack b' and not(attribute:rack == 2)"),
        *("--query", "containerInstanceArns"),
    )
    assert answer == [racks[3]]
