"""The front door: `longshore up`, `env`, `down` (issue items 1 and 2)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import (
    BINARY,
    LOGS,
    ROOT,
    AwsCli,
    clean_environment,
    ecs_client,
    exported,
    read_json,
    wait_for_instances,
)
from support.waiting import until

pytestmark = [pytest.mark.usefixtures("images"), pytest.mark.timeout(150)]


class Up:
    """One data directory brought up and down by the commands alone."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.instances: set[str] = set()

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `longshore …` to its end."""
        output = self.data.parent / "output"
        with output.open("wb") as file:
            # A file, not a pipe: what stays in the background must not hold us up.
            done = subprocess.run(
                [str(BINARY), *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=90,
                env=clean_environment(ECS_IMAGE_PULL_BEHAVIOR="prefer-cached"),
            )
        text = output.read_text(errors="replace")
        assert not check or done.returncode == 0, f"longshore {' '.join(arguments)}:\n{text}"
        return subprocess.CompletedProcess(done.args, done.returncode, text, "")

    def up(self, *more: str) -> Any:
        """`longshore up --detach`; a client of what is up then."""
        for name in ("server", "agent"):
            LOGS[f"{name} of up"] = self.data / "log" / f"{name}.log"
        listen = "127.0.0.1:0"
        if facts := read_json(self.data / "server.json"):
            listen = facts["endpoint"].removeprefix("http://")
        self.command("up", "--detach", "--data-dir", str(self.data), "--listen", listen, *more)
        ecs = self.client()
        arns = ecs.list_container_instances()["containerInstanceArns"]
        self.instances |= set(arns)
        return ecs

    def client(self) -> Any:
        """A boto3 client by the files of the data directory."""
        facts = read_json(self.data / "server.json")
        assert facts, "no server.json: nothing is up"
        return ecs_client(facts["endpoint"], read_json(self.data / "root-access-key") or {})

    def down(self, *more: str) -> None:
        """`longshore down`."""
        self.command("down", "--data-dir", str(self.data), *more)

    def processes(self) -> list[int]:
        """Processes whose command line or environment names our data directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                facts = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                program = os.readlink(entry / "exe")
            except OSError:
                continue
            if str(self.data).encode() in facts and Path(program).name == BINARY.name:
                found.append(int(entry.name))
        return found

    def clean(self) -> None:
        """Whatever a failed test left."""
        if self.processes():
            self.command("down", "--data-dir", str(self.data), check=False)
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        docker.remove(docker.ids_of_instances(sorted(self.instances)))
        for name in ("server", "agent"):
            LOGS.pop(f"{name} of up", None)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Up]:
    """A data directory for `up`."""
    up = Up(tmp_path / "data")
    yield up
    up.clean()


@pytest.fixture
def outsiders() -> Iterator[list[str]]:
    """Containers that are none of our business, one of them with labels like ours."""
    elsewhere = "arn:aws:ecs:us-east-1:111122223333:container-instance/default/" + "e" * 32
    labels = [
        [],
        ["--label", f"{docker.LABEL}cluster=default", "--label", f"{docker.LABEL}task-arn=x"],
        ["--label", f"{docker.INSTANCE_LABEL}={elsewhere}"],
    ]
    ids = [docker.docker("run", "--detach", *each, docker.TOOL).strip() for each in labels]
    yield ids
    docker.docker("rm", "--force", *ids, check=False)


def running(ids: list[str]) -> list[bool]:
    """Which of these containers run."""
    return [one["State"]["Running"] for one in docker.inspect(*ids)]


def of(ecs: Any) -> Tasks:
    """Tasks of the default cluster."""
    return Tasks(ecs, "default", "up")


def test_up_env_run_down(front: Up, outsiders: list[str], tmp_path: Path) -> None:
    """The tour: one command, the AWS CLI, a container; then down, and nothing else is touched."""
    ecs = front.up()
    (instance,) = wait_for_instances(ecs, "default", 1)
    assert ":us-east-1:000000000000:" in instance["containerInstanceArn"], "the defaults"
    environment = exported(front.data)
    facts = read_json(front.data / "server.json") or {}
    assert environment["AWS_ENDPOINT_URL_ECS"] == facts["endpoint"]
    assert "AWS_ENDPOINT_URL" not in environment, "other services keep going where they went"

    aws = AwsCli(front.data, tmp_path)
    containers = json.dumps([container("main", "trap", "7")])
    aws("register-task-definition", "--family", "up", "--container-definitions", containers)
    run = aws("run-task", "--task-definition", "up", "--count", "2")
    arns = [task["taskArn"] for task in run["tasks"]]
    for arn in arns:
        of(ecs).wait(arn, "RUNNING")
    ours = [docker.of_task(arn)["main"]["Id"] for arn in arns]
    assert running(ours) == [True, True]

    front.down()
    assert running(ours) in ([False, False], []), "its tasks are stopped"
    assert running(outsiders) == [True, True, True]
    assert not (front.data / "server.json").exists()
    until(lambda: not front.processes(), "no process left", 10)


