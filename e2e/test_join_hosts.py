"""Machines join over TLS with a token, and are bound to their server from then on (DESIGN 4)."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import own_account
from support.admin import Admin
from support.ecs import Tasks, container
from support.hosts import PORT, Host, HostAgent, Hosts, HostServer
from support.processes import BINARY, AwsCli, ecs_client
from support.waiting import until

HOSTS = ("h1", "h2")
pytestmark = pytest.mark.timeout(120)
# The shortest life of a token.
SHORT_LIVED_SECONDS = 60


class Site:
    """A server with a certificate of its own authority, and what its operator does there."""

    def __init__(self, hosts: Hosts, folder: Path, account: str) -> None:
        self.hosts, self.folder = hosts, folder
        self.server = HostServer(hosts.host("h0"), folder, account, "--tls", "--tls-name", "h0")
        self.server.start()
        self.ecs = self.server.client()
        self.ecs.create_cluster(clusterName="default")
        self.admin = Admin(self.server, ca=self.server.facts["caFile"])
        self.fingerprint: str = self.server.facts["caFingerprint"]
        self.made_at = time.monotonic()
        self.short_lived = self.token("--expires", f"{SHORT_LIVED_SECONDS}s")

    def operator(self, *command: str) -> str:
        """A command of the server's operator, on the server's machine."""
        return self.server.host.longshore(*command, "--data-dir", str(self.server.data))

    def token(self, *options: str) -> str:
        """A new token."""
        return json.loads(self.operator("token", "create", "--output", "json", *options))["token"]

    def uses_left(self, token: str) -> int:
        """How often a token may still be used."""
        listed = json.loads(self.operator("token", "list", "--output", "json"))["joinTokens"]
        (left,) = [one["usesLeft"] for one in listed if one["tokenId"] == token.split(".")[0]]
        return left

    def joins(self) -> int:
        """How many requests to join came through to the server."""
        return self.server.log.read_text().count("JoinContainerInstance")


class Machine(HostAgent):
    """An agent that knows of its server only by joining it."""

    def __init__(self, site: Site, host: Host, folder: Path) -> None:
        super().__init__(site.server, host, folder)
        self.site = site
        self.data = Path(self.settings["ECS_DATADIR"])
        kept = ("ECS_DATADIR", "ECS_IMAGE_PULL_BEHAVIOR", "AWS_EC2_METADATA_DISABLED")
        self.settings = {name: self.settings[name] for name in kept}

    def command(self, token: str, *more: str, fingerprint: str | None = None) -> list[str]:
        """`agent join …`"""
        trust = ["--ca-fingerprint", fingerprint or self.site.fingerprint]
        return ["agent", "join", "--server", self.site.server.url, "--token", token, *trust, *more]

    def join(self, token: str, *more: str) -> Machine:
        """Joins, and stays in the foreground; returns when its instances are connected."""
        self.arguments = self.command(token, *more)
        self.start()
        self.wait()
        return self

    def wait(self) -> None:
        """Until the instances that it has registered are connected."""

        def connected() -> bool:
            assert self.alive, self.tail()
            facts = self.facts()
            if not facts or facts["pid"] not in self.pids():
                return False
            found = self.site.ecs.describe_container_instances(
                containerInstances=facts["containerInstanceArns"]
            )
            return all(one["agentConnected"] for one in found["containerInstances"])

        until(connected, "the machine's instances", 30)

    def pids(self) -> list[int]:
        """Process numbers of the agent on its host."""
        return [int(pid) for pid in self.host.run("sh", "-c", "cd /proc; echo [0-9]*").split()]

    def facts(self) -> dict[str, Any] | None:
        """What the agent tells people."""
        try:
            return json.loads((self.data / "agent.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def refused(self, *command: str) -> str:
        """What a command that must fail says."""
        done = subprocess.run(
            [*self.prefix(), str(BINARY), *command],
            env=os.environ | self.environment(**self.settings),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode != 0, done.stdout
        assert "panicked" not in done.stderr
        return done.stderr

    @property
    def identity(self) -> Path:
        """The file with its own access key."""
        return self.data / "identity.json"

    @property
    def key(self) -> dict[str, str]:
        """That key."""
        return json.loads(self.identity.read_text())

    @property
    def instance(self) -> str:
        """The ARN of its first instance."""
        facts = self.facts()
        assert facts
        return facts["containerInstanceArns"][0]


@pytest.fixture(scope="module")
def site(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, account: str) -> Iterator[Site]:
    """The server of this file."""
    site = Site(hosts, tmp_path_factory.mktemp("site"), own_account(account))
    yield site
    site.server.kill()


@pytest.fixture
def machine(site: Site, hosts: Hosts, tmp_path: Path) -> Iterator[Machine]:
    """A machine that did not join yet."""
    machine = Machine(site, hosts.host("h1"), tmp_path)
    yield machine
    clean(machine)


@pytest.fixture
def neighbour(site: Site, hosts: Hosts, tmp_path: Path) -> Iterator[Machine]:
    """Another one."""
    machine = Machine(site, hosts.host("h2"), tmp_path)
    yield machine
    clean(machine)


def clean(machine: Machine) -> None:
    """Stops the agent, also one in the background, and gives its instances back."""
    facts = machine.facts()
    machine.kill()
    if facts:
        machine.host.run("kill", "-9", str(facts["pid"]), check=False)
        for arn in facts["containerInstanceArns"]:
            machine.site.ecs.deregister_container_instance(containerInstance=arn, force=True)
    machine.host.remove_containers()


def test_the_printed_command_joins_a_machine(site: Site, machine: Machine) -> None:
    """Word for word; the machine has its own key from then on, readable by nobody else."""
    told = site.operator("token", "create", "--server", site.server.url)
    (command,) = re.findall(r"^ *(longshore agent join .*?[^\\])$", told, re.MULTILINE | re.DOTALL)
    words = shlex.split(command.replace("\\\n", " "))
    assert site.fingerprint in words
    machine.arguments = words[1:]
    machine.start()
    machine.wait()

    assert stat.S_IMODE(machine.identity.stat().st_mode) == 0o600
    assert machine.key["accessKeyId"].startswith("LSIN")
    files = [path.read_bytes() for path in machine.data.rglob("*") if path.is_file()]
    root = site.server.key["secretAccessKey"].encode()
    assert not any(root in content for content in files), "the owner's key has no business here"
    tasks = Tasks(site.ecs, "default", "joined")
    arn = tasks.start(container("main", "trap", "7"))
    assert arn in machine.host.tasks()
    assert tasks.stop(arn)["containers"][0]["exitCode"] == 7


def test_a_machine_stays_bound(site: Site, machine: Machine) -> None:
    """Started again without a word, or by the same command, it is the same instance; the token,
    used once, is not needed. Another server or cluster is refused."""
    token = site.token()
    machine.join(token, "--attribute", "rack=r9")
    before = machine.instance
    assert site.uses_left(token) == 0
    machine.kill()
    machine.arguments = ["agent"]
    machine.start()
    machine.wait()
    assert machine.instance == before
    machine.kill()
    machine.join(token)
    assert machine.instance == before
    machine.kill()

    elsewhere = ["agent", "join", "--server", "https://h9:8470", "--token", token]
    said = machine.refused(*elsewhere, "--ca-fingerprint", site.fingerprint)
    assert site.server.url in said and "delete" in said, said
    machine.settings["ECS_CLUSTER"] = "another"
    said = machine.refused("agent")
    assert "another" in said and "identity.json" in said, said


def test_a_machine_joins_in_the_background(site: Site, machine: Machine) -> None:
    """--detach returns when the instances are registered and connected."""
    output = machine.host.run(
        "env",
        *(f"{name}={value}" for name, value in machine.settings.items()),
        f"ECS_LOGFILE={machine.data}/agent.log",
        str(BINARY),
        *machine.command(site.token(), "--detach", "--instances", "2"),
    )
    facts = machine.facts()
    assert facts, output
    assert len(facts["containerInstanceArns"]) == 2
    found = site.ecs.describe_container_instances(containerInstances=facts["containerInstanceArns"])
    assert all(one["agentConnected"] for one in found["containerInstances"])
    assert facts["pid"] in machine.pids()


def test_nothing_secret_goes_to_a_server_with_another_fingerprint(
    site: Site, machine: Machine, tmp_path: Path
) -> None:
    """Not a byte, as the impostor itself can tell; the token is still good."""
    token = site.token()
    said = machine.refused(*machine.command(token, fingerprint="sha256:" + "0" * 64))
    assert "sha256:" + "0" * 64 in said, said
    assert site.fingerprint in said, "who was found instead"

    with Impostor(site.server.data / "tls") as impostor:
        trust = ["--ca-fingerprint", "sha256:" + "0" * 64]
        join = ["agent", "join", "--server", impostor.url, "--token", token]
        said = refused_here(tmp_path, *join, *trust)
        assert impostor.connections >= 1 and impostor.heard == b"", impostor.heard
        # The same connection with the right fingerprint tells that the impostor hears what is said.
        refused_here(tmp_path, *join, "--ca-fingerprint", site.fingerprint)
        assert b"JoinContainerInstance" in impostor.heard

    assert not machine.identity.exists()
    assert site.uses_left(token) == 1
    machine.join(token)


def test_plain_http_to_another_machine_takes_a_word(site: Site, machine: Machine) -> None:
    token = site.token()
    url = f"http://h0:{PORT}"
    said = machine.refused("agent", "join", "--server", url, "--token", token)
    assert "--insecure" in said and "--tls" in said, said
    assert site.uses_left(token) == 1


def test_a_server_without_a_trusted_certificate_is_refused(site: Site, machine: Machine) -> None:
    """Neither fingerprint nor authority is given: the system does not know this authority. Its own
    file does."""
    token = site.token()
    join = ["agent", "join", "--server", site.server.url, "--token", token]
    said = machine.refused(*join)
    assert "--ca-fingerprint" in said, said
    assert site.uses_left(token) == 1
    machine.arguments = [*join, "--ca-file", site.server.facts["caFile"]]
    machine.start()
    machine.wait()


def test_tokens_end(site: Site, machine: Machine, neighbour: Machine) -> None:
    """Used up and revoked ones are refused, and the refusal says what to do; so are inventions."""
    used = site.token()
    machine.join(used)
    assert "token" in neighbour.refused(*neighbour.command(used))
    revoked = site.token()
    site.operator("token", "revoke", revoked.split(".")[0])
    assert "token" in neighbour.refused(*neighbour.command(revoked))
    good = site.token()
    forged = good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB")
    assert "token" in neighbour.refused(*neighbour.command(forged))
    assert not neighbour.identity.exists()
    assert site.uses_left(good) == 1
    neighbour.join(good)


def test_a_machines_key_is_no_users_key(site: Site, machine: Machine, tmp_path: Path) -> None:
    """The AWS CLI with the key of a machine."""
    machine.join(site.token())
    cli = AwsCli(site.server.data, tmp_path)
    cli.environment |= {
        "AWS_ENDPOINT_URL_ECS": site.server.endpoint,
        "AWS_ACCESS_KEY_ID": machine.key["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": machine.key["secretAccessKey"],
    }
    for command in (
        ["run-task", "--task-definition", "joined"],
        ["list-tasks"],
        ["deregister-container-instance", "--container-instance", machine.instance, "--force"],
        ["delete-cluster", "--cluster", "default"],
    ):
        done = cli.run(*command)
        assert done.returncode != 0 and "AccessDeniedException" in done.stderr, done
        assert machine.key["accessKeyId"] in done.stderr, done.stderr
    found = cli("describe-container-instances", "--container-instances", machine.instance)
    assert found["containerInstances"][0]["containerInstanceArn"] == machine.instance


def test_a_machine_cannot_speak_for_another(
    site: Site, machine: Machine, neighbour: Machine
) -> None:
    machine.join(site.token())
    tasks = Tasks(site.ecs, "default", "mine")
    arn = tasks.start(container("main", "trap", "7"))
    neighbour.join(site.token())
    thief = ecs_client(site.server.endpoint, neighbour.key, verify=site.server.facts["caFile"])
    with pytest.raises(Exception, match="AccessDeniedException"):
        thief.submit_task_state_change(cluster="default", task=arn, status="STOPPED")
    assert tasks.describe(arn)["lastStatus"] == "RUNNING"
    tasks.stop(arn)


def test_a_machine_is_shut_out(site: Site, machine: Machine, neighbour: Machine) -> None:
    """`longshore instance revoke`: its session ends at once and for good; the others stay."""
    machine.join(site.token())
    neighbour.join(site.token())
    tasks = Tasks(site.ecs, "default", "shut-out")
    site.ecs.update_container_instances_state(
        containerInstances=[neighbour.instance], status="DRAINING"
    )
    arn = tasks.start(container("main", "trap", "7"))
    told = site.operator("instance", "list", "--output", "json")
    assert machine.key["accessKeyId"] in told and machine.instance in told
    site.operator("instance", "revoke", machine.key["accessKeyId"])

    def connected(one: Machine) -> bool:
        answer = site.ecs.describe_container_instances(containerInstances=[one.instance])
        return answer["containerInstances"][0]["agentConnected"]

    until(lambda: not connected(machine), "the end of the session", 5)
    assert connected(neighbour)
    ecs = ecs_client(site.server.endpoint, machine.key, verify=site.server.facts["caFile"])
    with pytest.raises(Exception, match="UnrecognizedClient"):
        ecs.describe_container_instances(containerInstances=[machine.instance])
    assert arn in machine.host.tasks(), "nobody can tell that machine any longer"


def test_a_token_expires(site: Site, machine: Machine) -> None:
    """The last test, because the shortest life of a token is a minute."""
    time.sleep(max(0.0, site.made_at + SHORT_LIVED_SECONDS + 1 - time.monotonic()))
    assert "token" in machine.refused(*machine.command(site.short_lived))
    assert not machine.identity.exists()


class Impostor:
    """A TLS server on this machine with a stolen certificate, that writes down what it hears."""

    def __init__(self, tls: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "server.pem", tls / "server-key.pem")
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections, self.heard = 0, b""

    def __enter__(self) -> Impostor:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                with self.context.wrap_socket(plain, server_side=True) as connection:
                    connection.settimeout(5)
                    while data := connection.recv(4096):
                        self.heard += data
                        if b"\r\n\r\n" in self.heard:
                            break
            except OSError:
                pass


def refused_here(folder: Path, *command: str) -> str:
    """A command on this machine that must fail."""
    done = subprocess.run(
        [str(BINARY), *command],
        env=os.environ | {"ECS_DATADIR": str(folder / "here")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0, done.stdout
    return done.stderr
