"""What an image's name stands for is found out before it is pulled, and told."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import Server
from support.registry import Registry
from support.waiting import until


@pytest.fixture
def registry(images: None) -> Iterator[Registry]:
    """A registry with an image that no Engine has."""
    registry = Registry(docker.TOOL, f"digest-{uuid.uuid4().hex[:8]}")
    yield registry
    registry.close()
    docker.docker("image", "rm", "--force", registry.name, check=False)


def digests(task: dict[str, Any]) -> dict[str, str | None]:
    """The digests of a task's images, by container."""
    return {one["name"]: one.get("imageDigest") for one in task["containers"]}


def test_the_digest_is_told_while_the_image_is_pulled_and_is_what_runs(
    stage: Any, registry: Registry
) -> None:
    """A name that is given to another image in the middle of the pull makes no difference to it."""
    server: Server = stage.server()
    stage.agent(server, ECS_IMAGE_PULL_BEHAVIOR="default")
    tasks = Tasks(server.client(), "default", "digest")
    registry.stalls, resolved = 1, registry.digest
    main = container("main", "trap", "7", image=registry.name)
    definition = tasks.define(main)
    arn = tasks.run(definition)
    until(lambda: registry.stalls == 0, "a stalled layer")
    pending = until(
        lambda: (task := tasks.describe(arn)) and any(digests(task).values()) and task, "a digest"
    )
    assert pending["lastStatus"] == "PENDING" and digests(pending) == {"main": resolved}
    registry.move()
    assert registry.digest != resolved
    registry.released.set()

    task = tasks.wait(arn, "RUNNING", 60)
    assert digests(task) == {"main": resolved}
    assert task["containers"][0]["image"] == registry.name
    real = docker.of_task(arn)["main"]
    assert real["Config"]["Image"] == registry.name
    local = json.loads(docker.docker("image", "inspect", real["Image"]))[0]
    assert any(one.endswith(f"@{resolved}") for one in local["RepoDigests"]), local["RepoDigests"]

    # A task of its own runs what the name stands for then, whatever others run: only services are held to one image.
    for consistency in ("enabled", "disabled"):
        again = tasks.define(main | {"versionConsistency": consistency})
        assert digests(tasks.wait(tasks.run(again), "RUNNING", 60)) == {"main": registry.digest}
        kept = tasks.ecs.describe_task_definition(taskDefinition=again)["taskDefinition"]
        assert kept["containerDefinitions"][0]["versionConsistency"] == consistency


def test_an_image_that_is_named_by_its_digest_is_not_asked_for(
    stage: Any, registry: Registry
) -> None:
    """There is nothing to find out."""
    server: Server = stage.server()
    stage.agent(server, ECS_IMAGE_PULL_BEHAVIOR="always")
    tasks = Tasks(server.client(), "default", "pinned")
    pinned, moved = registry.digest, registry.name.removesuffix(":1")
    registry.move()
    arn = tasks.start(container("main", "trap", "7", image=f"{moved}@{pinned}"))
    assert digests(tasks.describe(arn)) == {"main": pinned}
    assert not any(path.endswith("/manifests/1") for path in registry.asked), registry.asked
    tasks.stop(arn)
    docker.docker("image", "rm", "--force", f"{moved}@{pinned}", check=False)
