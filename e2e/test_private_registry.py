"""Images of registries that want a password: Debian's `docker-registry` with one, and our agent."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from conftest import Stage
from support import docker, people
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


def spellings(secret: str) -> list[bytes]:
    """A secret, and what it looks like within something longer in base64."""
    found = [secret.encode()]
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + secret.encode())
        # The ends depend on what is beside it.
        inner = whole[4 if before else 0 : len(whole) - 4]
        found += [inner, inner.translate(bytes.maketrans(b"+/", b"-_"))]
    return found


def where_it_is(data: bytes, secret: str) -> bool:
    """Whether a secret is in there, in any spelling."""
    return any(spelling in data for spelling in spellings(secret))


def test_a_search_for_a_secret_finds_it() -> None:
    """Else finding none means nothing."""
    for before in ("", "x", "xx", "xxx"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            assert where_it_is(encode(f"{before}{PASSWORD}???".encode()), PASSWORD)
    assert where_it_is(f'{{"password":"{PASSWORD}"}}'.encode(), PASSWORD)
    assert not where_it_is(base64.b64encode(b"something else altogether"), PASSWORD)


def test_a_task_brings_its_own_login(
    stage: Stage, server: Server, vault: Any, image: str, family: str
) -> None:
    """repositoryCredentials: read with the task's execution role, and kept to itself."""
    text = json.dumps({"username": USER, "password": PASSWORD})
    secret = vault.create_secret(Name=f"login-{family}", SecretString=text)["ARN"]
    # What the machine is configured with is for other images.
    settings = login_of("docker", "127.0.0.1:1", "other") | {"ECS_LOGLEVEL": "debug"}
    task = run(stage, server, image, family, secret, **settings)
    assert task["lastStatus"] == "RUNNING", task
    ecs, agent = server.client(), stage.processes[-1]
    told: list[Any] = [
        task,
        ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"]),
        ecs.describe_container_instances(
            cluster=task["clusterArn"], containerInstances=[task["containerInstanceArn"]]
        ),
        people.text(server.data, "task", task["taskArn"], "--cluster", task["clusterArn"]),
        list(docker.of_task(task["taskArn"]).values()),
        docker.docker("image", "inspect", image),
        docker.docker("history", "--no-trunc", image),
    ]
    assert secret in json.dumps(told[1]["taskDefinition"]["containerDefinitions"])
    for one in told:
        assert not where_it_is(json.dumps(one, default=str).encode(), PASSWORD), one
    docker.remove([one["Id"] for one in docker.of_task(task["taskArn"]).values()])
    # What is on disk when the processes are gone is all of it; the server has the secret under its key.
    agent.kill()
    files = [server.log, *agent.log.parent.rglob("*"), *server.data.rglob("*")]
    assert {"agent.log", "agent.redb", "MANIFEST"} <= {path.name for path in files}, files
    for path in files:
        assert not path.is_file() or not where_it_is(path.read_bytes(), PASSWORD), path
    forget(image)


UNKNOWN = f"arn:aws:secretsmanager:{REGION}:{{account}}:secret:never-made-AbCdEf"


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        (
            json.dumps({"username": USER, "password": "another"}),
            "CannotPullContainerError: ",
            "unauthorized|no basic auth",
        ),
        ("no JSON", "ResourceInitializationError: ", "is not JSON like"),
        (json.dumps({"user": USER}), "ResourceInitializationError: ", "is not JSON like"),
        (None, "ResourceInitializationError: ", "ResourceNotFoundException"),
    ],
    ids=["wrong", "no-json", "incomplete", "missing"],
)
def test_a_login_that_is_none_stops_the_task(
    stage: Stage,
    server: Server,
    vault: Any,
    image: str,
    family: str,
    text: str | None,
    reason: str,
    said: str,
) -> None:
    """In the words in which ECS tells it; the task failed to start, and nothing runs."""
    if text:
        secret = vault.create_secret(Name=f"login-{family}", SecretString=text)["ARN"]
    else:
        secret = UNKNOWN.format(account=server.account)
    task = run(stage, server, image, family, secret)
    assert task["lastStatus"] == "STOPPED", task
    assert task["stopCode"] == "TaskFailedToStart"
    of_container = task["containers"][0].get("reason", "")
    told = of_container if reason.startswith("CannotPull") else task["stoppedReason"]
    assert told.startswith(reason) and re.search(said, told), task
    assert text is None or text not in json.dumps(task, default=str)
    assert docker.of_task(task["taskArn"]) == {}
