"""boto3 as programs use it: paginators, waiters, retries, classes of errors, ARNs."""

from __future__ import annotations

import http.client
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError, WaiterError
from botocore.loaders import Loader
from botocore.utils import ArnParser

from support.ecs import Tasks, container
from support.processes import REGION, Server
from support.waiting import until
from support.wire import Wire
from test_agent.engine import Engine
from test_agent.instance import Instance

QUICKLY = {"Delay": 1, "MaxAttempts": 20}


# Paginators


@dataclass
class Listing:
    """One list operation: how to make and unmake what it lists."""

    operation: str
    # The members that narrow it down to what the test made.
    filters: dict[str, Any]
    # Makes one thing; what the listing calls it.
    add: Callable[[], str]
    # Takes it away again.
    remove: Callable[[str], Any]
    name_of: Callable[[Any], str] = field(default=lambda item: item)


def unique(prefix: str) -> str:
    """A name that nothing else has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Listings:
    """Every list operation that is implemented, with a world of its own for each."""

    def __init__(
        self, ecs: Any, server: Server, cluster: str, fleet: Callable[..., Engine]
    ) -> None:
        self.ecs, self.server, self.cluster, self.fleet = ecs, server, cluster, fleet

    def clusters(self) -> Listing:
        """All clusters; those of other tests are among them."""

        def add() -> str:
            return self.ecs.create_cluster(clusterName=unique("page"))["cluster"]["clusterArn"]

        return Listing("list_clusters", {}, add, lambda arn: self.ecs.delete_cluster(cluster=arn))

    def container_instances(self) -> Listing:
        """Those of one cluster."""

        def add() -> str:
            instance = Instance(self.server.endpoint, self.server.key, self.cluster)
            instance.register()
            return instance.arn

        def remove(arn: str) -> None:
            self.ecs.deregister_container_instance(
                cluster=self.cluster, containerInstance=arn, force=True
            )

        return Listing("list_container_instances", {"cluster": self.cluster}, add, remove)

    def tasks(self) -> Listing:
        """The running tasks of one cluster."""
        self.fleet()
        tasks = Tasks(self.ecs, self.cluster, unique("page"))
        definition = tasks.define(container(cpu=1, memory=6))
        return Listing(
            "list_tasks",
            {"cluster": self.cluster},
            lambda: tasks.run(definition),
            lambda arn: self.ecs.stop_task(cluster=self.cluster, task=arn),
        )

    def task_definitions(self, sort: str = "ASC") -> Listing:
        """The ACTIVE revisions of a family."""
        tasks = Tasks(self.ecs, self.cluster, unique("page"))
        return Listing(
            "list_task_definitions",
            {"familyPrefix": tasks.family, "sort": sort},
            tasks.define,
            lambda arn: self.ecs.deregister_task_definition(taskDefinition=arn),
        )

    def task_definitions_newest_first(self) -> Listing:
        """The same from the other end."""
        return self.task_definitions("DESC")

    def task_definition_families(self) -> Listing:
        """Families with a prefix that have an ACTIVE revision."""
        prefix = unique("page")

        def add() -> str:
            family = unique(prefix)
            self.ecs.register_task_definition(family=family, containerDefinitions=[container()])
            return family

        return Listing(
            "list_task_definition_families",
            {"familyPrefix": prefix, "status": "ACTIVE"},
            add,
            lambda family: self.ecs.deregister_task_definition(taskDefinition=f"{family}:1"),
        )

    def attributes(self) -> Listing:
        """An attribute of the container instances of one cluster."""
        instances = self.container_instances()

        def add() -> str:
            arn = instances.add()
            attribute = {"name": "rack", "value": "r7", "targetId": arn}
            self.ecs.put_attributes(cluster=self.cluster, attributes=[attribute])
            return arn

        def remove(arn: str) -> None:
            attribute = {"name": "rack", "targetId": arn}
            self.ecs.delete_attributes(cluster=self.cluster, attributes=[attribute])

        return Listing(
            "list_attributes",
            {
                "cluster": self.cluster,
                "targetType": "container-instance",
                "attributeName": "rack",
            },
            add,
            remove,
            lambda item: item["targetId"],
        )


WORLDS = (
    "clusters",
    "container_instances",
    "tasks",
    "task_definitions",
    "task_definitions_newest_first",
    "task_definition_families",
    "attributes",
)
# Lists of what nobody makes or takes away.
FIXED = ("list_account_settings",)


@pytest.fixture(params=WORLDS)
def listing(
    request: pytest.FixtureRequest,
    ecs: Any,
    server: Server,
    cluster: str,
    fleet: Callable[..., Engine],
) -> Listing:
    """Each list operation in turn."""
    return getattr(Listings(ecs, server, cluster, fleet), request.param)()


def pages_of(ecs: Any, listing: Listing, **config: Any) -> Iterator[list[str]]:
    """The names on each page, as boto3's paginator asks for them."""
    paginator = ecs.get_paginator(listing.operation)
    for page in paginator.paginate(**listing.filters, PaginationConfig=config):
        yield [listing.name_of(item) for item in paginator.result_keys[0].search(page)]


