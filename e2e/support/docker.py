"""Docker as the witness: everything is read by the `docker` command, never through Longshore."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

LABEL = "com.amazonaws.ecs."
INSTANCE_LABEL = "longshore.container-instance-arn"
# Two runs at the same time must not remove each other's images.
TOOL = f"longshore-e2e-tool:{os.getpid()}"
TOOL_USR1 = f"longshore-e2e-usr1:{os.getpid()}"
SOURCES = Path(__file__).resolve().parent.parent / "image"


def docker(*arguments: str, check: bool = True, **options: Any) -> str:
    """Runs `docker` and returns its output."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=120, **options
    )
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def build_images() -> None:
    """Compiles the test program and puts it into two images; no registry takes part."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Dockerfile", "Dockerfile.usr1"):
            shutil.copy(SOURCES / name, folder)
        subprocess.run(
            ["gcc", "-static", "-Os", "-o", f"{folder}/tool", str(SOURCES / "tool.c")], check=True
        )
        # The classic builder: BuildKit is a separate download for Debian's Engine.
        classic = os.environ | {"DOCKER_BUILDKIT": "0"}
        for tag, file in ((TOOL, "Dockerfile"), (TOOL_USR1, "Dockerfile.usr1")):
            arguments = ["--quiet", "--tag", tag, "--file", f"{folder}/{file}", folder]
            docker("build", *arguments, env=classic)


def inspect(*ids: str) -> list[dict[str, Any]]:
    """`docker inspect` of containers, those that vanished meanwhile left out."""
    if not ids:
        return []
    return json.loads(docker("container", "inspect", *ids, check=False) or "[]")


def ids_with(label: str, value: str | None = None) -> list[str]:
    """Ids of all containers, running or not, with a label (and value)."""
    wanted = label if value is None else f"{label}={value}"
    return docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={wanted}").split()


def of_task(task_arn: str) -> dict[str, dict[str, Any]]:
    """The containers of a task by container name, as `docker inspect` tells."""
    found = inspect(*ids_with(f"{LABEL}task-arn", task_arn))
    return {one["Config"]["Labels"][f"{LABEL}container-name"]: one for one in found}


def ids_of_account(account: str) -> list[str]:
    """Ids of containers whose instance ARN names an account that begins so: those of our runs."""
    shape = '{{.ID}} {{.Label "' + INSTANCE_LABEL + '"}}'
    lines = docker("ps", "--all", "--no-trunc", "--format", shape).splitlines()
    return [line.split()[0] for line in lines if f":{account}" in line]


def of_account(account: str) -> list[dict[str, Any]]:
    """All containers of an account, running or not."""
    return inspect(*ids_of_account(account))


def ids_of_instances(arns: list[str]) -> list[str]:
    """Ids of the containers of some container instances."""
    return [one for arn in arns for one in ids_with(INSTANCE_LABEL, arn)]


def remove(ids: list[str]) -> None:
    """Removes containers by force, in slices so that no command line grows too long."""
    for start in range(0, len(ids), 50):
        docker("rm", "--force", "--volumes", *ids[start : start + 50], check=False)


def environment(container: dict[str, Any]) -> dict[str, str]:
    """The environment of a container as a dictionary."""
    return dict(pair.split("=", 1) for pair in container["Config"]["Env"] or [])


def logs(container: dict[str, Any]) -> str:
    """What a container printed."""
    return docker("logs", container["Id"])
