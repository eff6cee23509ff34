"""Several hosts, each with a Docker Engine: `scripts/hosts`, and Longshore's processes on them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.docker import LABEL
from support.processes import BINARY, ROOT, Agent, Process, Server, read_json
from support.proxy import pump
from support.waiting import until

SCRIPT = ROOT / "scripts" / "hosts"
PORT = 8470
CLONE_NEWNET = 0x40000000
# What a long run of three Engines takes, generously.
MEMORY_NEEDED = 4 << 30


class Hosts:
    """A network of hosts, gone at the latest when this process is."""

    def __init__(self) -> None:
        # In memory, where it can be: nothing needs to outlive this machine, and Engines sync a lot.
        room = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_mount() else 0
        base = "/dev/shm" if room > MEMORY_NEEDED else "/var/lib"
        self.folder = Path(f"{base}/longshore-hosts-{secrets.token_hex(4)}")
        self.relays: list[socket.socket] = []

    def command(self, *arguments: str, check: bool = True, within: float = 90) -> str:
        """Runs `scripts/hosts …` and returns what it printed."""
        environment = os.environ | {"LONGSHORE_HOSTS_DIR": str(self.folder)}
        done = subprocess.run(
            [str(SCRIPT), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=within,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(f"hosts {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def up(self, *names: str, images: tuple[str, ...] = (), engine: bool = True) -> None:
        """Makes hosts, with an Engine that has some images."""
        options = [part for image in images for part in ("--image", image)]
        options += [] if engine else ["--no-engine"]
        self.command("up", "--for", str(os.getpid()), *options, *names)

    def down(self) -> None:
        """Removes everything."""
        for listener in self.relays:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.command("down")

    def host(self, name: str) -> Host:
        """One host by its name."""
        return Host(self, name)

    def enter(self, name: str) -> None:
        """Moves the calling thread, and those that it will start, onto a host's network."""
        pid = (self.folder / name / "pid").read_text().strip()
        with open(f"/proc/{pid}/ns/net") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def relay(self, host: Host, port: int = PORT) -> int:
        """A port of this machine's loopback interface that leads to one on a host, whatever happens to
        that host's cable."""
        # A socket belongs to the network it was made in, whoever uses it: to the machine's.
        listener = socket.create_server(("127.0.0.1", 0))
        self.relays.append(listener)

        def serve() -> None:
            self.enter(host.name)
            with contextlib.suppress(OSError):  # closed
                while True:
                    near, _ = listener.accept()
                    threading.Thread(target=join, args=(near,), daemon=True).start()

        def join(near: socket.socket) -> None:
            try:
                far = socket.create_connection((host.address, port), timeout=30)
                far.settimeout(None)
                # A request comes in two pieces; the second must not wait for the first's receipt.
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                near.close()
                return
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join()
            near.close()
            far.close()

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1]


class Host:
    """One host: its power switch, its cable, its Engine."""

    def __init__(self, hosts: Hosts, name: str) -> None:
        self.hosts, self.name = hosts, name
        self.folder = hosts.folder / name
        self.address = f"10.88.0.{10 + int(name[1:])}"

    def __repr__(self) -> str:
        return self.name

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command on the host, to its end."""
        return self.hosts.command("exec", self.name, *command, check=check)

    def longshore(self, *arguments: str, check: bool = True, **settings: str) -> str:
        """Runs `longshore …` on the host, to its end."""
        assignments = [f"{name}={value}" for name, value in settings.items()]
        return self.run("env", *assignments, str(BINARY), *arguments, check=check)

    def cut(self, how: str = "both") -> None:
        """Unplugs the network cable; `in` or `out` cuts one direction."""
        self.hosts.command("cut", self.name, how)

    def heal(self) -> None:
        """Plugs it in again."""
        self.hosts.command("heal", self.name)

    def kill(self) -> None:
        """Cuts the power."""
        self.hosts.command("kill", self.name)

    def boot(self) -> None:
        """Switches it on; its Engine answers when this returns."""
        self.hosts.command("boot", self.name)

    def kill_engine(self, program: str = "dockerd") -> None:
        """kill -9 of the Engine; containers run on."""
        self.hosts.command("engine", self.name, "kill", program)

    def start_engine(self, *options: str) -> None:
        """Starts the Engine, which stops what ran without it, unless told `--live-restore`."""
        self.hosts.command("engine", self.name, "start", *options)

    def docker(self, *arguments: str, check: bool = True) -> str:
        """This machine's `docker` command, with the host's Engine."""
        return self.hosts.command("docker", self.name, *arguments, check=check)

    def containers(self) -> list[dict[str, Any]]:
        """`docker inspect` of all containers, running or not."""
        ids = self.docker("ps", "--all", "--quiet", "--no-trunc").split()
        # One that vanishes meanwhile is left out.
        return json.loads(self.docker("inspect", *ids, check=False) or "[]") if ids else []

    def tasks(self) -> dict[str, list[str]]:
        """Task ARN → ids of its running containers."""
        found: dict[str, list[str]] = {}
        for one in self.containers():
            if one["State"]["Running"] and (arn := one["Config"]["Labels"].get(f"{LABEL}task-arn")):
                found.setdefault(arn, []).append(one["Id"])
        return found

    def remove_containers(self) -> None:
        """Leaves the Engine empty."""
        if ids := self.docker("ps", "--all", "--quiet", "--no-trunc").split():
            self.docker("rm", "--force", "--volumes", *ids, check=False)


class OnHost(Process):
    """What makes a process one of a host: it is started there, and signals find it."""

    host: Host

    def prefix(self) -> list[str]:
        """How to start a program on the host."""
        return [str(SCRIPT), "exec", self.host.name]

    def environment(self, **settings: str) -> dict[str, str]:
        """Which set of hosts, besides the settings."""
        return {"LONGSHORE_HOSTS_DIR": str(self.host.hosts.folder), **settings}

    def deliver(self, number: int) -> None:
        """To the program itself; our child only waits for it, outside of the host."""
        assert self.child is not None
        if number == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, number)
            return
        for pid in self.inner():
            os.kill(pid, number)

    def inner(self) -> list[int]:
        """Our child's children, as numbered here."""
        assert self.child is not None
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


