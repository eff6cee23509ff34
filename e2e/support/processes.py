"""Longshore's processes as the tests start, kill and restart them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from support.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("LONGSHORE_BIN", ROOT / "target" / "debug" / "longshore"))
REGION = "us-east-1"
# Logs of everything alive, for the report of a failing test.
LOGS: dict[str, Path] = {}
# Settings of whoever runs the tests must not reach the processes under test.
FOREIGN = ("AWS_", "ECS_", "LONGSHORE_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings that change what is tested, plus `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return kept | extra


class Process:
    """A child in its own process group, its output in a file."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log
        self.child: subprocess.Popen[bytes] | None = None
        # Another copy of it, for tests of upgrades.
        self.program = BINARY
        log.parent.mkdir(parents=True, exist_ok=True)

    def spawn(self, arguments: list[str], environment: dict[str, str]) -> None:
        """Starts the program; its output goes to the end of the log."""
        LOGS[f"{self.name} ({self.log.parent.name})"] = self.log
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                [*self.prefix(), str(self.program), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(**environment),
                start_new_session=True,
            )

    def prefix(self) -> list[str]:
        """What to put before the program's own command line."""
        return []

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of the program."""
        return settings

    def deliver(self, number: int) -> None:
        """Sends a signal to the program."""
        assert self.child is not None
        self.child.send_signal(number)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.child is not None and self.child.poll() is None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM, within: float = 20) -> int | None:
        """Sends a signal and waits for the exit code; kills what does not end in time."""
        if self.child is None:
            return None
        if self.child.poll() is None:
            self.deliver(number)
        try:
            return self.child.wait(within)
        except subprocess.TimeoutExpired:
            self.deliver(signal.SIGKILL)
            self.child.wait(5)
            raise AssertionError(f"{self.name} did not end within {within:.0f} s of a signal")

    def tail(self) -> str:
        """The last lines of the log."""
        return tail(self.log)


def tail(log: Path, lines: int = 30) -> str:
    """The last lines of a file."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


class Server(Process):
    """`longshore server` with a data directory of its own."""

    def __init__(self, folder: Path, account: str, *options: str) -> None:
        super().__init__("server", folder / "server.log")
        self.folder, self.account, self.options = folder, account, options
        self.data = folder / "data"
        self.listen = "127.0.0.1:0"

    def start(self) -> Server:
        """Starts it and waits until it listens; a restart keeps the address."""
        self.launch()
        facts = until(self._listening, "the server's own server.json", 15)
        self.endpoint: str = facts["endpoint"]
        self.listen = self.endpoint.split("://", 1)[1]
        return self

    def launch(self) -> None:
        """Starts the process."""
        where = ["--data-dir", str(self.data), "--listen", self.listen]
        scope = ["--region", REGION, "--account-id", self.account]
        self.spawn(["server", *where, *scope, *self.options], clean_environment())

    def _listening(self) -> dict[str, Any] | None:
        assert self.alive, f"the server ended:\n{self.tail()}"
        facts = read_json(self.data / "server.json")
        return facts if facts and facts["pid"] == self.child.pid else None

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self.endpoint.rsplit(":", 1)[1])

    @property
    def key(self) -> dict[str, str]:
        """The root access key, as the server wrote it."""
        return json.loads((self.data / "root-access-key").read_text())

    def client(self, **config: Any) -> Any:
        """A boto3 client; without retries, so that a test sees each answer."""
        return ecs_client(self.endpoint, self.key, **config)

    def wait_for_instance(self, cluster: str = "default", count: int = 1) -> list[dict[str, Any]]:
        """Waits until `count` instances of a cluster are connected, and describes them."""
        return wait_for_instances(self.client(), cluster, count)


def refusal(
    data: Path,
    listen: str = "127.0.0.1:0",
    account: str | None = None,
    options: tuple[str, ...] = (),
) -> str:
    """What a server that refuses to start says, in one line."""
    scope = ["--region", REGION, "--account-id", account] if account else []
    done = subprocess.run(
        [str(BINARY), "server", "--data-dir", str(data), "--listen", listen, *scope, *options],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(),
    )
    assert done.returncode not in (0, 101), done.stderr
    return " ".join(done.stderr.split())


def wait_for_instances(ecs: Any, cluster: str, count: int) -> list[dict[str, Any]]:
    """Waits until `count` instances are connected, and describes them."""

    def connected() -> list[dict[str, Any]] | None:
        try:
            arns = ecs.list_container_instances(cluster=cluster)["containerInstanceArns"]
        except ecs.exceptions.ClusterNotFoundException:
            return None
        if len(arns) < count:
            return None
        found = ecs.describe_container_instances(cluster=cluster, containerInstances=arns)
        ready = [one for one in found["containerInstances"] if one["agentConnected"]]
        return ready if len(ready) >= count else None

    return until(connected, f"{count} connected container instance(s) in {cluster}", 30)


def ecs_client(endpoint: str, key: dict[str, str], **config: Any) -> Any:
    """A boto3 ECS client for an endpoint and access key."""
    verify = config.pop("verify", None)
    options = {"retries": {"total_max_attempts": 1}, "read_timeout": 30, **config}
    return boto3.client(
        "ecs",
        endpoint_url=endpoint,
        verify=verify,
        region_name=REGION,
        aws_access_key_id=key["accessKeyId"],
        aws_secret_access_key=key["secretAccessKey"],
        config=Config(**options),
    )


class Agent(Process):
    """`longshore agent` with a state directory of its own."""

    def __init__(self, server: Server, folder: Path, cluster: str, **settings: str) -> None:
        super().__init__(f"agent {cluster}", folder / "agent.log")
        self.arguments = ["agent"]
        self.settings = {
            "ECS_CLUSTER": cluster,
            "ECS_BACKEND_HOST": server.endpoint,
            "ECS_DATADIR": str(folder / "agent-data"),
            "ECS_LOGFILE": str(folder / "ecs-agent.log"),
            "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": server.key["accessKeyId"],
            "AWS_SECRET_ACCESS_KEY": server.key["secretAccessKey"],
            **settings,
        }
        Path(self.settings["ECS_DATADIR"]).mkdir(parents=True, exist_ok=True)

    def start(self) -> Agent:
        """Starts the agent; `Server.wait_for_instance` tells when it is registered."""
        self.spawn(self.arguments, clean_environment(**self.settings))
        return self


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file, or nothing as long as it does not exist."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def exported(data: Path) -> dict[str, str]:
    """What `eval "$(longshore env --data-dir DIR)"` leaves in a shell's environment."""
    script = f'eval "$("{BINARY}" env --data-dir "{data}")" && env -0'
    output = subprocess.run(
        ["sh", "-c", script], check=True, capture_output=True, env=clean_environment(), timeout=20
    ).stdout.decode()
    return dict(pair.split("=", 1) for pair in output.split("\0") if pair)


class AwsCli:
    """The AWS CLI, told where Longshore is by `longshore env` alone."""

    def __init__(self, data: Path, home: Path) -> None:
        self.program = Path(sys.executable).parent / "aws"
        self.environment = exported(data) | {"HOME": str(home), "AWS_PAGER": ""}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `aws ecs …`."""
        return subprocess.run(
            [str(self.program), "ecs", *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=120,
        )

    def __call__(self, *arguments: str) -> dict[str, Any]:
        """Runs `aws ecs …`, which must succeed, and decodes its answer."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"aws ecs {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else {}
