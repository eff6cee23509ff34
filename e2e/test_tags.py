"""Tags of what exists: TagResource, UntagResource, ListTagsForResource (ECS-SEMANTICS 8)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.ecs import Tasks, container, refused
from support.processes import AwsCli, Server

KINDS = ["cluster", "task-definition", "container-instance", "task"]


@pytest.fixture
def things(
    ecs: Any, server: Server, cluster: str, family: str, fleet: Any
) -> dict[str, str]:
    """The ARNs of one of each that has tags."""
    engine = fleet()
    tasks = Tasks(ecs, cluster, family)
    definition = tasks.define(container())
    task = tasks.run(definition)
    tasks.wait(task, "RUNNING")
    return {
        "cluster": f"arn:aws:ecs:us-east-1:{server.account}:cluster/{cluster}",
        "task-definition": definition,
        "container-instance": engine.instance.arn,
        "task": task,
    }


def tags(ecs: Any, arn: str) -> dict[str, str]:
    """ListTagsForResource."""
    return {one["key"]: one["value"] for one in ecs.list_tags_for_resource(resourceArn=arn)["tags"]}


def pairs(**values: str) -> list[dict[str, str]]:
    """Tags as the API has them."""
    return [{"key": key, "value": value} for key, value in values.items()]


def described(ecs: Any, cluster: str, things: dict[str, str], kind: str) -> list[dict[str, str]]:
    """The tags that Describe shows."""
    arn = things[kind]
    match kind:
        case "cluster":
            return ecs.describe_clusters(clusters=[arn], include=["TAGS"])["clusters"][0]["tags"]
        case "task-definition":
            return ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])["tags"]
        case "container-instance":
            answer = ecs.describe_container_instances(
                cluster=cluster, containerInstances=[arn], include=["TAGS"]
            )
            return answer["containerInstances"][0]["tags"]
        case _:
            answer = ecs.describe_tasks(cluster=cluster, tasks=[arn], include=["TAGS"])
            return answer["tasks"][0]["tags"]


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_added_replaced_and_removed(
    ecs: Any, cluster: str, things: dict[str, str], kind: str
) -> None:
    arn = things[kind]
    assert tags(ecs, arn) == {}
    ecs.tag_resource(resourceArn=arn, tags=pairs(team="blue", stage=""))
    ecs.tag_resource(resourceArn=arn, tags=pairs(stage="prod", größe="7 + 1"))
    assert tags(ecs, arn) == {"team": "blue", "stage": "prod", "größe": "7 + 1"}
    ecs.untag_resource(resourceArn=arn, tagKeys=["team", "nothing"])
    assert tags(ecs, arn) == {"stage": "prod", "größe": "7 + 1"}
    assert described(ecs, cluster, things, kind) == pairs(stage="prod", größe="7 + 1")


def test_tags_are_bounded_and_reserved_ones_refused(ecs: Any, things: dict[str, str]) -> None:
    arn = things["cluster"]
    invalid = "InvalidParameterException"

    def tag(code: str, **values: str) -> str:
        return refused(ecs.tag_resource, code, resourceArn=arn, tags=pairs(**values))

    assert "reserved" in tag(invalid, **{"aws:x": "y"})
    assert "reserved" in tag(invalid, **{"AwS:x": "y"})
    assert "reserved" in tag(invalid, x="aws:y")
    tag(invalid, **{"k\x07": "v"})
    tag(invalid, **{f"k{n}": "v" for n in range(51)})
    refused(
        ecs.tag_resource, invalid, resourceArn=arn, tags=pairs(twice="1") + pairs(twice="2")
    )
    refused(ecs.untag_resource, invalid, resourceArn=arn, tagKeys=["aws:x"])
    ecs.tag_resource(resourceArn=arn, tags=pairs(**{f"k{n}": "v" for n in range(50)}))
    assert "50" in tag("LimitExceededException", one="more")
    ecs.tag_resource(resourceArn=arn, tags=pairs(k7="new"))
    assert tags(ecs, arn)["k7"] == "new"


def codes(ecs: Any, arn: str) -> tuple[str, ...]:
    """With which codes TagResource, UntagResource and ListTagsForResource are refused."""
    found = []
    for call, more in [
        (ecs.tag_resource, {"tags": pairs(a="b")}),
        (ecs.untag_resource, {"tagKeys": ["a"]}),
        (ecs.list_tags_for_resource, {}),
    ]:
        with pytest.raises(ClientError) as caught:
            call(resourceArn=arn, **more)
        found.append(caught.value.response["Error"]["Code"].removesuffix("Exception"))
    return tuple(found)


def test_what_is_not_there_is_refused(ecs: Any, things: dict[str, str], cluster: str) -> None:
    prefix = things["cluster"].removesuffix(f"cluster/{cluster}")
    id = uuid.uuid4().hex
    absent = ("ResourceNotFound", "ResourceNotFound", "InvalidParameter")
    for arn, expected in [
        ("default", ("InvalidParameter",) * 3),
        ("arn:aws:s3:::bucket", ("InvalidParameter",) * 3),
        (f"{prefix}container/{cluster}/{id}/{id}", ("InvalidParameter",) * 3),
        (f"{prefix}cluster/none", ("ClusterNotFound",) * 3),
        (f"{prefix}task/{cluster}/{id}", absent),
        (f"{prefix}container-instance/{cluster}/{id}", absent),
        (f"{prefix}task-definition/none:1", absent),
        (f"{prefix}service/{cluster}/web", absent),
        (f"{prefix}capacity-provider/spot", absent),
    ]:
        assert codes(ecs, arn) == expected, arn
    for kind in ("task", "container-instance"):
        short = things[kind].replace(f"/{cluster}/", "/")
        message = refused(
            ecs.list_tags_for_resource, "InvalidParameterException", resourceArn=short
        )
        assert message == "Long arn format must be used for tagging operations"


def test_what_is_over_is_refused_in_the_words_of_ecs(
    ecs: Any, cluster: str, things: dict[str, str], family: str
) -> None:
    """Terraform looks for the cluster's sentence."""

    def refusal(kind: str) -> str:
        return refused(
            ecs.list_tags_for_resource, "InvalidParameterException", resourceArn=things[kind]
        )

    Tasks(ecs, cluster, family).stop(things["task"])
    expected = "The specified task is stopped. Specify a running task and try again."
    assert refusal("task") == expected
    ecs.deregister_task_definition(taskDefinition=things["task-definition"])
    ecs.tag_resource(resourceArn=things["task-definition"], tags=pairs(a="b"))
    assert tags(ecs, things["task-definition"]) == {"a": "b"}, "INACTIVE is not gone"
    ecs.deregister_container_instance(
        cluster=cluster, containerInstance=things["container-instance"]
    )
    assert "inactive" in refusal("container-instance")
    ecs.delete_cluster(cluster=cluster)
    expected = "The specified cluster is inactive. Specify an active cluster and try again."
    assert refusal("cluster") == expected


def test_the_command_line_tags(aws: AwsCli, things: dict[str, str]) -> None:
    arn = ["--resource-arn", things["cluster"]]
    aws("tag-resource", *arn, "--tags", "key=team,value=dev", "key=key2,value=value2")
    listed = aws("list-tags-for-resource", *arn)
    assert listed == {"tags": pairs(team="dev", key2="value2")}
    aws("untag-resource", *arn, "--tag-keys", "team", "key2")
    assert aws("list-tags-for-resource", *arn) == {"tags": []}
