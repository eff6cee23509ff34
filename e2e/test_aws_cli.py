"""The first and the second AWS CLI as people use them: output, skeletons, waiters, pages."""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.ecs import Tasks, container
from support.processes import AwsCli, Server
from test_agent.engine import Engine
from test_agent.instance import Instance

# Where Debian and AWS's own installer put the second one; `scripts/client-tools` makes sure of it.
PROGRAMS = (Path("/usr/bin/aws"), Path("/usr/local/bin/aws"))


class AwsCli2(AwsCli):
    """The second AWS CLI. Debian's is older than the variables that name endpoints."""

    def __init__(self, server: Server, home: Path) -> None:
        super().__init__(server.data, home)
        self.endpoint = server.endpoint
        found = [one for one in PROGRAMS if one.exists() and version(one).startswith("aws-cli/2.")]
        assert found, "install it: scripts/client-tools"
        self.program = found[0]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `aws ecs …`."""
        return super().run(*arguments, "--endpoint-url", self.endpoint)


def version(program: Path) -> str:
    """What an AWS CLI says of itself."""
    return subprocess.run([str(program), "--version"], capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def aws2(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AwsCli2:
    """The second AWS CLI."""
    return AwsCli2(server, tmp_path_factory.mktemp("home2"))


@pytest.fixture(params=["aws", "aws2"])
def either(request: pytest.FixtureRequest) -> AwsCli:
    """Both, one after the other."""
    return request.getfixturevalue(request.param)


def text(aws: AwsCli, *arguments: str) -> str:
    """What a command prints, which must succeed."""
    done = aws.run(*arguments)
    assert done.returncode == 0, f"aws ecs {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def flat_yaml(lines: str) -> dict[str, str]:
    """The scalars of a YAML document by name; enough to compare one object."""
    pairs = (line.strip().removeprefix("- ").split(": ", 1) for line in lines.splitlines())
    return {pair[0]: pair[1].strip("'\"") for pair in pairs if len(pair) == 2}


# Output


def test_every_format_tells_the_same(either: AwsCli, cluster: str, server: Server) -> None:
    ask = ("describe-clusters", "--clusters", cluster)
    arn = f"arn:aws:ecs:us-east-1:{server.account}:cluster/{cluster}"
    (told,) = json.loads(text(either, *ask, "--output", "json"))["clusters"]
    assert (told["clusterArn"], told["status"]) == (arn, "ACTIVE")

    rows = [line.split("\t") for line in text(either, *ask, "--output", "text").splitlines()]
    (row,) = [row for row in rows if row[0] == "CLUSTERS"]
    assert {arn, cluster, "ACTIVE", "0"} <= set(row)

    table = text(either, *ask, "--output", "table")
    assert "DescribeClusters" in table
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    shown = {row[0]: row[1] for row in cells if len(row) == 2}
    assert (shown["clusterArn"], shown["clusterName"]) == (arn, cluster)
    assert shown["runningTasksCount"] == "0"

    if isinstance(either, AwsCli2):
        document = flat_yaml(text(either, *ask, "--output", "yaml"))
        assert (document["clusterArn"], document["status"]) == (arn, "ACTIVE")


def test_an_empty_answer_is_printed_in_every_format(either: AwsCli, cluster: str) -> None:
    """A list that is always returned is there when it is empty: a query must not say null."""
    ask = ("list-tasks", "--cluster", cluster)
    assert json.loads(text(either, *ask)) == {"taskArns": []}
    assert text(either, *ask, "--query", "length(taskArns)", "--output", "text").strip() == "0"
    assert text(either, *ask, "--output", "text").strip() == ""
    text(either, *ask, "--output", "table")


def test_queries_pick_and_shape(either: AwsCli, cluster: str, family: str, ecs: Any) -> None:
    for cpu in (10, 20):
        ecs.register_task_definition(family=family, containerDefinitions=[container(cpu=cpu)])
    ask = ("describe-task-definition", "--task-definition")
    shape = "taskDefinition.{family:family,cpu:containerDefinitions[0].cpu,revision:revision}"
    told = json.loads(text(either, *ask, family, "--query", shape))
    assert told == {"family": family, "cpu": 20, "revision": 2}
    picked = "taskDefinition.containerDefinitions[?essential].name | [0]"
    assert text(either, *ask, f"{family}:1", "--query", picked, "--output", "text") == "main\n"
    names = "clusters[?status=='ACTIVE'].clusterName"
    clusters = ("describe-clusters", "--clusters", cluster, "nothing")
    assert text(either, *clusters, "--query", names, "--output", "text") == f"{cluster}\n"
    reason = text(either, *clusters, "--query", "failures[].reason", "--output", "text")
    assert reason == "MISSING\n"


def test_errors_name_operation_and_code(either: AwsCli) -> None:
    done = either.run("list-tasks", "--cluster", "nowhere")
    assert done.returncode != 0 and done.stdout == ""
    wanted = "An error occurred (ClusterNotFoundException) when calling the ListTasks operation:"
    assert f"{wanted} Cluster not found." in done.stderr


# Skeletons


def filled_in(skeleton: Any, values: Any) -> Any:
    """A skeleton as people fill it in: what they do not need is taken out, nothing is invented."""
    if isinstance(values, dict) and set(skeleton) != {"KeyName"}:
        assert set(values) <= set(skeleton), set(values) - set(skeleton)
        return {name: filled_in(skeleton[name], value) for name, value in values.items()}
    if isinstance(values, list) and skeleton and isinstance(skeleton[0], dict):
        return [filled_in(skeleton[0], value) for value in values]
    return values


def test_a_skeleton_is_filled_in_and_sent(
    either: AwsCli, family: str, cluster: str, fleet: Callable[..., Engine], json_file: Any
) -> None:
    engine = fleet()
    skeleton = json.loads(text(either, "register-task-definition", "--generate-cli-skeleton"))
    definition = filled_in(
        skeleton,
        {
            "family": family,
            "networkMode": "bridge",
            "containerDefinitions": [
                {
                    "name": "web",
                    "image": "web:1",
                    "cpu": 10,
                    "memory": 64,
                    "essential": True,
                    "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
                    "environment": [{"name": "MODE", "value": "skeleton"}],
                    "ulimits": [{"name": "nofile", "softLimit": 100, "hardLimit": 200}],
                    "dockerLabels": {"team": "red"},
                }
            ],
            "placementConstraints": [],
            "tags": [{"key": "made-by", "value": "skeleton"}],
        },
    )
    told = either("register-task-definition", "--cli-input-json", json_file(definition))
    assert told["tags"] == definition["tags"]
    told = told["taskDefinition"]
    assert told["family"] == family and told["networkMode"] == "bridge"
    (web,) = told["containerDefinitions"]
    assert web == web | definition["containerDefinitions"][0]

    skeleton = json.loads(text(either, "run-task", "--generate-cli-skeleton"))
    request = filled_in(
        skeleton,
        {
            "cluster": cluster,
            "taskDefinition": family,
            "count": 1,
            "startedBy": "a-skeleton",
            "group": "skeletons",
            "overrides": {
                "containerOverrides": [
                    {"name": "web", "environment": [{"name": "MODE", "value": "changed"}]}
                ]
            },
        },
    )
    # What stands on the command line wins over the file.
    ask = ("run-task", "--cli-input-json", json_file(request), "--count", "2")
    run = either(*ask)
    assert run["failures"] == [] and len(run["tasks"]) == 2
    assert {task["startedBy"] for task in run["tasks"]} == {"a-skeleton"}
    assert {task["group"] for task in run["tasks"]} == {"skeletons"}
    assert set(engine.starts) <= {task["taskArn"] for task in run["tasks"]}


def test_a_skeleton_in_yaml_is_filled_in_and_sent(
    aws2: AwsCli2, family: str, tmp_path: Path
) -> None:
    """`yaml-input` gives a commented document; a person keeps the lines that matter."""
    skeleton = text(aws2, "register-task-definition", "--generate-cli-skeleton", "yaml-input")
    for line in ("family: ''", "containerDefinitions:", "- name: ''", "  image: ''", "  memory: 0"):
        assert line in skeleton, line
    document = tmp_path / "definition.yaml"
    document.write_text(
        f"family: {family}\n"
        "containerDefinitions:\n"
        "- name: web # as the service is called\n"
        "  image: web:1\n"
        "  memory: 64\n"
        "  command: [run, 'a b']\n"
    )
    told = aws2("register-task-definition", "--cli-input-yaml", f"file://{document}")
    (web,) = told["taskDefinition"]["containerDefinitions"]
    assert (web["name"], web["memory"], web["command"]) == ("web", 64, ["run", "a b"])


def test_the_answer_of_describe_registers_again(
    either: AwsCli, family: str, json_file: Any, ecs: Any
) -> None:
    """How scripts make the next revision: what is described, less what is only told, registers."""
    ecs.register_task_definition(family=family, containerDefinitions=[container()])
    ask = ("describe-task-definition", "--task-definition", family, "--query", "taskDefinition")
    told = either(*ask)
    only_told = {
        *("taskDefinitionArn", "revision", "status", "registeredAt", "registeredBy"),
        *("requiresAttributes", "compatibilities"),
    }
    assert only_told <= set(told)
    told["containerDefinitions"][0]["image"] = "web:2"
    again = {name: value for name, value in told.items() if name not in only_told}
    made = either("register-task-definition", "--cli-input-json", json_file(again))
    assert made["taskDefinition"]["revision"] == 2
    wanted = again | {"status": "ACTIVE"}
    assert made["taskDefinition"] == made["taskDefinition"] | wanted


# Waiters


def test_waiters_end_in_success(
    either: AwsCli, cluster: str, started: tuple[Instance, str], ecs: Any
) -> None:
    """The CLI asks every six seconds: one of the two is asked too early."""
    instance, arn = started
    instance.submit(arn, "RUNNING")
    assert text(either, "wait", "tasks-running", "--cluster", cluster, "--tasks", arn) == ""
    report = threading.Timer(2, instance.submit, (arn, "STOPPED"))
    report.start()
    assert text(either, "wait", "tasks-stopped", "--cluster", cluster, "--tasks", arn) == ""
    report.join()
    (task,) = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
    assert task["lastStatus"] == "STOPPED"


def test_waiters_end_in_failure(
    either: AwsCli, cluster: str, started: tuple[Instance, str]
) -> None:
    instance, arn = started
    instance.submit(arn, "STOPPED")
    for task in (arn, "0" * 32):
        done = either.run("wait", "tasks-running", "--cluster", cluster, "--tasks", task)
        assert done.returncode == 255
        assert "Waiter TasksRunning failed: Waiter encountered a terminal failure" in done.stderr


# Pages


@pytest.fixture(scope="module")
def revisions(ecs: Any) -> tuple[str, list[str]]:
    """A family with 105 revisions, more than a page of the API; their ARNs."""
    family = f"pages-{uuid.uuid4().hex[:8]}"
    arns = [
        ecs.register_task_definition(family=family, containerDefinitions=[container()])[
            "taskDefinition"
        ]["taskDefinitionArn"]
        for _ in range(105)
    ]
    return family, arns


def test_pages_are_joined_cut_and_gone_on_with(
    either: AwsCli, revisions: tuple[str, list[str]]
) -> None:
    family, arns = revisions
    ask = ("list-task-definitions", "--family-prefix", family)
    whole = either(*ask)
    assert whole == {"taskDefinitionArns": arns}, "joined, without a token"
    assert either(*ask, "--page-size", "7") == whole

    first = either(*ask, "--max-items", "10", "--page-size", "4")
    assert first["taskDefinitionArns"] == arns[:10] and first["NextToken"]
    token = ("--starting-token", first["NextToken"])
    second = either(*ask, *token, "--max-items", "90")
    assert second["taskDefinitionArns"] == arns[10:100] and second["NextToken"]
    last = either(*ask, "--starting-token", second["NextToken"])
    assert last == {"taskDefinitionArns": arns[100:]}

    # One call to the API, whose own token shows.
    bare = either(*ask, "--no-paginate")
    assert bare["taskDefinitionArns"] == arns[:100] and bare["nextToken"]
    bare = either(*ask, "--max-results", "3")
    assert bare["taskDefinitionArns"] == arns[:3]
    bare = either(*ask, "--max-results", "3", "--next-token", bare["nextToken"])
    assert bare["taskDefinitionArns"] == arns[3:6]


def test_a_token_of_another_list_is_refused(
    either: AwsCli, revisions: tuple[str, list[str]]
) -> None:
    ask = ("list-task-definitions", "--family-prefix", revisions[0], "--max-results", "3")
    token = either(*ask)["nextToken"]
    done = either.run("list-task-definitions", "--next-token", token)
    assert "(InvalidParameterException)" in done.stderr
