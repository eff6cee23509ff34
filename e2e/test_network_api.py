"""Networks of awsvpc tasks as clients and agents see them, without Docker: addresses, subnets, security groups.

The instances are played by the test agent, which says that it connects awsvpc tasks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import Stage
from support import people
from support.admin import Admin
from support.ecs import Tasks, container, refused
from support.processes import Server, refusal
from support.waiting import until
from test_agent.acs import Acs
from test_agent.engine import Engine
from test_agent.instance import Instance

SUBNET, FAR = "subnet-0a1b2c3d", "subnet-0e1f2a3b"
WEB, DATABASE, DEFAULT = "sg-0aeb", "sg-0db", "sg-00000000"
CONFIGURED = (
    *("--subnet", f"{SUBNET}=10.77.0.0/20", "--subnet", f"{FAR}=10.78.0.0/28@elsewhere"),
    *("--security-group", f"{WEB}=in tcp 80 0.0.0.0/0"),
    *("--security-group", f"{DATABASE}=in tcp 5432 {WEB}, out all 10.77.0.0/20"),
    *("--task-dns", "10.77.0.2"),
)
Join = Callable[..., Engine]


class Machine(Instance):
    """An instance of an agent like ours, on a host of its own."""

    def __init__(self, server: Server, host: str, address: str = "192.0.2.1", **more: Any) -> None:
        super().__init__(server.endpoint, server.key, **more)
        self.custom = [
            {"name": "ecs.capability.task-eni"},
            {"name": "longshore.host-id", "value": host},
            {"name": "longshore.host-address", "value": address},
        ]


@pytest.fixture(scope="module")
def server(module_stage: Stage) -> Server:
    """A server with two subnets and two security groups."""
    server = Server(module_stage.folder / "networks", module_stage.account, *CONFIGURED)
    module_stage.processes.append(server)
    server.start()
    server.client().create_cluster(clusterName="default")
    return server


@pytest.fixture
def tasks(ecs: Any, cluster: str, family: str) -> Tasks:
    """Tasks in the test's own cluster, of an awsvpc definition."""
    tasks = Tasks(ecs, cluster, family)
    tasks.define(container(portMappings=[{"containerPort": 80}]), networkMode="awsvpc")
    return tasks


@pytest.fixture
def join(server: Server, cluster: str) -> Iterator[Join]:
    """Makes connected instances that connect awsvpc tasks."""
    engines: list[Engine] = []

    def add(host: str, **more: Any) -> Engine:
        machine = Machine(server, f"{cluster}-{host}", cluster=cluster, **more)
        machine.register()
        engines.append(Engine(machine))
        engines[-1].connect()
        server.wait_for_instance(cluster, len(engines))
        return engines[-1]

    yield add
    for engine in engines:
        engine.disconnect()
    assert [engine.failure for engine in engines if engine.failure] == []


def network(*subnets: str, groups: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """The argument `networkConfiguration`."""
    configuration = {"subnets": list(subnets or (SUBNET,)), "securityGroups": list(groups), **more}
    return {"networkConfiguration": {"awsvpcConfiguration": configuration}}


def details(task: dict[str, Any]) -> dict[str, str]:
    """What the attachment of a task says."""
    [attachment] = task["attachments"]
    assert attachment["type"] == "ElasticNetworkInterface"
    return {one["name"]: one["value"] for one in attachment["details"]}


def test_a_task_is_described_with_its_interface(tasks: Tasks, join: Join) -> None:
    engine = join("h1")
    arn = tasks.run(**network(groups=(WEB,)))
    task = tasks.wait(arn, "RUNNING")
    told = details(task)
    address = ipaddress.ip_address(told["privateIPv4Address"])
    assert address in ipaddress.ip_network("10.77.0.0/20")
    assert told["subnetId"] == SUBNET
    assert told["macAddress"] == "0a:58:" + ":".join(f"{one:02x}" for one in address.packed)
    assert told["networkInterfaceId"].startswith("eni-")
    assert told["privateDnsName"] == f"ip-{str(address).replace('.', '-')}.ec2.internal"
    [attachment] = task["attachments"]
    [interface] = task["containers"][0]["networkInterfaces"]
    assert attachment["status"] == "ATTACHED"
    expected = {"attachmentId": attachment["id"], "privateIpv4Address": str(address)}
    assert interface == expected
    # What the agent was told is what the client sees.
    until(lambda: arn in engine.tasks, "the payload")
    order = engine.tasks[arn]
    [eni] = order["elasticNetworkInterfaces"]
    assert order["networkMode"] == "awsvpc"
    assert eni["macAddress"] == told["macAddress"] and eni["ec2Id"] == told["networkInterfaceId"]
    assert eni["ipv4Addresses"] == [{"primary": True, "privateAddress": str(address)}]
    assert eni["subnetGatewayIpv4Address"] == "10.77.0.1/20"
    assert eni["domainNameServers"] == ["10.77.0.2"]
    assert eni["longshoreSecurityGroups"] == [WEB]
    assert not order["containers"][0].get("portMappings"), "they would spoil the container"
    assert tasks.stop(arn)["attachments"][0]["status"] == "DELETED"


def test_the_definition_says_where_it_can_run(tasks: Tasks) -> None:
    definition = tasks.ecs.describe_task_definition(taskDefinition=tasks.family)["taskDefinition"]
    assert {"name": "ecs.capability.task-eni"} in definition["requiresAttributes"]
    assert definition["compatibilities"] == ["EC2"]
    [mapping] = definition["containerDefinitions"][0]["portMappings"]
    assert mapping == {"containerPort": 80, "hostPort": 80, "protocol": "tcp"}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "Network Configuration must be provided when networkMode 'awsvpc' is specified."),
        (network("subnet-unknown"), "The subnet ID 'subnet-unknown' does not exist"),
        (network(groups=("sg-unknown",)), "The security group 'sg-unknown' does not exist"),
        (network(assignPublicIp="ENABLED"), "Assign public IP is not supported"),
        (network(*[SUBNET] * 17), "subnets"),
        ({"launchType": "EXTERNAL"} | network(), "does not support launch_type EXTERNAL"),
    ],
)
def test_what_cannot_be_is_refused(
    tasks: Tasks, join: Join, request_: dict[str, Any], words: str
) -> None:
    join("h1")
    call = {"cluster": tasks.cluster, "taskDefinition": tasks.family}
    assert words in refused(
        tasks.ecs.run_task, "InvalidParameterException", **call, **request_
    )
    assert tasks.listed() == []


