"""Capacity providers: ECS's API around them, and one that starts and removes agents for its tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import own_account
from support import docker
from support.ecs import Tasks, container, refused
from support.processes import BINARY, AwsCli, Server
from support.waiting import until

LAUNCHER = Path(__file__).parents[1] / "examples/launchers/local/launcher.py"
# Two tasks of this size fill a machine.
MACHINE_CPU, TASK_CPU = 1024, 512


class Launched:
    """A server with a launcher `local`, and a cluster whose tasks go to its provider `burst`."""

    def __init__(self, folder: Path, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "machines"
        options = [f"--launcher=local:0-4={LAUNCHER}", "--scale-in-after=5s"]
        self.server = Server(folder, account, *options)
        for name, value in {
            "LAUNCHER_HOME": str(self.home),
            "LAUNCHER_DATA_DIR": str(self.server.data),
            "LAUNCHER_LONGSHORE": str(BINARY),
            "LAUNCHER_CPU": str(MACHINE_CPU),
            "LAUNCHER_MEMORY": "256",
        }.items():
            monkeypatch.setenv(name, value)
        self.server.start()
        self.ecs = self.server.client()
        self.ecs.create_cluster(clusterName="default")

    def provide(self, **scaling: Any) -> None:
        """Makes the provider, and the cluster's default strategy of it."""
        self.ecs.create_capacity_provider(
            name="burst",
            autoScalingGroupProvider={
                "autoScalingGroupArn": "local",
                "managedScaling": {"status": "ENABLED", "instanceWarmupPeriod": 20, **scaling},
                "managedTerminationProtection": "ENABLED",
            },
        )
        self.ecs.put_cluster_capacity_providers(
            cluster="default",
            capacityProviders=["burst"],
            defaultCapacityProviderStrategy=[{"capacityProvider": "burst", "weight": 1}],
        )

    def instances(self) -> list[dict[str, Any]]:
        """Those in service."""
        arns = self.ecs.list_container_instances(cluster="default")["containerInstanceArns"]
        if not arns:
            return []
        found = self.ecs.describe_container_instances(cluster="default", containerInstances=arns)
        return found["containerInstances"]

    def machines(self) -> list[str]:
        """The machines that the launcher keeps."""
        return [path.name for path in self.home.glob("*-*")]

    def close(self) -> None:
        """Ends the server, and whatever agents are left."""
        self.server.kill()
        for folder in self.home.glob("*-*"):
            try:
                os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass
        docker.remove(docker.ids_of_account(self.server.account))


@pytest.fixture
def launched(
    tmp_path: Path, account: str, images: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Launched]:
    launched = Launched(tmp_path, own_account(account), monkeypatch)
    yield launched
    launched.close()


@pytest.mark.timeout(300)
def test_from_no_machine_to_some_and_back(launched: Launched, family: str) -> None:
    """Five tasks of half a machine each: three machines come, and go when the tasks have ended."""
    launched.provide()
    tasks = Tasks(launched.ecs, "default", family)
    definition = tasks.define(container("main", "sleep", "600", cpu=TASK_CPU, memory=32))
    made = tasks.request(definition, count=5)
    assert not made["failures"]
    arns = [task["taskArn"] for task in made["tasks"]]
    for task in made["tasks"]:
        assert (task["lastStatus"], task["capacityProviderName"]) == ("PROVISIONING", "burst")
        assert "containerInstanceArn" not in task
    for arn in arns:
        tasks.wait(arn, "RUNNING", within=90)
    instances = launched.instances()
    assert len(instances) == 3 and len(launched.machines()) == 3
    assert {instance["capacityProviderName"] for instance in instances} == {"burst"}

    # The server is gone and comes back in between: it goes on where it was.
    kept = arns.pop()
    for arn in arns:
        tasks.stop(arn)
    launched.server.end(signal.SIGKILL)
    launched.server.start()
    until(lambda: len(launched.machines()) == 1, "the machines without tasks to be removed", 120)
    (left,) = launched.instances()
    assert left["containerInstanceArn"] == tasks.describe(kept)["containerInstanceArn"]
    assert tasks.describe(kept)["lastStatus"] == "RUNNING"
    tasks.stop(kept)
    until(lambda: not launched.machines(), "the last machine to be removed", 90)
    assert launched.instances() == []
    launched.ecs.put_cluster_capacity_providers(
        cluster="default", capacityProviders=[], defaultCapacityProviderStrategy=[]
    )
    gone = launched.ecs.delete_capacity_provider(capacityProvider="burst")["capacityProvider"]
    assert (gone["status"], gone["updateStatus"]) == ("INACTIVE", "DELETE_COMPLETE")


