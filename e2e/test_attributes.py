"""Attributes of container instances: put, deleted, listed, and kept (ECS-SEMANTICS 5)."""

from __future__ import annotations

from typing import Any

from support.ecs import Tasks, refused
from support.processes import AwsCli, Server
from test_agent.instance import ATTRIBUTES, Instance


def listed(ecs: Any, cluster: str, size: int = 100, **filters: Any) -> list[dict[str, str]]:
    """ListAttributes, all pages."""
    pages = ecs.get_paginator("list_attributes").paginate(
        cluster=cluster,
        targetType="container-instance",
        PaginationConfig={"PageSize": size},
        **filters,
    )
    return [attribute for page in pages for attribute in page["attributes"]]


def custom(ecs: Any, cluster: str, arn: str) -> dict[str, str | None]:
    """The attributes of an instance that are not of ECS."""
    found = ecs.describe_container_instances(cluster=cluster, containerInstances=[arn])
    attributes = found["containerInstances"][0]["attributes"]
    return {
        one["name"]: one.get("value")
        for one in attributes
        if not one["name"].startswith(("ecs.", "com.amazonaws.ecs."))
    }


def test_attributes_are_put_listed_and_deleted(ecs: Any, cluster: str, instance: Instance) -> None:
    arn, short = instance.arn, instance.arn.rsplit("/", 1)[1]
    stack = {"name": "stack", "value": "blue", "targetId": arn}
    assert ecs.put_attributes(cluster=cluster, attributes=[stack])["attributes"] == [stack]
    bare = {"name": "bare", "targetId": short, "targetType": "container-instance"}
    answer = ecs.put_attributes(cluster=cluster, attributes=[bare])
    assert answer["attributes"] == [{"name": "bare", "targetId": arn}], "the full ARN"
    ecs.put_attributes(cluster=cluster, attributes=[stack | {"value": "green"}])
    assert custom(ecs, cluster, arn) == {"bare": None, "stack": "green"}
    green = [stack | {"value": "green"}]
    assert listed(ecs, cluster, attributeName="stack") == green
    assert listed(ecs, cluster, attributeName="stack", attributeValue="green") == green
    assert listed(ecs, cluster, attributeName="stack", attributeValue="blue") == []
    gone = [{"name": "stack", "targetId": arn}, {"name": "never", "targetId": arn}]
    assert ecs.delete_attributes(cluster=cluster, attributes=gone)["attributes"] == green
    assert custom(ecs, cluster, arn) == {"bare": None}


def test_listings_are_paged(ecs: Any, server: Server, cluster: str) -> None:
    for _ in range(2):
        Instance(server.endpoint, server.key, cluster).register()
    everything = listed(ecs, cluster)
    names = {one["name"] for one in everything}
    assert {one["name"] for one in ATTRIBUTES} < names and "ecs.availability-zone" in names
    assert len(everything) == 2 * len(names)
    assert listed(ecs, cluster, size=7) == everything
    linux = listed(ecs, cluster, size=1, attributeName="ecs.os-type", attributeValue="linux")
    assert len(linux) == 2 and all(one["value"] == "linux" for one in linux)


