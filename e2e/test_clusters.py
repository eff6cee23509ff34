"""Clusters: create, describe, list, delete (ECS-SEMANTICS 2 and 5)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from support.ecs import Tasks, refused
from support.processes import Server
from test_agent.engine import Engine


def arn_of(server: Server, name: str) -> str:
    """A cluster's ARN, in full."""
    return f"arn:aws:ecs:us-east-1:{server.account}:cluster/{name}"


def test_creating_a_cluster_twice_is_creating_it_once(ecs: Any, server: Server) -> None:
    name = f"c-{uuid.uuid4().hex[:8]}"
    first = ecs.create_cluster(clusterName=name)["cluster"]
    second = ecs.create_cluster(clusterName=name)["cluster"]
    assert first == second
    assert first["clusterArn"] == arn_of(server, name)
    assert first["status"] == "ACTIVE"
    counts = ("registeredContainerInstancesCount", "runningTasksCount", "pendingTasksCount")
    assert [first[count] for count in (*counts, "activeServicesCount")] == [0, 0, 0, 0]


def test_a_cluster_without_a_name_is_the_default_one(ecs: Any, server: Server) -> None:
    assert ecs.create_cluster()["cluster"]["clusterArn"] == arn_of(server, "default")
    described = ecs.describe_clusters()["clusters"]
    assert [one["clusterName"] for one in described] == ["default"]


def test_describe_takes_names_and_arns_and_reports_what_is_missing(
    ecs: Any, server: Server, cluster: str
) -> None:
    answer = ecs.describe_clusters(clusters=[cluster, arn_of(server, "nowhere"), "nothing"])
    assert [one["clusterArn"] for one in answer["clusters"]] == [arn_of(server, cluster)]
    failures = {(one["arn"], one["reason"]) for one in answer["failures"]}
    assert failures == {
        (arn_of(server, "nowhere"), "MISSING"),
        (arn_of(server, "nothing"), "MISSING"),
    }
    by_arn = ecs.describe_clusters(clusters=[arn_of(server, cluster)])
    assert by_arn["clusters"] == answer["clusters"] and by_arn["failures"] == []


def test_bad_cluster_names_are_refused(ecs: Any) -> None:
    for name in ("with space", "a" * 256, "sla/sh", "ümlaut"):
        refused(
            ecs.create_cluster, "InvalidParameterException", "ClientException", clusterName=name
        )


def test_listing_pages_through_everything_once(ecs: Any) -> None:
    names = {f"page-{uuid.uuid4().hex[:8]}" for _ in range(7)}
    for name in names:
        ecs.create_cluster(clusterName=name)
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = ecs.list_clusters(maxResults=3, **token)
        assert len(page["clusterArns"]) <= 3
        seen += page["clusterArns"]
        if not page.get("nextToken"):
            break
        token = {"nextToken": page["nextToken"]}
    assert len(seen) == len(set(seen))
    assert names <= {arn.rsplit("/", 1)[1] for arn in seen}


def test_a_listing_survives_changes_in_between(ecs: Any) -> None:
    """What existed throughout is neither repeated nor lost."""
    stay = {f"stay-{uuid.uuid4().hex[:8]}" for _ in range(6)}
    go = [f"stay-{uuid.uuid4().hex[:8]}" for _ in range(6)]
    for name in (*stay, *go):
        ecs.create_cluster(clusterName=name)
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = ecs.list_clusters(maxResults=2, **token)
        seen += page["clusterArns"]
        if go:
            ecs.delete_cluster(cluster=go.pop())
        ecs.create_cluster(clusterName=f"new-{uuid.uuid4().hex[:8]}")
        if not page.get("nextToken") or len(seen) > 200:
            break
        token = {"nextToken": page["nextToken"]}
    assert len(seen) == len(set(seen))
    assert stay <= {arn.rsplit("/", 1)[1] for arn in seen}


def test_a_token_of_something_else_is_refused(ecs: Any) -> None:
    ecs.create_cluster(clusterName="token-a")
    ecs.create_cluster(clusterName="token-b")
    token = ecs.list_clusters(maxResults=1)["nextToken"]
    refused(ecs.list_clusters, "InvalidParameterException", nextToken="nonsense")
    refused(ecs.list_tasks, "InvalidParameterException", nextToken=token)
    refused(ecs.list_clusters, "InvalidParameterException", nextToken=token[:-2] + "zz")


def test_a_deleted_cluster_is_inactive_and_can_be_created_again(ecs: Any, cluster: str) -> None:
    assert ecs.delete_cluster(cluster=cluster)["cluster"]["status"] == "INACTIVE"
    described = ecs.describe_clusters(clusters=[cluster])
    assert [one["status"] for one in described["clusters"]] == ["INACTIVE"]
    pages = ecs.get_paginator("list_clusters").paginate()
    names = [arn.rsplit("/", 1)[1] for page in pages for arn in page["clusterArns"]]
    assert cluster not in names
    assert ecs.create_cluster(clusterName=cluster)["cluster"]["status"] == "ACTIVE"


def test_deleting_or_using_an_unknown_cluster_is_refused(ecs: Any) -> None:
    message = refused(ecs.delete_cluster, "ClusterNotFoundException", cluster="nothing")
    assert message == "Cluster not found."
    for call in (ecs.list_tasks, ecs.list_container_instances):
        refused(call, "ClusterNotFoundException", cluster="nothing")
    refused(ecs.describe_tasks, "ClusterNotFoundException", cluster="nothing", tasks=["a" * 32])
    refused(ecs.run_task, "ClusterNotFoundException", cluster="nothing", taskDefinition="x")


def test_a_cluster_with_an_instance_is_not_deleted(
    ecs: Any, cluster: str, fleet: Callable[..., Engine]
) -> None:
    fleet()
    refused(ecs.delete_cluster, "ClusterContainsContainerInstancesException", cluster=cluster)
    described = ecs.describe_clusters(clusters=[cluster])["clusters"][0]
    assert described["status"] == "ACTIVE"
    assert described["registeredContainerInstancesCount"] == 1


def test_a_cluster_with_tasks_is_not_deleted(
    ecs: Any, cluster: str, family: str, fleet: Callable[..., Engine]
) -> None:
    fleet()
    tasks = Tasks(ecs, cluster, family)
    tasks.start()
    codes = ("ClusterContainsTasksException", "ClusterContainsContainerInstancesException")
    refused(ecs.delete_cluster, *codes, cluster=cluster)
    described = ecs.describe_clusters(clusters=[cluster])["clusters"][0]
    assert described["runningTasksCount"] == 1 and described["pendingTasksCount"] == 0


def test_an_arn_of_another_cluster_is_refused(
    ecs: Any, cluster: str, family: str, fleet: Callable[..., Engine]
) -> None:
    """Never somebody else's object (ECS-SEMANTICS 2)."""
    fleet()
    arn = Tasks(ecs, cluster, family).start()
    other = f"c-{uuid.uuid4().hex[:8]}"
    ecs.create_cluster(clusterName=other)
    for call, argument in ((ecs.describe_tasks, {"tasks": [arn]}), (ecs.stop_task, {"task": arn})):
        message = refused(call, "InvalidParameterException", cluster=other, **argument)
        assert "Identifier is for cluster" in message and cluster in message and other in message
    short = arn.rsplit("/", 1)[1]
    missing = ecs.describe_tasks(cluster=other, tasks=[short])
    assert [one["reason"] for one in missing["failures"]] == ["MISSING"]
