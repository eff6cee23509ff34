"""GPUs: each belongs to one task, whose container sees no other. This machine has none: a file says that it has two, and the
driver's runtime is `runc` by another name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.engine import OwnEngine, own_engine
from support.processes import Server

GPUS = [f"GPU-00000000-0000-0000-0000-00000000000{number}" for number in (1, 2)]
ONE = [{"type": "GPU", "value": "1"}]
RUNTIME = "nvidia"


@pytest.fixture
def engine(tmp_path: Path, images: None) -> Iterator[OwnEngine]:
    """An Engine with the runtime."""
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if runc is None:
        pytest.skip("a runtime of its own needs runc")
    with own_engine(tmp_path, f"--add-runtime={RUNTIME}={runc}") as engine:
        yield engine


def gpus_of(resources: list[dict[str, Any]]) -> list[str]:
    """The ids among the resources of a container instance."""
    (gpus,) = [one["stringSetValue"] for one in resources if one["name"] == "GPU"]
    return sorted(gpus)


def test_each_gpu_is_one_tasks_alone(stage: Any, engine: OwnEngine, tmp_path: Path) -> None:
    """Two tasks have one each, there is none for a third before one of them has ended, and nobody sees another's."""
    info = tmp_path / "gpus.json"
    info.write_text(json.dumps({"DriverVersion": "535.104.05", "GPUIDs": GPUS}))
    server: Server = stage.server()
    gpu = {"ECS_ENABLE_GPU_SUPPORT": "true", "LONGSHORE_GPU_INFO_FILE": str(info)}
    stage.agent(server, DOCKER_HOST=engine.url, **gpu)
    tasks = Tasks(server.client(), "default", "gpu")
    (arn,) = tasks.ecs.list_container_instances()["containerInstanceArns"]

    def instance() -> dict[str, Any]:
        answer = tasks.ecs.describe_container_instances(containerInstances=[arn])
        return answer["containerInstances"][0]

    registered = instance()
    attributes = {one["name"]: one.get("value") for one in registered["attributes"]}
    assert "ecs.capability.nvidia-driver-version.535.104.05" in attributes
    assert attributes["ecs.capability.gpu-driver-version"] == "535.104.05"
    assert gpus_of(registered["registeredResources"]) == GPUS

    host = {"networkMode": "host"}
    wanting = container("main", "trap", "7", resourceRequirements=ONE)
    definition = tasks.define(wanting, container("aside", "trap", "0"), **host)
    arns = [tasks.run(definition) for _ in GPUS]
    given = []
    for one in arns:
        told = {c["name"]: c for c in tasks.wait(one, "RUNNING")["containers"]}
        (identity,) = told["main"]["gpuIds"]
        assert "gpuIds" not in told["aside"]
        given.append(identity)
        label = f"{docker.LABEL}container-name"
        real = {c["Config"]["Labels"][label]: c for c in engine.of_task(one)}
        assert docker.environment(real["main"])["NVIDIA_VISIBLE_DEVICES"] == identity
        assert real["main"]["HostConfig"]["Runtime"] == RUNTIME
        assert "NVIDIA_VISIBLE_DEVICES" not in docker.environment(real["aside"])
        assert real["aside"]["HostConfig"]["Runtime"] == "runc"
        process = Path(f"/proc/{real['main']['State']['Pid']}/environ")
        assert f"NVIDIA_VISIBLE_DEVICES={identity}" in process.read_text().split("\0")
    assert sorted(given) == GPUS
    assert gpus_of(instance()["remainingResources"]) == []

    (failure,) = tasks.request(definition)["failures"]
    assert failure["reason"] == "RESOURCE:GPU" and failure["arn"] == arn
    # Who needs none is not kept out.
    tasks.stop(tasks.start(container(), family="plain", **host))
    tasks.stop(arns[0])
    assert gpus_of(instance()["remainingResources"]) == given[:1]
    third = tasks.wait(tasks.run(definition), "RUNNING")
    assert [c["gpuIds"] for c in third["containers"] if c["name"] == "main"] == [given[:1]]