def test_a_second_up_is_quick_and_changes_nothing(front: Up) -> None:
    ecs = front.up()
    arn = of(ecs).start(container())
    before = docker.of_task(arn)["main"]
    processes = front.processes()
    began = time.monotonic()
    ecs = front.up()
    assert time.monotonic() - began < 5
    after = docker.of_task(arn)["main"]
    assert (after["Id"], after["State"]["StartedAt"]) == (
        before["Id"],
        before["State"]["StartedAt"],
    )
    assert front.processes() == processes
    assert of(ecs).describe(arn)["lastStatus"] == "RUNNING"
    assert len(front.instances) == 1


def test_a_definition_file_is_run_and_shown(front: Up, tmp_path: Path) -> None:
    """`--run FILE`: the task's life and its output; once more, and nothing is added."""
    file = tmp_path / "definition.json"
    definition = {"family": "shown", "containerDefinitions": [container("main", "listen", "80")]}
    file.write_text(json.dumps(definition))
    ecs = front.up("--run", str(file))
    text = (tmp_path / "output").read_text()
    assert "task-definition/shown:1" in text and "RUNNING" in text, text
    (arn,) = of(ecs).listed(family="shown")
    before = docker.of_task(arn)["main"]
    ecs = front.up("--run", str(file))
    assert of(ecs).listed(family="shown") == [arn]
    assert docker.of_task(arn)["main"]["State"]["StartedAt"] == before["State"]["StartedAt"]
    revisions = ecs.list_task_definitions(familyPrefix="shown")["taskDefinitionArns"]
    assert len(revisions) == 1

    definition["family"] = "said"
    definition["containerDefinitions"] = [container("main", "say", "ahoy")]
    file.write_text(json.dumps(definition))
    front.up("--run", str(file))
    text = (tmp_path / "output").read_text()
    assert "word ahoy" in text and "STOPPED" in text, text


def test_the_example_is_what_the_tour_says(front: Up) -> None:
    """The issue's definition with the example's own image, as `make up` runs it."""
    file = ROOT / "examples" / "producer-consumer" / "f_producer.json"
    (definition,) = json.loads(file.read_text())["containerDefinitions"]
    if not docker.docker("image", "ls", "--quiet", definition["image"]):
        pytest.skip("the example's image is not built (make example-image)")
    ecs = front.up("--run", str(file))
    (arn,) = of(ecs).listed(family="f_producer")
    seen = docker.of_task(arn)["producer"]
    assert seen["HostConfig"]["Memory"] == 50 << 20 and seen["HostConfig"]["CpuShares"] == 50
    assert docker.environment(seen)["MODE"] == "producer"
    shown = (front.data.parent / "output").read_text()
    assert docker.logs(seen).splitlines()[0] in shown, shown


