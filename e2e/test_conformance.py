"""Conformance: requests made from the service model, and the baseline that may only rise.

One test for each operation of the model; `python -m conformance --help` tells how to look closer.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from conformance import answers, baseline, model, sweep, values
from conformance.answers import problems_of_error, problems_of_success
from conformance.cases import Case, Expectation, cases
from conformance.runner import Outcome, Result, judge, run
from conformance.samples import Samples
from conformance.world import World
from support.processes import Server
from support.wire import CONTENT_TYPE, Answer

OPERATIONS = model.ecs().operations


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    """What the requests name."""
    world = World(server)
    yield world
    world.close()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_answers_as_well_as_it_did(world: World, operation: str) -> None:
    results = run(world, OPERATIONS[operation])
    worse = baseline.worse(baseline.load(), operation, results)
    assert not worse, "\n".join(worse)


def test_whatever_was_accepted_is_described_well(world: World) -> None:
    """Runs after the operations, on all that they left."""
    found = sweep.problems(world)
    assert not found, "\n".join(found[:20])


def test_the_baseline_knows_the_operations_of_the_model() -> None:
    assert list(baseline.load()) == list(OPERATIONS)


def test_the_requests_are_of_the_model_that_the_server_is_made_from() -> None:
    """botocore's description and `models/ecs.json` are one: else the cases test another service."""
    source = json.loads((model.MODELS / "ecs.json").read_text())
    assert set(source["operations"]) == set(OPERATIONS)
    for name, shape in source["shapes"].items():
        assert sorted(shape.get("members", ())) == sorted(model.ecs().raw[name].get("members", ()))


def test_values_are_of_members_that_exist() -> None:
    """A value under a wrong name would never be sent, and nobody would notice."""
    shapes = {name: model.ecs().shape(name) for name in model.ecs().raw}
    for place in values.MEMBERS:
        shape, member = place.split(".")
        assert member in shapes[shape].members, place
    assert set(values.STRUCTURES) <= set(shapes)
    assert {*values.REQUESTS, *values.SURROUNDINGS} <= set(OPERATIONS)
    for operation, places in values.SURROUNDINGS.items():
        known = [str(place) for place in model.places(OPERATIONS[operation].input)]
        assert set(places) <= set(known), operation


# The judge must be able to fail.

DESCRIBE = OPERATIONS["DescribeClusters"]
HEADERS = {"content-type": CONTENT_TYPE, "x-amzn-requestid": "1"}
CLUSTER: dict[str, Any] = {
    "clusterArn": "arn",
    "clusterName": "default",
    "status": "ACTIVE",
    "registeredContainerInstancesCount": 0,
    "runningTasksCount": 0,
    "pendingTasksCount": 0,
    "activeServicesCount": 0,
    "statistics": [],
    "tags": [],
    "settings": [{"name": "containerInsights", "value": "disabled"}],
    "capacityProviders": [],
    "defaultCapacityProviderStrategy": [],
}


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    """An answer as the wire brings it."""
    return Answer(status, HEADERS | headers, json.dumps(body))


def described(**changes: Any) -> Answer:
    """DescribeClusters, spoiled."""
    cluster = {k: v for k, v in (copy.deepcopy(CLUSTER) | changes).items() if v != "absent"}
    return answer({"clusters": [cluster], "failures": []})


def test_a_good_answer_has_no_problems() -> None:
    assert problems_of_success(DESCRIBE, described()) == []


