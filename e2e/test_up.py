"""The front door: `longshore up`, `env`, `down` (issue items 1 and 2)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support import docker
from support.ecs import container
from support.processes import (
    BINARY,
    ROOT,
    AwsCli,
    clean_environment,
    ecs_client,
    exported,
    read_json,
    wait_for_instances,
)
from support.up import Up, of, running
from support.waiting import until

pytestmark = [pytest.mark.usefixtures("images"), pytest.mark.timeout(150)]


def test_up_env_run_down(front: Up, outsiders: list[str], tmp_path: Path) -> None:
    """The tour: one command, the AWS CLI, a container; then down, and nothing else is touched."""
    ecs = front.up()
    (instance,) = wait_for_instances(ecs, "default", 1)
    assert ":us-east-1:000000000000:" in instance["containerInstanceArn"], "the defaults"
    environment = exported(front.data)
    facts = read_json(front.data / "server.json") or {}
    assert environment["AWS_ENDPOINT_URL_ECS"] == facts["endpoint"]
    assert environment["AWS_ENDPOINT_URL_STS"] == facts["endpoint"]
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


def test_a_task_that_cannot_start_makes_run_fail(front: Up, tmp_path: Path) -> None:
    """`--run FILE` is for scripts too: they learn from the exit code that nothing runs."""
    file = tmp_path / "definition.json"
    broken = container("main") | {"entryPoint": ["/no/such/program"], "command": []}
    file.write_text(json.dumps({"family": "broken", "containerDefinitions": [broken]}))
    front.up()
    arguments = ("up", "--detach", "--data-dir", str(front.data), "--run", str(file))
    done = front.command(*arguments, check=False)
    assert done.returncode != 0
    assert "CannotStartContainerError" in done.stdout and "did not start" in done.stdout


def test_up_waits_for_an_agent_that_does_not_come_back(front: Up) -> None:
    """A second `up` never calls an instance connected whose agent ends at every start."""
    front.up()
    with (front.data / "ecs.config").open("a") as config:
        config.write("ECS_CONTAINER_STOP_TIMEOUT=nonsense\n")
    record = read_json(front.data / "up.json") or {}
    os.kill(record["agent"]["pid"], signal.SIGKILL)
    until(lambda: not (read_json(front.data / "up.json") or {})["ready"], "the end is noticed", 10)
    done = front.command("up", "--detach", "--data-dir", str(front.data), check=False)
    assert done.returncode != 0, done.stdout
    assert "is connected" not in done.stdout and "nonsense" in done.stdout


def test_a_data_directory_keeps_its_region(front: Up) -> None:
    """Region and account stand in every ARN; another one is refused with the flags to pass."""
    front.up()
    front.down()
    done = front.command(
        "server", "--data-dir", str(front.data), "--listen", "127.0.0.1:0", "--region", "eu-west-1",
        check=False,
    )
    assert done.returncode != 0
    assert "--region us-east-1 --account-id 000000000000" in done.stdout


def agent_environment(front: Up) -> bytes:
    """What the agent was told by its environment."""
    record = read_json(front.data / "up.json") or {}
    return Path(f"/proc/{record['agent']['pid']}/environ").read_bytes()


def test_the_agent_has_a_key_of_its_own(front: Up) -> None:
    """Beside the containers lies no key that may do everything."""
    front.up()
    owner = read_json(front.data / "root-access-key") or {}
    identity = front.data / "agent" / "identity.json"
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600
    machine = json.loads(identity.read_text())
    assert machine["accessKeyId"].startswith("LSIN")
    assert owner["secretAccessKey"].encode() not in agent_environment(front)
    ecs = ecs_client(machine["server"], machine)
    with pytest.raises(ClientError) as refused:
        ecs.list_clusters()
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"


def test_settings_are_remembered(front: Up) -> None:
    """`up` needs to be told only what changes; running differently is said in flags."""
    front.up("--instances", "2", "--memory", "64,128")
    listen = (read_json(front.data / "server.json") or {})["endpoint"]
    up = ("up", "--detach", "--data-dir", str(front.data))
    other = front.command(*up, "--memory", "64", check=False)
    assert other.returncode != 0 and "--memory 64,128, not with --memory 64" in other.stdout
    front.down()
    front.command(*up)
    assert (read_json(front.data / "server.json") or {})["endpoint"] == listen
    instances = wait_for_instances(front.client(), "default", 2)
    memory = {
        next(one["integerValue"] for one in each["registeredResources"] if one["name"] == "MEMORY")
        for each in instances
    }
    assert memory == {64, 128}
    front.down()
    front.command(*up, "--memory=", "--instances", "1")
    record = read_json(front.data / "up.json") or {}
    assert (record["memory"], record["instances"]) == (None, 1)


def test_the_same_definition_is_registered_once(front: Up, tmp_path: Path) -> None:
    """Also after `down`: `make up` again and again makes no revision after another."""
    file = tmp_path / "definition.json"
    for revisions, memory in [(1, 16), (1, 16), (2, 24)]:
        containers = [container("main", "listen", "80", memory=memory)]
        file.write_text(json.dumps({"family": "once", "containerDefinitions": containers}))
        ecs = front.up("--run", str(file))
        registered = ecs.list_task_definitions(familyPrefix="once")["taskDefinitionArns"]
        assert len(registered) == revisions
        front.down()


def test_up_over_tls_and_back(front: Up, tmp_path: Path) -> None:
    """With its own authority, and back to plain HTTP: the machine follows."""
    arn = of(front.up()).start(container())
    before = docker.of_task(arn)["main"]
    front.down("--keep-tasks")
    front.command("up", "--detach", "--data-dir", str(front.data), "--tls")
    environment = exported(front.data)
    assert environment["AWS_ENDPOINT_URL_ECS"].startswith("https://127.0.0.1:")
    aws = AwsCli(front.data, tmp_path)
    (listed,) = aws("list-container-instances")["containerInstanceArns"]
    assert {listed} == front.instances, "the same instance as before"
    assert aws("describe-tasks", "--tasks", arn)["tasks"][0]["lastStatus"] == "RUNNING"
    front.down("--keep-tasks")
    front.command("up", "--detach", "--data-dir", str(front.data), "--tls=false")
    assert of(front.client()).describe(arn)["lastStatus"] == "RUNNING"
    assert docker.of_task(arn)["main"]["State"]["StartedAt"] == before["State"]["StartedAt"]


def test_plain_http_beyond_this_machine_is_refused_at_once(front: Up) -> None:
    arguments = ("up", "--detach", "--data-dir", str(front.data), "--listen", "0.0.0.0:0")
    refused = front.command(*arguments, check=False)
    assert refused.returncode != 0 and "--tls" in refused.stdout and "--insecure" in refused.stdout
    assert not (front.data / "up.json").exists(), "nothing was started"


def test_an_agent_that_is_refused_for_good_is_not_started_again(front: Up) -> None:
    """Its instance was deregistered: `up` says why, and what to do."""
    ecs = front.up()
    (arn,) = front.instances
    ecs.deregister_container_instance(containerInstance=arn, force=True)
    front.down()
    refused = front.command("up", "--detach", "--data-dir", str(front.data), check=False)
    assert refused.returncode != 0 and "delete" in refused.stdout and "agent.redb" in refused.stdout
    assert front.processes() == []
    (front.data / "agent" / "agent.redb").unlink()
    front.up()
    wait_for_instances(front.client(), "default", 1)


def test_an_upgrade_in_place_takes_running_tasks_over(front: Up, tmp_path: Path) -> None:
    """Another executable on the same data directory: its own processes, the same tasks."""
    arn = of(front.up()).start(container())
    before = docker.of_task(arn)["main"]
    record = read_json(front.data / "up.json") or {}
    os.kill(record["supervisor"]["pid"], signal.SIGKILL)
    newer = tmp_path / BINARY.name
    shutil.copy(BINARY, newer)
    done = subprocess.run(
        [str(newer), "up", "--detach", "--data-dir", str(front.data)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=60,
        env=clean_environment(ECS_IMAGE_PULL_BEHAVIOR="prefer-cached"),
    )
    assert done.returncode == 0
    record = read_json(front.data / "up.json") or {}
    for name in ("supervisor", "server", "agent"):
        assert os.readlink(f"/proc/{record[name]['pid']}/exe") == str(newer)
    assert of(front.client()).describe(arn)["lastStatus"] == "RUNNING"
    assert docker.of_task(arn)["main"]["State"]["StartedAt"] == before["State"]["StartedAt"]
    of(front.client()).stop(arn)
