"""`longshore status`, `ps` and `task`: what a person looks at first, and what a script reads."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from support import people
from support.ecs import Tasks, container
from support.processes import Agent, Server, exported
from support.waiting import until
from test_agent.engine import Engine

Fleet = Callable[..., Engine]


def short(arn: str, length: int = 32) -> str:
    """The id in an ARN, or its beginning."""
    return arn.rsplit("/", 1)[1][:length]


def rows(table: str) -> list[list[str]]:
    """The cells of a table's rows, without the headings."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[1:]]


##### status


def test_status_shows_server_clusters_and_machines(server: Server, agent: Agent, tasks: Tasks) -> None:
    tasks.start(container(cpu=100, memory=32))
    report = people.document(server.data, "status", "--cluster", "default")
    assert report["server"]["endpoint"] == server.endpoint and report["server"]["reachable"] is True
    assert re.fullmatch(r"\d+\.\d+\.\d+", report["server"]["version"])
    (cluster,) = report["clusters"]
    assert (cluster["instances"], cluster["connected"], cluster["runningTasks"]) == (1, 1, 1)
    (instance,) = report["containerInstances"]
    assert instance["cpu"]["used"] == 100 and instance["memory"]["used"] == 32
    assert instance["cpu"]["total"] == cluster["cpu"]["total"] > 100
    assert report["problems"] == []
    text = people.text(server.data, "status", "--cluster", "default")
    assert server.endpoint in text and short(instance["arn"]) in text and "nothing is wrong" in text


