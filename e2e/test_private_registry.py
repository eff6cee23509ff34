"""Images of registries that want a password: Debian's `docker-registry` with one, and our agent."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from conftest import Stage
from support import docker
from support.ecs import Tasks, container
from support.processes import REGION, Server
from support.distribution import DebianRegistry, forget, logged_in

USER, PASSWORD = "captain", "p4ss:w?rd>"
ROLE = "arn:aws:iam::000000000000:role/pull"
pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    registry = DebianRegistry(tmp_path_factory.mktemp("registry"), USER, PASSWORD).start()
    yield registry
    registry.kill()


@pytest.fixture(scope="module")
def image(registry: DebianRegistry, images: None, tmp_path_factory: Any) -> Iterator[str]:
    """An image that is in the registry and nowhere else."""
    name = f"{registry.host}/team/tool-{secrets.token_hex(4)}:1"
    docker.docker("tag", docker.TOOL, name)
    with logged_in(registry.host, USER, PASSWORD, tmp_path_factory.mktemp("login")) as login:
        docker.docker("push", name, env=login)
    forget(name)
    yield name
    forget(name)


def login_of(kind: str, registry: str, password: str = PASSWORD) -> dict[str, str]:
    """The agent's own login, in one of the two forms."""
    if kind == "docker":
        data: Any = {f"http://{registry}": {"username": USER, "password": password, "email": ""}}
    else:
        both = base64.b64encode(f"{USER}:{password}".encode()).decode()
        data = {registry: {"auth": both, "email": "a@b.example"}}
    return {"ECS_ENGINE_AUTH_TYPE": kind, "ECS_ENGINE_AUTH_DATA": json.dumps(data)}


def run(
    stage: Stage,
    server: Server,
    image: str,
    family: str,
    secret: str | None = None,
    **settings: str,
) -> dict[str, Any]:
    """A task of the image, with a login of its own if there is one, on an agent with these settings:
    as it is when it runs, or has failed."""
    cluster = f"c-{secrets.token_hex(4)}"
    ecs = server.client()
    ecs.create_cluster(clusterName=cluster)
    stage.agent(server, cluster, ECS_IMAGE_PULL_BEHAVIOR="always", **settings)
    tasks = Tasks(ecs, cluster, family)
    own: dict[str, Any] = {}
    if secret:
        own["repositoryCredentials"] = {"credentialsParameter": secret}
    role = {"executionRoleArn": ROLE} if secret else {}
    arn = tasks.run(tasks.define(container(image=image, **own), **role))
    for _ in range(600):
        task = tasks.describe(arn)
        if task["lastStatus"] in ("RUNNING", "STOPPED"):
            return task
        time.sleep(0.1)
    raise AssertionError(f"neither running nor stopped: {task}")


@pytest.mark.parametrize("kind", ["docker", "dockercfg"])
def test_the_machine_logs_in(
    stage: Stage, server: Server, registry: DebianRegistry, image: str, family: str, kind: str
) -> None:
    """ECS_ENGINE_AUTH_TYPE and ECS_ENGINE_AUTH_DATA in both forms."""
    task = run(stage, server, image, family, **login_of(kind, registry.host))
    assert task["lastStatus"] == "RUNNING", task
    (running,) = docker.of_task(task["taskArn"]).values()
    assert running["Config"]["Image"] == image
    assert PASSWORD not in (Path(stage.processes[-1].log).read_text())
    docker.remove([running["Id"]])
    forget(image)


@pytest.mark.parametrize("password", [None, "another"])
def test_without_the_password_the_task_says_so(
    stage: Stage, server: Server, registry: DebianRegistry, image: str, family: str, password: Any
) -> None:
    settings = login_of("docker", registry.host, password) if password else {}
    task = run(stage, server, image, family, **settings)
    assert task["lastStatus"] == "STOPPED", task
    reason = task["containers"][0]["reason"]
    assert reason.startswith("CannotPullContainerError"), reason
    assert "unauthorized" in reason or "no basic auth credentials" in reason, reason
    assert PASSWORD not in json.dumps(task, default=str)


@pytest.fixture(scope="module")
def vault(server: Server) -> Any:
    """Secrets Manager, as the server has it."""
    return boto3.client(
        "secretsmanager",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=server.key["accessKeyId"],
        aws_secret_access_key=server.key["secretAccessKey"],
    )


def test_a_task_brings_its_own_login(
    stage: Stage, server: Server, vault: Any, image: str, family: str
) -> None:
    """repositoryCredentials: read with the task's execution role, and kept to itself."""
    text = json.dumps({"username": USER, "password": PASSWORD})
    secret = vault.create_secret(Name=f"login-{family}", SecretString=text)["ARN"]
    # What the machine is configured with is for other images.
    task = run(stage, server, image, family, secret, **login_of("docker", "127.0.0.1:1"))
    assert task["lastStatus"] == "RUNNING", task
    agent = stage.processes[-1]
    for path in (agent.log, *Path(agent.settings["ECS_DATADIR"]).rglob("*")):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
    docker.remove([one["Id"] for one in docker.of_task(task["taskArn"]).values()])
    forget(image)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps({"username": USER, "password": "another"}), "CannotPullContainerError"),
        ("no JSON", "ResourceInitializationError"),
    ],
)
def test_a_login_that_is_none_stops_the_task(
    stage: Stage, server: Server, vault: Any, image: str, family: str, text: str, reason: str
) -> None:
    secret = vault.create_secret(Name=f"login-{family}", SecretString=text)["ARN"]
    task = run(stage, server, image, family, secret)
    assert task["lastStatus"] == "STOPPED", task
    told = [task["stoppedReason"], *(one.get("reason", "") for one in task["containers"])]
    assert any(one.startswith(reason) for one in told), told
    assert text not in json.dumps(task, default=str)
