"""Strategies and constraints of placement, without Docker (ECS-SEMANTICS 6).

The instances are played by the test agent, so that their size is the test's choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from support import people
from support.ecs import Tasks, container, refused
from support.processes import Server
from test_agent.engine import Engine

Fleet = Callable[..., Engine]

ZONE = "ecs.availability-zone"
MEMBER_OF = "MemberOf placement constraint unsatisfied."
DISTINCT = "DistinctInstance placement constraint unsatisfied."


@pytest.fixture
def tasks(ecs: Any, cluster: str, family: str) -> Tasks:
    """Tasks in the test's own cluster."""
    return Tasks(ecs, cluster, family)


def label(tasks: Tasks, engine: Engine, **attributes: str) -> str:
    """Puts attributes on an instance; its ARN."""
    arn = engine.instance.arn
    put = [{"name": name, "value": value, "targetId": arn} for name, value in attributes.items()]
    tasks.ecs.put_attributes(cluster=tasks.cluster, attributes=put)
    return arn


def homes(answer: dict[str, Any]) -> Counter[str]:
    """How many tasks of an answer are on each instance."""
    return Counter(task["containerInstanceArn"] for task in answer["tasks"])


def member_of(*expressions: str) -> list[dict[str, str]]:
    """Constraints of type memberOf."""
    return [{"type": "memberOf", "expression": expression} for expression in expressions]


def spread(*fields: str) -> list[dict[str, str]]:
    """A strategy of spreads."""
    return [{"type": "spread", "field": field} for field in fields]


def test_spread_over_racks_and_then_instances(tasks: Tasks, fleet: Fleet) -> None:
    racks = {label(tasks, fleet(), rack="ab"[number % 2]): "ab"[number % 2] for number in range(4)}
    definition = tasks.define(container(cpu=1, memory=8))
    answer = tasks.request(
        definition, count=10, placementStrategy=spread("attribute:rack", "instanceId")
    )
    placed = homes(answer)
    by_rack = Counter({rack: 0 for rack in "ab"})
    for arn, count in placed.items():
        by_rack[racks[arn]] += count
    assert by_rack == {"a": 5, "b": 5} and sorted(placed.values()) == [2, 2, 3, 3]
    # Another group is spread by its own tasks.
    again = tasks.request(
        definition, count=4, group="other", placementStrategy=spread("host")
    )
    assert sorted(homes(again).values()) == [1, 1, 1, 1]


@pytest.mark.parametrize("field", ["cpu", "memory"])
def test_binpack_uses_as_few_instances_as_it_can(tasks: Tasks, fleet: Fleet, field: str) -> None:
    small, large = fleet(cpu=100, memory=100), fleet(cpu=1000, memory=1000)
    answer = tasks.request(
        tasks.define(container(cpu=40, memory=40)),
        count=5,
        placementStrategy=[{"type": "binpack", "field": field}],
    )
    assert homes(answer) == {small.instance.arn: 2, large.instance.arn: 3}


def test_random_is_a_strategy_too(tasks: Tasks, fleet: Fleet) -> None:
    arns = {fleet().instance.arn for _ in range(2)}
    answer = tasks.request(
        tasks.define(container(cpu=1, memory=8)),
        count=10,
        placementStrategy=[{"type": "random"}],
    )
    assert set(homes(answer)) <= arns and len(answer["tasks"]) == 10


def test_distinct_instances_are_one_for_each_task_of_the_group(tasks: Tasks, fleet: Fleet) -> None:
    arns = [fleet().instance.arn for _ in range(3)]
    definition = tasks.define()
    apart = [{"type": "distinctInstance"}]
    answer = tasks.request(definition, count=5, placementConstraints=apart)
    assert homes(answer) == dict.fromkeys(arns, 1)
    assert {(one["arn"], one["reason"]) for one in answer["failures"]} == {
        (arn, DISTINCT) for arn in arns
    }
    assert len(tasks.request(definition, group="g", placementConstraints=apart)["tasks"]) == 1
    gone = answer["tasks"][0]
    tasks.stop(gone["taskArn"])
    again = tasks.request(definition, placementConstraints=apart)["tasks"]
    assert [one["containerInstanceArn"] for one in again] == [gone["containerInstanceArn"]]


def test_members_are_those_that_satisfy_all_expressions(tasks: Tasks, fleet: Fleet) -> None:
    one = label(tasks, fleet(), stack="prod", size="2")
    two = label(tasks, fleet(), stack="prod", size="9")
    other = label(tasks, fleet(), stack="test")
    definition = tasks.define(
        container(cpu=1, memory=8), placementConstraints=member_of("attribute:stack == prod")
    )
    answer = tasks.request(definition, count=10)
    assert set(homes(answer)) <= {one, two} and len(answer["tasks"]) == 10
    wanted = member_of("attribute:size > 2", "attribute:ecs.os-type =~ lin.x")
    assert homes(tasks.request(definition, count=4, placementConstraints=wanted)) == {two: 4}
    answer = tasks.request(definition, placementConstraints=member_of("attribute:stack == test"))
    assert answer["tasks"] == [] and {f["reason"] for f in answer["failures"]} == {MEMBER_OF}
    started = tasks.ecs.start_task(
        cluster=tasks.cluster, taskDefinition=definition, containerInstances=[one, other]
    )
    assert homes(started) == {one: 1}
    assert [(f["arn"], f["reason"]) for f in started["failures"]] == [(other, MEMBER_OF)]
    beside = tasks.request(
        definition, count=5, group="x", placementConstraints=member_of("task:group == db")
    )
    assert beside["tasks"] == []


def test_what_cannot_be_obeyed_is_refused(tasks: Tasks, fleet: Fleet) -> None:
    fleet()
    definition = tasks.define()
    for members, part in (
        ({"placementConstraints": member_of("attribute:rack ==")}, "at character"),
        ({"placementConstraints": member_of("attribute:rack =~ '(?=a)'")}, "look-around"),
        ({"placementStrategy": [{"type": "binpack", "field": "disk"}]}, "binpack"),
        ({"placementStrategy": spread("rack")}, "spread"),
        ({"launchType": "FARGATE"}, "does not support launch_type FARGATE"),
        ({"launchType": "FARGATE", "placementStrategy": spread("host")}, "Placement strategies"),
    ):
        message = refused(
            tasks.ecs.run_task,
            "InvalidParameterException",
            cluster=tasks.cluster,
            taskDefinition=definition,
            **members,
        )
        assert part in message
    assert tasks.listed() == []


def test_why_names_constraints(server: Server, tasks: Tasks, fleet: Fleet) -> None:
    good = label(tasks, fleet(), rack="a")
    label(tasks, fleet(), rack="b")
    definition = tasks.define(placementConstraints=member_of("attribute:rack == a"))
    ask = ["why", definition, "--cluster", tasks.cluster]
    answer = people.document(server.data, *ask)
    verdicts = {
        one["containerInstanceArn"]: [refusal["reason"] for refusal in one["refusals"]]
        for one in answer["instances"]
    }
    assert verdicts.pop(good) == [] and list(verdicts.values()) == [[MEMBER_OF]]
    assert answer["needs"]["memberOf"] == ["attribute:rack == a"]
    tasks.run(definition)
    more = [*ask, "--distinct-instance", "--member-of", "runningTasksCount < 100"]
    answer = people.document(server.data, *more, code=3)
    reasons = [refusal["reason"] for one in answer["instances"] for refusal in one["refusals"]]
    assert sorted(reasons) == [DISTINCT, MEMBER_OF]
    assert any("another group" in advice for advice in answer["advice"])
    people.document(server.data, *more, "--group", "elsewhere")
