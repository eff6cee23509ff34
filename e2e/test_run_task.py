"""RunTask on a real Docker Engine: AWS CLI in, container out, `docker inspect` as the witness."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from support import docker
from support.ecs import ORDER, Tasks, container, named
from support.processes import AwsCli, Server
from support.waiting import until

pytestmark = pytest.mark.usefixtures("agent")


def free_port() -> int:
    """A port that nobody listens on, below the range of the dynamic ones."""
    for port in range(21000, 22000):
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")


def hello(port: int) -> bool:
    """Whether the test program answers on a port of this host."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(16) == b"hello\n"
    except OSError:
        return False


def test_the_first_real_task(aws: AwsCli, server: Server, json_file: Callable[[Any], str]) -> None:
    """The issue's own definition: AWS CLI in, a Docker container out."""
    source = {
        "family": "f_producer",
        "containerDefinitions": [
            {
                "name": "producer",
                "image": docker.TOOL,
                "cpu": 50,
                "memory": 50,
                "essential": True,
                "environment": [{"name": "MODE", "value": "producer"}],
            }
        ],
    }
    aws("register-task-definition", "--cli-input-json", json_file(source))
    run = aws("run-task", "--task-definition", "f_producer")
    assert run["failures"] == []
    arn = run["tasks"][0]["taskArn"]
    aws("wait", "tasks-running", "--tasks", arn)

    (task,) = aws("describe-tasks", "--tasks", arn)["tasks"]
    assert task["lastStatus"] == task["desiredStatus"] == "RUNNING"
    (seen,) = docker.of_task(arn).values()
    assert seen["State"]["Running"]
    assert task["containers"][0]["runtimeId"] == seen["Id"]
    assert seen["Config"]["Image"] == docker.TOOL
    host = seen["HostConfig"]
    assert host["Memory"] == 50 << 20
    assert host["CpuShares"] == 50
    assert host["NetworkMode"] in ("bridge", "default")
    assert docker.environment(seen)["MODE"] == "producer"
    assert re.fullmatch(r"/ecs-f_producer-1-producer-[0-9a-f]{20}", seen["Name"])
    labels = seen["Config"]["Labels"]
    assert labels == labels | {
        docker.LABEL + "task-arn": arn,
        docker.LABEL + "container-name": "producer",
        docker.LABEL + "task-definition-family": "f_producer",
        docker.LABEL + "task-definition-version": "1",
        docker.LABEL + "cluster": "default",
        docker.INSTANCE_LABEL: task["containerInstanceArn"],
    }

    stopped = aws("stop-task", "--task", arn, "--reason", "seen enough")["task"]
    assert stopped["desiredStatus"] == "STOPPED"
    aws("wait", "tasks-stopped", "--tasks", arn)
    (task,) = aws("describe-tasks", "--tasks", arn)["tasks"]
    assert task["stopCode"] == "UserInitiated" and task["stoppedReason"] == "seen enough"
    assert task["containers"][0]["exitCode"] == 143
    assert not docker.of_task(arn)["producer"]["State"]["Running"]
    assert arn.startswith(f"arn:aws:ecs:us-east-1:{server.account}:task/default/")


def test_the_waiters_of_boto3_end(tasks: Tasks) -> None:
    arn = tasks.run(tasks.define(container("main", "exit", "0", "500")))
    pace = {"Delay": 1, "MaxAttempts": 30}
    tasks.ecs.get_waiter("tasks_stopped").wait(cluster="default", tasks=[arn], WaiterConfig=pace)
    arn = tasks.run(tasks.define())
    tasks.ecs.get_waiter("tasks_running").wait(cluster="default", tasks=[arn], WaiterConfig=pace)


def test_ten_copies_are_ten_containers(tasks: Tasks) -> None:
    answer = tasks.request(tasks.define(container(memory=8)), count=10)
    assert len(answer["tasks"]) == 10 and answer["failures"] == []
    arns = [task["taskArn"] for task in answer["tasks"]]
    ids = {tasks.wait(arn, "RUNNING", 60)["containers"][0]["runtimeId"] for arn in arns}
    assert len(ids) == 10
    assert all(one["State"]["Running"] for one in docker.inspect(*ids))


def test_statuses_only_move_forward(tasks: Tasks) -> None:
    """ECS-SEMANTICS 4: lastStatus and desiredStatus never go back, `version` grows."""
    arn = tasks.run(tasks.define(container("main", "exit", "0", "300")))
    seen = tasks.history(arn)
    places = [ORDER.index(task["lastStatus"]) for task in seen]
    assert places == sorted(places)
    desired = [task["desiredStatus"] for task in seen]
    assert desired == sorted(desired), "RUNNING, then STOPPED"
    versions = [task["version"] for task in seen]
    assert versions == sorted(set(versions))