@pytest.mark.parametrize(
    ("spoiled", "problem"),
    [
        (described(clusterName=None), "is no string"),
        (described(clusterNames="x"), "no such member"),
        (described(runningTasksCount=0.0), "is no integer"),
        (described(runningTasksCount=True), "is no integer"),
        (described(tags="absent"), "tags is missing"),
        (described(settings=[{"name": "insight"}]), "is no ClusterSettingName"),
        (answer({"clusters": []}), "failures is missing"),
        (answer([]), "no object"),
        (answer({}, **{"x-amzn-requestid": ""}), "no x-amzn-RequestId"),
        (answer({}, **{"content-type": "text/html"}), "content type"),
        (Answer(200, HEADERS, '{"clusters":[],"clusters":[],"failures":[]}'), "stands twice"),
        (Answer(200, HEADERS, "{"), "no JSON"),
        (answer({}, status=204), "204"),
    ],
)
def test_a_bad_answer_has_problems(spoiled: Answer, problem: str) -> None:
    assert problem in "; ".join(problems_of_success(DESCRIBE, spoiled))


def test_times_have_a_fraction() -> None:
    operation = OPERATIONS["DescribeTasks"]
    problems = problems_of_success(operation, answer({"tasks": [{"createdAt": 1700000000}]}))
    assert any("createdAt" in problem for problem in problems)


@pytest.mark.parametrize(
    ("spoiled", "problem"),
    [
        (answer({"__type": "ClientException"}, 400), "no message"),
        (answer({"message": "no"}, 400), "no __type"),
        (answer({"__type": "ClientException", "message": "no"}, 500), "status 500"),
        (answer({"__type": "ClientException", "message": "no", "more": 1}, 400), "unknown member"),
        (
            answer({"__type": "A", "message": "no"}, 400, **{"x-amzn-errortype": "B"}),
            "differ",
        ),
    ],
)
def test_a_bad_error_has_problems(spoiled: Answer, problem: str) -> None:
    assert problem in "; ".join(problems_of_error(DESCRIBE, spoiled))


@pytest.mark.parametrize(
    ("asked", "shown", "forgotten"),
    [
        ({"family": "f", "cpu": "256"}, {"family": "f", "cpu": "256", "revision": 1}, False),
        ({"family": "f", "cpu": "256"}, {"family": "f"}, True),
        ({"family": "f", "cpu": "256"}, {"family": "f", "cpu": "512"}, True),
        ({"family": "f", "cpu": None, "future": 1, "tags": [{"key": "a"}]}, {"family": "f"}, False),
        ({"volumes": []}, {}, False),
        ({"volumes": [{"name": "a"}]}, {"volumes": []}, True),
        ({"volumes": [{"name": "a", "host": {}}]}, {"volumes": [{"name": "a"}]}, False),
        ({"volumes": [{"name": "a"}]}, {"volumes": [{"name": "b"}]}, True),
    ],
)
def test_what_is_accepted_and_not_shown_is_noticed(
    asked: dict[str, Any], shown: dict[str, Any], forgotten: bool
) -> None:
    operation = OPERATIONS["RegisterTaskDefinition"]
    found = answers.forgotten(operation, asked, answer({"taskDefinition": shown}))
    assert bool(found) is forgotten, found


@pytest.mark.parametrize(
    ("expectation", "code", "message", "outcome"),
    [
        (Expectation.REFUSED, "InvalidParameterException", "include is bad", Outcome.PASSED),
        (Expectation.REFUSED, "InvalidParameterException", "it is bad", Outcome.DEVIATES),
        (Expectation.REFUSED, "ClientException", "include is bad", Outcome.DEVIATES),
        (Expectation.UNREADABLE, "SerializationException", "include is bad", Outcome.PASSED),
        (Expectation.UNREADABLE, "ClientException", "include is bad", Outcome.DEVIATES),
        (Expectation.ANSWERED, "ClientException", "not now", Outcome.PASSED),
        (Expectation.ANSWERED, "SerializationException", "not now", Outcome.DEVIATES),
        (Expectation.ANSWERED, "TaskSetNotFoundException", "not now", Outcome.DEVIATES),
        (Expectation.ACCEPTED, "ClientException", "not now", Outcome.DEVIATES),
        (Expectation.ACCEPTED, "UnsupportedFeatureException", "include", Outcome.UNSUPPORTED),
        (Expectation.ACCEPTED, "UnsupportedFeatureException", "something", Outcome.DEVIATES),
    ],
)
def test_a_refusal_is_judged_by_what_was_expected(
    expectation: Expectation, code: str, message: str, outcome: Outcome
) -> None:
    case = Case("with include", expectation, "include", "include", lambda least: least)
    refusal = answer({"__type": code, "message": message}, 400)
    assert judge(DESCRIBE, case, {"include": []}, refusal)[0] is outcome


