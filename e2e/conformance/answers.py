"""What an answer must look like: the output shape, and what ECS promises besides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from conformance.model import Operation, Shape
from support.wire import CONTENT_TYPE, Answer

# Members that ECS always sends, empty or not: clients index into them without asking. By shape.
ALWAYS: dict[str, tuple[str, ...]] = {
    "Cluster": (
        "clusterArn", "clusterName", "status", "registeredContainerInstancesCount",
        "runningTasksCount", "pendingTasksCount", "activeServicesCount", "statistics", "tags",
        "settings", "capacityProviders", "defaultCapacityProviderStrategy",
    ),
    "ContainerInstance": (
        "containerInstanceArn", "version", "versionInfo", "remainingResources",
        "registeredResources", "status", "agentConnected", "runningTasksCount",
        "pendingTasksCount", "attributes", "registeredAt", "attachments", "tags",
    ),
    "TaskDefinition": (
        "taskDefinitionArn", "containerDefinitions", "family", "revision", "volumes", "status",
        "requiresAttributes", "placementConstraints", "compatibilities", "registeredAt",
        "registeredBy",
    ),
    "ContainerDefinition": (
        "name", "image", "cpu", "portMappings", "essential", "environment", "mountPoints",
        "volumesFrom", "systemControls",
    ),
    "Task": (
        "attachments", "attributes", "availabilityZone", "clusterArn", "containers", "cpu",
        "createdAt", "desiredStatus", "enableExecuteCommand", "group", "healthStatus",
        "lastStatus", "launchType", "memory", "overrides", "tags", "taskArn",
        "taskDefinitionArn", "version",
    ),
    "TaskOverride": ("containerOverrides", "inferenceAcceleratorOverrides"),
    "Container": (
        "containerArn", "taskArn", "name", "image", "lastStatus", "networkInterfaces",
        "healthStatus", "cpu",
    ),
    "Failure": ("arn", "reason"),
    "CreateClusterResponse": ("cluster",),
    "DeleteAttributesResponse": ("attributes",),
    "DeleteAccountSettingResponse": ("setting",),
    "DeleteClusterResponse": ("cluster",),
    "DeleteTaskDefinitionsResponse": ("taskDefinitions", "failures"),
    "DeregisterContainerInstanceResponse": ("containerInstance",),
    "DeregisterTaskDefinitionResponse": ("taskDefinition",),
    "DescribeCapacityProvidersResponse": ("capacityProviders", "failures"),
    "DescribeClustersResponse": ("clusters", "failures"),
    "DescribeContainerInstancesResponse": ("containerInstances", "failures"),
    "DescribeServiceDeploymentsResponse": ("serviceDeployments", "failures"),
    "DescribeServiceRevisionsResponse": ("serviceRevisions", "failures"),
    "DescribeServicesResponse": ("services", "failures"),
    "DescribeTaskDefinitionResponse": ("taskDefinition", "tags"),
    "DescribeTaskSetsResponse": ("taskSets", "failures"),
    "DescribeTasksResponse": ("tasks", "failures"),
    "DiscoverPollEndpointResponse": ("endpoint", "telemetryEndpoint"),
    "GetTaskProtectionResponse": ("protectedTasks", "failures"),
    "ListAccountSettingsResponse": ("settings",),
    "ListAttributesResponse": ("attributes",),
    "ListClustersResponse": ("clusterArns",),
    "ListContainerInstancesResponse": ("containerInstanceArns",),
    "ListServiceDeploymentsResponse": ("serviceDeployments",),
    "ListServicesByNamespaceResponse": ("serviceArns",),
    "ListServicesResponse": ("serviceArns",),
    "ListTagsForResourceResponse": ("tags",),
    "ListTaskDefinitionFamiliesResponse": ("families",),
    "ListTaskDefinitionsResponse": ("taskDefinitionArns",),
    "ListTasksResponse": ("taskArns",),
    "PutAccountSettingDefaultResponse": ("setting",),
    "PutAccountSettingResponse": ("setting",),
    "PutAttributesResponse": ("attributes",),
    "PutClusterCapacityProvidersResponse": ("cluster",),
    "RegisterContainerInstanceResponse": ("containerInstance",),
    "RegisterTaskDefinitionResponse": ("taskDefinition",),
    "RunTaskResponse": ("tasks", "failures"),
    "StartTaskResponse": ("tasks", "failures"),
    "StopTaskResponse": ("task",),
    "SubmitAttachmentStateChangesResponse": ("acknowledgment",),
    "SubmitContainerStateChangeResponse": ("acknowledgment",),
    "SubmitTaskStateChangeResponse": ("acknowledgment",),
    "UpdateClusterResponse": ("cluster",),
    "UpdateClusterSettingsResponse": ("cluster",),
    "UpdateContainerAgentResponse": ("containerInstance",),
    "UpdateContainerInstancesStateResponse": ("containerInstances", "failures"),
    "UpdateTaskProtectionResponse": ("protectedTasks", "failures"),
}  # fmt: skip

# Documents that show what was asked for: where they stand in the answer, and what of the request
# stands elsewhere.
DOCUMENTS: dict[str, tuple[str, set[str]]] = {
    "RegisterTaskDefinition": ("taskDefinition", {"tags"}),
}

JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "structure": dict,
    "map": dict,
    "list": list,
    "string": str,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": bool,
    # ECS sends seconds with a fraction, even when it is nought.
    "timestamp": float,
}


def problems_of_success(operation: Operation, answer: Answer) -> list[str]:
    """What is wrong with an answer of status 200."""
    if answer.status != 200:
        return [f"{answer.status} {answer.text[:300]}"]
    value, problems = _read(answer)
    return problems or list(_problems(operation.output, value, ""))


def forgotten(operation: Operation, request: Any, answer: Answer) -> list[str]:
    """What was accepted and cannot be seen: accepted and ignored, as it seems."""
    if operation.name not in DOCUMENTS or not isinstance(request, dict):
        return []
    document, elsewhere = DOCUMENTS[operation.name]
    asked = {name: value for name, value in request.items() if name not in elsewhere}
    return list(_forgotten(operation.input, asked, answer.body.get(document), ""))


def _forgotten(shape: Shape, asked: Any, shown: Any, where: str) -> Iterator[str]:
    if isinstance(asked, dict) and isinstance(shown, dict):
        for name, value in asked.items():
            member = shape.members.get(name)
            inner = member.shape if member else shape.value
            # Null and what no shape knows are ignored.
            if inner and value is not None:
                here = f"{where}.{name}".lstrip(".")
                yield from _forgotten(inner, value, shown.get(name), here)
    elif isinstance(asked, list) and isinstance(shown, list) and len(asked) == len(shown):
        for index, (one, other) in enumerate(zip(asked, shown, strict=True)):
            yield from _forgotten(shape.item, one, other, f"{where}[{index}]")
    elif asked != shown and (asked or shown):
        yield f"{where} was accepted as {str(asked)[:60]!r} and is described as {str(shown)[:60]!r}"


def problems_of_error(operation: Operation, answer: Answer) -> list[str]:
    """What is wrong with the form of an error that is the caller's fault."""
    value, problems = _read(answer)
    if problems:
        return problems
    if answer.status != 400:
        problems.append(f"status {answer.status}: {answer.text[:300]}")
    if not isinstance(value.get("__type"), str) or not value["__type"]:
        problems.append("no __type")
    if not isinstance(value.get("message"), str) or not value["message"].strip():
        problems.append("no message")
    if answer.headers.get("x-amzn-errortype", value.get("__type")) != value.get("__type"):
        problems.append("x-amzn-ErrorType and __type differ")
    shape = operation.errors.get(value.get("__type", ""))
    known = {"__type", "message"} | set(shape.members if shape else ())
    problems += [f"unknown member {name}" for name in value if name not in known]
    return problems


