"""Looks at everything that the cases left behind: what was accepted once must be described well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.answers import problems_of_success
from conformance.model import ecs
from conformance.world import World


def problems(world: World) -> list[str]:
    """What is wrong with the descriptions of all clusters, instances, definitions and tasks."""
    found: list[str] = []

    def ask(operation: str, **request: Any) -> dict[str, Any]:
        answer = world.caller.call(operation, request)
        wrong = problems_of_success(ecs().operations[operation], answer)
        found.extend(f"{operation} {str(request)[:200]}: {one}" for one in wrong)
        body = answer.body if answer.status == 200 else {}
        if body.get("failures"):
            found.append(f"{operation}: listed and not found: {body['failures'][:3]}")
        return body

    def listed(operation: str, member: str, **request: Any) -> Iterator[list[str]]:
        token: dict[str, str] = {}
        while True:
            page = ask(operation, **request, **token)
            if page.get(member):
                yield page[member]
            if not page.get("nextToken"):
                return
            token = {"nextToken": page["nextToken"]}

    fields = ecs().shape("ClusterField").enum
    clusters: list[str] = []
    for page in listed("ListClusters", "clusterArns"):
        clusters += page
        ask("DescribeClusters", clusters=page, include=fields)
    for status in ecs().shape("TaskDefinitionStatus").enum:
        for page in listed("ListTaskDefinitions", "taskDefinitionArns", status=status):
            for definition in page:
                ask("DescribeTaskDefinition", taskDefinition=definition, include=["TAGS"])
    for cluster in clusters:
        for page in listed("ListContainerInstances", "containerInstanceArns", cluster=cluster):
            here = {"cluster": cluster, "containerInstances": page}
            fields = ecs().shape("ContainerInstanceField").enum
            ask("DescribeContainerInstances", **here, include=fields)
        for status in ("RUNNING", "STOPPED"):
            for page in listed("ListTasks", "taskArns", cluster=cluster, desiredStatus=status):
                ask("DescribeTasks", cluster=cluster, tasks=page, include=["TAGS"])
    return found
