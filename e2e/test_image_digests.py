"""What an image's name stands for is found out before it is pulled, and told."""

from __future__ import annotations

import json
from typing import Any

from support import docker
from support.ecs import Tasks, container
from support.processes import Server
from support.registry import Registry
from support.waiting import until


def digests(task: dict[str, Any]) -> dict[str, str | None]:
    """The digests of a task's images, by container."""
    return {one["name"]: one.get("imageDigest") for one in task["containers"]}


def test_the_digest_is_told_while_the_image_is_pulled_and_is_what_runs(
    stage: Any, stalling_registry: Registry
) -> None:
    """A name that is given to another image in the middle of the pull makes no difference to it."""
    server: Server = stage.server()
    stage.agent(server, ECS_IMAGE_PULL_BEHAVIOR="default")
    tasks = Tasks(server.client(), "default", "digest")
    stalling_registry.stalls, resolved = 1, stalling_registry.digest
    main = container("main", "trap", "7", image=stalling_registry.name)
    definition = tasks.define(main)
    arn = tasks.run(definition)
    until(lambda: stalling_registry.stalls == 0, "a stalled layer")
    pending = until(
        lambda: (task := tasks.describe(arn)) and any(digests(task).values()) and task, "a digest"
    )
    assert pending["lastStatus"] == "PENDING" and digests(pending) == {"main": resolved}
    stalling_registry.move()
    assert stalling_registry.digest != resolved
    stalling_registry.released.set()

    task = tasks.wait(arn, "RUNNING", 60)
    assert digests(task) == {"main": resolved}
    assert task["containers"][0]["image"] == stalling_registry.name
    real = docker.of_task(arn)["main"]
    assert real["Config"]["Image"] == stalling_registry.name
    local = json.loads(docker.docker("image", "inspect", real["Image"]))[0]
    assert any(one.endswith(f"@{resolved}") for one in local["RepoDigests"]), local["RepoDigests"]

    # A task of its own runs what the name stands for then, whatever others run: only services are held to one image.
    for consistency in ("enabled", "disabled"):
        again = tasks.define(main | {"versionConsistency": consistency})
        assert digests(tasks.wait(tasks.run(again), "RUNNING", 60)) == {"main": stalling_registry.digest}
        kept = tasks.ecs.describe_task_definition(taskDefinition=again)["taskDefinition"]
        assert kept["containerDefinitions"][0]["versionConsistency"] == consistency


def test_an_image_that_is_named_by_its_digest_is_not_asked_for(
    stage: Any, stalling_registry: Registry
) -> None:
    """There is nothing to find out."""
    server: Server = stage.server()
    stage.agent(server, ECS_IMAGE_PULL_BEHAVIOR="always")
    tasks = Tasks(server.client(), "default", "pinned")
    pinned, moved = stalling_registry.digest, stalling_registry.name.removesuffix(":1")
    stalling_registry.move()
    arn = tasks.start(container("main", "trap", "7", image=f"{moved}@{pinned}"))
    assert digests(tasks.describe(arn)) == {"main": pinned}
    assert not any(path.endswith("/manifests/1") for path in stalling_registry.asked), stalling_registry.asked
    tasks.stop(arn)
    docker.docker("image", "rm", "--force", f"{moved}@{pinned}", check=False)
