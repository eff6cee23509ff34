"""Environment files: variables of containers from objects of a store that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import Server
from support.s3 import ObjectStore

ROLE = "arn:aws:iam::000000000000:role/fetch"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    """An object store that knows one key."""
    with ObjectStore("STOREKEY", "store secret") as store:
        yield store


@pytest.fixture(scope="module")
def server(
    module_stage: Any, store: ObjectStore, images: None, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """A server, and an agent that has the store's key where AWS's tools keep theirs."""
    home = tmp_path_factory.mktemp("home")
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = STOREKEY\naws_secret_access_key = store secret\n"
    )
    server: Server = module_stage.server()
    module_stage.agent(
        server,
        HOME=str(home),
        AWS_ENDPOINT_URL_S3=store.endpoint,
        AWS_EC2_METADATA_DISABLED="true",
        LONGSHORE_ENVIRONMENT_FILE_BUCKETS="conf",
    )
    return server


def files(*names: str, bucket: str = "conf") -> list[dict[str, str]]:
    """The member of a container definition."""
    return [{"type": "s3", "value": f"arn:aws:s3:::{bucket}/{name}"} for name in names]


def test_variables_come_from_files(tasks: Tasks, store: ObjectStore) -> None:
    """environment > files, earlier file > later one > image (AGENT-PROTOCOL 5.4)."""
    store.objects["conf/a.env"] = "# first\nONE=1\nBOTH=a=b\nTHREE=from file\n"
    store.objects["conf/sub/b.env"] = "BOTH=no\nTWO=2\r\nnothing\n"
    arn = tasks.start(
        container(
            environmentFiles=files("a.env", "sub/b.env"),
            environment=[{"name": "THREE", "value": "of the definition"}],
        ),
        container("other"),
        executionRoleArn=ROLE,
    )
    seen = docker.of_task(arn)
    found = docker.environment(seen["main"])
    wanted = {"ONE": "1", "TWO": "2", "BOTH": "a=b", "THREE": "of the definition"}
    assert {name: found.get(name) for name in wanted} == wanted
    assert "ONE" not in docker.environment(seen["other"]), "it is the other container's"
    assert ("/conf/a.env", 200) in store.requests


def test_files_of_an_override_replace_those_of_the_definition(tasks: Tasks, store: ObjectStore) -> None:
    store.objects["conf/c.env"] = "WHO=definition\nDROPPED=1\n"
    store.objects["conf/d.env"] = "WHO=override\n"
    definition = tasks.define(container(environmentFiles=files("c.env")), executionRoleArn=ROLE)
    override = {"name": "main", "environmentFiles": files("d.env")}
    arn = tasks.run(definition, overrides={"containerOverrides": [override]})
    tasks.wait(arn, "RUNNING")
    found = docker.environment(docker.of_task(arn)["main"])
    assert found["WHO"] == "override" and "DROPPED" not in found


def test_a_file_that_is_not_there_is_named(tasks: Tasks) -> None:
    definition = tasks.define(
        container(environmentFiles=files("absent.env")), executionRoleArn=ROLE
    )
    stopped = tasks.wait(tasks.run(definition), "STOPPED", 60)
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert stopped["stoppedReason"].startswith(
        "ResourceInitializationError: failed to download env files: s3://conf/absent.env: NoSuchKey"
    )


def test_what_only_the_machine_may_read_is_not_for_tasks(tasks: Tasks, store: ObjectStore) -> None:
    """The store knows the machine's key and no role: from a bucket that is not shared nothing is had."""
    store.objects["fleet/secret.env"] = "PASSWORD=hidden\n"
    definition = tasks.define(
        container(environmentFiles=files("secret.env", bucket="fleet")), executionRoleArn=ROLE
    )
    reason = tasks.wait(tasks.run(definition), "STOPPED", 60)["stoppedReason"]
    assert "SignatureDoesNotMatch" in reason and "LONGSHORE_ENVIRONMENT_FILE_BUCKETS" in reason
    assert {status for path, status in store.requests if path.startswith("/fleet/")} == {403}
