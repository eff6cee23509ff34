"""What requests name: clusters, instances, definitions, tasks; made by calls of the API itself."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from conformance.wire import Caller
from support.processes import Server
from test_agent.engine import Engine
from test_agent.instance import Instance, strings

FAMILY, CONTAINER = "conformance", "main"
# A capacity provider of the cluster `default`, whose machines somebody brings by hand.
PROVIDER = "by-hand"
# Where instances register that nothing is ever placed on.
REGISTRATIONS = "registrations"
# A cluster that may become what it likes: nothing runs in it.
CHANGED = "changed"
# Room for every task of a run: 31 bits of CPU units and MiB.
PLENTY = 2**31 - 1


class World:
    """Things that exist, and fresh ones for operations that use them up."""

    def __init__(self, server: Server) -> None:
        self.caller = Caller(server.endpoint, server.key)
        self.account = server.account
        self.counter = itertools.count(1)
        for name in ("default", REGISTRATIONS, CHANGED):
            self.caller.must("CreateCluster", {"clusterName": name})
        self.caller.must("CreateCapacityProvider", self.provider(PROVIDER))
        association = {"capacityProviders": [PROVIDER], "defaultCapacityProviderStrategy": []}
        self.caller.must("PutClusterCapacityProviders", {"cluster": "default"} | association)
        self.instance = Instance(server.endpoint, server.key, cpu=PLENTY, memory=PLENTY)
        self.instance.custom = [{"name": "longshore.capacity-provider", "value": PROVIDER}]
        self.instance.register()
        self.engine = Engine(self.instance)
        self.engine.connect()
        server.wait_for_instance()
        self.caller.must("RegisterTaskDefinition", self.registration())

    def close(self) -> None:
        """Ends the agent's session, and says whether the agent was content."""
        self.engine.disconnect()
        self.caller.close()
        if self.engine.failure:
            raise self.engine.failure

    def arn(self, rest: str, service: str = "ecs") -> str:
        """An ARN of this server."""
        return f"arn:aws:{service}:us-east-1:{self.account}:{rest}"

    def name(self) -> str:
        """A name that was not used before."""
        return f"c-{next(self.counter)}"

    def registration(self) -> dict[str, Any]:
        """A small definition."""
        container = {"name": CONTAINER, "image": "busybox", "memory": 6}
        return {"family": FAMILY, "containerDefinitions": [container]}

    def instance_registration(self) -> dict[str, Any]:
        """What an agent sends at the least."""
        return {"cluster": REGISTRATIONS, "totalResources": self.resources()}

    def resources(self) -> list[dict[str, Any]]:
        """What a small instance has."""
        return [
            {"name": "CPU", "type": "INTEGER", "integerValue": 1024},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": 1024},
            strings("PORTS", ["22"]),
            strings("PORTS_UDP", []),
        ]

    @functools.cached_property
    def cluster_arn(self) -> str:
        """A cluster to tag."""
        return self.arn(f"cluster/{CHANGED}")

    @functools.cached_property
    def task(self) -> str:
        """A task that nothing happens to, but what its agent reports."""
        return self.new_task()

    @functools.cached_property
    def idle_instance(self) -> str:
        """An instance without an agent."""
        return self.new_instance()

    def new_cluster(self) -> str:
        """An empty cluster."""
        name = self.name()
        self.caller.must("CreateCluster", {"clusterName": name})
        return name

    def provider(self, name: str) -> dict[str, Any]:
        """A capacity provider with a group of its own."""
        return {"name": name, "autoScalingGroupProvider": {"autoScalingGroupArn": name}}

    def new_provider(self) -> str:
        """A capacity provider that no cluster has."""
        name = self.name()
        self.caller.must("CreateCapacityProvider", self.provider(name))
        return name

    def new_task(self) -> str:
        """A task, placed."""
        answer = self.caller.must("RunTask", {"taskDefinition": FAMILY})
        assert not answer["failures"], answer
        return answer["tasks"][0]["taskArn"]

    def new_instance(self) -> str:
        """An instance, registered and never connected."""
        answer = self.caller.must("RegisterContainerInstance", self.instance_registration())
        return answer["containerInstance"]["containerInstanceArn"]

    def new_definition(self) -> str:
        """A revision of a family that no task is of; ACTIVE."""
        registration = self.registration() | {"family": "short-lived"}
        answer = self.caller.must("RegisterTaskDefinition", registration)
        return answer["taskDefinition"]["taskDefinitionArn"]

    def new_inactive_definition(self) -> str:
        """The same, deregistered."""
        arn = self.new_definition()
        self.caller.must("DeregisterTaskDefinition", {"taskDefinition": arn})
        return arn
