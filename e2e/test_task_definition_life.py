"""The life of a task definition: ACTIVE, INACTIVE, DELETE_IN_PROGRESS, gone (ECS-SEMANTICS 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.ecs import Tasks, container, refused
from support.processes import AwsCli
from support.waiting import until
from test_agent.engine import Engine

Fleet = Callable[..., Engine]


def register(ecs: Any, family: str, **more: Any) -> str:
    """Registers a revision; `family:revision`."""
    answer = ecs.register_task_definition(
        family=family, containerDefinitions=[container()], **more
    )
    return f"{family}:{answer['taskDefinition']['revision']}"


def status(ecs: Any, name: str) -> str | None:
    """The status as DescribeTaskDefinition has it; None when it is gone."""
    try:
        return ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]["status"]
    except ClientError as error:
        assert error.response["Error"] == {
            "Code": "ClientException",
            "Message": "Unable to describe task definition.",
        }
        return None


def listed(ecs: Any, family: str, status: str) -> list[str]:
    """ListTaskDefinitions, as `family:revision`."""
    answer = ecs.list_task_definitions(familyPrefix=family, status=status)
    return [arn.rsplit("/", 1)[1] for arn in answer["taskDefinitionArns"]]


def families(ecs: Any, prefix: str, **more: Any) -> list[str]:
    """ListTaskDefinitionFamilies, all pages."""
    pages = ecs.get_paginator("list_task_definition_families").paginate(
        familyPrefix=prefix, PaginationConfig={"PageSize": 2}, **more
    )
    return [name for page in pages for name in page["families"]]


def is_gone(ecs: Any, name: str) -> Callable[[], bool]:
    """A condition to wait for."""
    return lambda: status(ecs, name) is None


def test_the_whole_life(ecs: Any, family: str) -> None:
    first, second = register(ecs, family), register(ecs, family)
    answer = ecs.delete_task_definitions(taskDefinitions=[first])
    assert answer["taskDefinitions"] == [] and answer["failures"] == [
        {
            "arn": first,
            "reason": "The specified task definition is still in ACTIVE status. "
            "Please deregister the target and try again.",
        }
    ]
    gone = ecs.deregister_task_definition(taskDefinition=first)["taskDefinition"]
    assert gone["status"] == "INACTIVE" and status(ecs, first) == "INACTIVE"
    answer = ecs.delete_task_definitions(taskDefinitions=[first])
    (deleted,) = answer["taskDefinitions"]
    assert answer["failures"] == [] and deleted["status"] == "DELETE_IN_PROGRESS"
    assert deleted["registeredAt"] <= deleted["deregisteredAt"] <= deleted["deleteRequestedAt"]
    assert deleted["containerDefinitions"] == gone["containerDefinitions"]
    assert status(ecs, first) == "DELETE_IN_PROGRESS"
    assert listed(ecs, family, "DELETE_IN_PROGRESS") == [first]
    assert listed(ecs, family, "ACTIVE") == [second]
    assert listed(ecs, family, "INACTIVE") == []
    refused(ecs.run_task, "ClientException", taskDefinition=first)
    refused(ecs.deregister_task_definition, "ClientException", taskDefinition=first)
    until(is_gone(ecs, first), "the end of the deletion")
    assert listed(ecs, family, "DELETE_IN_PROGRESS") == []
    assert register(ecs, family) == f"{family}:3", "revisions are never used again"


def test_ten_at_a_time_each_with_its_own_reason(ecs: Any, family: str) -> None:
    names = [register(ecs, family) for _ in range(3)]
    ecs.deregister_task_definition(taskDefinition=names[1])
    request = [names[0], names[1], family, f"{family}:99", "not a name"]
    answer = ecs.delete_task_definitions(taskDefinitions=request)
    assert [one["revision"] for one in answer["taskDefinitions"]] == [2]
    failures = {one["arn"]: one["reason"] for one in answer["failures"]}
    assert set(failures) == {names[0], family, f"{family}:99", "not a name"}
    assert "ACTIVE" in failures[names[0]]
    assert "identifier is invalid" in failures[family]
    assert "does not exist" in failures[f"{family}:99"]
    assert "identifier is invalid" in failures["not a name"]
    for many in ([], [names[0]] * 11):
        refused(ecs.delete_task_definitions, "InvalidParameterException", taskDefinitions=many)


def test_a_deletion_waits_for_the_last_task(
    ecs: Any, cluster: str, family: str, fleet: Fleet
) -> None:
    """Running tasks go on; a stopped one is described with its containers as before."""
    fleet()
    tasks = Tasks(ecs, cluster, family)
    name = register(ecs, family)
    arn = tasks.run(name)
    tasks.wait(arn, "RUNNING")
    ecs.deregister_task_definition(taskDefinition=name)
    ecs.delete_task_definitions(taskDefinitions=[name])
    with pytest.raises(AssertionError):
        until(is_gone(ecs, name), "nothing: the task runs", 13)
    assert status(ecs, name) == "DELETE_IN_PROGRESS"
    assert tasks.describe(arn)["lastStatus"] == "RUNNING"
    refused(ecs.run_task, "ClientException", cluster=cluster, taskDefinition=name)
    tasks.stop(arn)
    until(is_gone(ecs, name), "the end of the deletion")
    task = tasks.describe(arn)
    assert task["lastStatus"] == "STOPPED" and task["taskDefinitionArn"].endswith(name)
    assert [one["name"] for one in task["containers"]] == ["main"]
    assert families(ecs, family) == []


def test_a_deletion_survives_the_server(stage: Any, family: str) -> None:
    server = stage.server()
    ecs = server.client()
    names = [register(ecs, family), register(ecs, family)]
    for name in names:
        ecs.deregister_task_definition(taskDefinition=name)
    ecs.delete_task_definitions(taskDefinitions=names[:1])
    server.kill()
    server.start()
    ecs = server.client()
    assert status(ecs, names[0]) in ("DELETE_IN_PROGRESS", None)
    until(is_gone(ecs, names[0]), "the end of the deletion")
    server.kill()
    server.start()
    ecs = server.client()
    assert status(ecs, names[0]) is None and status(ecs, names[1]) == "INACTIVE"
    assert register(ecs, family) == f"{family}:3"


def test_families_are_listed_while_they_have_a_revision(ecs: Any, family: str) -> None:
    names = {suffix: register(ecs, family + suffix) for suffix in ("", "-a", "-b", "-c")}
    for suffix in ("-a", "-c"):
        ecs.deregister_task_definition(taskDefinition=names[suffix])
    ecs.delete_task_definitions(taskDefinitions=[names["-c"]])
    every = [family + suffix for suffix in ("", "-a", "-b", "-c")]
    assert families(ecs, family) == every, "of every status, unless one is asked for"
    assert families(ecs, family, status="ALL") == every
    assert families(ecs, family, status="ACTIVE") == [family, family + "-b"]
    assert families(ecs, family, status="INACTIVE") == [family + "-a", family + "-c"]
    assert families(ecs, family + "-b") == [family + "-b"]
    until(is_gone(ecs, names["-c"]), "the end of the deletion")
    assert families(ecs, family) == every[:3]


def test_the_aws_cli_deletes_too(aws: AwsCli, ecs: Any, family: str) -> None:
    name = register(ecs, family)
    aws("deregister-task-definition", "--task-definition", name)
    again = aws("deregister-task-definition", "--task-definition", name)["taskDefinition"]
    assert again["status"] == "INACTIVE", "repeating it changes nothing"
    answer = aws("delete-task-definitions", "--task-definitions", name, f"{family}:2")
    assert answer["taskDefinitions"][0]["status"] == "DELETE_IN_PROGRESS"
    assert [one["arn"] for one in answer["failures"]] == [f"{family}:2"]
    until(is_gone(ecs, name), "the end of the deletion")
