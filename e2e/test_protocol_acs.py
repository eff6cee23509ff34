"""ACS with an agent that is not ours: payloads, acks, manifests, sessions (AGENT-PROTOCOL 2)."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from support.ecs import Tasks, container
from support.processes import Server
from test_agent.acs import Acs, Timeline
from test_agent.instance import Instance, container_change


@pytest.fixture
def tasks(ecs: Any, cluster: str, family: str) -> Tasks:
    """Tasks in the test's own cluster."""
    return Tasks(ecs, cluster, family)


def open_acs(server: Server, instance: Instance, timeline: Timeline) -> Acs:
    """Connects and waits until the control plane sees it."""
    acs = Acs(instance, timeline)
    server.wait_for_instance(instance.cluster)
    return acs


def arns(payload: dict[str, Any]) -> list[str]:
    """The tasks of a payload."""
    return [task["arn"] for task in payload["tasks"]]


def test_a_payload_carries_one_task(tasks: Tasks, instance: Instance, server: Server) -> None:
    """One bad task would cost the ack of the whole message (2.6)."""
    with open_acs(server, instance, Timeline()) as acs:
        placed = tasks.request(tasks.define(), count=5)["tasks"]
        payloads = [acs.payload() for _ in range(5)]
        for payload in payloads:
            assert len(payload["tasks"]) == 1
            acs.ack(payload)
        told = {arn for payload in payloads for arn in arns(payload)}
        assert told == {task["taskArn"] for task in placed}
        assert len({payload["messageId"] for payload in payloads}) == 5
        acs.nothing("PayloadMessage", 0.3)


def test_sequence_numbers_strictly_grow(tasks: Tasks, instance: Instance, server: Server) -> None:
    with open_acs(server, instance, Timeline()) as acs:
        numbers = [acs.manifest()["timeline"]]
        definition = tasks.define()
        for _ in range(4):
            tasks.run(definition)
            payload = acs.payload()
            acs.ack(payload)
            numbers.append(payload["seqNum"])
    assert numbers == sorted(set(numbers))


def test_a_payload_translates_the_definition(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """The fields and strings of 2.6, as the official agent reads them."""
    definition = tasks.define(
        container(
            "main",
            "say",
            "hello",
            cpu=51,
            memory=128,
            memoryReservation=64,
            environment=[{"name": "A", "value": "1"}],
            portMappings=[
                {"containerPort": 80, "hostPort": 8080},
                {"containerPort": 53, "protocol": "udp"},
            ],
            stopTimeout=9,
            user="1000",
            workingDirectory="/work",
            dockerLabels={"team": "red"},
            privileged=True,
            readonlyRootFilesystem=True,
            ulimits=[{"name": "nofile", "softLimit": 1, "hardLimit": 2}],
            linuxParameters={"capabilities": {"drop": ["MKNOD"]}, "initProcessEnabled": True},
            logConfiguration={"logDriver": "json-file", "options": {"max-size": "1m"}},
            dependsOn=[{"containerName": "init", "condition": "SUCCESS"}],
            healthCheck={"command": ["CMD", "/tool"], "interval": 7, "retries": 2},
        ),
        container("init", essential=False, entryPoint=["/tool", "exit"]),
        networkMode="bridge",
        cpu="512",
        memory="256",
    )
    with open_acs(server, instance, Timeline()) as acs:
        arn = tasks.run(definition)
        payload = acs.payload()
        acs.ack(payload)
    (task,) = payload["tasks"]
    assert task["arn"] == arn and task["desiredStatus"] == "RUNNING"
    assert (task["family"], task["version"]) == (tasks.family, "1")
    assert (task["cpu"], task["memory"], task["networkMode"]) == (0.5, 256, "bridge")
    main, init = task["containers"]
    assert (main["name"], main["image"], main["cpu"]) == ("main", container()["image"], 51)
    assert main["memory"] == 128
    assert main["essential"] is True and init["essential"] is False, "explicit"
    assert main["command"] == ["say", "hello"] and main.get("entryPoint") is None
    assert init["entryPoint"] == ["/tool", "exit"]
    assert main["environment"].items() >= {"A": "1"}.items()
    assert main["environment"].get("AWS_EXECUTION_ENV", "AWS_ECS_EC2") == "AWS_ECS_EC2"
    ports = {
        (p["containerPort"], p.get("hostPort") or 0, p["protocol"]) for p in main["portMappings"]
    }
    assert ports == {(80, 8080, "tcp"), (53, 0, "udp")}
    assert main["stopTimeout"] == 9
    assert main["dependsOn"] == [{"containerName": "init", "condition": "SUCCESS"}]
    assert main["healthCheckType"] == "docker", "lower case (trap 18)"
    assert main["containerArn"].startswith("arn:aws:ecs:")
    docker_config = main["dockerConfig"]
    major, minor = docker_config["version"].split(".")
    assert int(major) == 1 and 25 <= int(minor) <= 44, "at least what `Init` and health need"
    assert isinstance(docker_config["config"], str) and isinstance(docker_config["hostConfig"], str)
    config, host = json.loads(docker_config["config"]), json.loads(docker_config["hostConfig"])
    assert "Env" not in config, "it would replace the agent's own variables (trap 20)"
    assert config["User"] == "1000" and config["WorkingDir"] == "/work"
    assert config["Labels"] == {"team": "red"}
    check = config["Healthcheck"]
    assert check["Test"] == ["CMD", "/tool"]
    assert check["Interval"] == 7_000_000_000 and check["Retries"] == 2
    assert host["NetworkMode"] == "bridge" and host["Privileged"] is True
    assert host["ReadonlyRootfs"] is True and host["Init"] is True
    assert host["CapDrop"] == ["MKNOD"]
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}]
    log_options = {"max-size": "1m", "mode": "non-blocking", "max-buffer-size": "10m"}
    assert host["LogConfig"] == {"Type": "json-file", "Config": log_options}, "ECS's defaults"
    assert host["MemoryReservation"] == 64 << 20


