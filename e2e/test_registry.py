"""The server's own registry: unmodified `docker push` and `docker pull`, `longshore image`, tasks of
images that are nowhere else. Debian's `docker-registry` is the peer it must not differ from."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from conftest import Stage, own_account
from support import docker, people
from support.admin import Admin
from support.ecs import Tasks, container
from support.hosts import HostCluster, Hosts
from support.processes import REGION, Agent, AwsCli, Server
from support.distribution import IMAGE, Answer, DebianRegistry, Wire, forget, logged_in

HOSTS = ("h1", "h2", "h3")
pytestmark = pytest.mark.timeout(150)


def ecr(server: Server, key: dict[str, str] | None = None) -> Any:
    """A boto3 client of ECR for the server."""
    key = key or server.key
    return boto3.client(
        "ecr",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=key["accessKeyId"],
        aws_secret_access_key=key["secretAccessKey"],
    )


def password(server: Server, key: dict[str, str] | None = None) -> str:
    """A token to log in with, as `aws ecr get-login-password` prints it."""
    (data,) = ecr(server, key).get_authorization_token()["authorizationData"]
    user, token = base64.b64decode(data["authorizationToken"]).decode().split(":", 1)
    assert user == "AWS"
    return token


def registry_of(server: Server) -> str:
    """Where `docker` finds it."""
    return server.endpoint.split("://")[1]


@pytest.fixture
def image(images: None) -> Iterator[str]:
    """A name for the test image that nobody else has."""
    name = f"mine/tool-{secrets.token_hex(4)}:1"
    docker.docker("tag", docker.TOOL, name)
    yield name
    # The Engine also knows what an agent pulled by its digest.
    shape = "{{.Repository}}@{{.Digest}}"
    known = docker.docker("images", "--digests", "--format", shape).split()
    forget(name, *(one for one in known if name.split(":")[0] in one and "<none>" not in one))


@pytest.fixture(scope="module")
def puller(module_stage: Stage, server: Server, images: None) -> Agent:
    """An agent that never takes what is there already."""
    return module_stage.agent(server, ECS_IMAGE_PULL_BEHAVIOR="always", LONGSHORE_REGISTRY_PORT="0")


# --- docker itself


def test_docker_pushes_and_pulls(server: Server, image: str, tmp_path: Path) -> None:
    """Nothing but `docker login`, `push` and `pull`, at the server's own address."""
    there = f"{registry_of(server)}/{image}"
    docker.docker("tag", image, there)
    before = json.loads(docker.docker("image", "inspect", image))[0]
    with logged_in(registry_of(server), "AWS", password(server), tmp_path) as login:
        docker.docker("push", there, env=login)
        assert "Layer already exists" in docker.docker("push", there, env=login)
        forget(there)
        docker.docker("pull", there, env=login)
    after = json.loads(docker.docker("image", "inspect", there))[0]
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])
    forget(there)


