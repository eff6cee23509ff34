"""State changes and telemetry of an agent that is not ours (AGENT-PROTOCOL 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.ecs import Tasks, container, named
from support.processes import Server
from test_agent.acs import Acs
from test_agent.instance import Instance, Refused, container_change
from test_agent.tcs import Tcs, task_metrics


@pytest.fixture
def tasks(ecs: Any, cluster: str, family: str) -> Tasks:
    """Tasks in the test's own cluster."""
    return Tasks(ecs, cluster, family)


@pytest.fixture
def placed(tasks: Tasks, instance: Instance, server: Server) -> Iterator[str]:
    """A task of two containers, delivered and acked, of which nothing was reported yet."""
    with Acs(instance) as acs:
        server.wait_for_instance(instance.cluster)
        arn = tasks.run(tasks.define(container("main"), container("aside", essential=False)))
        acs.ack(acs.payload())
        yield arn


def running(name: str, **more: Any) -> dict[str, Any]:
    """A container that runs."""
    return container_change(name, "RUNNING", **more)


def stopped(name: str, code: int, **more: Any) -> dict[str, Any]:
    """A container that ended."""
    return container_change(name, "STOPPED", exitCode=code, **more)


def test_running_is_reported_with_all_details(
    tasks: Tasks, instance: Instance, placed: str
) -> None:
    binding = {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"}
    digest = "sha256:" + "0" * 64
    changes = [running("main", networkBindings=[binding], imageDigest=digest), running("aside")]
    instance.submit(
        placed,
        "RUNNING",
        changes,
        pullStartedAt=1795330648.123,
        pullStoppedAt=1795330649.25,
    )
    task = tasks.describe(placed)
    assert task["lastStatus"] == "RUNNING"
    assert task["pullStartedAt"].timestamp() == pytest.approx(1795330648.123, abs=0.001)
    assert task["pullStoppedAt"].timestamp() == pytest.approx(1795330649.25, abs=0.001)
    main = named(task)["main"]
    assert main["networkBindings"] == [binding]
    assert main["imageDigest"] == digest and main["runtimeId"] == "ab" * 32
    assert main["containerArn"] and main["taskArn"] == placed


def test_a_batch_is_applied_in_order(tasks: Tasks, instance: Instance, placed: str) -> None:
    """The same container twice, RUNNING then STOPPED (3.1)."""
    instance.submit(placed, "RUNNING", [running("main"), running("aside"), stopped("aside", 3)])
    task = tasks.describe(placed)
    assert task["lastStatus"] == "RUNNING"
    assert named(task)["aside"]["lastStatus"] == "STOPPED"
    assert named(task)["aside"]["exitCode"] == 3


def test_a_repeated_report_changes_nothing(tasks: Tasks, instance: Instance, placed: str) -> None:
    changes = [running("main"), running("aside")]
    instance.submit(placed, "RUNNING", changes)
    before = tasks.describe(placed)
    for _ in range(3):
        instance.submit(placed, "RUNNING", changes)
    assert tasks.describe(placed) == before


def test_reports_that_go_back_are_ignored(tasks: Tasks, instance: Instance, placed: str) -> None:
    instance.submit(placed, "RUNNING", [running("main"), running("aside")])
    instance.submit(placed, "PENDING", [container_change("main", "PENDING")])
    assert tasks.describe(placed)["lastStatus"] == "RUNNING"
    assert named(tasks.describe(placed))["main"]["lastStatus"] == "RUNNING"
    instance.submit(placed, "STOPPED", [stopped("main", 5), stopped("aside", 6)])
    before = tasks.describe(placed)
    assert before["lastStatus"] == "STOPPED"
    instance.submit(placed, "RUNNING", [running("main"), running("aside")])
    instance.submit(placed, "STOPPED", [stopped("main", 0)])
    assert tasks.describe(placed) == before


def test_pending_then_stopped_without_running(
    tasks: Tasks, instance: Instance, placed: str
) -> None:
    """Containers that never started have neither runtimeId nor exitCode."""
    reason = "CannotPullContainerError: no such image"
    instance.submit(placed, "PENDING", [])
    assert tasks.describe(placed)["lastStatus"] == "PENDING"
    never = {"containerName": "main", "status": "STOPPED", "reason": reason}
    instance.submit(placed, "STOPPED", [never, {"containerName": "aside", "status": "STOPPED"}])
    task = tasks.describe(placed)
    assert task["lastStatus"] == "STOPPED" and task["stopCode"] == "TaskFailedToStart"
    assert named(task)["main"]["reason"] == reason and "exitCode" not in named(task)["main"]


def test_a_stopped_report_lists_only_what_was_not_told(
    tasks: Tasks, instance: Instance, placed: str
) -> None:
    """Containers told before stay as told (3.1)."""
    instance.submit(placed, "RUNNING", [running("main"), running("aside"), stopped("aside", 3)])
    instance.submit(placed, "STOPPED", [stopped("main", 4)], executionStoppedAt=1795330739.4)
    task = tasks.describe(placed)
    codes = {name: one["exitCode"] for name, one in named(task).items()}
    assert codes == {"main": 4, "aside": 3}
    assert {one["lastStatus"] for one in task["containers"]} == {"STOPPED"}
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["executionStoppedAt"].timestamp() == pytest.approx(1795330739.4, abs=0.001)


def test_a_task_reason_is_kept(tasks: Tasks, instance: Instance, placed: str) -> None:
    """The misspelling is real (trap 7)."""
    reason = "UnrecogniedTaskError: Error loading task - nope"
    instance.submit(placed, "STOPPED", reason=reason)
    task = tasks.describe(placed)
    assert task["stopCode"] == "TaskFailedToStart" and task["stoppedReason"] == reason


def test_an_unknown_container_is_no_server_error(
    tasks: Tasks, instance: Instance, placed: str
) -> None:
    """Such as a pause container of a future agent; the rest of the report counts."""
    instance.submit(placed, "RUNNING", [running("main"), running("aside"), running("ghost")])
    task = tasks.describe(placed)
    assert task["lastStatus"] == "RUNNING" and set(named(task)) == {"main", "aside"}


@pytest.mark.parametrize(
    "body",
    [
        {"task": "", "status": "STOPPED", "reason": ""},
        {"task": "", "reason": "", "containers": []},
        {"task": "arn:aws:ecs:us-east-1:000000000000:task/x/" + "d" * 32, "status": "STOPPED"},
        {"task": "nonsense", "status": "RUNNING", "reason": ""},
        {"status": "STOPPED"},
    ],
)
def test_reports_of_nothing_known_end_for_good(instance: Instance, body: dict[str, Any]) -> None:
    """A success or InvalidParameterException: anything else is repeated for a day (3.2)."""
    try:
        instance.call("SubmitTaskStateChange", {"cluster": instance.cluster, **body})
    except Refused as refusal:
        assert refusal.code == "InvalidParameterException", refusal
        assert refusal.answer.status == 400


def test_container_state_changes_are_accepted(
    tasks: Tasks, instance: Instance, placed: str
) -> None:
    """The current agent never sends them; an older one does (3.1)."""
    answer = instance.call(
        "SubmitContainerStateChange",
        {
            "cluster": instance.cluster,
            "task": placed,
            "containerName": "aside",
            "runtimeId": "cd" * 32,
            "status": "RUNNING",
            "reason": "",
            "networkBindings": [],
        },
    )
    assert isinstance(answer["acknowledgment"], str)


def test_attachment_state_changes_are_accepted(instance: Instance) -> None:
    arn = "arn:aws:ecs:us-east-1:000000000000:attachment/0f5a"
    body = {
        "cluster": instance.cluster,
        "attachments": [{"attachmentArn": arn, "status": "ATTACHED"}],
    }
    try:
        answer = instance.call("SubmitAttachmentStateChanges", body)
        assert isinstance(answer["acknowledgment"], str)
    except Refused as refusal:
        assert refusal.code == "InvalidParameterException", refusal


def test_a_long_reason_is_taken(tasks: Tasks, instance: Instance, placed: str) -> None:
    """1024 characters is the agent's cut (3.1)."""
    instance.submit(placed, "STOPPED", [stopped("main", 1, reason="x" * 1024)])
    assert named(tasks.describe(placed))["main"]["reason"].startswith("xxx")


def test_telemetry_frames_are_acknowledged(instance: Instance, placed: str) -> None:
    """Header block, blank line, JSON (4.2, trap 10); each publish has its ack (4.5)."""
    cluster_arn = placed.split(":task/")[0] + ":cluster/" + instance.cluster
    with Tcs(instance) as tcs:
        for _ in range(2):
            message = {
                "metadata": tcs.metadata(idle=False, fin=True),
                "taskMetrics": [task_metrics(placed, cluster_arn)],
                "timestamp": 1795330648.5,
            }
            tcs.publish("PublishMetricsRequest", message)
            assert "message" in tcs.expect("AckPublishMetric")
        health = {
            "metadata": tcs.metadata(fin=True),
            "tasks": [
                {
                    "taskArn": placed,
                    "taskDefinitionFamily": "x",
                    "taskDefinitionVersion": "1",
                    "containers": [
                        {
                            "containerName": "main",
                            "healthStatus": "UNKNOWN",
                            "statusSince": 1795330648.5,
                        }
                    ],
                }
            ],
            "timestamp": 1795330648.5,
        }
        tcs.publish("PublishHealthRequest", health)
        tcs.expect("AckPublishHealth")
        metadata = {
            "cluster": instance.cluster,
            "containerInstance": instance.arn,
            "requestId": "r-1",
        }
        status = {
            "type": "ContainerRuntime",
            "status": "OK",
            "lastStatusChange": 1795330648.5,
            "lastUpdated": 1795330648.5,
        }
        body = {"metadata": metadata, "statuses": [status], "timestamp": 1795330648.5}
        tcs.publish("PublishInstanceStatusRequest", body)
        tcs.expect("AckPublishInstanceStatus")


def test_idle_telemetry_is_acknowledged(instance: Instance) -> None:
    with Tcs(instance) as tcs:
        idle = {"metadata": tcs.metadata(idle=True, fin=True), "timestamp": 1795330648.5}
        tcs.publish("PublishMetricsRequest", idle)
        tcs.expect("AckPublishMetric")


def test_unreadable_telemetry_does_not_end_the_session(instance: Instance) -> None:
    with Tcs(instance) as tcs:
        tcs.publish("PublishSomethingNew", {"metadata": tcs.metadata()})
        tcs.publish("PublishMetricsRequest", {"metadata": tcs.metadata(idle=True, fin=True)})
        tcs.expect("AckPublishMetric")


def test_telemetry_and_commands_are_separate_sessions(
    tasks: Tasks, instance: Instance, server: Server
) -> None:
    """A TCS session alone does not make an instance connected."""
    with Tcs(instance):
        answer = tasks.request(tasks.define())
        assert [failure["reason"] for failure in answer["failures"]] == ["AGENT"]