def test_overrides_are_merged_into_the_fields(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """The agent only reads the command from `overrides`; the rest is the control plane's."""
    variables = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    definition = tasks.define(container(environment=variables))
    override = {
        "name": "main",
        "command": ["say", "x"],
        "environment": [{"name": "B", "value": "3"}],
        "cpu": 99,
        "memory": 77,
    }
    with open_acs(server, instance, Timeline()) as acs:
        tasks.run(definition, overrides={"containerOverrides": [override]})
        payload = acs.payload()
        acs.ack(payload)
    (main,) = payload["tasks"][0]["containers"]
    assert main["environment"].items() >= {"A": "1", "B": "3"}.items()
    assert (main["cpu"], main["memory"]) == (99, 77)
    if isinstance(main.get("overrides"), str) and main["overrides"]:
        assert json.loads(main["overrides"]).get("command", ["say", "x"]) == ["say", "x"]
    else:
        assert main["command"] == ["say", "x"]


def test_host_mode_is_said_twice(tasks: Tasks, instance: Instance, server: Server) -> None:
    """`networkMode` of the task and `NetworkMode` of each container (2.6)."""
    with open_acs(server, instance, Timeline()) as acs:
        tasks.run(tasks.define(networkMode="host"))
        payload = acs.payload()
        acs.ack(payload)
    (task,) = payload["tasks"]
    assert task["networkMode"] == "host"
    host = json.loads(task["containers"][0]["dockerConfig"]["hostConfig"])
    assert host["NetworkMode"] == "host"


def test_a_stop_order_is_minimal(tasks: Tasks, instance: Instance, server: Server) -> None:
    with open_acs(server, instance, Timeline()) as acs:
        arn = tasks.run(tasks.define())
        acs.ack(acs.payload())
        instance.submit(arn, "RUNNING", [container_change("main", "RUNNING")])
        tasks.ecs.stop_task(cluster=tasks.cluster, task=arn)
        order = acs.payload()
        acs.ack(order)
        (task,) = order["tasks"]
        assert (task["arn"], task["desiredStatus"]) == (arn, "STOPPED")
        assert not task.get("containers")


def test_acks_in_any_order_are_all_taken(tasks: Tasks, instance: Instance, server: Server) -> None:
    """Acks come from goroutines (2.2): nothing acked is sent again."""
    timeline = Timeline()
    with open_acs(server, instance, timeline) as acs:
        placed = tasks.request(tasks.define(), count=8)["tasks"]
        payloads = [acs.payload() for _ in range(8)]
        random.Random(7).shuffle(payloads)
        for payload in payloads:
            acs.ack(payload)
            acs.ack(payload)
        for task in placed:
            instance.submit(task["taskArn"], "RUNNING", [container_change("main", "RUNNING")])
    with open_acs(server, instance, timeline) as acs:
        manifest = acs.manifest()
        assert {one["taskArn"] for one in manifest["tasks"]} == {t["taskArn"] for t in placed}
        acs.ack(manifest)
        acs.nothing("PayloadMessage", 0.5)


def test_what_was_not_acked_is_sent_again_after_a_reconnect(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """There is no other resend: the agent repeats nothing (2.4)."""
    timeline = Timeline()
    with open_acs(server, instance, timeline) as acs:
        placed = [t["taskArn"] for t in tasks.request(tasks.define(), count=4)["tasks"]]
        payloads = [acs.payload() for _ in range(4)]
        acked = [arn for payload in payloads[:2] for arn in arns(payload)]
        for payload in payloads[:2]:
            acs.ack(payload)
        for arn in acked:
            instance.submit(arn, "RUNNING", [container_change("main", "RUNNING")])
    for _ in range(2):
        with open_acs(server, instance, timeline) as acs:
            again = [arn for _ in range(2) for arn in arns(acs.payload())]
            assert set(again) == set(placed) - set(acked)
            acs.nothing("PayloadMessage", 0.3)


@pytest.mark.timeout(120)
def test_a_long_backlog_arrives_in_the_end(
    tasks: Tasks, server: Server, instance: Instance
) -> None:
    """Thousands of orders wait for an agent that comes back; each reaches it."""
    instance.cpu = instance.memory = 10**7
    instance.register()
    timeline = Timeline()
    with open_acs(server, instance, timeline):
        definition = tasks.define(container(cpu=1, memory=6))
        for _ in range(250):
            assert len(tasks.request(definition, count=10)["tasks"]) == 10
    waiting = set(tasks.arns)
    for _ in range(20):
        with Acs(instance, timeline) as acs:
            try:
                while waiting:
                    payload = acs.payload(5)
                    acs.ack(payload)
                    for arn in arns(payload):
                        instance.submit(arn, "STOPPED", [])
                        waiting.discard(arn)
            except (ConnectionClosed, AssertionError):
                pass  # the server may cut a long queue; the next session goes on
        if not waiting:
            break
    assert not waiting, f"{len(waiting)} of 2500 orders never arrived"
    assert tasks.listed() == []


def test_a_late_ack_still_counts(tasks: Tasks, instance: Instance, server: Server) -> None:
    timeline = Timeline()
    with open_acs(server, instance, timeline) as acs:
        definition = tasks.define()
        late = tasks.run(definition)
        payload = acs.payload()
        for _ in range(3):
            other = tasks.run(definition)
            acs.ack(acs.payload())
            instance.submit(other, "RUNNING", [container_change("main", "RUNNING")])
        instance.submit(late, "RUNNING", [container_change("main", "RUNNING")])
        acs.ack(payload)
        acs.ack({**payload, "messageId": "never-sent"})
        arn = tasks.run(definition)
        last = acs.payload()
        assert arns(last) == [arn]
    with open_acs(server, instance, timeline) as acs:
        assert arns(acs.payload()) == [arn]


def test_a_task_placed_while_away_is_delivered_on_return(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """An order to stop is, too; nothing is lost between two sessions."""
    timeline = Timeline()
    with open_acs(server, instance, timeline) as acs:
        arn = tasks.run(tasks.define())
        acs.ack(acs.payload())
        instance.submit(arn, "RUNNING", [container_change("main", "RUNNING")])
    tasks.ecs.stop_task(cluster=tasks.cluster, task=arn)
    with open_acs(server, instance, timeline) as acs:
        order = acs.payload()
        assert (arns(order), order["tasks"][0]["desiredStatus"]) == ([arn], "STOPPED")
        acs.ack(order)
        instance.submit(arn, "STOPPED", [container_change("main", "STOPPED", exitCode=143)])
    assert tasks.describe(arn)["lastStatus"] == "STOPPED"


def test_a_lost_order_and_a_stop_end_in_a_stopped_task(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """The agent never saw the task, and answers the stop order all the same (2.6)."""
    timeline = Timeline()
    with open_acs(server, instance, timeline) as acs:
        arn = tasks.run(tasks.define())
        acs.payload()  # dropped: neither acked nor obeyed
    tasks.ecs.stop_task(cluster=tasks.cluster, task=arn, reason="changed my mind")
    with open_acs(server, instance, timeline) as acs:
        order = acs.payload()
        assert (arns(order), order["tasks"][0]["desiredStatus"]) == ([arn], "STOPPED")
        acs.ack(order)
        reason = "TaskStateError: Agent could not progress task's state to stopped"
        instance.submit(arn, "STOPPED", reason=reason)
    task = tasks.describe(arn)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "UserInitiated")
    assert task["stoppedReason"] == "changed my mind"


def test_a_payload_answered_by_stopped_needs_no_ack(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """A task the agent cannot parse is reported and never acked (2.6, trap 7)."""
    timeline = Timeline()
    with open_acs(server, instance, timeline) as acs:
        arn = tasks.run(tasks.define())
        acs.payload()
        reason = "UnrecogniedTaskError: Error loading task - no such thing"
        instance.submit(arn, "STOPPED", reason=reason)
    with open_acs(server, instance, timeline) as acs:
        manifest = acs.manifest()
        assert [one["taskArn"] for one in manifest["tasks"]] in ([], [arn])
        acs.ack(manifest)
        acs.nothing("PayloadMessage", 0.5)
    assert tasks.describe(arn)["stoppedReason"] == reason


def test_a_manifest_follows_every_connect_and_is_never_stale(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """`Acs.manifest` refuses what the agent would silently drop (2.8, trap 8)."""
    timeline = Timeline()
    definition = tasks.define()
    running: set[str] = set()
    for _ in range(4):
        with open_acs(server, instance, timeline) as acs:
            manifest = acs.manifest()
            assert {one["taskArn"] for one in manifest["tasks"]} == running
            for one in manifest["tasks"]:
                assert one["desiredStatus"] == "RUNNING" and one["taskClusterArn"]
            acs.ack(manifest)
            arn = tasks.run(definition)
            acs.ack(acs.payload())
            instance.submit(arn, "RUNNING", [container_change("main", "RUNNING")])
            running.add(arn)


def test_only_what_is_not_known_is_stopped(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """The verification handshake: candidates are judged one by one (2.8)."""
    timeline = Timeline()
    with open_acs(server, instance, timeline) as acs:
        definition = tasks.define()
        ours, over = tasks.run(definition), tasks.run(definition)
        for _ in range(2):
            acs.ack(acs.payload())
        for arn in (ours, over):
            instance.submit(arn, "RUNNING", [container_change("main", "RUNNING")])
        instance.submit(over, "STOPPED", [container_change("main", "STOPPED", exitCode=0)])
    unknown = ours[:-32] + "c" * 32
    with open_acs(server, instance, timeline) as acs:
        manifest = acs.manifest()
        acs.ack(manifest)
        confirmed = acs.verify_stops(manifest, [ours, over, unknown])
        assert set(confirmed) == {over, unknown}
    assert tasks.describe(ours)["desiredStatus"] == "RUNNING"


def test_the_newest_session_wins(tasks: Tasks, instance: Instance, server: Server) -> None:
    """Two sockets overlap for a moment; the older is closed with 1001 (2.3, 9.1)."""
    timeline = Timeline()
    old = open_acs(server, instance, timeline)
    new = Acs(instance, timeline)
    try:
        assert old.closed() == 1001
        (one,) = server.wait_for_instance(instance.cluster)
        assert one["agentConnected"] is True
        arn = tasks.run(tasks.define())
        payload = new.payload()
        assert arns(payload) == [arn]
        new.ack(payload)
    finally:
        old.socket.close()
        new.socket.close()


def test_a_session_that_was_replaced_changes_nothing_when_it_closes(
    instance: Instance, server: Server, ecs: Any
) -> None:
    timeline = Timeline()
    for _ in range(10):
        old, new = Acs(instance, timeline), Acs(instance, timeline)
        new.manifest()
        old.socket.close()
        described = ecs.describe_container_instances(
            cluster=instance.cluster, containerInstances=[instance.arn]
        )
        assert described["containerInstances"][0]["agentConnected"] is True
        new.socket.close()


@pytest.mark.timeout(60)
def test_the_server_s_heartbeat_comes_in_time(instance: Instance, server: Server) -> None:
    """20 to 30 s is comfortable; the agent leaves after 60 s of silence (2.3)."""
    with open_acs(server, instance, Timeline()) as acs:
        beat = acs.receive("HeartbeatMessage", 35)
        assert beat["messageId"] and isinstance(beat["healthy"], bool)


def test_unknown_messages_and_garbage_do_not_end_the_session(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    with open_acs(server, instance, Timeline()) as acs:
        acs.send("DanceRequest", {"messageId": "x", "step": {"left": True}})
        acs.send("NackRequest", {"messageId": "none", "reason": "because"})
        acs.socket.send('{"type":"AckRequest","message":{"MessageId":"CASED","extra":null}}')
        acs.send("HeartbeatAckRequest", {"messageId": "never-sent"})
        acs.send("IAMRoleCredentialsAckRequest", {"messageId": "x", "credentialsId": "y"})
        arn = tasks.run(tasks.define())
        payload = acs.payload()
        assert arns(payload) == [arn]
        acs.ack(payload)


def test_the_control_plane_s_death_closes_nothing_for_good(stage: Any, family: str) -> None:
    """After a crash the agent's numbers still count: manifests are newer than before (3.6)."""
    server = stage.server()
    instance = Instance(server.endpoint, server.key)
    instance.register()
    timeline = Timeline()
    tasks = Tasks(server.client(), "default", family)
    with open_acs(server, instance, timeline) as acs:
        arn = tasks.run(tasks.define())
        unacked = acs.payload()
        assert arns(unacked) == [arn]
    for _ in range(3):
        server.kill()
        server.start()
        with open_acs(server, instance, timeline) as acs:
            manifest = acs.manifest()
            acs.ack(manifest)
            again = acs.payload()
            assert arns(again) == [arn], "never acked, so sent again"