def _read(answer: Answer) -> tuple[dict[str, Any], list[str]]:
    """The body, and what is wrong with its wrapping."""
    problems = []
    if answer.headers.get("content-type") != CONTENT_TYPE:
        problems.append(f"content type {answer.headers.get('content-type')!r}")
    if not answer.headers.get("x-amzn-requestid"):
        problems.append("no x-amzn-RequestId")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            problems.append(f"a member stands twice in {pairs}")
        return dict(pairs)

    try:
        value = json.loads(answer.text, object_pairs_hook=once)
    except ValueError:
        return {}, [*problems, f"no JSON: {answer.text[:300]!r}"]
    if not isinstance(value, dict):
        return {}, [*problems, f"no object: {answer.text[:300]!r}"]
    return value, problems


def _problems(shape: Shape, value: Any, where: str) -> Iterator[str]:
    """What does not fit the shape; `where` is the place in the answer."""
    if shape.document:
        return
    expected = JSON_TYPES[shape.kind]
    # In Python a boolean is an integer, too.
    if not isinstance(value, expected) or (isinstance(value, bool) and shape.kind != "boolean"):
        yield f"{where or 'the answer'}: {json.dumps(value)[:80]} is no {shape.kind}"
    elif shape.enum and value not in shape.enum:
        yield f"{where}: {value!r} is no {shape.name}"
    elif shape.kind == "structure":
        for name in value:
            here = f"{where}.{name}".lstrip(".")
            if name in shape.members:
                yield from _problems(shape.members[name].shape, value[name], here)
            else:
                yield f"{here}: {shape.name} has no such member"
        needed = [name for name, member in shape.members.items() if member.required]
        for name in (*needed, *ALWAYS.get(shape.name, ())):
            if name not in value:
                yield f"{where}.{name} is missing".lstrip(".")
        if shape.union and len(value) != 1:
            yield f"{where}: {shape.name} must have one member"
    elif shape.kind == "list" and shape.item:
        for index, item in enumerate(value):
            yield from _problems(shape.item, item, f"{where}[{index}]")
    elif shape.kind == "map" and shape.value:
        for key, item in value.items():
            yield from _problems(shape.value, item, f"{where}[{key!r}]")