def test_nobody_gets_in_without_a_token(server: Server, image: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unauthorized|401"):
        with logged_in(registry_of(server), "AWS", "guess", tmp_path):
            pass
    wire = Wire(registry_of(server))
    for path in ("/v2/", "/v2/_catalog", "/v2/x/manifests/1"):
        answer = wire("GET", path)
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Basic ")


def test_the_aws_cli_gets_a_password(server: Server, tmp_path: Path) -> None:
    """`longshore env` points ECR's calls here, too."""
    aws = AwsCli(server.data, tmp_path)
    command = [str(aws.program), "ecr", "get-login-password"]
    done = subprocess.run(command, capture_output=True, text=True, env=aws.environment, timeout=60)
    assert done.returncode == 0, done.stderr
    wire = Wire(registry_of(server), "AWS", done.stdout.strip())
    assert wire("GET", "/v2/").status == 200


def test_tokens_are_as_ecr_has_them(server: Server) -> None:
    client = ecr(server)
    (data,) = client.get_authorization_token()["authorizationData"]
    assert data["proxyEndpoint"] == server.endpoint
    hours = (data["expiresAt"].timestamp() - time.time()) / 3600
    assert 11.9 < hours <= 12
    (data,) = client.get_authorization_token(registryIds=[server.account])["authorizationData"]
    name = f"https://{server.account}.dkr.ecr.{REGION}.amazonaws.com"
    assert data["proxyEndpoint"] == name
    with pytest.raises(ClientError, match="InvalidParameterException.*are not here"):
        client.get_authorization_token(registryIds=["111122223333"])
    with pytest.raises(ClientError, match="does not serve DescribeRepositories of ECR"):
        client.describe_repositories()


# --- longshore image, and tasks


def push(server: Server, *arguments: str) -> str:
    """`longshore image push …`."""
    return people.text(server.data, "image", "push", *arguments)


def test_a_task_of_an_image_that_was_pushed(
    server: Server, puller: Agent, tasks: Tasks, image: str
) -> None:
    """Pushed, forgotten by the Engine, pulled by the agent under the name in the definition."""
    said = push(server, image)
    forget(image)
    arn = tasks.start(container(image=image))
    (running,) = docker.of_task(arn).values()
    assert running["Config"]["Image"] == image
    digest = tasks.describe(arn)["containers"][0]["imageDigest"]
    assert digest in said
    (found,) = [one for one in listed(server) if one["name"] == image]
    assert (found["digest"], found["bytes"] > 1000) == (digest, True)
    tasks.stop(arn)

    # By its digest alone, and as ECR would name it.
    name = image.split(":")[0]
    by_ecr = f"{server.account}.dkr.ecr.{REGION}.amazonaws.com/{image}"
    for other in (f"{name}@{digest}", by_ecr):
        forget(image, by_ecr)
        arn = tasks.start(container(image=other))
        assert tasks.describe(arn)["containers"][0]["imageDigest"] == digest
        tasks.stop(arn)
    forget(by_ecr)


def listed(server: Server) -> list[dict[str, Any]]:
    """`longshore image list`."""
    return people.document(server.data, "image", "list")["images"]


def test_a_name_that_moves_is_pulled_anew(
    server: Server, puller: Agent, tasks: Tasks, image: str
) -> None:
    push(server, image)
    docker.docker("tag", docker.TOOL_USR1, image)
    push(server, image)
    forget(image)
    arn = tasks.start(container(image=image))
    (running,) = docker.of_task(arn).values()
    assert running["Config"]["StopSignal"] == "SIGUSR1"


def test_what_was_removed_is_gone(
    server: Server, puller: Agent, tasks: Tasks, image: str
) -> None:
    push(server, image)
    forget(image)
    people.text(server.data, "image", "remove", image)
    assert image not in [one["name"] for one in listed(server)]
    again = people.run(server.data, "image", "remove", image, code=1)
    assert b"longshore image list" in again.stderr
    by_ecr = f"{server.account}.dkr.ecr.{REGION}.amazonaws.com/{image}"
    arn = tasks.run(tasks.define(container(image=by_ecr)))
    task = tasks.wait(arn, "STOPPED", 60)
    assert "longshore image push" in task["containers"][0]["reason"], task


def test_an_image_of_another_registry_gets_a_name_of_ours(server: Server, image: str) -> None:
    other = f"registry.example/{image}"
    docker.docker("tag", image, other)
    refused = people.run(server.data, "image", "push", other, code=1)
    assert b"--as NAME" in refused.stderr
    renamed = image.replace("tool", "renamed")
    push(server, other, "--as", renamed)
    assert renamed in people.text(server.data, "image", "list")
    names = docker.docker("images", "--format", "{{.Repository}}").split()
    assert not [name for name in names if name.startswith("127.0.0.1:") and "renamed" in name]
    forget(other)


def test_a_machine_may_pull_and_nothing_else(server: Server, image: str) -> None:
    """With a key of its own; and not even that when the key is revoked."""
    push(server, image)
    owner = Admin(server)
    made = owner("CreateJoinToken", cluster="default")["token"]
    token = dict(zip(("accessKeyId", "secretAccessKey"), made.split(".", 1), strict=True))
    with pytest.raises(ClientError, match="AccessDenied"):
        password(server, token)
    key = Admin(server, token)("JoinContainerInstance", clientToken=secrets.token_hex(8))
    wire = Wire(registry_of(server), "AWS", password(server, key))
    name, tag = image.split(":")
    assert wire("GET", f"/v2/{name}/manifests/{tag}").status == 200
    for method, path in (
        ("POST", f"/v2/{name}/blobs/uploads/"),
        ("PUT", f"/v2/{name}/manifests/2"),
        ("DELETE", f"/v2/{name}/manifests/{tag}"),
    ):
        answer = wire(method, path)
        assert (answer.status, answer.code) == (403, "DENIED"), method
    people.run(server.data, "instance", "revoke", key["accessKeyId"])
    assert wire("GET", f"/v2/{name}/manifests/{tag}").status == 401


# --- the protocol, beside Debian's registry


class Talk:
    """The same conversation with a registry, and what it said."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.said = wire, []

    def note(self, what: str, answer: Answer) -> Answer:
        """Remembers what is to be the same."""
        names = ("docker-content-digest", "content-range", "docker-distribution-api-version")
        seen = {name: answer.headers.get(name) for name in names}
        code = answer.code if answer.status >= 400 else ""
        self.said.append((what, answer.status, code, seen))
        return answer

    def blob(self, content: bytes) -> str:
        """Uploads in two pieces."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        begun = self.note("begin", self.wire("POST", "/v2/a/b/blobs/uploads/"))
        half = len(content) // 2
        first = self.wire("PATCH", begun.headers["location"], content[:half])
        self.note("first half", first)
        assert first.headers["range"] == f"0-{half - 1}"
        where = self.wire("GET", first.headers["location"])
        assert (where.status, where.headers["range"]) == (204, f"0-{half - 1}")
        location = where.headers.get("location", first.headers["location"])
        joint = "&" if "?" in location else "?"
        done = self.wire("PUT", f"{location}{joint}digest={digest}", content[half:])
        self.note("second half", done)
        return digest

    def go(self) -> list[Any]:
        """All of it."""
        wire, note = self.wire, self.note
        nothing = "sha256:" + "0" * 64
        note("base", wire("GET", "/v2/"))
        note("no blob", wire("HEAD", f"/v2/a/b/blobs/{nothing}"))
        note("no blob to get", wire("GET", f"/v2/a/b/blobs/{nothing}"))
        note("no manifest", wire("HEAD", "/v2/a/b/manifests/1"))
        config, layer = self.blob(b'{"rootfs":{}}'), self.blob(os.urandom(1) * 700_000)
        manifest = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": {"mediaType": "application/json", "size": 13, "digest": config},
            "layers": [{"mediaType": "application/x", "size": 700_000, "digest": layer}],
        }
        text = json.dumps(manifest).encode()
        missing = text.replace(layer.encode(), nothing.encode())
        answer = wire("PUT", "/v2/a/b/manifests/1", missing, content_type=IMAGE)
        assert answer.status in (400, 404) and answer.code == "MANIFEST_BLOB_UNKNOWN"
        answer = wire("PUT", "/v2/a/b/manifests/1", text, content_type=IMAGE)
        self.said.append(("manifest", answer.status))
        for name in ("1", answer.headers["docker-content-digest"]):
            for method in ("HEAD", "GET"):
                got = wire(method, f"/v2/a/b/manifests/{name}", accept=IMAGE)
                assert got.headers["content-type"] == IMAGE
                assert got.body == (text if method == "GET" else b"")
                self.said.append((method, got.status, got.headers["content-length"]))
        assert wire("GET", "/v2/a/b/tags/list").json == {"name": "a/b", "tags": ["1"]}
        assert "a/b" in wire("GET", "/v2/_catalog").json["repositories"]
        part = wire("GET", f"/v2/a/b/blobs/{config}", range="bytes=2-7")
        self.said.append(("part", part.status, part.body, part.headers["content-range"]))
        whole = wire("GET", f"/v2/a/b/blobs/{layer}")
        assert hashlib.sha256(whole.body).hexdigest() == layer.split(":")[1]
        mounted = wire("POST", f"/v2/c/blobs/uploads/?mount={config}&from=a/b")
        self.said.append(("mounted", mounted.status))
        begun = wire("POST", "/v2/a/b/blobs/uploads/")
        location = begun.headers["location"]
        joint = "&" if "?" in location else "?"
        note("not what it says", wire("PUT", f"{location}{joint}digest={nothing}", b"something"))
        begun = wire("POST", "/v2/a/b/blobs/uploads/")
        self.said.append(("cancelled", wire("DELETE", begun.headers["location"]).status))
        self.said.append(("gone", wire("GET", begun.headers["location"]).status))
        digest = answer.headers["docker-content-digest"]
        self.said.append(("removed", wire("DELETE", f"/v2/a/b/manifests/{digest}").status))
        self.said.append(("no more", wire("GET", "/v2/a/b/manifests/1", accept=IMAGE).status))
        return self.said


