"""The server's own registry: unmodified `docker push` and `docker pull`, `longshore image`, tasks of
images that are nowhere else. Debian's `docker-registry` is the peer it must not differ from."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
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
from support.processes import BINARY, REGION, Agent, AwsCli, Server
from support.distribution import IMAGE, Answer, DebianRegistry, Wire, forget, logged_in
from support.waiting import until

LARGE = 40 << 20
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
    nothing = f"sha256:{'0' * 64}"
    for method, path in (
        ("GET", "/v2/"),
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/x/manifests/1"),
        ("GET", f"/v2/x/blobs/{nothing}"),
        ("POST", "/v2/x/blobs/uploads/"),
        ("POST", f"/v2/x/blobs/uploads/?mount={nothing}"),
        ("PUT", "/v2/x/manifests/1"),
        ("DELETE", "/v2/x/manifests/1"),
        ("GET", "/v2/../nonsense"),
    ):
        answer = wire(method, path)
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Basic ")
    # A body that nobody wants is not kept, and its sender hears why.
    assert wire("PATCH", "/v2/x/blobs/uploads/1", b"x" * (8 << 20)).status == 401


def test_the_aws_cli_logs_docker_in(server: Server, image: str, tmp_path: Path) -> None:
    """`aws ecr get-login-password | docker login`, as ECR's users type it; `longshore env` points ECR's
    calls here, too."""
    aws = AwsCli(server.data, tmp_path)
    there = f"{registry_of(server)}/{image}"
    docker.docker("tag", docker.TOOL, there)
    script = f"""set -eu -o pipefail
        {aws.program} ecr get-login-password |
            docker login --username AWS --password-stdin {registry_of(server)}
        docker push {there}
        docker image rm {there}
        docker pull {there}
        docker logout {registry_of(server)}"""
    own = {"DOCKER_CONFIG": str(tmp_path / "docker")}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=aws.environment | own, timeout=90
    )
    assert done.returncode == 0 and "Login Succeeded" in done.stdout, done.stdout + done.stderr
    forget(there)


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
    owners = Wire(registry_of(server), "AWS", password(server))
    location = owners("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    for method, path in (
        ("POST", f"/v2/{name}/blobs/uploads/"),
        ("GET", location),
        ("PATCH", location),
        ("PUT", f"{location}?digest=sha256:{'0' * 64}"),
        ("DELETE", location),
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


@pytest.fixture
def large(tmp_path: Path) -> Iterator[str]:
    """An image with one layer that no compression makes smaller."""
    name = f"large-{secrets.token_hex(4)}:1"
    (tmp_path / "noise").write_bytes(os.urandom(LARGE))
    archive = tmp_path / "large.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "noise"], check=True)
    docker.docker("import", str(archive), name)
    yield name
    forget(name)


def test_a_kill_of_the_server_in_mid_upload_damages_nothing(stage: Stage, large: str) -> None:
    """What arrived until then is no image; the next push makes it one, whole."""
    server = stage.server()
    folder = server.data / "registry"
    command = [str(BINARY), "image", "push", large, "--data-dir", str(server.data)]
    pushing = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: arrived(folder) > 2 << 20, "two mebibytes to arrive")
    server.kill()
    assert LARGE > arrived(folder) > 0, "it came too late"
    server.start()
    pushing.wait(timeout=90)
    # Docker may have tried again by itself.
    push(server, large)
    blobs = list((folder / "blobs").glob("[!.]*"))
    assert len(blobs) == 3, "a manifest, a configuration, and a layer"
    for blob in blobs:
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def arrived(folder: Path) -> int:
    """The bytes of unfinished uploads."""
    files = (folder / "uploads").glob("*")
    return sum(file.stat().st_size for file in files if file.exists())


@pytest.fixture
def cramped(small_disk: Path, account: str) -> Iterator[Server]:
    """A server on a small disk."""
    server = Server(small_disk / "server", own_account(account))
    server.start()
    yield server
    server.kill()


def test_a_disk_that_fills_up_in_mid_upload(
    cramped: Server, small_disk: Path, large: str
) -> None:
    """The push says why it fails, and leaves the disk as it was."""
    server = cramped
    remount = ["mount", "-o", "remount,size=528m", str(small_disk)]
    subprocess.run(remount, check=True)
    before = shutil.disk_usage(small_disk).free
    refused = people.run(server.data, "image", "push", large, code=1).stderr.decode()
    assert "the disk of the server's data directory is full" in refused, refused
    # By the protocol alone, as another client would do it, with more than fits into any buffer.
    wire = Wire(registry_of(server), "AWS", password(server))
    location = wire("POST", "/v2/a/blobs/uploads/").headers["location"]
    answer = wire("PATCH", location, b"x" * LARGE)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert arrived(server.data / "registry") == 0
    assert shutil.disk_usage(small_disk).free > before - (1 << 20)
    server.client().create_cluster(clusterName="works")


def test_no_name_leads_out_of_the_registry(stage: Stage) -> None:
    """Names of files are made of what is a name to the protocol, and of nothing else."""
    server = stage.server()
    wire = Wire(registry_of(server), "AWS", password(server))
    before = {path for path in server.data.rglob("*") if "store" not in path.parts}
    escapes = ("..", "%2e%2e", "..%2f..", "a/../../..", "a%2fb", ".", "", "a//b", "a+b", "A", "a\\b")
    for escape in escapes:
        for method, path in (
            ("GET", f"/v2/{escape}/manifests/server-key"),
            ("GET", f"/v2/a/manifests/{escape}"),
            ("GET", f"/v2/a/blobs/sha256:{escape}"),
            ("GET", f"/v2/a/blobs/{escape}"),
            ("GET", f"/v2/{escape}/tags/list"),
            ("PUT", f"/v2/{escape}/manifests/1"),
            ("PUT", f"/v2/a/manifests/{escape}"),
            ("POST", f"/v2/{escape}/blobs/uploads/"),
            ("PATCH", f"/v2/a/blobs/uploads/{escape}"),
            ("DELETE", f"/v2/{escape}/manifests/1"),
        ):
            answer = wire(method, path, content_type=IMAGE)
            assert 400 <= answer.status < 500, (method, path, answer)
    after = {path for path in server.data.rglob("*") if "store" not in path.parts}
    assert {path.name for path in after - before} <= {"registry", "blobs", "uploads", "repositories"}


def test_images_leave_room_for_the_store(cramped: Server) -> None:
    """On a disk that is nearly full nothing of an image is kept, and the API works on."""
    server = cramped
    wire = Wire(registry_of(server), "AWS", password(server))
    location = wire("POST", "/v2/a/blobs/uploads/").headers["location"]
    answer = wire("PATCH", location, b"x" * 1000)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "longshore image remove" in answer.json["errors"][0]["message"]
    assert wire("GET", location).status == 404
    index = "application/vnd.oci.image.index.v1+json"
    nothing = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    assert wire("PUT", "/v2/a/manifests/1", nothing, content_type=index).status == 403
    assert list((server.data / "registry" / "uploads").iterdir()) == []
    server.client().create_cluster(clusterName="works")


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
    said = builder.longshore(
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
        (told,) = tasks.wait(arn, "RUNNING", 60)["containers"]
        assert told["imageDigest"].startswith("sha256:") and told["imageDigest"] in said
    running = [arn for host in HOSTS for arn in hosts.host(host).tasks()]
    assert sorted(running) == sorted(tasks.arns) and len(running) == len(HOSTS)
    tasks.stop_all()
