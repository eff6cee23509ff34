"""Task definitions: revisions, defaults, listing, deregistering, refusals (ECS-SEMANTICS 3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.ecs import container, refused
from support.processes import AwsCli, Server


def register(ecs: Any, family: str, *containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Registers a revision; what ECS answers."""
    answer = ecs.register_task_definition(
        family=family, containerDefinitions=list(containers) or [container()], **more
    )
    return answer["taskDefinition"]


def describe(ecs: Any, name: str) -> dict[str, Any]:
    """Describes a definition by any of its names."""
    return ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]


def test_each_registration_is_the_next_revision(ecs: Any, server: Server, family: str) -> None:
    prefix = f"arn:aws:ecs:us-east-1:{server.account}:task-definition/{family}"
    for revision in (1, 2, 3):
        definition = register(ecs, family)
        assert definition["revision"] == revision
        assert definition["taskDefinitionArn"] == f"{prefix}:{revision}"
        assert definition["status"] == "ACTIVE"


def test_a_definition_has_three_names(ecs: Any, family: str) -> None:
    first, second = register(ecs, family), register(ecs, family)
    assert describe(ecs, family)["revision"] == 2, "the latest ACTIVE revision"
    assert describe(ecs, f"{family}:1")["taskDefinitionArn"] == first["taskDefinitionArn"]
    assert describe(ecs, second["taskDefinitionArn"])["revision"] == 2


def test_what_is_left_out_is_filled_in(ecs: Any, family: str) -> None:
    """The defaults that clients rely on, and nothing that was not there."""
    bare = {"name": "main", "image": "busybox", "memory": 64}
    definition = register(ecs, family, bare | {"portMappings": [{"containerPort": 80}]})
    (one,) = definition["containerDefinitions"]
    for name in ("environment", "mountPoints", "volumesFrom", "systemControls"):
        assert one[name] == [], name
    assert one["essential"] is True and one["cpu"] == 0
    assert one["portMappings"] == [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]
    assert definition["volumes"] == [] and definition["placementConstraints"] == []
    assert definition["registeredAt"] and definition["registeredBy"].startswith("arn:aws:")
    assert "EC2" in definition["compatibilities"]
    assert definition["requiresAttributes"] == [], "plain settings need no capability"
    for absent in ("taskRoleArn", "pidMode", "deregisteredAt"):
        assert absent not in definition
    assert "command" not in one and "memoryReservation" not in one


def test_host_mode_ports_are_the_container_s(ecs: Any, family: str) -> None:
    definition = register(
        ecs, family, container(portMappings=[{"containerPort": 8080}]), networkMode="host"
    )
    (port,) = definition["containerDefinitions"][0]["portMappings"]
    assert port == {"containerPort": 8080, "hostPort": 8080, "protocol": "tcp"}


def test_describing_returns_what_registering_answered(ecs: Any, family: str) -> None:
    """The document is kept verbatim, with what the agent does not need too."""
    rich = container(
        "main",
        "say",
        "hello",
        environment=[{"name": "B", "value": "2"}, {"name": "A", "value": ""}],
        dockerLabels={"team": "a"},
        user="1000",
        workingDirectory="/",
        stopTimeout=5,
        ulimits=[{"name": "nofile", "softLimit": 10, "hardLimit": 20}],
        linuxParameters={"initProcessEnabled": True, "capabilities": {"drop": ["NET_RAW"]}},
    )
    registered = register(ecs, family, rich, networkMode="bridge", cpu="256", memory="128")
    assert describe(ecs, family) == registered
    assert registered["containerDefinitions"][0].items() >= rich.items()
    assert (registered["cpu"], registered["memory"]) == ("256", "128")
    needs = {one["name"] for one in registered["requiresAttributes"]}
    assert {
        "ecs.capability.task-cpu-mem-limit",
        "com.amazonaws.ecs.capability.docker-remote-api.1.18",
        "com.amazonaws.ecs.capability.docker-remote-api.1.25",
    } <= needs, "labels and ulimits, and an init process"


def test_tags_come_back_when_asked_for(ecs: Any, family: str) -> None:
    ecs.register_task_definition(
        family=family,
        containerDefinitions=[container()],
        tags=[{"key": "owner", "value": "e2e"}],
    )
    answer = ecs.describe_task_definition(taskDefinition=family, include=["TAGS"])
    assert answer["tags"] == [{"key": "owner", "value": "e2e"}]