@pytest.mark.timeout(200)
def test_a_launcher_that_fails_is_seen_and_asked_again(launched: Launched, family: str) -> None:
    """What it complains about is in `updateStatusReason`; once it can, the task runs."""
    launched.home.write_text("in the way of the directory")
    launched.provide(minimumScalingStepSize=1)
    tasks = Tasks(launched.ecs, "default", family)
    arn = tasks.run(tasks.define(container("main", "sleep", "600", cpu=TASK_CPU, memory=32)))

    def trouble() -> str | None:
        (found,) = launched.ecs.describe_capacity_providers(capacityProviders=["burst"])[
            "capacityProviders"
        ]
        return found.get("updateStatusReason")

    reason = until(trouble, "the launcher's failure to be told", 30)
    assert "local failed" in reason and "FileExistsError" in reason
    launched.home.unlink()
    tasks.wait(arn, "RUNNING", within=90)
    assert trouble() is None
    assert len(launched.machines()) == 1
    tasks.stop(arn)


def test_the_command_line_of_aws_makes_and_deletes_them(
    ecs: Any, aws: AwsCli, cluster: str, family: str
) -> None:
    """Every account has FARGATE; one of one's own needs a launcher only if it is to scale."""
    group = "autoScalingGroupArn=by-hand"
    made = aws(
        "create-capacity-provider", "--name", family, "--auto-scaling-group-provider", group
    )
    assert made["capacityProvider"]["status"] == "ACTIVE"
    listed = aws("describe-capacity-providers")["capacityProviders"]
    assert {"FARGATE", "FARGATE_SPOT", family} <= {one["name"] for one in listed}
    message = refused(
        ecs.update_capacity_provider,
        "InvalidParameterException",
        name=family,
        autoScalingGroupProvider={"managedScaling": {"status": "ENABLED"}},
    )
    assert "--launcher by-hand=" in message
    putting = ["put-cluster-capacity-providers", "--cluster", cluster, "--capacity-providers"]
    strategy = ["--default-capacity-provider-strategy"]
    aws(*putting, family, *strategy, f"capacityProvider={family},weight=1")
    failed = aws("delete-capacity-provider", "--capacity-provider", family)["capacityProvider"]
    assert failed["updateStatus"] == "DELETE_FAILED"
    ecs.put_cluster_capacity_providers(
        cluster=cluster, capacityProviders=[], defaultCapacityProviderStrategy=[]
    )
    deleted = aws("delete-capacity-provider", "--capacity-provider", family)["capacityProvider"]
    assert deleted["status"] == "INACTIVE"


@pytest.fixture
def launcher(tmp_path: Path) -> Callable[..., str]:
    """Runs the example's launcher as a server does; its agents sleep."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "server.json").write_text('{"endpoint": "http://127.0.0.1:1", "region": "us-east-1"}')
    (data / "root-access-key").write_text('{"accessKeyId": "A", "secretAccessKey": "B"}')
    sleeper = tmp_path / "longshore"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    home = tmp_path / "machines"
    environment = os.environ | {
        "LAUNCHER_HOME": str(home),
        "LAUNCHER_DATA_DIR": str(data),
        "LAUNCHER_LONGSHORE": str(sleeper),
    }

    def launch(order: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(LAUNCHER), *arguments],
            input=order,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return launch


def test_the_launcher_starts_a_machine_once(launcher: Callable[..., str]) -> None:
    """An order that comes again finds its machines; what is removed twice is gone already."""
    add = (
        '{"action": "add", "orderId": "7", "count": 2, "cluster": "c", "instanceAttributes": {}}',
        "add",
        "2",
    )
    assert launcher(*add).count("started") == 2
    assert launcher(*add).count("runs already") == 2
    removal = (
        '{"action": "remove", "orderId": "8", "containerInstances": '
        '[{"attributes": {"machine": "7-0"}}, {"attributes": {"machine": "7-1"}}]}'
    )
    assert launcher(removal, "remove", "a", "b").count("removed") == 2
    assert launcher(removal, "remove", "a", "b").count("there is no machine") == 2


def test_the_launcher_deletes_no_folder_but_a_machines(
    launcher: Callable[..., str], tmp_path: Path
) -> None:
    """What an agent says of its machine is no path; a process's number may be another's by now."""
    precious = tmp_path / "precious"
    precious.mkdir()
    for name in ("", "/", ".", "..", "../precious", str(precious), "7-0/..", "lock", "7-0\n"):
        order = {"action": "remove", "containerInstances": [{"attributes": {"machine": name}}]}
        assert "there is no machine" in launcher(json.dumps(order), "remove", "a"), name
    assert precious.is_dir() and (tmp_path / "machines/lock").is_file()
    machine = tmp_path / "machines/7-0"
    machine.mkdir()
    (machine / "pid").write_text("1")
    order = {"action": "remove", "containerInstances": [{"attributes": {"machine": "7-0"}}]}
    assert "7-0 removed" in launcher(json.dumps(order), "remove", "a")