@pytest.mark.timeout(180)
def test_pages_hold_what_stays_once_while_other_things_come_and_go(
    ecs: Any, listing: Listing
) -> None:
    """Nothing is repeated, and nothing lost that existed throughout (ECS-SEMANTICS 1)."""
    made = [listing.add() for _ in range(12)]
    goes = made[1::3]
    stays = set(made) - set(goes)
    seen: list[str] = []
    # Every page is a question of its own: between two of them one thing goes and one comes.
    for page in pages_of(ecs, listing, PageSize=2):
        assert len(page) <= 2
        seen += page
        if goes:
            listing.remove(goes.pop(len(goes) // 2))
            listing.add()
    assert len(seen) == len(set(seen)), "nothing twice"
    assert stays <= set(seen), "nothing lost"
    assert not goes, "the listing was long enough for everything to go"


def test_a_listing_stops_and_goes_on(ecs: Any, listing: Listing) -> None:
    """`MaxItems` ends in the middle of a page; `StartingToken` goes on there, with larger pages."""
    made = {listing.add() for _ in range(7)}
    paginator = ecs.get_paginator(listing.operation)

    def names(**config: Any) -> tuple[list[str], str | None]:
        pages = paginator.paginate(**listing.filters, PaginationConfig=config)
        result = pages.build_full_result()
        found = paginator.result_keys[0].search(result)
        return [listing.name_of(item) for item in found], result.get("NextToken")

    first, token = names(MaxItems=3, PageSize=2)
    assert len(first) == 3 and token
    rest, end = names(StartingToken=token, PageSize=100)
    assert end is None
    both = first + rest
    assert len(both) == len(set(both)) and made <= set(both)


def test_account_settings_have_pages(ecs: Any) -> None:
    def names(**config: Any) -> list[str]:
        pages = ecs.get_paginator("list_account_settings").paginate(
            effectiveSettings=True, PaginationConfig=config
        )
        return [one["name"] for page in pages for one in page["settings"]]

    whole = names()
    assert len(whole) > 4 and len(whole) == len(set(whole))
    assert names(PageSize=2) == whole


def test_every_paginator_of_the_model_is_tried_or_refused(
    ecs: Any, cluster: str, server: Server, fleet: Callable[..., Engine]
) -> None:
    """An operation that is new here has to be listed above."""
    listings = Listings(ecs, server, cluster, fleet)
    tried = {*FIXED, *(getattr(listings, world)().operation for world in WORLDS)}
    model = ecs.meta.service_model
    for operation in Loader().load_service_model("ecs", "paginators-1")["pagination"]:
        call = xform_name(operation)
        if call in tried:
            continue
        needed = model.operation_model(operation).input_shape.required_members
        with pytest.raises(ecs.exceptions.UnsupportedFeatureException, match=operation):
            getattr(ecs, call)(**{name: "x" for name in needed})


# Waiters


def test_waiters_end_when_the_tasks_are_there(
    ecs: Any, cluster: str, started: tuple[Instance, str]
) -> None:
    """Each is asked too early, and answers as soon as it is true."""
    instance, arn = started
    for waiter, status in (("tasks_running", "RUNNING"), ("tasks_stopped", "STOPPED")):
        report = threading.Timer(0.5, instance.submit, (arn, status))
        report.start()
        ecs.get_waiter(waiter).wait(cluster=cluster, tasks=[arn], WaiterConfig=QUICKLY)
        report.join()
        (task,) = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
        assert task["lastStatus"] == status


def test_waiting_for_a_task_that_stops_fails_at_once(
    ecs: Any, cluster: str, started: tuple[Instance, str]
) -> None:
    instance, arn = started
    instance.submit(arn, "STOPPED", reason="CannotPullContainerError: no such image")
    with pytest.raises(WaiterError, match="STOPPED") as caught:
        ecs.get_waiter("tasks_running").wait(cluster=cluster, tasks=[arn], WaiterConfig=QUICKLY)
    (task,) = caught.value.last_response["tasks"]
    assert task["stoppedReason"].startswith("CannotPullContainerError")


def test_waiting_for_a_task_that_is_not_there_fails_at_once(ecs: Any, cluster: str) -> None:
    with pytest.raises(WaiterError, match="MISSING") as caught:
        ecs.get_waiter("tasks_running").wait(
            cluster=cluster, tasks=["0" * 32], WaiterConfig=QUICKLY
        )
    (failure,) = caught.value.last_response["failures"]
    assert failure["arn"].endswith(f":task/{cluster}/{'0' * 32}")


def test_waiting_for_the_end_of_a_task_that_runs_on_gives_up(
    ecs: Any, cluster: str, started: tuple[Instance, str]
) -> None:
    instance, arn = started
    instance.submit(arn, "RUNNING")
    pace = {"Delay": 1, "MaxAttempts": 2}
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        ecs.get_waiter("tasks_stopped").wait(cluster=cluster, tasks=[arn], WaiterConfig=pace)


# Retries


# `EdgeLimits::max_body_bytes` and `max_body_bytes_in_flight`.
BODY_BYTES, ALL_BODIES_BYTES = 1 << 20, 128 << 20


@pytest.fixture
def crowd(stage: Any) -> Iterator[tuple[Server, list[socket.socket]]]:
    """A server whose room for request bodies is taken by callers that never come to an end."""
    server: Server = stage.server()
    wire = Wire(server.endpoint, server.key)
    sockets: list[socket.socket] = []
    body = b" " * (BODY_BYTES - 1)
    for _ in range(ALL_BODIES_BYTES // BODY_BYTES):
        # The body is one byte longer than what will ever come.
        request = wire.sign(wire.request("ListClusters", body + b" "))
        connection = http.client.HTTPConnection(wire.host, timeout=20)
        connection.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
        headers = {"Host": wire.host, **dict(request.headers.items())}
        for name, value in (headers | {"Content-Length": str(BODY_BYTES)}).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        sockets.append(connection.sock)
    yield server, sockets
    for one in sockets:
        one.close()


def test_throttled_calls_are_tried_again_until_there_is_room(
    crowd: tuple[Server, list[socket.socket]],
) -> None:
    server, sockets = crowd
    names = [unique("some-name-that-takes-room") for _ in range(20)]

    def throttled() -> bool:
        try:
            server.client().describe_clusters(clusters=names)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ThrottlingException"
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
            return True
        return False

    until(throttled, "a server without room", 60)

    ecs = server.client(retries={"mode": "standard", "total_max_attempts": 10})
    refusals: list[str] = []

    def make_room(response: Any, **_: Any) -> None:
        status, told = response
        if status.status_code != 200:
            refusals.append(told["Error"]["Code"])
            if len(refusals) == 2:
                for one in sockets:
                    one.close()

    ecs.meta.events.register("needs-retry.ecs.DescribeClusters", make_room)
    answer = ecs.describe_clusters(clusters=names)
    assert len(answer["failures"]) == len(names)
    assert set(refusals) == {"ThrottlingException"}
    assert answer["ResponseMetadata"]["RetryAttempts"] == len(refusals) >= 2


# Errors


def test_errors_are_instances_of_the_client_s_classes(
    ecs: Any, cluster: str, family: str, fleet: Callable[..., Engine]
) -> None:
    instance = fleet().instance.arn
    ecs.register_task_definition(family=family, containerDefinitions=[container()])
    token = uuid.uuid4().hex
    ecs.run_task(cluster=cluster, taskDefinition=family, clientToken=token)
    nobody = {"targetType": "container-instance", "targetId": "0" * 32}
    known = ecs.exceptions
    for expected, call, arguments in (
        (known.ClusterNotFoundException, ecs.list_tasks, {"cluster": "nowhere"}),
        (
            known.ClusterNotFoundException,
            ecs.run_task,
            {"cluster": "nowhere", "taskDefinition": "x"},
        ),
        (known.InvalidParameterException, ecs.describe_tasks, {"cluster": cluster, "tasks": []}),
        (known.InvalidParameterException, ecs.list_tasks, {"cluster": cluster, "nextToken": "x"}),
        (known.ClientException, ecs.describe_task_definition, {"taskDefinition": "nothing"}),
        (known.ClientException, ecs.run_task, {"cluster": cluster, "taskDefinition": "nothing"}),
        (
            known.ServiceNotFoundException,
            ecs.list_tasks,
            {"cluster": cluster, "serviceName": "nothing"},
        ),
        (
            known.ConflictException,
            ecs.run_task,
            {"cluster": cluster, "taskDefinition": family, "clientToken": token, "count": 2},
        ),
        (
            known.TargetNotFoundException,
            ecs.put_attributes,
            {"cluster": cluster, "attributes": [{"name": "a", **nobody}]},
        ),
        (
            known.InvalidParameterException,
            ecs.deregister_container_instance,
            {"cluster": cluster, "containerInstance": instance},
        ),
        (
            known.ClusterContainsContainerInstancesException,
            ecs.delete_cluster,
            {"cluster": cluster},
        ),
        (known.UnsupportedFeatureException, ecs.list_gateways, {}),
    ):
        with pytest.raises(expected) as caught:
            call(**arguments)
        error = caught.value
        assert isinstance(error, ClientError) and error.response["Error"]["Message"], error
        metadata = error.response["ResponseMetadata"]
        assert metadata["HTTPStatusCode"] == 400 and metadata["RequestId"], error


def test_a_conflict_names_what_it_is_about(
    ecs: Any, cluster: str, family: str, fleet: Callable[..., Engine]
) -> None:
    """Members of an error beside its message arrive (`resourceIds`)."""
    fleet()
    ecs.register_task_definition(family=family, containerDefinitions=[container()])
    same = {"cluster": cluster, "taskDefinition": family, "clientToken": uuid.uuid4().hex}
    (task,) = ecs.run_task(**same)["tasks"]
    with pytest.raises(ecs.exceptions.ConflictException) as caught:
        ecs.run_task(**same, count=2)
    assert caught.value.response["resourceIds"] == [task["taskArn"]]


# ARNs


def arns_in(value: Any) -> Iterator[str]:
    """Every text in an answer that is an ARN."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from arns_in(one)
    elif isinstance(value, str) and value.startswith("arn:"):
        yield value


def test_arns_lead_back_to_what_they_name(
    ecs: Any, server: Server, cluster: str, family: str, fleet: Callable[..., Engine]
) -> None:
    """Whatever ARN an answer holds is well formed, and taken wherever a name is (section 2)."""
    fleet()
    tasks = Tasks(ecs, cluster, family)
    tasks.start()
    instances = ecs.list_container_instances(cluster=cluster)["containerInstanceArns"]
    answers = [
        ecs.describe_clusters(clusters=[cluster]),
        ecs.describe_task_definition(taskDefinition=family),
        ecs.describe_container_instances(cluster=cluster, containerInstances=instances),
        ecs.describe_tasks(cluster=cluster, tasks=tasks.arns),
    ]
    found = {arn for answer in answers for arn in arns_in(answer)}
    kinds: dict[str, str] = {}
    for arn in found:
        parts = ArnParser().parse_arn(arn)
        if parts["service"] == "iam":
            continue  # who registered the definition
        assert (parts["partition"], parts["service"]) == ("aws", "ecs"), arn
        assert (parts["region"], parts["account"]) == (REGION, server.account), arn
        kinds[parts["resource"].split("/", 1)[0]] = arn
    assert set(kinds) == {"cluster", "task-definition", "container-instance", "task", "container"}

    of_cluster, definition = kinds["cluster"], kinds["task-definition"]
    answer = ecs.describe_tasks(cluster=of_cluster, tasks=[kinds["task"]])
    assert [one["taskArn"] for one in answer["tasks"]] == [kinds["task"]]
    answer = ecs.describe_container_instances(
        cluster=of_cluster, containerInstances=[kinds["container-instance"]]
    )
    assert len(answer["containerInstances"]) == 1
    told = ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
    assert told["taskDefinitionArn"] == definition
    listed = ecs.list_tasks(cluster=of_cluster, containerInstance=kinds["container-instance"])
    assert listed["taskArns"] == [kinds["task"]]
    ecs.run_task(cluster=of_cluster, taskDefinition=definition)
    ecs.stop_task(cluster=of_cluster, task=kinds["task"])