def test_deregistering_makes_a_revision_inactive(ecs: Any, family: str) -> None:
    register(ecs, family)
    register(ecs, family)
    gone = ecs.deregister_task_definition(taskDefinition=f"{family}:2")["taskDefinition"]
    assert gone["status"] == "INACTIVE" and gone["deregisteredAt"]
    assert describe(ecs, f"{family}:2")["status"] == "INACTIVE"
    assert describe(ecs, family)["revision"] == 1, "the latest ACTIVE one"
    assert register(ecs, family)["revision"] == 3, "revisions are never reused"
    refused(
        ecs.deregister_task_definition,
        "ClientException",
        "InvalidParameterException",
        taskDefinition=family,
    )


def test_unknown_definitions_are_refused(ecs: Any) -> None:
    for name in ("nothing", "nothing:7"):
        refused(ecs.describe_task_definition, "ClientException", taskDefinition=name)
        refused(ecs.run_task, "ClientException", "InvalidParameterException", taskDefinition=name)
    refused(ecs.deregister_task_definition, "ClientException", taskDefinition="nothing:1")


def revisions(arns: list[str]) -> list[int]:
    """The revision at the end of each ARN."""
    return [int(arn.rsplit(":", 1)[1]) for arn in arns]


def test_listing_filters_sorts_and_pages(ecs: Any, family: str) -> None:
    for _ in range(5):
        register(ecs, family)
    register(ecs, family + "-longer")
    ecs.deregister_task_definition(taskDefinition=f"{family}:2")
    pages = ecs.get_paginator("list_task_definitions")

    def listed(**filters: Any) -> list[str]:
        found = pages.paginate(familyPrefix=family, PaginationConfig={"PageSize": 2}, **filters)
        return [arn for page in found for arn in page["taskDefinitionArns"]]

    assert revisions(listed()) == [1, 3, 4, 5], "familyPrefix is the whole family name"
    assert revisions(listed(sort="DESC")) == [5, 4, 3, 1]
    assert revisions(listed(status="INACTIVE")) == [2]
    everything = ecs.list_task_definitions(maxResults=100)["taskDefinitionArns"]
    assert everything == sorted(everything, key=lambda arn: arn.rsplit(":", 1)[0])


def test_the_aws_cli_registers_from_a_file(
    aws: AwsCli, family: str, json_file: Callable[[Any], str]
) -> None:
    source = {"family": family, "containerDefinitions": [container()]}
    definition = aws("register-task-definition", "--cli-input-json", json_file(source))
    assert definition["taskDefinition"]["revision"] == 1
    again = aws("describe-task-definition", "--task-definition", family)
    assert again["taskDefinition"] == definition["taskDefinition"]


