"""StopTask: at once, with the right signal, the exit code kept (ECS-SEMANTICS 4)."""

from __future__ import annotations

import time

import pytest

from support import docker
from support.ecs import Tasks, container

pytestmark = pytest.mark.usefixtures("agent")


def test_stopping_answers_at_once(tasks: Tasks) -> None:
    """The answer does not wait for the container, which takes its whole time-out here."""
    arn = tasks.start(container("main", "stubborn", stopTimeout=3))
    began = time.monotonic()
    task = tasks.ecs.stop_task(cluster="default", task=arn)["task"]
    assert time.monotonic() - began < 1
    assert task["desiredStatus"] == "STOPPED" and task["lastStatus"] != "STOPPED"
    assert task["stoppingAt"] and task["stopCode"] == "UserInitiated"
    assert task["stoppedReason"] == "Task stopped by user"


def test_a_trap_handler_s_exit_code_is_kept(tasks: Tasks) -> None:
    arn = tasks.start(container("main", "trap", "7"))
    assert tasks.stop(arn)["containers"][0]["exitCode"] == 7


def test_what_ignores_sigterm_is_killed_after_its_time_out(tasks: Tasks) -> None:
    arn = tasks.start(container("main", "stubborn", stopTimeout=2))
    began = time.monotonic()
    task = tasks.stop(arn)
    assert 1.5 < time.monotonic() - began < 12
    assert task["containers"][0]["exitCode"] == 137
    assert docker.of_task(arn)["main"]["State"]["ExitCode"] == 137


def test_the_image_s_stop_signal_is_sent(tasks: Tasks) -> None:
    """The program exits with 100 + the signal's number; SIGUSR1 is 10."""
    arn = tasks.start(container("main", image=docker.TOOL_USR1))
    assert tasks.stop(arn)["containers"][0]["exitCode"] == 110
    arn = tasks.start(container("main", "signal"))
    assert tasks.stop(arn)["containers"][0]["exitCode"] == 115, "SIGTERM without a STOPSIGNAL"


def test_stopping_twice_changes_nothing(tasks: Tasks) -> None:
    arn = tasks.start(container())
    tasks.ecs.stop_task(cluster="default", task=arn, reason="first")
    tasks.ecs.stop_task(cluster="default", task=arn, reason="second")
    task = tasks.wait(arn, "STOPPED")
    assert task["stoppedReason"] == "first"
    again = tasks.ecs.stop_task(cluster="default", task=arn)["task"]
    assert again["lastStatus"] == "STOPPED" and again["stoppedReason"] == "first"


def test_a_task_stopped_before_it_runs_still_ends(tasks: Tasks) -> None:
    definition = tasks.define()
    for _ in range(5):
        arn = tasks.run(definition)
        task = tasks.stop(arn)
        assert task["stopCode"] == "UserInitiated"
        assert all(not one["State"]["Running"] for one in docker.of_task(arn).values())


def test_every_container_of_a_task_is_stopped(tasks: Tasks) -> None:
    arn = tasks.start(container("one", "trap", "1"), container("two", "trap", "2"))
    task = tasks.stop(arn)
    codes = {one["name"]: one["exitCode"] for one in task["containers"]}
    assert codes == {"one": 1, "two": 2}


def test_killing_a_container_behind_our_back_is_noticed(tasks: Tasks) -> None:
    """Docker's event stream is believed, not only our own orders."""
    arn = tasks.start(container())
    docker.docker("kill", docker.of_task(arn)["main"]["Id"])
    task = tasks.wait(arn, "STOPPED")
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["containers"][0]["exitCode"] == 137


def test_removing_a_container_behind_our_back_is_noticed(tasks: Tasks) -> None:
    arn = tasks.start(container())
    docker.docker("rm", "--force", docker.of_task(arn)["main"]["Id"])
    assert tasks.wait(arn, "STOPPED")["stopCode"] == "EssentialContainerExited"
