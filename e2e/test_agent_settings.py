"""Settings and exit codes of our agent, as the official one has them (AGENT-PROTOCOL 1.1, 1.3)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support import docker
from support.ecs import Tasks, container
from support.processes import Agent, Server
from support.waiting import until


@pytest.mark.timeout(180)
def test_the_pull_behaviour_decides_about_the_cache(stage: Any, cached: str) -> None:
    """ECS_IMAGE_PULL_BEHAVIOR; four agents side by side on one Engine, each with its own tasks."""
    server: Server = stage.server()
    ecs = server.client()

    def outcome(behaviour: str) -> dict[str, Any]:
        tasks = Tasks(ecs, behaviour, f"pull-{behaviour}")
        arn = tasks.run(tasks.define(container(image=cached)))

        def decided() -> dict[str, Any] | None:
            task = tasks.describe(arn)
            return task if task["lastStatus"] in ("RUNNING", "STOPPED") else None

        return until(decided, f"the outcome of {behaviour}", 100)

    behaviours = ("default", "always", "once", "prefer-cached")
    for behaviour in behaviours:
        ecs.create_cluster(clusterName=behaviour)
        stage.agent(server, behaviour, ECS_IMAGE_PULL_BEHAVIOR=behaviour)
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(behaviours, pool.map(outcome, behaviours)))
    statuses = {behaviour: task["lastStatus"] for behaviour, task in found.items()}
    assert statuses["default"] == "RUNNING", "pulled in vain, then taken from the cache"
    assert statuses["prefer-cached"] == "RUNNING"
    assert statuses["always"] == "STOPPED"
    failed = found["always"]
    assert failed["containers"][0]["reason"].startswith("CannotPull"), failed
    assert failed["stopCode"] == "TaskFailedToStart"


def test_containers_are_removed_some_time_after_the_end(stage: Any, images: None) -> None:
    """ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION; the API's record stays (ECS-SEMANTICS 4)."""
    server: Server = stage.server()
    stage.agent(server, ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="1s")
    tasks = Tasks(server.client(), "default", "short-lived")
    arn = tasks.start(container("main", "trap", "7"))
    assert docker.of_task(arn)
    tasks.stop(arn)
    until(lambda: not docker.of_task(arn), "the container's removal", 45)
    assert tasks.describe(arn)["containers"][0]["exitCode"] == 7


def ended(stage: Any, server: Server, cluster: str, **settings: str) -> tuple[int, str]:
    """Exit code and log of an agent that cannot stay."""
    folder = stage.folder / f"agent-{len(stage.processes)}"
    agent = Agent(server, folder, cluster, **settings)
    stage.processes.append(agent)
    agent.start()
    until(lambda: not agent.alive, "the agent's end", 40)
    return agent.child.returncode, agent.tail()


def test_an_unknown_cluster_ends_the_agent(stage: Any) -> None:
    """Somebody may create it meanwhile, so a supervisor may try again (1.7); the log says why."""
    code, log = ended(stage, stage.server(), "not-there")
    assert code == 1, log
    assert "Cluster not found" in log


def test_without_a_cluster_the_default_one_is_made(stage: Any) -> None:
    """ECS_CLUSTER empty and "Cluster not found": CreateCluster, once more (1.3)."""
    server: Server = stage.server()
    ecs = server.client()
    ecs.delete_cluster(cluster="default")
    stage.agent(server, ECS_CLUSTER="")
    assert ecs.describe_clusters()["clusters"][0]["status"] == "ACTIVE"


def test_a_saved_state_of_another_cluster_is_terminal(stage: Any, tmp_path: Path) -> None:
    """Saved cluster ≠ configured cluster: exit 5 (1.11)."""
    server: Server = stage.server()
    server.client().create_cluster(clusterName="other")
    data = tmp_path / "state"
    agent: Agent = stage.agent(server, ECS_DATADIR=str(data))
    assert agent.end() == 0
    code, log = ended(stage, server, "other", ECS_DATADIR=str(data))
    assert code == 5, log
    assert "default" in log and "other" in log