def test_times_are_in_order(tasks: Tasks) -> None:
    arn = tasks.run(tasks.define(container("main", "exit", "3", "300")))
    task = tasks.wait(arn, "STOPPED")
    names = ("createdAt", "startedAt", "executionStoppedAt", "stoppedAt")
    times = [task[name] for name in names]
    assert times == sorted(times), dict(zip(names, times))
    assert task["createdAt"] <= task["connectivityAt"] <= task["stoppedAt"]
    assert task["createdAt"] <= task["stoppingAt"] <= task["stoppedAt"]
    if "pullStartedAt" in task:
        assert task["createdAt"] <= task["pullStartedAt"] <= task["pullStoppedAt"]
        assert task["pullStoppedAt"] <= task["startedAt"]
    assert task["connectivity"] == "CONNECTED"


def test_an_essential_exit_stops_the_siblings_and_keeps_each_exit_code(tasks: Tasks) -> None:
    arn = tasks.run(
        tasks.define(
            container("worker", "exit", "5", "500"),
            container("guard", "trap", "9"),
            container("helper", "trap", "11", essential=False),
        )
    )
    task = tasks.wait(arn, "STOPPED")
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    codes = {name: one["exitCode"] for name, one in named(task).items()}
    assert codes == {"worker": 5, "guard": 9, "helper": 11}
    assert {one["lastStatus"] for one in task["containers"]} == {"STOPPED"}
    for name, one in docker.of_task(arn).items():
        assert one["State"]["ExitCode"] == codes[name]


def test_a_non_essential_exit_leaves_the_task_running(tasks: Tasks) -> None:
    """The exit is reported with a flush tick of the agent, 10 to 30 s (AGENT-PROTOCOL 3.1)."""
    arn = tasks.run(
        tasks.define(container("main"), container("aside", "exit", "4", "200", essential=False))
    )
    tasks.wait(arn, "RUNNING")

    def aside_is_over() -> dict[str, Any] | None:
        one = named(tasks.describe(arn))["aside"]
        return one if one["lastStatus"] == "STOPPED" else None

    assert until(aside_is_over, "the side-car's exit", 40)["exitCode"] == 4
    task = tasks.describe(arn)
    assert task["lastStatus"] == task["desiredStatus"] == "RUNNING"
    assert named(task)["main"]["lastStatus"] == "RUNNING"


def test_command_and_environment_reach_the_program(tasks: Tasks) -> None:
    """Its own output is the witness; `entryPoint` comes from the image when left out."""
    variables = [{"name": "GREETING", "value": "hé=llo $HOME"}, {"name": "EMPTY", "value": ""}]
    arn = tasks.run(
        tasks.define(container("main", "say", "one two", "three", environment=variables))
    )
    assert tasks.wait(arn, "STOPPED")["containers"][0]["exitCode"] == 0
    printed = docker.logs(docker.of_task(arn)["main"]).splitlines()
    assert printed[:2] == ["word one two", "word three"]
    assert "env GREETING=hé=llo $HOME" in printed and "env EMPTY=" in printed


def test_an_entry_point_replaces_the_image_s(tasks: Tasks) -> None:
    arn = tasks.run(tasks.define(container("main", "12", entryPoint=["/tool", "exit"])))
    assert tasks.wait(arn, "STOPPED")["containers"][0]["exitCode"] == 12


def test_overrides_merge_as_documented(tasks: Tasks) -> None:
    """Command replaced, environment merged by name, cpu and memory replaced."""
    variables = [{"name": "KEPT", "value": "1"}, {"name": "CHANGED", "value": "old"}]
    definition = tasks.define(
        container("main", "say", "definition", environment=variables),
        container("other", "exit", "0", "500"),
    )
    overrides = {
        "containerOverrides": [
            {
                "name": "main",
                "command": ["say", "override"],
                "environment": [
                    {"name": "CHANGED", "value": "new"},
                    {"name": "ADDED", "value": "2"},
                ],
                "cpu": 77,
                "memory": 33,
            }
        ]
    }
    arn = tasks.run(definition, overrides=overrides)
    task = tasks.wait(arn, "STOPPED")
    told = {one["name"]: one for one in task["overrides"]["containerOverrides"]}
    assert told["main"]["command"] == ["say", "override"]
    seen = docker.of_task(arn)["main"]
    assert docker.logs(seen).splitlines()[0] == "word override"
    environment = docker.environment(seen)
    wanted = {"KEPT": "1", "CHANGED": "new", "ADDED": "2"}
    assert {name: environment.get(name) for name in wanted} == wanted
    assert seen["HostConfig"]["Memory"] == 33 << 20
    assert seen["HostConfig"]["CpuShares"] == 77


