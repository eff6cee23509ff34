"""Registration and state changes: what an agent says over HTTP (sections 1.7 to 1.10 and 3)."""

from __future__ import annotations

import uuid
from typing import Any

from botocore.credentials import Credentials

from support.wire import Answer, Wire

VERSION, HASH, DOCKER = "1.105.1", "0123abcd", "20.10.24"
C, E = "com.amazonaws.ecs.capability.", "ecs.capability."

# Section 1.9, in the order in which an agent in External mode on Debian 12 sends them.
ATTRIBUTES: list[dict[str, str]] = [
    *({"name": E + name} for name in (
        "private-registry-authentication.secretsmanager", "secrets.ssm.environment-variables",
        "secrets.ssm.bootstrap.log-driver", "ecr-endpoint", "secrets.asm.environment-variables",
        "secrets.asm.bootstrap.log-driver", "container-ordering", "full-sync", "env-files.s3",
        "network.container-port-range", "container-restart-policy",
    )),
    {"name": C + "privileged-container"},
    *({"name": f"{C}docker-remote-api.1.{n}"} for n in range(17, 33) if n not in (26, 27, 31)),
    {"name": C + "logging-driver.json-file"},
    {"name": C + "logging-driver.none"},
    {"name": E + "task-cpu-mem-limit"},
    {"name": E + "increased-task-cpu-limit"},
    {"name": C + "ecr-auth"},
    {"name": E + "execution-role-ecr-pull"},
    {"name": E + "container-health-check"},
    {"name": E + "docker-plugin.local"},
    *({"name": name} for name in (
        E + "firelens.fluentd", E + "firelens.fluentbit", C + "logging-driver.awsfirelens",
        E + "logging-driver.awsfirelens.log-driver-buffer-limit", E + "firelens.non-root-user",
        E + "efs", E + "storage.s3-files", E + "firelens.options.config.file",
        E + "firelens.options.config.s3",
    )),
    {"name": E + "external"},
    {"name": E + "ipv6-only"},
    {"name": "ecs.os-type", "value": "linux"},
    {"name": "ecs.os-family", "value": "LINUX"},
    {"name": "ecs.os-type-detailed", "value": "debian_12"},
    {"name": "ecs.cpu-architecture", "value": "x86_64"},
]  # fmt: skip


class Refused(Exception):
    """An error answer of the control plane."""

    def __init__(self, operation: str, answer: Answer) -> None:
        self.answer = answer
        self.code = answer.error
        super().__init__(f"{operation}: {answer.status} {answer.text}")


class Instance:
    """A container instance as its agent knows it."""

    def __init__(
        self,
        endpoint: str,
        key: dict[str, str],
        cluster: str = "default",
        cpu: int = 2048,
        memory: int = 8192,
        region: str = "us-east-1",
    ) -> None:
        self.wire = Wire(endpoint, key, region)
        self.credentials = Credentials(key["accessKeyId"], key["secretAccessKey"])
        self.cluster, self.region = cluster, region
        self.cpu, self.memory = cpu, memory
        self.arn = ""
        self.custom: list[dict[str, str]] = []

    def call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Calls the ECS API as the agent does; an error answer is raised."""
        answer = self.wire.call(operation, body)
        if answer.status != 200:
            raise Refused(operation, answer)
        return answer.body

    def registration(self, token: str | None = None) -> dict[str, Any]:
        """The request of section 1.8. Custom attributes go out only the first time."""
        request: dict[str, Any] = {
            "cluster": self.cluster,
            "clientToken": token or str(uuid.uuid4()),
            "instanceIdentityDocument": "",
            "instanceIdentityDocumentSignature": "",
            "attributes": [*([] if self.arn else self.custom), *ATTRIBUTES],
            "totalResources": [
                {"name": "CPU", "type": "INTEGER", "integerValue": self.cpu},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": self.memory},
                strings("PORTS", ["22", "2375", "2376", "51678", "51679"]),
                strings("PORTS_UDP", []),
            ],
        }
        if self.arn:
            request["containerInstanceArn"] = self.arn
        return request

    def register(self, token: str | None = None) -> dict[str, Any]:
        """Registers, checks the attribute echo as the agent does, and keeps the ARN."""
        request = self.registration(token)
        answer = self.call("RegisterContainerInstance", request)["containerInstance"]
        echoed = {one["name"]: one.get("value") for one in answer["attributes"]}
        for sent in request["attributes"]:
            same = sent["name"] in echoed and (echoed[sent["name"]] or "") == sent.get("value", "")
            assert same, f"Attribute validation failed: {sent}"
        assert answer["containerInstanceArn"]
        self.arn = answer["containerInstanceArn"]
        return answer

    def discover(self) -> dict[str, str]:
        """DiscoverPollEndpoint (section 1.10); both endpoints need a scheme."""
        answer = self.call(
            "DiscoverPollEndpoint",
            {"cluster": self.cluster, "containerInstance": self.arn, "zoneId": ""},
        )
        for name in ("endpoint", "telemetryEndpoint"):
            assert answer[name].startswith(("http://", "https://")), answer
        return answer

    def submit(
        self,
        task: str,
        status: str | None,
        containers: list[dict[str, Any]] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """SubmitTaskStateChange (section 3.1); `reason` is always present."""
        body: dict[str, Any] = {"cluster": self.cluster, "task": task, "reason": "", **more}
        if status:
            body["status"] = status
        if containers is not None:
            body["containers"] = containers
        answer = self.call("SubmitTaskStateChange", body)
        assert isinstance(answer.get("acknowledgment"), str), answer
        return answer


def strings(name: str, values: list[str]) -> dict[str, Any]:
    """A resource of type STRINGSET."""
    return {"name": name, "type": "STRINGSET", "stringSetValue": values}


def container_change(name: str, status: str, **more: Any) -> dict[str, Any]:
    """One entry of `containers` in a state change."""
    return {"containerName": name, "runtimeId": "ab" * 32, "status": status, **more}