def test_it_answers_as_debians_registry_does(server: Server, tmp_path: Path) -> None:
    peer = DebianRegistry(tmp_path).start()
    theirs = Talk(Wire(peer.host)).go()
    peer.kill()
    ours = Talk(Wire(registry_of(server), "AWS", password(server))).go()
    assert [one[0] for one in ours] == [one[0] for one in theirs]
    for our, their in zip(ours, theirs, strict=True):
        if "digest" in str(our) and our[0] == "second half" and our[1] == their[1]:
            continue  # of bytes that were drawn by lot
        assert our == their


def test_an_upload_goes_on_after_a_restart_of_the_server(stage: Stage) -> None:
    server = stage.server()
    wire = Wire(registry_of(server), "AWS", password(server))
    content = os.urandom(300_000)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    location = wire("POST", "/v2/a/blobs/uploads/").headers["location"]
    assert wire("PATCH", location, content[:100_000]).status == 202
    server.kill()
    server.start()
    assert wire("GET", location).headers["range"] == "0-99999"
    out_of_order = wire("PATCH", location, content[:5], content_range="5-9")
    assert (out_of_order.status, out_of_order.code) == (416, "BLOB_UPLOAD_INVALID")
    done = wire("PATCH", location, content[100_000:], content_range="100000-299999")
    assert done.status == 202
    assert wire("PUT", f"{location}?digest={digest}").status == 201
    assert wire("GET", f"/v2/a/blobs/{digest}").body == content


