"""The agent with a real Docker Engine that misbehaves, loses things, or is handled by others."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import Agent, Server
from support.waiting import until


def state_file(agent: Agent) -> Path:
    """Where an agent keeps what it knows."""
    return Path(agent.settings["ECS_DATADIR"]) / "agent.redb"


def test_an_image_that_is_here_runs_at_once_when_its_registry_is_away(stage: Any, cached: str) -> None:
    """`default` falls back to the cache without a pause; `docker pull` itself is the measure.

    The best of three: a busy machine may delay one, a pause between attempts delays each.
    """
    server: Server = stage.server()
    stage.agent(server, ECS_IMAGE_PULL_BEHAVIOR="default")
    tasks = Tasks(server.client(), "default", "cached")
    definition = tasks.define(container(image=cached))
    began = time.monotonic()
    docker.docker("pull", cached, check=False)
    in_vain = time.monotonic() - began
    runs = [tasks.wait(tasks.run(definition), "RUNNING", in_vain + 30) for _ in range(3)]
    took = min((task["startedAt"] - task["createdAt"]).total_seconds() for task in runs)
    assert took < in_vain + 1, f"{took:.2f} s; Docker alone needs {in_vain:.2f} s"
    assert all(task["pullStartedAt"] <= task["pullStoppedAt"] for task in runs)


def test_always_fails_the_task_for_a_side_car_that_cannot_be_pulled(stage: Any, cached: str) -> None:
    """The reason is Docker's own, in the official form."""
    server: Server = stage.server()
    stage.agent(server, ECS_IMAGE_PULL_BEHAVIOR="always")
    tasks = Tasks(server.client(), "default", "always")
    arn = tasks.run(tasks.define(container(image=cached)))
    task = tasks.wait(arn, "STOPPED", 60)
    assert task["stopCode"] == "TaskFailedToStart"
    reason = task["containers"][0]["reason"]
    assert reason.startswith("CannotPullContainerError: Error response from daemon: "), reason
    assert "127.0.0.1:1" in reason


def test_a_container_that_vanished_is_reported_as_such(stage: Any, images: None) -> None:
    """Somebody removed it by force while no agent was there."""
    server: Server = stage.server()
    agent: Agent = stage.agent(server)
    tasks = Tasks(server.client(), "default", "vanished")
    arn = tasks.start(container())
    agent.kill()
    docker.remove([one["Id"] for one in docker.of_task(arn).values()])
    agent.start()
    task = tasks.wait(arn, "STOPPED")
    assert task["containers"][0]["reason"] == (
        "ContainerVanishedError: No container matching saved ID found"
    )
    assert "exitCode" not in task["containers"][0]


def test_a_reboot_ends_tasks_with_their_exit_codes(stage: Any, images: None) -> None:
    """All containers have ended when the agent comes back; none is started again."""
    server: Server = stage.server()
    agent: Agent = stage.agent(server)
    tasks = Tasks(server.client(), "default", "reboot")
    arn = tasks.start(container("main", "trap", "9"), container("log", essential=False))
    agent.kill()
    docker.docker("kill", "--signal", "TERM", docker.of_task(arn)["main"]["Id"])
    docker.docker("kill", docker.of_task(arn)["log"]["Id"])
    agent.start()
    task = tasks.wait(arn, "STOPPED")
    codes = {one["name"]: one["exitCode"] for one in task["containers"]}
    assert codes == {"main": 9, "log": 137}
    assert task["stopCode"] == "EssentialContainerExited"
    assert not any(one["State"]["Running"] for one in docker.of_task(arn).values())


@pytest.mark.timeout(150)
def test_a_container_started_by_hand_is_stopped_and_removed_all_the_same(
    stage: Any, images: None
) -> None:
    """Docker removes nothing that runs: without a stop it would be refused for ever."""
    server: Server = stage.server()
    stage.agent(server, ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="3s")
    tasks = Tasks(server.client(), "default", "by-hand")
    arn = tasks.start(container("main", "trap", "0"))
    identity = docker.of_task(arn)["main"]["Id"]
    tasks.stop(arn)
    docker.docker("start", identity)
    assert docker.of_task(arn)["main"]["State"]["Running"]
    until(lambda: not docker.of_task(arn), "the container's removal", 60)


def test_a_copy_that_the_agent_forgot_is_stopped_before_the_task_is(
    stage: Any, images: None
) -> None:
    """An older state file comes back from a backup, and the order to stop meets a stranger."""
    server: Server = stage.server()
    agent: Agent = stage.agent(server)
    agent.end()
    backup = state_file(agent).with_suffix(".backup")
    shutil.copy(state_file(agent), backup)
    agent.start()
    server.wait_for_instance()
    tasks = Tasks(server.client(), "default", "forgotten")
    arn = tasks.start(container("main", "trap", "5"))
    agent.kill()
    shutil.copy(backup, state_file(agent))
    server.client().stop_task(cluster="default", task=arn)
    agent.start()

    def ended() -> bool:
        # In this order: a container that runs now must not belong to a task that was STOPPED before.
        stopped = tasks.describe(arn)["lastStatus"] == "STOPPED"
        runs = docker.of_task(arn)["main"]["State"]["Running"]
        assert not (stopped and runs), "STOPPED while a copy runs"
        return stopped

    until(ended, "the end of the forgotten copy", 45)
    assert tasks.describe(arn)["containers"][0]["exitCode"] == 5


def test_two_identities_on_one_engine_leave_each_others_containers_alone(
    stage: Any, images: None
) -> None:
    """An agent of another identity stops its own task, restarts and cleans up; ours runs on."""
    server: Server = stage.server()
    server.client().create_cluster(clusterName="other")
    stage.agent(server)
    other: Agent = stage.agent(
        server,
        "other",
        ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="1s",
        ECS_IMAGE_PULL_BEHAVIOR="default",
        ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP="true",
    )
    ours = Tasks(server.client(), "default", "ours")
    theirs = Tasks(server.client(), "other", "theirs")
    kept = ours.start(container())
    gone = theirs.start(container("main", "trap", "0"))
    theirs.stop(gone)
    until(lambda: not docker.of_task(gone), "the clean-up of the other", 45)
    other.kill()
    other.start()
    server.wait_for_instance("other")
    seen = docker.of_task(kept)["main"]
    assert seen["State"]["Running"] and seen["RestartCount"] == 0
    assert ours.describe(kept)["lastStatus"] == "RUNNING"


def test_a_release_is_upgraded_in_place(stage: Any, images: None, tmp_path: Path) -> None:
    """kill -9 and another start: the task is taken over with its state, and nothing is restarted."""
    server: Server = stage.server()
    agent: Agent = stage.agent(server)
    tasks = Tasks(server.client(), "default", "upgrade")
    arn = tasks.start(container("main", "trap", "4"))
    before = docker.of_task(arn)["main"]
    agent.kill()
    agent.start()
    server.wait_for_instance()
    task = tasks.stop(arn)
    assert task["containers"][0]["exitCode"] == 4
    after = docker.of_task(arn)["main"]
    assert (after["Id"], after["State"]["StartedAt"]) == (
        before["Id"],
        before["State"]["StartedAt"],
    )
