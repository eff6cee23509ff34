"""Short ways to say what nearly every test says: define, run, wait, stop."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.docker import TOOL
from support.waiting import until

ORDER = (
    "PROVISIONING PENDING ACTIVATING RUNNING DEACTIVATING STOPPING DEPROVISIONING STOPPED".split()
)


def container(name: str = "main", *command: str, **more: Any) -> dict[str, Any]:
    """A small container definition of the test image."""
    definition: dict[str, Any] = {"name": name, "image": TOOL, "cpu": 10, "memory": 16, **more}
    if command:
        definition["command"] = list(command)
    return definition


def refused(call: Any, *code: str, **parameters: Any) -> str:
    """Asserts that a boto3 call is refused with one of some codes; the message."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    assert error["Code"] in code, error
    return error["Message"]


class Tasks:
    """Tasks of one cluster as one test sees them."""

    def __init__(self, ecs: Any, cluster: str, family: str) -> None:
        self.ecs, self.cluster, self.family = ecs, cluster, family
        self.arns: list[str] = []

    def define(self, *containers: dict[str, Any], **more: Any) -> str:
        """Registers a revision of the test's family; its ARN."""
        answer = self.ecs.register_task_definition(
            family=more.pop("family", self.family),
            containerDefinitions=list(containers) or [container()],
            **more,
        )
        return answer["taskDefinition"]["taskDefinitionArn"]

    def request(self, definition: str | None = None, **more: Any) -> dict[str, Any]:
        """RunTask, as it is answered."""
        answer = self.ecs.run_task(
            cluster=self.cluster, taskDefinition=definition or self.family, **more
        )
        self.arns += [task["taskArn"] for task in answer["tasks"]]
        return answer

    def run(self, definition: str | None = None, **more: Any) -> str:
        """Runs one task that must be placed; its ARN."""
        answer = self.request(definition, **more)
        assert not answer["failures"], answer["failures"]
        return answer["tasks"][0]["taskArn"]

    def start(self, *containers: dict[str, Any], **more: Any) -> str:
        """Defines and runs one task, and waits until it is RUNNING; its ARN."""
        arn = self.run(self.define(*containers, **more))
        self.wait(arn, "RUNNING")
        return arn

    def describe(self, arn: str) -> dict[str, Any]:
        """One task."""
        answer = self.ecs.describe_tasks(cluster=self.cluster, tasks=[arn])
        assert not answer["failures"], answer["failures"]
        return answer["tasks"][0]

    def wait(self, arn: str, status: str, within: float = 30) -> dict[str, Any]:
        """Waits until a task has a status; fails early when it went past it."""

        def reached() -> dict[str, Any] | None:
            task = self.describe(arn)
            if task["lastStatus"] == status:
                return task
            assert ORDER.index(task["lastStatus"]) < ORDER.index(status), task
            return None

        return until(reached, f"{arn} {status}", within)

    def history(self, arn: str, within: float = 30) -> list[dict[str, Any]]:
        """Every distinct state of a task that can be seen until it is STOPPED."""
        seen: list[dict[str, Any]] = []
        deadline = time.monotonic() + within
        while not seen or seen[-1]["lastStatus"] != "STOPPED":
            assert time.monotonic() < deadline, f"never STOPPED: {seen[-1:]}"
            task = self.describe(arn)
            if not seen or task["version"] != seen[-1]["version"]:
                seen.append(task)
        return seen

    def stop(self, arn: str, within: float = 30) -> dict[str, Any]:
        """Stops a task and waits for its end."""
        self.ecs.stop_task(cluster=self.cluster, task=arn)
        return self.wait(arn, "STOPPED", within)

    def listed(self, **filters: Any) -> list[str]:
        """ListTasks, all pages."""
        pages = self.ecs.get_paginator("list_tasks").paginate(cluster=self.cluster, **filters)
        return [arn for page in pages for arn in page["taskArns"]]

    def stop_all(self) -> None:
        """Stops what the test left running, so that the next one finds the instance empty."""
        try:
            for arn in self.arns:
                self.ecs.stop_task(cluster=self.cluster, task=arn)
            for arn in self.arns:
                self.wait(arn, "STOPPED", 60)
        except ClientError:
            pass  # the test itself says what is wrong


def named(task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The containers of a task by name."""
    return {one["name"]: one for one in task["containers"]}