def test_images_leave_room_for_the_store(small_disk: Path, account: str) -> None:
    """On a disk that is nearly full nothing of an image is kept, and the API works on."""
    server = Server(small_disk / "server", own_account(account))
    server.start()
    wire = Wire(registry_of(server), "AWS", password(server))
    location = wire("POST", "/v2/a/blobs/uploads/").headers["location"]
    answer = wire("PATCH", location, b"x" * 1000)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "longshore image remove" in answer.json["errors"][0]["message"]
    assert wire("GET", location).status == 404
    assert list((server.data / "registry" / "uploads").iterdir()) == []
    server.client().create_cluster(clusterName="works")
    server.kill()


# --- three machines without any registry


@pytest.mark.timeout(300)
def test_three_machines_run_an_image_that_one_of_them_built(
    hosts: Hosts, tmp_path: Path, account: str
) -> None:
    """Over TLS: the Engines know neither the server's certificate nor any registry."""
    authority = tmp_path / "server" / "data" / "tls" / "ca.pem"
    cluster = HostCluster(
        hosts,
        list(HOSTS),
        tmp_path,
        own_account(account),
        "--tls",
        "--tls-name",
        "h0",
        ECS_IMAGE_PULL_BEHAVIOR="always",
        LONGSHORE_CA_FILE=str(authority),
    )
    name = f"built-here-{secrets.token_hex(3)}:1"
    builder = hosts.host("h1")
    builder.docker("tag", docker.TOOL, name)
    key = cluster.server.key
    builder.longshore(
        "image",
        "push",
        name,
        "--endpoint",
        cluster.server.url,
        AWS_ACCESS_KEY_ID=key["accessKeyId"],
        AWS_SECRET_ACCESS_KEY=key["secretAccessKey"],
        AWS_CA_BUNDLE=str(authority),
    )
    for host in HOSTS:
        hosts.host(host).docker("image", "rm", "--force", name, docker.TOOL)
        assert docker.TOOL not in hosts.host(host).docker("images")
    tasks = Tasks(cluster.ecs, "default", "everywhere")
    definition = tasks.define(container(image=name))
    for arn in cluster.ecs.list_container_instances()["containerInstanceArns"]:
        started = cluster.ecs.start_task(taskDefinition=definition, containerInstances=[arn])
        tasks.arns += [task["taskArn"] for task in started["tasks"]]
    for arn in tasks.arns:
        tasks.wait(arn, "RUNNING", 60)
    running = [arn for host in HOSTS for arn in hosts.host(host).tasks()]
    assert sorted(running) == sorted(tasks.arns) and len(running) == len(HOSTS)
    tasks.stop_all()