PLAIN = container()
TCP_80 = {"containerPort": 80, "hostPort": 80}
REFUSED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("no containers", {"containerDefinitions": []}, ("container",)),
    (
        "no essential container",
        {"containerDefinitions": [PLAIN | {"essential": False}]},
        ("essential",),
    ),
    (
        "duplicate names",
        {"containerDefinitions": [PLAIN, PLAIN]},
        ("main",),
    ),
    (
        "no memory",
        {"containerDefinitions": [{"name": "lean", "image": "busybox"}]},
        ("'lean'", "memory"),
    ),
    (
        "memory below the minimum",
        {"containerDefinitions": [PLAIN | {"memory": 3}]},
        ("main", "memory"),
    ),
    (
        "reservation above limit",
        {"containerDefinitions": [PLAIN | {"memory": 64, "memoryReservation": 128}]},
        ("main", "memory"),
    ),
    (
        "unknown link",
        {"containerDefinitions": [PLAIN | {"links": ["ghost:g"]}]},
        ("main", "link", "ghost"),
    ),
    (
        "links outside bridge mode",
        {"networkMode": "host", "containerDefinitions": [PLAIN | {"links": ["other"]},
                                                         container("other")]},
        ("main", "link"),
    ),
    (
        "unknown mount point",
        {"containerDefinitions": [
            PLAIN | {"mountPoints": [{"sourceVolume": "ghost", "containerPath": "/x"}]}
        ]},
        ("ghost",),
    ),
    (
        "unknown volumesFrom",
        {"containerDefinitions": [PLAIN | {"volumesFrom": [{"sourceContainer": "ghost"}]}]},
        ("ghost",),
    ),
    (
        "port conflict in host mode",
        {"networkMode": "host", "containerDefinitions": [
            PLAIN | {"portMappings": [TCP_80]}, container("other") | {"portMappings": [TCP_80]}
        ]},
        ("80",),
    ),
    (
        "host and container port differ in host mode",
        {"networkMode": "host", "containerDefinitions": [
            PLAIN | {"portMappings": [{"containerPort": 80, "hostPort": 81}]}
        ]},
        ("main", "80"),
    ),
    (
        "dependency cycle",
        {"containerDefinitions": [
            container("one") | {"dependsOn": [{"containerName": "two", "condition": "START"}]},
            container("two") | {"dependsOn": [{"containerName": "one", "condition": "START"}]},
        ]},
        ("depend",),
    ),
    (
        "dependency on an unknown container",
        {"containerDefinitions": [
            PLAIN | {"dependsOn": [{"containerName": "ghost", "condition": "START"}]}
        ]},
        ("ghost",),
    ),
    (
        "HEALTHY without a health check",
        {"containerDefinitions": [
            container("one") | {"dependsOn": [{"containerName": "two", "condition": "HEALTHY"}]},
            container("two"),
        ]},
        ("two",),
    ),
    (
        "distinctInstance",
        {"placementConstraints": [{"type": "distinctInstance"}]},
        ("distinctInstance",),
    ),
    ("invalid Fargate sizes", {
        "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc",
        "cpu": "256", "memory": "8192",
    }, ("memory",)),
    ("Fargate in bridge mode", {
        "requiresCompatibilities": ["FARGATE"], "networkMode": "bridge",
        "cpu": "256", "memory": "512",
    }, ("awsvpc",)),
    ("bad image", {"containerDefinitions": [PLAIN | {"image": "Not An Image"}]}, ("main", "image")),
    ("bad container name", {"containerDefinitions": [PLAIN | {"name": "has space"}]}, ("name",)),
    ("port out of range", {
        "containerDefinitions": [PLAIN | {"portMappings": [{"containerPort": 70000}]}]
    }, ("containerPort", "70000")),
    ("bad secret ARN", {
        "containerDefinitions": [
            PLAIN | {"secrets": [{"name": "S", "valueFrom": "arn:aws:s3:::bucket"}]}
        ]
    }, ("main", "secret")),
    ("volumes that wait for each other", {
        "containerDefinitions": [
            container("one") | {"volumesFrom": [{"sourceContainer": "two"}]},
            container("two") | {"volumesFrom": [{"sourceContainer": "one"}]},
        ]
    }, ("one", "cyclic")),
    ("environment file that is no object", {
        "containerDefinitions": [
            PLAIN | {"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::bucket"}]}
        ]
    }, ("main", "environmentFiles")),
    ("soft limit above the hard one", {
        "containerDefinitions": [
            PLAIN | {"ulimits": [{"name": "nofile", "softLimit": 9, "hardLimit": 8}]}
        ]
    }, ("main", "ulimits", "nofile")),
    ("unknown ulimit", {
        "containerDefinitions": [
            PLAIN | {"ulimits": [{"name": "files", "softLimit": 1, "hardLimit": 1}]}
        ]
    }, ("ulimits", "files")),
    ("unknown capability", {
        "containerDefinitions": [
            PLAIN | {"linuxParameters": {"capabilities": {"add": ["CAP_NET_ADMIN"]}}}
        ]
    }, ("main", "capabilities", "CAP_NET_ADMIN")),
    ("tmpfs without a size", {
        "containerDefinitions": [
            PLAIN | {"linuxParameters": {"tmpfs": [{"containerPath": "/t", "size": 0}]}}
        ]
    }, ("main", "tmpfs", "size")),
    ("sysctl without a namespace", {
        "containerDefinitions": [
            PLAIN | {"systemControls": [{"namespace": "vm.swappiness", "value": "1"}]}
        ]
    }, ("main", "systemControls", "vm.swappiness")),
    ("awslogs without options", {
        "containerDefinitions": [PLAIN | {"logConfiguration": {"logDriver": "awslogs"}}]
    }, ("main", "logConfiguration", "awslogs-group")),
    ("splunk without options", {
        "containerDefinitions": [PLAIN | {"logConfiguration": {"logDriver": "splunk"}}]
    }, ("main", "logConfiguration", "splunk-token")),
    ("unknown log driver", {
        "containerDefinitions": [PLAIN | {"logConfiguration": {"logDriver": "carrier-pigeon"}}]
    }, ("logDriver", "carrier-pigeon")),
    ("awsfirelens without a router", {
        "containerDefinitions": [PLAIN | {"logConfiguration": {"logDriver": "awsfirelens"}}]
    }, ("main", "firelensConfiguration")),
    ("health check that is no command", {
        "containerDefinitions": [PLAIN | {"healthCheck": {"command": ["curl", "x"]}}]
    }, ("main", "healthCheck", "CMD-SHELL")),
    ("health check too often", {
        "containerDefinitions": [
            PLAIN | {"healthCheck": {"command": ["CMD", "true"], "interval": 1}}
        ]
    }, ("healthCheck", "interval")),
    ("user with three parts", {"containerDefinitions": [PLAIN | {"user": "a:b:c"}]},
     ("main", "user")),
    ("variable without a name", {
        "containerDefinitions": [PLAIN | {"environment": [{"name": "", "value": "x"}]}]
    }, ("main", "environment")),
    ("no GPU", {
        "containerDefinitions": [
            PLAIN | {"resourceRequirements": [{"type": "GPU", "value": "0"}]}
        ]
    }, ("main", "resourceRequirements")),
    ("task CPU that is none", {"cpu": "much"}, ("cpu", "much")),
    ("task CPU below the containers'", {
        "cpu": "128", "containerDefinitions": [PLAIN | {"cpu": 129}]
    }, ("cpu",)),
    ("task memory below a container's", {"memory": "8"}, ("main", "memory")),
    ("volume of two kinds", {
        "volumes": [{"name": "v", "host": {}, "dockerVolumeConfiguration": {"scope": "task"}}]
    }, ("volumes", "'v'")),
    ("EFS access point without encryption", {
        "volumes": [{"name": "v", "efsVolumeConfiguration": {
            "fileSystemId": "fs-1", "authorizationConfig": {"accessPointId": "fsap-1"}
        }}]
    }, ("volumes", "transitEncryption")),
    ("malformed placement expression", {
        "placementConstraints": [{"type": "memberOf", "expression": "attribute:rack =="}]
    }, ("placementConstraints", "attribute:rack")),
    ("role that is none", {"taskRoleArn": "arn:aws:s3:::bucket"}, ("taskRoleArn",)),
    ("proxy in bridge mode", {
        "proxyConfiguration": {"containerName": "main"}
    }, ("proxyConfiguration", "awsvpc")),
    ("ephemeral storage out of range", {"ephemeralStorage": {"sizeInGiB": 20}},
     ("ephemeralStorage", "sizeInGiB")),
    ("unknown network mode", {"networkMode": "tunnel"}, ("networkMode", "tunnel")),
    ("host volume on Fargate", {
        "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc",
        "cpu": "256", "memory": "512",
        "volumes": [{"name": "v", "host": {"sourcePath": "/x"}}],
    }, ("volumes", "Fargate")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_an_invalid_definition_is_refused_and_says_where(
    ecs: Any, family: str, fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    request = {"family": family, "containerDefinitions": [PLAIN]} | fields
    message = refused(ecs.register_task_definition, "ClientException", **request)
    for word in words:
        assert word.lower() in message.lower(), f"{message!r} does not name {word!r}"
    listed = ecs.list_task_definitions(familyPrefix=family, status="ACTIVE")
    assert listed["taskDefinitionArns"] == [], "a refused definition takes no revision"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"taskRoleArn": "arn:aws:iam::000000000000:role/r"}, "taskRoleArn"),
        ({"volumes": [{"name": "v", "configuredAtLaunch": True}]}, "configuredAtLaunch"),
        ({"ephemeralStorage": {"sizeInGiB": 21}}, "ephemeralStorage"),
        (
            {
                "containerDefinitions": [
                    PLAIN | {"resourceRequirements": [{"type": "NeuronDevice", "value": "ALL"}]}
                ]
            },
            "resourceRequirements",
        ),
    ],
)
def test_what_is_not_obeyed_is_refused_by_name(
    ecs: Any, family: str, fields: dict[str, Any], word: str
) -> None:
    """Accepted and ignored would be worse (ECS-SEMANTICS 8)."""
    request = {"family": family, "containerDefinitions": [PLAIN]} | fields
    codes = ("ClientException", "UnsupportedFeatureException")
    assert word in refused(ecs.register_task_definition, *codes, **request)