def test_tasks_can_be_kept_and_are_taken_over(front: Up) -> None:
    """`down --keep-tasks`, then `up` again on the same data directory."""
    ecs = front.up()
    arn = of(ecs).start(container())
    before = docker.of_task(arn)["main"]
    front.down("--keep-tasks")
    until(lambda: not front.processes(), "no process left", 10)
    assert running([before["Id"]]) == [True]
    ecs = front.up()
    wait_for_instances(ecs, "default", 1)
    task = of(ecs).describe(arn)
    assert task["lastStatus"] == "RUNNING"
    assert task["containers"][0]["runtimeId"] == before["Id"]
    assert docker.of_task(arn)["main"]["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert len(front.instances) == 1, "the same agent is the same instance"
    of(ecs).stop(arn)


def test_up_after_down_keeps_the_record(front: Up) -> None:
    """Stopped tasks stay describable for at least an hour (ECS-SEMANTICS 4)."""
    ecs = front.up()
    arn = of(ecs).start(container("main", "trap", "7"))
    front.down()
    ecs = front.up()
    task = of(ecs).wait(arn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 7


def test_down_without_anything_up_is_no_error(front: Up) -> None:
    front.data.mkdir()
    front.down()


def test_without_a_server_there_is_nothing_to_export(front: Up) -> None:
    """`eval "$(longshore env)"` then changes nothing, and the message says what to do."""
    done = subprocess.run(
        [str(BINARY), "env", "--data-dir", str(front.data)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=20,
    )
    assert done.returncode not in (0, 101) and done.stdout == ""
    assert f" up --data-dir {front.data}" in done.stderr


def test_a_taken_address_is_named_and_nothing_stays(front: Up) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        arguments = ["--detach", "--data-dir", str(front.data), "--listen", address]
        done = front.command("up", *arguments, check=False)
    assert done.returncode not in (0, 101)
    assert address in done.stdout
    until(lambda: not front.processes(), "no process left", 10)


def test_another_number_of_instances_is_not_ignored(front: Up) -> None:
    """What runs stays as it is, and the command says that it is not what was asked for."""
    front.up()
    arguments = ["up", "--detach", "--data-dir", str(front.data), "--instances", "2"]
    done = front.command(*arguments, check=False)
    assert done.returncode not in (0, 101) and "instance" in done.stdout
    assert len(wait_for_instances(front.client(), "default", 1)) == 1


def test_ctrl_c_in_the_foreground_leaves_the_tasks(front: Up) -> None:
    """And `down` afterwards finds their containers by label, with nobody running."""
    log = front.data.parent / "foreground"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(BINARY), "up", "--data-dir", str(front.data), "--listen", "127.0.0.1:0"],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=clean_environment(ECS_IMAGE_PULL_BEHAVIOR="prefer-cached"),
            start_new_session=True,
        )
    try:
        until(lambda: (front.data / "server.json").exists(), "a listening server", 30)
        (instance,) = wait_for_instances(front.client(), "default", 1)
        front.instances.add(instance["containerInstanceArn"])
        arn = of(front.client()).start(container())
        ours = [docker.of_task(arn)["main"]["Id"]]
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0, log.read_text()
    finally:
        child.kill()
        child.wait()
    until(lambda: not front.processes(), "no process left", 10)
    assert running(ours) == [True]
    front.down()
    assert running(ours) in ([False], [])


def test_up_after_the_supervisor_was_killed(front: Up) -> None:
    """Whatever it left behind is found: one server, one agent, the same task."""
    ecs = front.up()
    arn = of(ecs).start(container())
    before = docker.of_task(arn)["main"]["State"]["StartedAt"]
    record = read_json(front.data / "up.json") or {}
    os.kill(record["supervisor"]["pid"], signal.SIGKILL)
    ecs = front.up()
    wait_for_instances(ecs, "default", 1)
    assert of(ecs).describe(arn)["lastStatus"] == "RUNNING"
    assert docker.of_task(arn)["main"]["State"]["StartedAt"] == before
    until(lambda: len(front.processes()) == 3, "a supervisor, a server, an agent", 20)
    assert len(front.instances) == 1
    front.down()
    until(lambda: not front.processes(), "no process left", 10)


def test_three_instances_on_one_engine_share_the_ports(front: Up) -> None:
    """Host ports belong to the host (DESIGN 4); everything else is each instance's own."""
    ecs = front.up("--instances", "3")
    instances = wait_for_instances(ecs, "default", 3)
    hosts = {
        next(each["value"] for each in one["attributes"] if each["name"] == "longshore.host-id")
        for one in instances
    }
    assert len(hosts) == 1 and len(front.instances) == 3
    tasks = of(ecs)
    port = {"containerPort": 80, "hostPort": 21987}
    definition = tasks.define(container(portMappings=[port]))
    first = tasks.run(definition)
    tasks.wait(first, "RUNNING")
    failures = tasks.request(definition)["failures"]
    assert {one["reason"] for one in failures} == {"RESOURCE:PORTS"}
    assert {one["arn"] for one in failures} == front.instances
    plain = tasks.define(container(memory=8), family="up-plain")
    arns = [t["taskArn"] for _ in range(2) for t in tasks.request(plain, count=10)["tasks"]]
    homes = {tasks.wait(arn, "RUNNING", 60)["containerInstanceArn"] for arn in arns}
    assert len(homes) > 1, "20 at random over three: 3 × (1/3)^20 for one alone"
    for arn in arns:
        label = docker.of_task(arn)["main"]["Config"]["Labels"][docker.INSTANCE_LABEL]
        assert label == tasks.describe(arn)["containerInstanceArn"]
    front.down()
    left = [alive for alive in running(docker.ids_of_instances(sorted(front.instances))) if alive]
    assert left == []


@pytest.mark.parametrize("victim", ["server", "agent"])
def test_a_child_that_dies_comes_back(front: Up, victim: str) -> None:
    """`up` supervises both; the task does not notice (restarted with back-off)."""
    ecs = front.up()
    arn = of(ecs).start(container())
    before = docker.of_task(arn)["main"]
    pid = next(
        pid
        for pid in front.processes()
        if victim.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        others = [
            other
            for other in front.processes()
            if other != pid
            and victim.encode() in Path(f"/proc/{other}/cmdline").read_bytes().split(b"\0")
        ]
        return bool(others)

    until(back, f"a new {victim}", 20)
    until(lambda: (read_json(front.data / "server.json") or {}).get("pid") != pid, "its address")

    def serves() -> bool:
        try:
            wait_for_instances(front.client(), "default", 1)
            return of(front.client()).describe(arn)["lastStatus"] == "RUNNING"
        except Exception:  # nobody listens yet
            return False

    until(serves, "everything as before", 30)
    after = docker.of_task(arn)["main"]
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert of(front.client()).start(container())