@pytest.mark.parametrize("expectation", [Expectation.REFUSED, Expectation.UNREADABLE])
def test_what_has_to_be_refused_must_not_succeed(expectation: Expectation) -> None:
    case = Case("with include", expectation, "include", "include", lambda least: least)
    assert judge(DESCRIBE, case, {}, described())[0] is Outcome.DEVIATES


def results(*outcomes: tuple[str, Outcome]) -> list[Result]:
    """Results of cases by their names."""
    return [
        Result(Case(name, Expectation.ACCEPTED, "", "", lambda least: least), outcome, "why")
        for name, outcome in outcomes
    ]


def test_the_baseline_notices_what_got_worse() -> None:
    passed, unsupported, deviates = Outcome.PASSED, Outcome.UNSUPPORTED, Outcome.DEVIATES
    good = results(("a", passed), ("b", unsupported), ("c", deviates), ("d", passed))
    known = {"Op": baseline.entry(None, good, "because")}
    assert baseline.worse(known, "Op", good) == []
    better = results(("a", passed), ("b", passed), ("c", passed), ("d", passed))
    assert baseline.worse(known, "Op", better) == []
    for name, outcome in (("a", unsupported), ("a", deviates), ("b", deviates), ("new", deviates)):
        now = [one for one in good if one.case.name != name] + results((name, outcome))
        assert baseline.worse(known, "Op", now), f"{name} {outcome}"
    traded = results(("a", unsupported), ("b", passed), ("c", deviates), ("d", passed))
    assert baseline.worse(known, "Op", traded), "one up, one down is down"
    assert baseline.worse(known, "Op", good[:-1]), "a case that is gone passes no more"
    assert baseline.worse({}, "Op", good)


def test_the_baseline_takes_no_deviation_without_a_reason() -> None:
    deviating = results(("a", Outcome.DEVIATES))
    with pytest.raises(baseline.Unexplained):
        baseline.entry(None, deviating, "")
    first = baseline.entry(None, deviating, "because")
    assert baseline.entry(first, deviating, "") == first, "known reasons stay"


def test_cases_of_every_kind_are_made(world: World) -> None:
    operation = OPERATIONS["RunTask"]
    made = {one.name: one for one in cases(operation, Samples(world, "RunTask", operation.input))}
    for name, expectation in (
        ("missing taskDefinition", Expectation.REFUSED),
        ("null taskDefinition", Expectation.REFUSED),
        ("with startedBy", Expectation.ACCEPTED),
        ("null startedBy", Expectation.ACCEPTED),
        ("a number as startedBy", Expectation.UNREADABLE),
        ("128 of startedBy", Expectation.ANSWERED),
        ("129 of startedBy", Expectation.REFUSED),
        ("11 as count", Expectation.REFUSED),
        ("2147483648 as count", Expectation.UNREADABLE),
        ("51 of tags", Expectation.REFUSED),
        ("bad characters in tags[].key", Expectation.REFUSED),
        ("'NO_SUCH_VALUE' as launchType", Expectation.REFUSED),
        ("missing overrides.ephemeralStorage.sizeInGiB", Expectation.REFUSED),
        ("unknown member in overrides.containerOverrides[]", Expectation.ACCEPTED),
    ):
        assert made[name].expectation is expectation, name
    base = {"taskDefinition": "f"}
    request = made["missing overrides.ephemeralStorage.sizeInGiB"].make(base)
    assert request == {"taskDefinition": "f", "overrides": {"ephemeralStorage": {}}}
    assert base == {"taskDefinition": "f"}, "the least request stays as it is"