ROLE = "arn:aws:iam::000000000000:role/reader"
FETCHED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("volumes", {
        "volumes": [
            {"name": "plain"},
            {"name": "host", "host": {"sourcePath": "/srv"}},
            {"name": "docker", "dockerVolumeConfiguration": {"scope": "shared", "driver": "local"}},
            {"name": "efs", "efsVolumeConfiguration": {"fileSystemId": "fs-12345678"}},
        ]
    }, {"mountPoints": [{"sourceVolume": "host", "containerPath": "/srv", "readOnly": True}]}),
    ("secrets", {"executionRoleArn": ROLE}, {
        "secrets": [{"name": "TOKEN", "valueFrom": "arn:aws:ssm:us-east-1:1:parameter/token"}]
    }),
    ("log secrets", {"executionRoleArn": ROLE}, {
        "logConfiguration": {
            "logDriver": "splunk",
            "options": {"splunk-url": "https://splunk.example.com"},
            "secretOptions": [{"name": "splunk-token", "valueFrom": "token"}],
        }
    }),
    ("environment files", {"executionRoleArn": ROLE}, {
        "environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::bucket/first.env"}]
    }),
    ("registry", {"executionRoleArn": ROLE}, {
        "repositoryCredentials": {"credentialsParameter": "registry/login"}
    }),
    ("versions", {}, {"versionConsistency": "enabled"}),
    ("GPU", {}, {"resourceRequirements": [{"type": "GPU", "value": "2"}]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "main"), [case[1:] for case in FETCHED], ids=[case[0] for case in FETCHED]
)
def test_what_comes_from_elsewhere_is_described_as_it_was_given(
    ecs: Any, family: str, task: dict[str, Any], main: dict[str, Any]
) -> None:
    request = {"family": family, "containerDefinitions": [PLAIN | main]} | task
    ecs.register_task_definition(**request)
    described = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    for key, value in task.items():
        assert described[key] == value
    for key, value in main.items():
        assert described["containerDefinitions"][0][key] == value