def test_other_network_modes_have_no_network_configuration(tasks: Tasks, join: Join) -> None:
    join("h1")
    message = refused(
        tasks.ecs.run_task,
        "InvalidParameterException",
        cluster=tasks.cluster,
        taskDefinition=tasks.define(),
        **network(),
    )
    assert "not valid for the given networkMode of this task definition." in message


def test_an_instance_that_cannot_connect_it_says_so(
    tasks: Tasks, fleet: Callable[..., Engine]
) -> None:
    """The official agent on a machine outside of EC2 offers no interfaces for tasks."""
    fleet()
    answer = tasks.request(**network())
    [failure] = answer["failures"]
    assert failure["reason"] == "ATTRIBUTE"
    assert "ecs.capability.task-eni" in failure["detail"]


def test_a_subnet_of_another_zone_is_not_for_the_instance(tasks: Tasks, join: Join) -> None:
    join("h1")
    [failure] = tasks.request(**network(FAR))["failures"]
    assert failure["reason"] == "ATTRIBUTE" and "zone" in failure["detail"]


def test_no_address_is_given_twice_and_each_is_given_again(tasks: Tasks, join: Join) -> None:
    engines = [join("h1"), join("h2")]
    both = [engine.instance.arn for engine in engines] * 5
    request = {"cluster": tasks.cluster, "taskDefinition": tasks.family, **network()}
    answer = tasks.ecs.start_task(containerInstances=both, **request)
    arns = [task["taskArn"] for task in answer["tasks"]]
    described = tasks.ecs.describe_tasks(cluster=tasks.cluster, tasks=arns)["tasks"]
    addresses = [details(task)["privateIPv4Address"] for task in described]
    assert len(set(addresses)) == 10
    blocks = {task["containerInstanceArn"]: set[int]() for task in described}
    for task, address in zip(described, addresses, strict=True):
        blocks[task["containerInstanceArn"]].add(int(ipaddress.ip_address(address)) // 64)
    assert all(len(block) == 1 for block in blocks.values()), "each host has a block of its own"
    assert len(blocks) == len(engines)
    for arn in arns:
        tasks.stop(arn)


def test_addresses_survive_a_restart_of_the_server(stage: Stage) -> None:
    server = Server(stage.folder / "again", stage.account, *CONFIGURED)
    stage.processes.append(server)
    server.start()
    ecs = server.client()
    ecs.create_cluster(clusterName="default")
    tasks = Tasks(ecs, "default", "again")
    tasks.define(networkMode="awsvpc")
    machine = Machine(server, "h1", "192.0.2.7")
    machine.register()
    with Engine(machine) as engine:
        server.wait_for_instance()
        first = details(tasks.wait(tasks.run(**network()), "RUNNING"))["privateIPv4Address"]
        server.kill()
        server.start()
        ecs = tasks.ecs = server.client()
        engine.disconnect()
        with Acs(machine) as acs:
            server.wait_for_instance()
            told = acs.receive("LongshoreNetworkMessage")
            assert told["complete"] is True and told["ranges"]
            [peer] = told["peers"]
            assert (peer["hostId"], peer["hostAddress"]) == ("h1", "192.0.2.7")
            block = ipaddress.ip_network(peer["blocks"][0])
            assert ipaddress.ip_address(first) in block
            assert [group["id"] for group in told["groups"]] == [DEFAULT]
            again = tasks.request(count=10, **network())["tasks"]
            assert first not in [details(task)["privateIPv4Address"] for task in again]
        [described] = Admin(server)("DescribeNetwork")["hosts"]
        assert described["tasks"] == 11


def test_agents_hear_of_each_other_and_of_who_may_speak_to_their_tasks(
    tasks: Tasks, server: Server, cluster: str
) -> None:
    machines = [
        Machine(server, f"{cluster}-{number}", f"192.0.2.{number}", cluster=cluster)
        for number in (1, 2)
    ]
    for machine in machines:
        machine.register()
    with Acs(machines[0]) as first, Acs(machines[1]) as second:
        server.wait_for_instance(cluster, 2)
        assert first.receive("LongshoreNetworkMessage")["complete"]
        assert second.receive("LongshoreNetworkMessage")["complete"]
        start = {"cluster": cluster, "taskDefinition": tasks.family}
        tasks.ecs.start_task(
            containerInstances=[machines[0].arn], **start, **network(groups=(DATABASE,))
        )
        rules = first.receive("LongshoreNetworkMessage")
        [own] = [peer for peer in rules["peers"] if peer["hostId"] == f"{cluster}-1"]
        assert own["blocks"]
        known = {group["id"]: group for group in rules["groups"]}
        assert set(known) == {DATABASE, WEB}
        assert known[DATABASE]["rules"] == [
            {
                "direction": "ingress",
                "protocol": "tcp",
                "fromPort": 5432,
                "toPort": 5432,
                "groupId": WEB,
            },
            {"direction": "egress", "protocol": "-1", "range": "10.77.0.0/20"},
        ]
        first.payload()
        answer = tasks.ecs.start_task(
            containerInstances=[machines[1].arn], **start, **network(groups=(WEB,))
        )
        address = details(answer["tasks"][0])["privateIPv4Address"]
        news = first.receive("LongshoreNetworkMessage")
        [peer] = [peer for peer in news["peers"] if peer["hostId"] == f"{cluster}-2"]
        assert peer["hostAddress"] == "192.0.2.2"
        [group] = news["groups"]
        assert (group["id"], group["members"]) == (WEB, [address])
        # Its end is news for whom its group matters.
        arn = answer["tasks"][0]["taskArn"]
        machines[1].submit(arn, "STOPPED", [])
        [group] = first.receive("LongshoreNetworkMessage")["groups"]
        assert not group.get("members")


def test_what_people_see(tasks: Tasks, server: Server, join: Join, cluster: str) -> None:
    join("h1", address="192.0.2.9")
    tasks.wait(tasks.run(**network(groups=(WEB,))), "RUNNING")
    shown = people.document(server.data, "network", "list")
    subnets = {one["subnetId"]: one for one in shown["subnets"]}
    assert subnets[SUBNET]["range"] == "10.77.0.0/20" and subnets[SUBNET]["tasks"] >= 1
    assert subnets[FAR]["availabilityZone"] == "elsewhere"
    groups = {one["groupId"]: one for one in shown["securityGroups"]}
    assert groups[WEB]["rules"] == ["in tcp 80 0.0.0.0/0", "out all 0.0.0.0/0"]
    assert groups[DEFAULT]["rules"] == ["in all 0.0.0.0/0", "out all 0.0.0.0/0"]
    [host] = [one for one in shown["hosts"] if one["hostId"] == f"{cluster}-h1"]
    assert (host["hostAddress"], host["tasks"]) == ("192.0.2.9", 1)
    text = people.text(server.data, "network", "list")
    assert SUBNET in text and "in tcp 80 0.0.0.0/0" in text and "192.0.2.9" in text


def test_unknown_ids_are_adopted_if_the_server_may(stage: Stage) -> None:
    """As `longshore up` starts it."""
    server = Server(stage.folder / "adopting", stage.account, "--adopt-networks")
    stage.processes.append(server)
    server.start()
    ecs = server.client()
    ecs.create_cluster(clusterName="default")
    machine = Machine(server, "h1")
    machine.register()
    with Engine(machine):
        server.wait_for_instance()
        tasks = Tasks(ecs, "default", "adopted")
        tasks.define(networkMode="awsvpc")
        groups = ("sg-0123456789abcdef0",)
        arn = tasks.run(**network("subnet-0123456789abcdef0", groups=groups))
        address = details(tasks.wait(arn, "RUNNING"))["privateIPv4Address"]
    shown = people.document(server.data, "network", "list")
    adopted = {one["subnetId"]: one for one in shown["subnets"] if one["adopted"]}
    [subnet] = adopted.values()
    assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet["range"])
    assert shown["adopts"] is True
    [group] = [one for one in shown["securityGroups"] if one["adopted"]]
    assert group["groupId"] == groups[0]
    assert group["rules"] == ["in all 0.0.0.0/0", "out all 0.0.0.0/0"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--subnet", "subnet-a=10.1.0.0/16", "--subnet", "subnet-b=10.1.4.0/24"), "overlap"),
        (("--security-group", "sg-a=in all sg-b"), "sg-b"),
        (("--task-network", "10.1.2.3/16"), "10.1.2.3/16"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    tmp_path: Any, options: tuple[str, ...], words: str
) -> None:
    assert words in refusal(tmp_path / "data", options=options)
