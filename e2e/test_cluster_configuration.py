"""What clusters keep: settings, configuration, capacity providers (ECS-SEMANTICS 8)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Stage
from support.ecs import Tasks, refused
from support.processes import AwsCli
from test_agent.engine import Engine

EVERYTHING: dict[str, Any] = {
    "tags": [{"key": "team", "value": "blue"}],
    "settings": [{"name": "containerInsights", "value": "enhanced"}],
    "configuration": {
        "executeCommandConfiguration": {
            "kmsKeyId": "alias/exec",
            "logging": "OVERRIDE",
            "logConfiguration": {
                "cloudWatchLogGroupName": "/exec",
                "cloudWatchEncryptionEnabled": True,
                "s3BucketName": "exec-logs",
                "s3KeyPrefix": "prod",
            },
        },
        "managedStorageConfiguration": {"kmsKeyId": "volumes"},
    },
    "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
    "defaultCapacityProviderStrategy": [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 1},
        {"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 4},
    ],
}
INCLUDES = ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS"]


def new_name() -> str:
    """A cluster name nobody has."""
    return f"c-{uuid.uuid4().hex[:10]}"


def insights(value: str) -> list[dict[str, str]]:
    """The only cluster setting."""
    return [{"name": "containerInsights", "value": value}]


def described(ecs: Any, name: str, *include: str) -> dict[str, Any]:
    """One cluster."""
    answer = ecs.describe_clusters(clusters=[name], include=list(include))
    assert not answer["failures"], answer["failures"]
    return answer["clusters"][0]


def test_everything_given_is_described_and_survives_the_server(stage: Stage) -> None:
    server = stage.server()
    ecs = server.client()
    made = ecs.create_cluster(clusterName="prod", **EVERYTHING)["cluster"]
    assert {member: made[member] for member in EVERYTHING} == EVERYTHING
    assert made["status"] == "ACTIVE" and made["attachmentsStatus"] == "UPDATE_COMPLETE"
    before = described(ecs, "prod", *INCLUDES)
    assert {member: before[member] for member in EVERYTHING} == EVERYTHING
    server.kill()
    server.start()
    assert described(server.client(), "prod", *INCLUDES) == before


def test_members_are_shown_where_they_are_asked_for(ecs: Any) -> None:
    name = new_name()
    ecs.create_cluster(clusterName=name, **EVERYTHING)
    plain = described(ecs, name)
    assert plain["settings"] == plain["tags"] == plain["statistics"] == []
    assert not {"configuration", "attachments", "attachmentsStatus"} & plain.keys()
    assert plain["capacityProviders"] == EVERYTHING["capacityProviders"]
    assert plain["defaultCapacityProviderStrategy"] == EVERYTHING["defaultCapacityProviderStrategy"]
    for include, members in (
        ("SETTINGS", {"settings"}),
        ("CONFIGURATIONS", {"configuration"}),
        ("TAGS", {"tags"}),
        ("STATISTICS", {"statistics"}),
        ("ATTACHMENTS", {"attachments", "attachmentsStatus"}),
    ):
        one = described(ecs, name, include)
        changed = {member for member in one if one[member] != plain.get(member)}
        assert changed == members, include
    message = refused(
        ecs.describe_clusters, "InvalidParameterException", clusters=[name], include=["EVERYTHING"]
    )
    assert "SETTINGS" in message


def test_updates_change_what_they_name(ecs: Any) -> None:
    name = new_name()
    ecs.create_cluster(clusterName=name, **EVERYTHING)
    updated = ecs.update_cluster_settings(cluster=name, settings=insights("disabled"))["cluster"]
    assert updated["settings"] == insights("disabled") and updated["tags"] == []
    none = {"executeCommandConfiguration": {"logging": "NONE"}}
    updated = ecs.update_cluster(cluster=name, configuration=none)["cluster"]
    assert updated["configuration"] == none and updated["settings"] == insights("disabled")
    updated = ecs.put_cluster_capacity_providers(
        cluster=name, capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[]
    )["cluster"]
    assert updated["capacityProviders"] == ["FARGATE"]
    assert updated["defaultCapacityProviderStrategy"] == []
    seen = described(ecs, name, *INCLUDES)
    assert seen["tags"] == EVERYTHING["tags"] and seen["configuration"] == none
    by_arn = ecs.update_cluster(cluster=seen["clusterArn"], settings=insights("enabled"))
    assert by_arn["cluster"]["settings"] == insights("enabled")


def test_creating_again_with_other_arguments_is_refused(ecs: Any) -> None:
    name = new_name()
    made = ecs.create_cluster(clusterName=name, **EVERYTHING)["cluster"]
    assert ecs.create_cluster(clusterName=name, **EVERYTHING)["cluster"] == made
    assert ecs.create_cluster(clusterName=name)["cluster"] == made
    message = refused(
        ecs.create_cluster,
        "InvalidParameterException",
        clusterName=name,
        settings=insights("disabled"),
    )
    assert message == (
        "Arguments on this idempotent request are inconsistent"
        " with arguments used in previous request(s)."
    )


def test_a_deleted_name_starts_anew(ecs: Any) -> None:
    name = new_name()
    ecs.create_cluster(clusterName=name, **EVERYTHING)
    deleted = ecs.delete_cluster(cluster=name)["cluster"]
    assert deleted["status"] == "INACTIVE"
    assert ecs.delete_cluster(cluster=name)["cluster"]["status"] == "INACTIVE", "once more"
    refused(
        ecs.update_cluster, "ClusterNotFoundException", cluster=name, settings=insights("enabled")
    )
    again = ecs.create_cluster(clusterName=name)["cluster"]
    assert again["status"] == "ACTIVE" and again["capacityProviders"] == []
    assert again["settings"] == insights("disabled") and "configuration" not in again


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"settings": insights("ENABLED")}, "InvalidParameterException", "Invalid setting 'value'"),
        ({"capacityProviders": ["mine"]}, "InvalidParameterException", "was not found"),
        (
            {"defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE"}]},
            "InvalidParameterException",
            "not associated with the cluster",
        ),
        (
            {"defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1001}]},
            "InvalidParameterException",
            "weight",
        ),
        (
            {"configuration": {"executeCommandConfiguration": {"logging": "OVERRIDE"}}},
            "InvalidParameterException",
            "CloudWatch log group name or S3 bucket name must be specified",
        ),
        (
            {"serviceConnectDefaults": {"namespace": "internal"}},
            "UnsupportedFeatureException",
            "serviceConnectDefaults",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    ecs: Any, arguments: dict[str, Any], code: str, words: str
) -> None:
    name = new_name()
    assert words in refused(ecs.create_cluster, code, clusterName=name, **arguments)
    assert ecs.describe_clusters(clusters=[name])["failures"], "nothing was made"


def test_a_default_strategy_is_never_passed_over(
    ecs: Any, cluster: str, family: str, fleet: Callable[..., Engine]
) -> None:
    """Who names neither launch type nor strategy asks for the default, which this definition does not support."""
    fleet()
    tasks = Tasks(ecs, cluster, family)
    definition = tasks.define()
    ecs.put_cluster_capacity_providers(
        cluster=cluster,
        capacityProviders=["FARGATE"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1}],
    )
    message = refused(
        ecs.run_task, "InvalidParameterException", cluster=cluster, taskDefinition=definition
    )
    assert message == "Task definition does not support launch_type FARGATE."
    tasks.run(definition, launchType="EC2")


def test_the_command_line_sees_the_same(aws: AwsCli) -> None:
    name = new_name()
    made = aws(
        *("create-cluster", "--cluster-name", name, "--tags", "key=team,value=blue"),
        *("--settings", "name=containerInsights,value=enabled"),
        *("--configuration", "executeCommandConfiguration={logging=NONE}"),
        *("--capacity-providers", "FARGATE", "FARGATE_SPOT"),
        *("--default-capacity-provider-strategy", "capacityProvider=FARGATE,weight=1,base=1"),
    )["cluster"]
    assert made["configuration"] == {"executeCommandConfiguration": {"logging": "NONE"}}
    aws(
        *("update-cluster-settings", "--cluster", name),
        *("--settings", "name=containerInsights,value=disabled"),
    )
    aws(
        *("put-cluster-capacity-providers", "--cluster", name),
        *("--capacity-providers", "[]", "--default-capacity-provider-strategy", "[]"),
    )
    seen = aws("describe-clusters", "--clusters", name, "--include", *INCLUDES)["clusters"][0]
    assert seen["settings"] == insights("disabled") and seen["capacityProviders"] == []
    assert seen["tags"] == [{"key": "team", "value": "blue"}]
    assert seen["configuration"] == made["configuration"]
