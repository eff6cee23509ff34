"""Definitions that log to CloudWatch: refused by name, or kept on the instance (issue 5, point 7)."""

from __future__ import annotations

from typing import Any

import pytest

from support import docker, people
from support.ecs import Tasks, container
from support.processes import Agent, Server
from support.waiting import until

DRIVER = "com.amazonaws.ecs.capability.logging-driver.awslogs"
LOGGING = {
    "logDriver": "awslogs",
    "options": {
        "awslogs-group": "/ecs/web",
        "awslogs-region": "eu-west-1",
        "awslogs-stream-prefix": "ecs",
        "mode": "non-blocking",
        "max-buffer-size": "4m",
    },
}


@pytest.fixture(scope="module")
def keeper(module_stage: Any, server: Server, images: None) -> Agent:
    """An agent that keeps such logs, in a cluster of its own."""
    server.client().create_cluster(clusterName="keeps")
    agent = Agent(server, module_stage.folder / "keeper", "keeps")
    agent.arguments += ["--awslogs-as", "json-file"]
    module_stage.processes.append(agent)
    agent.start()
    server.wait_for_instance("keeps")
    return agent


def test_without_a_log_store_no_instance_takes_it(
    server: Server, agent: Agent, tasks: Tasks
) -> None:
    """It registers and is described as it was; RunTask fails with ATTRIBUTE, and `why` names it."""
    definition = tasks.define(container(logConfiguration=LOGGING))
    described = tasks.ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
    assert described["containerDefinitions"][0]["logConfiguration"] == LOGGING
    assert DRIVER in [one["name"] for one in described["requiresAttributes"]]
    answer = tasks.request(definition)
    assert answer["tasks"] == []
    assert [one["reason"] for one in answer["failures"]] == ["ATTRIBUTE"]
    assert DRIVER in people.run(server.data, "why", definition, code=3).stdout.decode()


def test_kept_on_the_instance_the_log_can_be_read_and_people_are_told(
    server: Server, keeper: Agent, agent: Agent
) -> None:
    tasks = Tasks(server.client(), "keeps", "kept")
    (instance,) = server.wait_for_instance("keeps")
    attributes = {one["name"]: one.get("value") for one in instance["attributes"]}
    assert DRIVER in attributes and attributes["longshore.awslogs-as"] == "json-file"

    definition = tasks.define(
        container("web", "lines", "3", "7", logConfiguration=LOGGING),
        container("side", "lines", "2", "1", essential=False),
    )
    arn = tasks.run(definition)
    tasks.wait(arn, "STOPPED")
    kept = docker.of_task(arn)["web"]["HostConfig"]["LogConfig"]
    assert kept == {
        "Type": "json-file",
        "Config": {
            "mode": "non-blocking",
            "max-buffer-size": "4m",
            "max-file": "4",
            "max-size": "32m",
        },
    }
    lines = people.run(server.data, "logs", arn, "--container", "web").stdout.decode().splitlines()
    assert "out 3" in lines[-1], lines

    told = people.text(server.data, "task", arn)
    assert "web: kept on the instance (json-file), not in CloudWatch Logs /ecs/web" in told, told
    assert "side:" not in told
    program = people.document(server.data, "task", arn)
    assert program["keptLogs"] == [
        {"container": "web", "driver": "json-file", "logGroup": "/ecs/web"}
    ]
    # The definition is what it was: this is the instance's business.
    described = tasks.ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
    assert described["containerDefinitions"][0]["logConfiguration"] == LOGGING
    until(lambda: "logs of web go to json-file" in keeper.log.read_text(), "the agent's own words")