def test_status_says_what_is_wrong_and_what_to_do(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    empty = people.document(server.data, "status", "--cluster", cluster)
    (problem,) = empty["problems"]
    assert "no container instances" in problem["problem"]
    assert f"longshore token create --cluster {cluster}" in problem["nextStep"]

    engine = fleet()
    drained = {"cluster": cluster, "containerInstances": [engine.instance.arn]}
    ecs.update_container_instances_state(**drained, status="DRAINING")
    engine.disconnect()
    until(
        lambda: not people.document(server.data, "status", "--cluster", cluster)["containerInstances"][0]["connected"],
        "the status to notice that an agent is gone",
    )
    text = people.text(server.data, "status", "--cluster", cluster)
    assert f"the agent of {short(engine.instance.arn)} in cluster {cluster} is not connected" in text
    assert "is DRAINING" in text and "--undo" in text


def test_status_of_a_server_that_is_not_there(stage: Any) -> None:
    server: Server = stage.server()
    endpoint = server.endpoint
    server.kill()  # its server.json stays
    complaint = people.complaint(server.data, "status")
    assert "longshore up" in complaint and endpoint in complaint and "server.log" in complaint
    assert people.document(server.data, "status", code=1)["server"]["reachable"] is False
    assert "start Longshore first" in people.complaint(server.folder / "nowhere", "ps")


def test_a_shell_that_env_pointed_at_a_server_needs_nothing_else(server: Server, cluster: str) -> None:
    shell = {k: v for k, v in exported(server.data).items() if k.startswith("AWS_")}
    assert cluster in people.text(None, "status", **shell)
    assert cluster in people.text(None, "status", "--endpoint", server.endpoint, **shell)
    del shell["AWS_SECRET_ACCESS_KEY"]
    done = people.run(None, "status", code=1, **shell)
    assert b"AWS_SECRET_ACCESS_KEY" in done.stderr


##### ps


def test_ps_lists_what_runs_and_with_all_what_ran(server: Server, agent: Agent, tasks: Tasks) -> None:
    runs = tasks.start(container(portMappings=[{"containerPort": 80}]))
    failed = tasks.run(tasks.define(container("main", "exit", "3"), container("side")))
    tasks.wait(failed, "STOPPED")
    family = ["--family", tasks.family, "--cluster", "default"]

    ((id, cluster, definition, status, instance, _age, ports, _reason),) = rows(
        people.text(server.data, "ps", *family)
    )
    task = tasks.describe(runs)
    assert runs.endswith(f"/{id}" if len(id) == 32 else short(runs)) and short(runs).startswith(id)
    assert (cluster, definition, status) == ("default", f"{tasks.family}:1", "RUNNING")
    assert task["containerInstanceArn"].rsplit("/", 1)[1].startswith(instance)
    (bound,) = {one["hostPort"] for one in task["containers"][0]["networkBindings"]}
    assert ports == f"{bound}->80/tcp"

    listed = rows(people.text(server.data, "ps", "--all", *family))
    assert [row[3] for row in listed] == ["STOPPED", "RUNNING"], "newest first"
    assert listed[0][-1] == "Essential container in task exited (main exit 3, side exit 143)"

    arns = [one["taskArn"] for one in people.document(server.data, "ps", "-a", *family)["tasks"]]
    assert arns == [failed, runs]
    on = ["--instance", task["containerInstanceArn"], "--family", tasks.family]
    assert len(people.document(server.data, "ps", *on)["tasks"]) == 1


def test_ps_of_an_unknown_cluster_says_where_to_look(server: Server) -> None:
    assert "longshore status" in people.complaint(server.data, "ps", "--cluster", "nowhere")


##### task


def test_a_tasks_life_line(server: Server, agent: Agent, tasks: Tasks) -> None:
    arn = tasks.start(
        container("web", "trap", "5", portMappings=[{"containerPort": 80}]),
        container("side", essential=False),
    )
    tasks.stop(arn)
    task = tasks.describe(arn)
    told = people.document(server.data, "task", short(arn, 20))
    assert told["task"]["taskArn"] == arn
    assert told["task"]["stoppedReason"] == task["stoppedReason"]
    assert told["containerInstance"]["containerInstanceArn"] == task["containerInstanceArn"]
    steps = [step["step"] for step in told["life"]]
    assert steps[0] == "created" and steps[-1] == "stopped"
    # Cached images are not pulled.
    assert set(steps) >= {"connectivity", "started", "stopping", "execution stopped"}
    afters = [step["afterCreation"] for step in told["life"]]
    assert afters == sorted(afters)
    assert told["life"][-1]["at"] == pytest.approx(task["stoppedAt"].timestamp(), abs=0.001)

    text = people.text(server.data, "task", arn)
    for part in (arn, f"{tasks.family}:1", "UserInitiated", "zone us-east-1a", "execution stopped"):
        assert part in text, text
    assert re.search(r"web +STOPPED +5 ", text) and re.search(r"side +STOPPED +143 ", text), text


def test_a_beginning_that_is_not_enough_lists_what_it_could_be(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    fleet()
    tasks = Tasks(ecs, cluster, f"f-{cluster}")
    tasks.define()
    arns = [tasks.run() for _ in range(2)]
    complaint = people.complaint(server.data, "task", short(arns[0], 4), "--cluster", cluster)
    assert "type more of the id" in complaint
    for arn in arns:
        assert short(arn, 16) in complaint
    common = next(i for i in range(32) if short(arns[0])[i] != short(arns[1])[i])
    found = people.document(server.data, "task", short(arns[1], common + 1).upper())
    assert found["task"]["taskArn"] == arns[1]
    tasks.stop_all()


@pytest.mark.parametrize("command", ["task", "logs"])
def test_an_unknown_task_says_where_to_look(server: Server, command: str) -> None:
    unknown = f"arn:aws:ecs:us-east-1:{server.account}:task/default/{'0' * 32}"
    for given in ("ff", "f" * 32, unknown):
        assert "longshore ps --all" in people.complaint(server.data, command, given), given
    assert "0-9 and a-f" in people.complaint(server.data, command, "nonsense")


def test_ages_and_times_do_not_depend_on_the_zone(server: Server, agent: Agent, tasks: Tasks) -> None:
    arn = tasks.start()
    text = people.text(server.data, "task", arn, TZ="Asia/Tokyo")
    assert time.strftime("%Y-%m-%d %H:%M", time.gmtime(tasks.describe(arn)["createdAt"].timestamp())) in text


##### Where it is written to


def test_a_reader_that_has_gone_needs_no_more(server: Server, ecs: Any) -> None:
    for command in (["status"], ["ps"], ["status", "--output", "json"], ["env"]):
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "wb") as nobody:
            assert people.written(server.data, nobody, *command) == (0, ""), command


def test_what_a_full_disk_does_not_take_is_an_error(server: Server, ecs: Any) -> None:
    ecs.register_task_definition(family="full", containerDefinitions=[container()])
    for command in (
        ["status"], ["ps", "--output", "json"], ["token", "list"], ["instance", "list"],
        ["token", "create"], ["why", "full"], ["env"], ["store", "check"], ["store", "dump"],
    ):  # fmt: skip
        with open("/dev/full", "wb") as full:
            code, said = people.written(server.data, full, *command)
        assert code == 1 and "cannot write to standard output" in said, (command, said)