def test_one_data_directory_has_one_agent(stage: Any, tmp_path: Path) -> None:
    """Two agents with one identity would take the session from each other for ever."""
    server: Server = stage.server()
    data = tmp_path / "state"
    first: Agent = stage.agent(server, ECS_DATADIR=str(data))
    code, log = ended(stage, server, "default", ECS_DATADIR=str(data))
    assert code in (1, 5) and str(data) in log, log
    assert first.alive
    assert len(server.wait_for_instance()) == 1


def test_a_lost_data_directory_is_a_new_instance(stage: Any, images: None, tmp_path: Path) -> None:
    """What the old identity ran is not touched by the new one, and not counted as its own."""
    server: Server = stage.server()
    first: Agent = stage.agent(server, ECS_DATADIR=str(tmp_path / "one"))
    tasks = Tasks(server.client(), "default", "lost")
    arn = tasks.start(container())
    home = tasks.describe(arn)["containerInstanceArn"]
    first.kill()
    second: Agent = stage.agent(server, ECS_DATADIR=str(tmp_path / "two"))
    fresh = until(
        lambda: [
            one
            for one in server.wait_for_instance()
            if one["containerInstanceArn"] != home and one["agentConnected"]
        ],
        "the new instance",
    )
    assert fresh[0]["runningTasksCount"] == 0
    assert docker.of_task(arn)["main"]["State"]["Running"]
    other = tasks.run()
    tasks.wait(other, "RUNNING")
    assert tasks.describe(other)["containerInstanceArn"] == fresh[0]["containerInstanceArn"]
    assert second.alive


def test_a_refused_key_ends_the_agent(stage: Any) -> None:
    """Its log names the reason and never the secret."""
    code, log = ended(stage, stage.server(), "default", AWS_SECRET_ACCESS_KEY="wrongwrongwrong")
    assert code in (1, 5), log
    assert "InvalidSignatureException" in log and "wrongwrongwrong" not in log


def test_an_agent_that_starts_before_its_server_waits_for_it(stage: Any) -> None:
    """After a power cut machines come up in any order: no supervisor is needed to bring them together."""
    server: Server = stage.server()
    server.kill()
    agent = Agent(server, stage.folder / "early", "default")
    stage.processes.append(agent)
    agent.start()
    # The fourth attempt is beyond what one call retries by itself; the official agent has left by then.
    until(lambda: agent.log.read_text().count("registration failed, trying again") >= 4, "attempts in vain", 60)
    assert agent.alive, agent.tail()
    server.start()
    assert len(server.wait_for_instance()) == 1
    assert agent.alive


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ECS_AVAILABLE_LOGGING_DRIVERS", '["carrier-pigeon"]'),
        ("ECS_RESERVED_PORTS", "22,80"),
        ("ECS_IMAGE_PULL_BEHAVIOR", "sometimes"),
        ("ECS_INSTANCE_ATTRIBUTES", "{"),
    ],
)
def test_a_bad_setting_is_named(stage: Any, name: str, value: str) -> None:
    """The agent ends, or says that it goes on without the setting."""
    server: Server = stage.server()
    folder = stage.folder / "agent"
    agent = Agent(server, folder, "default", **{name: value})
    stage.processes.append(agent)
    agent.start()
    until(lambda: name in agent.tail(), f"a word about {name}", 15)


def test_one_agent_can_be_several_instances(stage: Any, images: None) -> None:
    """LONGSHORE_INSTANCES: they share the machine's size and its ports (DESIGN 4)."""
    server: Server = stage.server()
    stage.agent(server, LONGSHORE_INSTANCES="2")
    instances = server.wait_for_instance(count=2)
    names = [{each["name"]: each.get("value") for each in one["attributes"]} for one in instances]
    assert len({attributes["longshore.host-id"] for attributes in names}) == 1
    tasks = Tasks(server.client(), "default", "several")
    definition = tasks.define(container(memory=8))
    arns = [task["taskArn"] for task in tasks.request(definition, count=10)["tasks"]]
    for arn in arns:
        home = tasks.wait(arn, "RUNNING", 60)["containerInstanceArn"]
        seen = docker.of_task(arn)["main"]
        assert seen["Config"]["Labels"][docker.INSTANCE_LABEL] == home
    assert len({tasks.describe(arn)["containerInstanceArn"] for arn in arns}) == 2