@pytest.mark.parametrize(
    ("main", "words"),
    [
        ({"secrets": [{"name": "S", "valueFrom": "p"}]}, "When you are specifying container secrets"),
        (
            {"repositoryCredentials": {"credentialsParameter": "login"}},
            "Private repository authentication requires",
        ),
    ],
)
def test_what_a_role_fetches_needs_the_role(
    ecs: Any, family: str, main: dict[str, Any], words: str
) -> None:
    request = {"family": family, "containerDefinitions": [PLAIN | main]}
    message = refused(ecs.register_task_definition, "ClientException", **request)
    assert words in message and "executionRoleArn" in message


@pytest.mark.parametrize("name", ["with space", "a" * 256, "a:b", "sla/sh"])
def test_a_bad_family_is_refused(ecs: Any, name: str) -> None:
    refused(
        ecs.register_task_definition,
        "ClientException",
        "InvalidParameterException",
        family=name,
        containerDefinitions=[PLAIN],
    )


def test_a_message_of_ecs_is_kept_word_by_word(ecs: Any, family: str) -> None:
    message = refused(
        ecs.register_task_definition,
        "ClientException",
        family=family,
        containerDefinitions=[{"name": "x", "image": "busybox"}],
    )
    assert message == (
        "Invalid setting for container 'x'. At least one of 'memory' or 'memoryReservation' "
        "must be specified."
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"cpu": "256"} | {"requiresCompatibilities": ["FARGATE"], "networkMode": "bridge"},
            "Fargate only supports network mode ‘awsvpc’.",
        ),
        (
            {"containerDefinitions": [PLAIN | {"logConfiguration": {"logDriver": "awslogs"}}]},
            "Log driver awslogs requires options: awslogs-region, awslogs-group",
        ),
        (
            {"cpu": "128", "containerDefinitions": [PLAIN | {"cpu": 256}]},
            "The sum of all container 'cpu' values cannot be greater than the value of the task "
            "'cpu'.",
        ),
        ({"cpu": "1"}, "Invalid 'cpu' setting for task."),
        (
            {
                "networkMode": "host",
                "containerDefinitions": [
                    PLAIN | {"portMappings": [{"containerPort": 80, "hostPort": 81}]}
                ],
            },
            "When networkMode=host, the host ports and container ports in port mappings must "
            "match.",
        ),
        ({"taskRoleArn": "arn:aws:s3:::x"}, "Role is not valid"),
    ],
)
def test_messages_begin_as_those_of_ecs(
    ecs: Any, family: str, fields: dict[str, Any], message: str
) -> None:
    """Tools look for these words; what to correct follows them."""
    request = {"family": family, "containerDefinitions": [PLAIN]} | fields
    said = refused(ecs.register_task_definition, "ClientException", **request)
    assert said.startswith(message), said


def test_registering_is_durable(stage: Any, family: str) -> None:
    """A definition that was answered survives kill -9, word by word."""
    server = stage.server()
    before = register(server.client(), family, container(command=["say", json.dumps({"a": 1})]))
    server.kill()
    server.start()
    assert describe(server.client(), family) == before