def test_a_soft_limit_and_docker_settings_travel(tasks: Tasks) -> None:
    """The translation table of AGENT-PROTOCOL 2.6, as `docker inspect` shows it."""
    definition = container(
        "main",
        memory=64,
        memoryReservation=32,
        cpu=0,
        user="1000:1000",
        workingDirectory="/work",
        hostname="testhost",
        dockerLabels={"team": "red", docker.LABEL + "cluster": "forged"},
        privileged=False,
        readonlyRootFilesystem=True,
        dnsServers=["192.0.2.1"],
        extraHosts=[{"hostname": "db", "ipAddress": "192.0.2.7"}],
        ulimits=[{"name": "nofile", "softLimit": 100, "hardLimit": 200}],
        linuxParameters={
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["MKNOD"]},
            "initProcessEnabled": True,
        },
        logConfiguration={"logDriver": "json-file", "options": {"max-size": "1m"}},
    )
    arn = tasks.start(definition)
    seen = docker.of_task(arn)["main"]
    config, host = seen["Config"], seen["HostConfig"]
    assert (config["User"], config["WorkingDir"], config["Hostname"]) == (
        "1000:1000",
        "/work",
        "testhost",
    )
    assert config["Labels"]["team"] == "red"
    assert config["Labels"][docker.LABEL + "cluster"] == "default", "ECS's labels win"
    assert (host["Memory"], host["MemoryReservation"]) == (64 << 20, 32 << 20)
    assert host["CpuShares"] == 2, "cpu 0 is the least share"
    assert host["ReadonlyRootfs"] is True and host["Privileged"] is False
    assert host["Dns"] == ["192.0.2.1"] and host["ExtraHosts"] == ["db:192.0.2.7"]
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 100, "Hard": 200}]
    assert [cap.removeprefix("CAP_") for cap in host["CapAdd"]] == ["NET_ADMIN"]
    assert [cap.removeprefix("CAP_") for cap in host["CapDrop"]] == ["MKNOD"]
    assert host["Init"] is True
    log_options = {"max-size": "1m", "mode": "non-blocking", "max-buffer-size": "10m"}
    assert host["LogConfig"] == {"Type": "json-file", "Config": log_options}, "ECS's defaults"


def test_a_fixed_port_is_reachable(tasks: Tasks) -> None:
    port = free_port()
    mapping = [{"containerPort": 8080, "hostPort": port}]
    arn = tasks.start(container("main", "listen", "8080", portMappings=mapping))
    assert until(lambda: hello(port), f"an answer on port {port}")
    (binding,) = tasks.describe(arn)["containers"][0]["networkBindings"]
    assert (binding["containerPort"], binding["hostPort"]) == (8080, port)
    assert (binding["protocol"], binding["bindIP"]) == ("tcp", "0.0.0.0")
    tasks.stop(arn)
    assert not hello(port)


def test_dynamic_ports_differ_and_are_reachable(tasks: Tasks) -> None:
    mapping = [{"containerPort": 8080}, {"containerPort": 9090, "protocol": "udp"}]
    definition = tasks.define(container("main", "listen", "8080", portMappings=mapping))
    arns = [task["taskArn"] for task in tasks.request(definition, count=3)["tasks"]]
    ports = []
    for arn in arns:
        bindings = tasks.wait(arn, "RUNNING")["containers"][0]["networkBindings"]
        by_protocol = {one["protocol"]: one for one in bindings}
        assert set(by_protocol) == {"tcp", "udp"}
        port = by_protocol["tcp"]["hostPort"]
        seen = docker.of_task(arn)["main"]["NetworkSettings"]["Ports"]["8080/tcp"]
        assert str(port) in {one["HostPort"] for one in seen}
        assert until(lambda: hello(port), f"an answer on port {port}")
        ports.append(port)
    assert len(set(ports)) == 3


def test_host_mode_shares_the_host_s_network(tasks: Tasks) -> None:
    port = free_port()
    arn = tasks.start(
        container("main", "listen", str(port), portMappings=[{"containerPort": port}]),
        networkMode="host",
    )
    seen = docker.of_task(arn)["main"]
    assert seen["HostConfig"]["NetworkMode"] == "host"
    assert not seen["HostConfig"]["PortBindings"]
    assert until(lambda: hello(port), f"an answer on port {port}")
    failures = tasks.request(tasks.family)["failures"]
    assert [one["reason"] for one in failures] == ["RESOURCE:PORTS"]


def test_the_instance_s_books_follow_real_tasks(tasks: Tasks, server: Server) -> None:
    """Once everything has stopped, everything is free again (invariant 6 of DESIGN 7.1)."""

    def free() -> dict[str, Any]:
        (one,) = server.wait_for_instance()
        return {each["name"]: each for each in one["remainingResources"]} | {
            "counts": (one["runningTasksCount"], one["pendingTasksCount"])
        }

    before = free()
    arn = tasks.start(container(cpu=100, memory=100))
    during = free()
    assert before["CPU"]["integerValue"] - during["CPU"]["integerValue"] == 100
    assert before["MEMORY"]["integerValue"] - during["MEMORY"]["integerValue"] == 100
    assert during["counts"] == (1, 0)
    tasks.stop(arn)
    assert free() == before