def test_requests_are_refused_as_documented(
    ecs: Any, server: Server, cluster: str, instance: Instance
) -> None:
    def put(code: str, *attributes: dict[str, str], **more: Any) -> str:
        return refused(ecs.put_attributes, code, attributes=list(attributes), cluster=cluster, **more)

    arn, short = instance.arn, instance.arn.rsplit("/", 1)[1]
    invalid = "InvalidParameterException"
    good = {"name": "a", "value": "x", "targetId": arn}
    assert "built in" in put(invalid, good | {"name": "ecs.os-type"})
    assert "built in" in put(invalid, good | {"name": "longshore.host-id"})
    assert "'a b'" in put(invalid, good | {"name": "a b"}).replace('"', "'")
    assert "value" in put(invalid, good | {"value": " x"})
    assert "targetId" in put(invalid, {"name": "a", "value": "x"})
    assert "targetType" in put(invalid, good | {"targetId": short})
    put(invalid, *[good | {"name": f"a{n}"} for n in range(11)])
    put("TargetNotFoundException", good | {"targetId": arn.replace(short, "f" * 32)})
    built_in = [{"name": "ecs.os-type", "targetId": arn}]
    refused(ecs.delete_attributes, invalid, cluster=cluster, attributes=built_in)
    refused(ecs.delete_attributes, invalid, cluster=cluster, attributes=[good])
    refused(
        ecs.list_attributes,
        invalid,
        cluster=cluster,
        targetType="container-instance",
        attributeValue="x",
    )
    refused(ecs.put_attributes, "ClusterNotFoundException", cluster="none", attributes=[good])
    ten = [good | {"name": f"a{n}"} for n in range(10)]
    ecs.put_attributes(cluster=cluster, attributes=ten)
    assert "10" in put("AttributeLimitExceededException", good | {"name": "b"})
    ecs.put_attributes(cluster=cluster, attributes=[good | {"name": "a7", "value": "y"}])
    ecs.delete_attributes(cluster=cluster, attributes=[{"name": "a7", "targetId": arn}])
    ecs.put_attributes(cluster=cluster, attributes=[good | {"name": "b"}])


def test_what_was_put_outlives_the_agent_and_the_server(stage: Any) -> None:
    server = stage.server()
    ecs = server.client()
    instance = Instance(server.endpoint, server.key)
    instance.custom = [{"name": "rack", "value": "1"}, {"name": "shelf", "value": "2"}]
    arn = instance.register()["containerInstanceArn"]
    change = [
        {"name": "rack", "value": "7", "targetId": arn},
        {"name": "stack", "value": "blue", "targetId": arn},
    ]
    ecs.put_attributes(attributes=change)
    ecs.delete_attributes(attributes=[{"name": "shelf", "targetId": arn}])
    instance.register()
    assert custom(ecs, "default", arn) == {"rack": "7", "stack": "blue"}
    server.kill()
    server.start()
    assert custom(server.client(), "default", arn) == {"rack": "7", "stack": "blue"}


def test_placement_sees_an_attribute_at_once(
    ecs: Any, cluster: str, family: str, fleet: Any
) -> None:
    """Which instance is meant follows the attribute, not the other way round."""
    arns = [fleet().instance.arn for _ in range(2)]
    for arn in arns:
        ecs.put_attributes(
            cluster=cluster, attributes=[{"name": "night", "value": "yes", "targetId": arn}]
        )
        meant = ecs.list_container_instances(cluster=cluster, filter="attribute:night == yes")
        assert meant["containerInstanceArns"] == [arn]
        ecs.delete_attributes(cluster=cluster, attributes=[{"name": "night", "targetId": arn}])
    tasks = Tasks(ecs, cluster, family)
    tasks.run(tasks.define())


def test_the_command_line_puts_lists_and_deletes(
    aws: AwsCli, cluster: str, instance: Instance
) -> None:
    where = ["--cluster", cluster]
    stack = {"name": "stack", "value": "production", "targetId": instance.arn}
    put = f"name=stack,value=production,targetId={instance.arn}"
    assert aws("put-attributes", *where, "--attributes", put) == {"attributes": [stack]}
    by_name = ["--target-type", "container-instance", "--attribute-name", "stack"]
    assert aws("list-attributes", *where, *by_name) == {"attributes": [stack]}
    assert aws("list-attributes", *where, *by_name[:2], "--max-items", "3")["NextToken"]
    gone = f"name=stack,targetId={instance.arn}"
    assert aws("delete-attributes", *where, "--attributes", gone) == {"attributes": [stack]}
    assert aws("list-attributes", *where, *by_name) == {"attributes": []}
