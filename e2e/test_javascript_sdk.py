"""The AWS SDK for JavaScript: the scenes of `javascript/client.mjs`, looked at from outside."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Stage
from support import docker
from support.ecs import container
from support.processes import Server, exported

FOLDER = Path(__file__).resolve().parent / "javascript"
Scene = Callable[..., Any]


@pytest.fixture(scope="module")
def scene(server: Server) -> Scene:
    """Plays a scene in the environment of `longshore env`; what it tells."""
    assert (FOLDER / "node_modules").is_dir(), "install the SDK: scripts/client-tools"
    environment = exported(server.data)

    def play(*arguments: str) -> Any:
        done = subprocess.run(
            ["node", str(FOLDER / "client.mjs"), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout)

    return play


@pytest.mark.usefixtures("images")
def test_a_task_from_its_definition_to_its_end(
    scene: Scene, server: Server, module_stage: Stage, family: str
) -> None:
    cluster = f"js-{uuid.uuid4().hex[:8]}"
    made = scene("cluster", cluster)
    assert made["arn"] == f"arn:aws:ecs:us-east-1:{server.account}:cluster/{cluster}"
    assert made["requestId"]
    module_stage.agent(server, cluster)

    told = scene("life", cluster, family, docker.TOOL)
    task = told["task"]
    assert told["revision"] == 1 and told["registeredAtIsDate"] is True
    assert told["failures"] == [] and told["listed"] == [task["taskArn"]]
    assert told["running"] == told["stopped"] == "SUCCESS"
    assert task["stopCode"] == "UserInitiated" and task["stoppedReason"] == "seen enough"
    assert task["containers"][0]["exitCode"] == 7
    assert told["tookMs"] > 0, "times are dates that can be subtracted"
    (seen,) = docker.of_task(task["taskArn"]).values()
    assert seen["State"]["ExitCode"] == 7

    failed = scene("waiter", cluster, task["taskArn"])
    assert "FAILURE" in failed["message"] and '"lastStatus":"STOPPED"' in failed["message"]


def test_pages_come_in_order(scene: Scene, ecs: Any, family: str) -> None:
    arns = [
        ecs.register_task_definition(family=family, containerDefinitions=[container()])[
            "taskDefinition"
        ]["taskDefinitionArn"]
        for _ in range(7)
    ]
    pages = scene("pages", family, "3")
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [arn for page in pages for arn in page] == arns[::-1]


def test_errors_are_of_the_sdk_s_classes(scene: Scene) -> None:
    told = scene("errors")
    assert told["typed"] == [True, True, True]
    names = ["ClusterNotFoundException", "InvalidParameterException", "ClientException"]
    assert told["names"] == names
    assert told["message"] == "Cluster not found."
    assert (told["fault"], told["status"], told["retried"]) == ("client", 400, 0)
    assert told["requestId"]


def test_the_caller_s_identity(scene: Scene, server: Server) -> None:
    told = scene("identity")
    assert told["Account"] == server.account
    assert told["Arn"].startswith(f"arn:aws:iam::{server.account}:") and told["UserId"]