class HostServer(OnHost, Server):
    """`longshore server` on a host, with its state in a folder of the test."""

    def __init__(self, host: Host, folder: Path, account: str, *options: str) -> None:
        super().__init__(folder, account, *options)
        self.host = host
        self.listen = f"{host.address}:{PORT}"
        self.port_here = host.hosts.relay(host)
        self.tls = any(option.startswith("--tls") for option in options)
        if not self.tls:
            self.options += ("--insecure",)

    @property
    def url(self) -> str:
        """For the other hosts."""
        return f"{'https' if self.tls else 'http'}://{self.host.name}:{PORT}"

    def start(self) -> HostServer:
        """Starts it and waits until it listens; clients reach it through the relay."""
        # Process numbers mean nothing outside of the host: the file must be a new one.
        (self.data / "server.json").unlink(missing_ok=True)
        self.launch()
        self.facts = until(self._listening, "the server's own server.json", 15)
        self.endpoint = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port_here}"
        return self

    def _listening(self) -> dict[str, Any] | None:
        assert self.alive, f"the server ended:\n{self.tail()}"
        return read_json(self.data / "server.json")

    def client(self, **config: Any) -> Any:
        """A boto3 client on this machine."""
        if self.tls:
            config.setdefault("verify", self.facts["caFile"])
        return super().client(**config)


class HostAgent(OnHost, Agent):
    """`longshore agent` on a host; it finds the host's Engine where everybody does."""

    def __init__(
        self, server: HostServer, host: Host, folder: Path, cluster: str = "default", **more: str
    ) -> None:
        self.host = host
        settings = {"ECS_BACKEND_HOST": server.url, **more}
        super().__init__(server, folder / f"agent-{host.name}", cluster, **settings)
        self.name = f"agent on {host.name}"


@contextlib.contextmanager
def network(*names: str, images: tuple[str, ...] = ()) -> Iterator[Hosts]:
    """Hosts for the length of a scope; `h0` has no Engine, it is for the server."""
    hosts = Hosts()
    try:
        hosts.up("h0", engine=False)
        if names:
            hosts.up(*names, images=images)
        yield hosts
    finally:
        hosts.down()


class HostCluster:
    """A server on `h0` and an agent on each of the others."""

    def __init__(
        self,
        hosts: Hosts,
        names: list[str],
        folder: Path,
        account: str,
        *options: str,
        **settings: str,
    ) -> None:
        self.hosts, self.folder = hosts, folder
        self.server = HostServer(hosts.host("h0"), folder / "server", account, *options)
        self.server.start()
        self.ecs = self.server.client()
        self.ecs.create_cluster(clusterName="default")
        self.agents = {
            name: HostAgent(self.server, hosts.host(name), folder, **settings) for name in names
        }
        for agent in self.agents.values():
            agent.start()
        self.arns: dict[str, str] = {}
        self.wait_connected()

    def host(self, name: str) -> Host:
        """One of the hosts."""
        return self.agents[name].host

    def instances(self) -> dict[str, dict[str, Any]]:
        """Host name → its container instance (the newest that is not INACTIVE)."""
        arns = self.ecs.list_container_instances()["containerInstanceArns"]
        if not arns:
            return {}
        found = self.ecs.describe_container_instances(containerInstances=arns, include=["TAGS"])
        machines = {
            (self.hosts.folder / name / "machine-id").read_text().strip(): name
            for name in self.agents
        }
        return {
            machines[attribute(one, "longshore.host-id")]: one
            for one in found["containerInstances"]
        }

    def wait_connected(self, *names: str, connected: bool = True, within: float = 30) -> None:
        """Waits until these (or all) agents are connected, or are not."""
        wanted = names or tuple(self.agents)

        def reached() -> bool:
            found = self.instances()
            return all(
                name in found and found[name]["agentConnected"] is connected for name in wanted
            )

        until(reached, f"{', '.join(wanted)} {'connected' if connected else 'gone'}", within)
        self.arns |= {name: one["containerInstanceArn"] for name, one in self.instances().items()}

    def drain(self, *names: str) -> None:
        """Leaves only the other hosts to placement; none are named: all are ACTIVE."""
        for name, arn in self.arns.items():
            status = "DRAINING" if name in names else "ACTIVE"
            self.ecs.update_container_instances_state(containerInstances=[arn], status=status)

    def close(self) -> None:
        """Ends the processes; the containers end with their hosts."""
        for process in [*self.agents.values(), self.server]:
            process.kill()


def attribute(instance: dict[str, Any], name: str) -> str | None:
    """The value of an attribute of a container instance."""
    return next((one.get("value") for one in instance["attributes"] if one["name"] == name), None)
