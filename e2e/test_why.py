"""`longshore why`: every reason for which an instance takes no copy, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import people
from support.ecs import Tasks, container
from support.processes import Server
from support.waiting import until
from test_agent.engine import Engine

Fleet = Callable[..., Engine]


def tasks_in(ecs: Any, cluster: str) -> Tasks:
    """Tasks of a cluster of its own."""
    return Tasks(ecs, cluster, f"f-{cluster}")


def reasons(answer: dict[str, Any], arn: str) -> list[str]:
    """Why one instance refuses."""
    (one,) = [one for one in answer["instances"] if one["containerInstanceArn"] == arn]
    return [refusal["reason"] for refusal in one["refusals"]]


def test_what_fits_is_counted(server: Server, ecs: Any, cluster: str, fleet: Fleet) -> None:
    fleet(cpu=1024, memory=1024)
    fleet(cpu=256, memory=1024)
    tasks = tasks_in(ecs, cluster)
    definition = tasks.define(container(cpu=128, memory=64))
    answer = people.document(server.data, "why", definition, "--cluster", cluster, "--count", "10")
    assert [one["copies"] for one in answer["instances"]] == [8, 2]
    assert answer["placeable"] == 10 and answer["advice"] == []
    many = ["why", tasks.family, "--cluster", cluster, "--count", "11"]
    complaint = people.complaint(server.data, *many, code=3)
    assert "10 of 11 fit" in complaint
    # What is said is what happens.
    assert len(tasks.request(count=10)["tasks"]) == 10
    failures = tasks.request()["failures"]
    answer = people.document(server.data, "why", tasks.family, "--cluster", cluster, code=3)
    for failure in failures:
        assert failure["reason"] in reasons(answer, failure["arn"])
    assert len(failures) == 2
    tasks.stop_all()


def test_every_reason_is_told_with_by_how_much(
    server: Server, ecs: Any, cluster: str, fleet: Fleet
) -> None:
    engine = fleet(cpu=256, memory=256)
    tasks = tasks_in(ecs, cluster)
    tasks.define(container(portMappings=[{"containerPort": 80, "hostPort": 8080}]))
    holder = tasks.run()
    definition = tasks.define(
        container(
            cpu=300,
            memory=300,
            portMappings=[{"containerPort": port, "hostPort": port} for port in (22, 8080)],
            logConfiguration={"logDriver": "fluentd"},
        )
    )
    drained = {"cluster": cluster, "containerInstances": [engine.instance.arn]}
    ecs.update_container_instances_state(**drained, status="DRAINING")
    engine.disconnect()
    ask = ["why", definition, "--cluster", cluster]

    def gone() -> bool:
        return "AGENT" in reasons(people.document(server.data, *ask, code=3), engine.instance.arn)

    until(gone, "the explanation to notice that the agent is gone")
    answer = people.document(server.data, *ask, code=3)
    assert reasons(answer, engine.instance.arn) == [
        "INACTIVE", "AGENT", "RESOURCE:CPU", "RESOURCE:MEMORY", "RESOURCE:PORTS", "RESOURCE:PORTS",
        "ATTRIBUTE",
    ]  # fmt: skip
    refusals = answer["instances"][0]["refusals"]
    assert "DRAINING" in refusals[0]["detail"]
    assert refusals[2]["missing"] == 54 and refusals[3]["missing"] == 60
    assert (refusals[4]["port"], refusals[4].get("heldBy")) == ("22/tcp", None)
    assert (refusals[5]["port"], refusals[5]["heldBy"]) == ("8080/tcp", holder)
    driver = "com.amazonaws.ecs.capability.logging-driver.fluentd"
    assert refusals[6]["attribute"] == {"name": driver}

    text = people.run(server.data, *ask, code=3).stdout.decode()
    assert "54 CPU units too few" in text and f"by task {holder.rsplit('/', 1)[1]}" in text
    advice = text[text.index("Nothing fits") :]
    assert advice.index(f"No instance offers attribute {driver}") < advice.index("larger machine")
    assert "ECS_AVAILABLE_LOGGING_DRIVERS" in advice and "--undo" in advice


def test_an_empty_cluster_and_an_unknown_definition(
    server: Server, ecs: Any, cluster: str, family: str
) -> None:
    tasks = Tasks(ecs, cluster, family)
    tasks.define()
    answer = people.document(server.data, "why", family, "--cluster", cluster, code=3)
    assert f"longshore token create --cluster {cluster}" in answer["advice"][0]
    assert "list-task-definitions" in people.complaint(server.data, "why", "nothing-of-this-name")
    assert "ClusterNotFoundException" in people.complaint(
        server.data, "why", family, "--cluster", "nowhere"
    )
    ecs.deregister_task_definition(taskDefinition=f"{family}:1")
    assert "inactive" in people.complaint(server.data, "why", f"{family}:1", "--cluster", cluster)