def test_tags_of_a_task(tasks: Tasks) -> None:
    """Those given win over those of the definition; the managed one says the cluster."""
    tasks.define(
        tags=[{"key": "team", "value": "blue"}, {"key": "stage", "value": "test"}],
    )
    answer = tasks.request(
        tags=[{"key": "team", "value": "red"}],
        propagateTags="TASK_DEFINITION",
        enableECSManagedTags=True,
    )
    expected = [
        {"key": "team", "value": "red"},
        {"key": "stage", "value": "test"},
        {"key": "aws:ecs:clusterName", "value": "default"},
    ]
    (task,) = answer["tasks"]
    assert task["tags"] == expected
    arn = task["taskArn"]
    assert tasks.describe(arn)["tags"] == [], "only who asks is told"
    told = tasks.ecs.describe_tasks(tasks=[arn], include=["TAGS"])["tasks"][0]
    assert told["tags"] == expected
    (plain,) = tasks.request()["tasks"]
    assert plain["tags"] == [], "nothing propagates by itself"


def test_a_task_is_described_with_every_field(tasks: Tasks) -> None:
    """What tools look at without asking whether it is there."""
    arn = tasks.start(container("main", portMappings=[{"containerPort": 8080}]))
    task = tasks.describe(arn)
    (one,) = task["containers"]
    (architecture,) = task["attributes"]
    assert architecture["name"] == "ecs.cpu-architecture" and architecture["value"]
    assert task["attachments"] == task["tags"] == []
    assert (task["cpu"], task["memory"]) == (one["cpu"], one["memory"]) == ("10", "16")
    assert task["connectivity"] == "CONNECTED" and task["connectivityAt"] <= task["startedAt"]
    assert task["enableExecuteCommand"] is False
    assert task["healthStatus"] == one["healthStatus"] == "UNKNOWN"
    assert task["overrides"] == {
        "containerOverrides": [{"name": "main"}],
        "inferenceAcceleratorOverrides": [],
    }
    assert task["availabilityZone"] == "us-east-1a" and task["launchType"] == "EC2"
    assert one["containerArn"].startswith(
        arn.replace(":task/", ":container/")
    ) and one["taskArn"] == arn
    assert one["runtimeId"] == docker.of_task(arn)["main"]["Id"]
    assert one["networkInterfaces"] == [] and len(one["networkBindings"]) == 1
    for absent in ("stopCode", "stoppedAt", "platformVersion", "capacityProviderName", "startedBy"):
        assert absent not in task


def test_a_dependency_starts_first(tasks: Tasks) -> None:
    """COMPLETE and START order the containers (AGENT-PROTOCOL 5.5)."""
    arn = tasks.start(
        container("main", dependsOn=[{"containerName": "init", "condition": "SUCCESS"}]),
        container("init", "exit", "0", "300", essential=False),
    )
    seen = docker.of_task(arn)
    assert seen["init"]["State"]["FinishedAt"] <= seen["main"]["State"]["StartedAt"]


def test_a_healthy_dependency_is_waited_for(tasks: Tasks) -> None:
    """HEALTHY needs a health check, which Docker runs (AGENT-PROTOCOL 5.5)."""
    check = {"command": ["CMD", "/tool", "exit", "0"], "interval": 5, "retries": 1}
    arn = tasks.run(
        tasks.define(
            container("main", dependsOn=[{"containerName": "db", "condition": "HEALTHY"}]),
            container("db", healthCheck=check),
        )
    )
    tasks.wait(arn, "RUNNING", 40)
    seen = docker.of_task(arn)
    health = seen["db"]["State"]["Health"]
    assert health["Status"] == "healthy"
    assert health["Log"][0]["End"] < seen["main"]["State"]["StartedAt"]


def test_links_join_containers_of_a_task(tasks: Tasks) -> None:
    arn = tasks.start(container("main", links=["db:database"]), container("db"))
    seen = docker.of_task(arn)
    target, alias = seen["main"]["HostConfig"]["Links"][0].split(":")
    assert target.lstrip("/") == seen["db"]["Name"].lstrip("/") or seen["db"]["Id"] in target
    assert alias.rsplit("/", 1)[1] == "database"


def test_a_container_may_have_no_network(tasks: Tasks) -> None:
    arn = tasks.start(container("main"), networkMode="none")
    assert docker.of_task(arn)["main"]["HostConfig"]["NetworkMode"] == "none"
