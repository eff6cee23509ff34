"""From a bare machine to a container instance, and away again (issue 5, points 5 and 6).

Settings from an object store, attributes and tags, termination notices, room on the disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import docker, people
from support.admin import Admin
from support.bare import BareMachine
from support.ecs import Tasks, container, refused
from support.processes import BINARY, REGION, ROOT, Agent, Server, clean_environment
from support.s3 import ObjectStore
from support.waiting import until

USER_DATA = ROOT / "scripts" / "user-data"


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    """An object store with a key that the server does not know."""
    with ObjectStore("STOREKEY", "store secret") as store:
        yield store


def settings(server: Server, **more: Any) -> str:
    """An `ecs.config` with all that an agent needs to know."""
    lines = {
        "ECS_CLUSTER": "default",
        "ECS_BACKEND_HOST": server.endpoint,
        "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
        "AWS_ACCESS_KEY_ID": server.key["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": server.key["secretAccessKey"],
        **more,
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


class Fetching(Agent):
    """An agent with settings in an object store, whose key is in the AWS tools' own file."""

    def __init__(
        self,
        server: Server,
        store: ObjectStore,
        folder: Path,
        config: str = "s3://conf/fleet/ecs.config",
    ) -> None:
        super().__init__(server, folder, "default")
        self.arguments += ["--config", config]
        home = folder / "home"
        (home / ".aws").mkdir(parents=True)
        (home / ".aws" / "credentials").write_text(
            "[default]\naws_access_key_id = STOREKEY\naws_secret_access_key = store secret\n"
        )
        self.settings = {
            "HOME": str(home),
            "AWS_ENDPOINT_URL_S3": store.endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "ECS_DATADIR": self.settings["ECS_DATADIR"],
        }


def attributes(instance: dict[str, Any]) -> dict[str, str | None]:
    """Its attributes by name."""
    return {one["name"]: one.get("value") for one in instance["attributes"]}


def connected_again(server: Server, agent: Agent) -> dict[str, Any]:
    """The instance once this very process speaks for it."""
    facts = Path(agent.settings["ECS_DATADIR"]) / "agent.json"

    def speaks() -> bool:
        assert agent.alive, agent.tail()
        return facts.exists() and json.loads(facts.read_text())["pid"] == agent.child.pid

    until(speaks, "the agent's registration", 30)
    return server.wait_for_instance()[0]


def test_settings_of_the_fleet_are_for_no_task(stage: Any, store: ObjectStore, images: None) -> None:
    """The machine's key fetches them for the agent, and for nobody who runs tasks, although they may use the bucket."""
    server: Server = stage.server()
    store.objects["conf/fleet/ecs.env"] = settings(server, LONGSHORE_ENVIRONMENT_FILE_BUCKETS="conf")
    store.objects["conf/app.env"] = "ONE=1\n"
    agent = Fetching(server, store, stage.folder / "fetching", "s3://conf/fleet/ecs.env")
    stage.processes.append(agent)
    agent.start()
    server.wait_for_instance()
    tasks = Tasks(server.client(), "default", "settings")

    def run(name: str) -> str:
        files = [{"type": "s3", "value": f"arn:aws:s3:::conf/{name}"}]
        role = "arn:aws:iam::000000000000:role/fetch"
        return tasks.run(tasks.define(container(environmentFiles=files), executionRoleArn=role))

    app = run("app.env")
    tasks.wait(app, "RUNNING")
    assert docker.environment(docker.of_task(app)["main"])["ONE"] == "1"
    reason = tasks.wait(run("fleet/ecs.env"), "STOPPED", 60)["stoppedReason"]
    assert "s3://conf/fleet/ecs.env: SignatureDoesNotMatch" in reason
    assert store.requests[-1] == ("/conf/fleet/ecs.env", 403)
    tasks.stop_all()


def test_settings_are_fetched_at_each_start(stage: Any, store: ObjectStore) -> None:
    """Attributes and tags among them; without the store, those of the last start count."""
    server: Server = stage.server()
    ecs = server.client()
    store.objects["conf/fleet/ecs.config"] = settings(
        server,
        ECS_INSTANCE_ATTRIBUTES='{"rack":"7","disk":"ssd"}',
        ECS_CONTAINER_INSTANCE_TAGS='{"team":"blue","cost-centre":"42"}',
    )
    agent = Fetching(server, store, stage.folder / "fetching")
    stage.processes.append(agent)
    agent.start()
    first = connected_again(server, agent)
    assert ("/conf/fleet/ecs.config", 200) in store.requests
    assert attributes(first)["rack"] == "7" and attributes(first)["disk"] == "ssd"
    arn = first["containerInstanceArn"]
    (described,) = ecs.describe_container_instances(containerInstances=[arn], include=["TAGS"])[
        "containerInstances"
    ]
    tags = {one["key"]: one["value"] for one in described["tags"]}
    assert tags == {"team": "blue", "cost-centre": "42"}
    assert ecs.list_container_instances(filter="attribute:rack == 7")["containerInstanceArns"] == [
        arn
    ]
    assert ecs.list_container_instances(filter="attribute:rack == 8")["containerInstanceArns"] == []
    listed = ecs.list_attributes(targetType="container-instance", attributeName="disk")[
        "attributes"
    ]
    assert [(one["value"], one["targetId"]) for one in listed] == [("ssd", arn)]

    store.objects["conf/fleet/ecs.config"] = settings(server, LONGSHORE_AWSLOGS_AS="json-file")
    assert agent.end() == 0
    agent.start()
    again = connected_again(server, agent)
    assert again["containerInstanceArn"] == arn
    assert attributes(again)["longshore.awslogs-as"] == "json-file"

    store.stop()
    assert agent.end() == 0
    agent.start()
    connected_again(server, agent)
    assert "out of reach" in agent.log.read_text()

    store.start()
    del store.objects["conf/fleet/ecs.config"]
    assert agent.end() == 0
    agent.start()
    until(lambda: not agent.alive, "the agent's end")
    assert agent.child.returncode == 1
    assert "NoSuchKey" in agent.tail()


def test_what_keeps_settings_from_being_fetched_is_told(stage: Any, store: ObjectStore) -> None:
    """No keys, a wrong key, no object's name."""
    server: Server = stage.server()
    store.objects["conf/fleet/ecs.config"] = settings(server)
    for number, (location, more, expected) in enumerate(
        [
            (
                "s3://conf/fleet/ecs.config",
                {"HOME": "/nonexistent"},
                ["AWS_ACCESS_KEY_ID is not set"],
            ),
            (
                "s3://conf/fleet/ecs.config",
                {"AWS_ACCESS_KEY_ID": "STOREKEY", "AWS_SECRET_ACCESS_KEY": "wrong"},
                ["SignatureDoesNotMatch", "s3://conf/fleet/ecs.config"],
            ),
            ("s3://conf", {}, ["s3://bucket/key"]),
        ]
    ):
        agent = Fetching(server, store, stage.folder / f"refused-{number}")
        stage.processes.append(agent)
        agent.arguments = ["agent", "--config", location]
        agent.settings |= more
        agent.start()
        until(lambda: not agent.alive, "the agent's end")
        assert agent.child.returncode != 0
        for part in expected:
            assert part in agent.tail(), agent.tail()


##### Going away


def status(server: Server) -> str:
    """Of the only instance."""
    return server.wait_for_instance()[0]["status"]


def undo(agent: Agent) -> None:
    """Somebody says that the machine stays."""
    done = subprocess.run(
        [str(BINARY), "agent", "drain", "--undo"],
        env=clean_environment(**agent.settings),
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


def test_a_termination_notice_drains_the_machine(stage: Any, images: None) -> None:
    """By a file and by a program; tasks run on, nothing new comes, and each notice counts once."""
    server: Server = stage.server()
    notice, hook, says_yes = (stage.folder / name for name in ("notice", "hook", "yes"))
    hook.write_text(f"#!/bin/sh\n[ -e '{says_yes}' ] && echo reclaimed at noon\n")
    hook.chmod(0o755)
    agent: Agent = stage.agent(
        server,
        LONGSHORE_TERMINATION_NOTICE_FILE=str(notice),
        LONGSHORE_TERMINATION_NOTICE_HOOK=str(hook),
        LONGSHORE_TERMINATION_NOTICE_INTERVAL="1s",
    )
    tasks = Tasks(server.client(), "default", "noticed")
    arn = tasks.start(container("main", "trap", "7"))
    for path, words in ((notice, str(notice)), (says_yes, "reclaimed at noon")):
        assert status(server) == "ACTIVE"
        path.write_text("")
        until(lambda: status(server) == "DRAINING", "the drained instance", 15)
        until(lambda: words in agent.log.read_text(), f"{words} in the agent's log")
        assert tasks.describe(arn)["lastStatus"] == "RUNNING"
        assert "No Container Instances" in refused(
            tasks.ecs.run_task, "InvalidParameterException", taskDefinition=tasks.family
        )
        # Whoever says that it stays is not contradicted by the notice that he knows of.
        undo(agent)
        until(lambda: status(server) == "ACTIVE", "the instance in service")
        # Not even by an agent that is started anew.
        assert agent.end() == 0
        agent.start()
        known = "the notice that was obeyed before is still there"
        until(lambda: known in agent.log.read_text().rsplit("left; ", 1)[1], known)
        assert status(server) == "ACTIVE"
        path.unlink()
        until(
            lambda: "the notice is gone" in agent.log.read_text().rsplit(words, 1)[1],
            "the end of the notice",
        )


def test_draining_waits_as_long_as_it_is_told(stage: Any, images: None) -> None:
    """`agent drain --wait 2s` fails while a task is left, and says what to do."""
    server: Server = stage.server()
    agent: Agent = stage.agent(server)
    tasks = Tasks(server.client(), "default", "left")
    arn = tasks.start(container("main", "trap", "7"))
    drain = [str(BINARY), "agent", "drain", "--wait"]
    run = {
        "env": clean_environment(**agent.settings),
        "capture_output": True,
        "text": True,
        "timeout": 60,
    }
    done = subprocess.run([*drain, "2s"], **run)
    assert done.returncode == 1 and "1 tasks are still there" in done.stderr, done
    waiting = subprocess.Popen(drain, env=run["env"], stdout=subprocess.PIPE, text=True)
    tasks.stop(arn)
    assert waiting.wait(30) == 0
    assert "0 task(s) left" in waiting.communicate()[0]


##### Room on the disk


def test_without_room_nothing_is_pulled_and_everybody_is_told(stage: Any, cached: str) -> None:
    """A task whose image is not here is refused with the figures; what is here runs."""
    server: Server = stage.server()
    stage.agent(server, LONGSHORE_DISK_MIN_FREE="100000000", ECS_IMAGE_PULL_BEHAVIOR="default")
    tasks = Tasks(server.client(), "default", "full")
    absent = tasks.run(tasks.define(container(image="127.0.0.1:1/nothing-of-this-name:1")))
    here = tasks.run(tasks.define(container(image=cached)))
    reason = tasks.wait(absent, "STOPPED", 60)["containers"][0]["reason"]
    assert reason.startswith("CannotPullContainerError: disk pressure: "), reason
    assert "LONGSHORE_DISK_MIN_FREE" in reason and "100000000 MiB" in reason
    tasks.wait(here, "RUNNING")

    def health() -> str | None:
        (arn,) = (one["containerInstanceArn"] for one in server.wait_for_instance())
        answer = server.client().describe_container_instances(
            containerInstances=[arn], include=["CONTAINER_INSTANCE_HEALTH"]
        )
        return answer["containerInstances"][0]["healthStatus"].get("overallStatus")

    until(lambda: health() == "IMPAIRED", "the impaired instance", 90)
    problems = people.document(server.data, "status")["problems"]
    assert any("IMPAIRED" in one["problem"] for one in problems), problems


##### A bare machine


def test_the_systemd_unit_is_valid(tmp_path: Path) -> None:
    """As systemd's own checker sees it, with a program that exists here."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    unit = subprocess.run(
        [str(USER_DATA), "unit"], check=True, capture_output=True, text=True
    ).stdout
    assert "RestartPreventExitStatus=5" in unit
    file = tmp_path / "longshore-agent.service"
    file.write_text(unit.replace("/usr/local/lib/longshore/start-agent", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def functions(*names: str) -> str:
    """Functions of the script, to be put into a program of a test's own."""
    text = USER_DATA.read_text()
    return "".join(text[text.index(f"\n{name}() {{") :].split("\n}\n")[0] + "\n}\n" for name in names)


def printed(function: str) -> str:
    """What one of the script's functions prints: a program that it installs."""
    command = ["sh", "-c", functions(function) + function]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_supervisor_that_is_stopped_while_it_starts_the_agent_stops_it(tmp_path: Path) -> None:
    """The signal comes before it knows the agent's number."""
    text = printed("print_supervisor")
    start, pids = tmp_path / "start-agent", tmp_path / "agent"
    start.write_text(f"#!/bin/sh\necho $$ >>'{pids}'\nexec sleep 60\n")
    start.chmod(0o755)
    known = "  agent=$!\n"
    assert known in text
    supervise = tmp_path / "supervise"
    supervise.write_text(
        text.replace("/usr/local/lib/longshore/start-agent", str(start)).replace(
            known, f"  until [ -s '{pids}' ]; do sleep 0.1; done\n  kill -TERM $$\n{known}"
        )
    )
    done = subprocess.run(["sh", str(supervise)], timeout=20, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (agent,) = pids.read_text().split()
    assert not running(int(agent)), "the agent runs on"


def test_a_supervisor_that_does_not_end_is_replaced_all_the_same(tmp_path: Path) -> None:
    """It has its time; then it is killed, with its agent."""
    supervise, pid_file = tmp_path / "supervise", tmp_path / "pid"
    supervise.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    supervise.chmod(0o755)
    script = f"""
    set -eu
    library={tmp_path} pid_file={pid_file} logs={tmp_path}/logs agent_ends_within_s=1 changed=yes
    has_systemd() {{ false; }}
    put() {{ :; }}
    print_supervisor() {{ :; }}
    fail() {{ echo "$*" >&2; exit 1; }}
    {functions("supervisor_runs", "keep_running")}
    keep_running
    """
    numbers = []
    try:
        for _ in range(2):
            subprocess.run(["sh", "-c", script], check=True, timeout=20)
            numbers.append(int(pid_file.read_text()))
            # Until it has begun, the signal ends it.
            until(lambda: b"supervise" in Path(f"/proc/{numbers[-1]}/cmdline").read_bytes(), "it")
            time.sleep(0.5)
        until(lambda: not running(numbers[0]), "the end of the first")
        assert running(numbers[1])
    finally:
        for number in filter(running, numbers):
            os.killpg(number, signal.SIGKILL)


def running(number: int) -> bool:
    """Whether there is such a process, and it is more than a name."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("debootstrap"), reason="needs root and debootstrap"
)
@pytest.mark.timeout(900)
def test_user_data_makes_a_bare_machine_an_instance(account: str, images: None) -> None:
    """Without systemd: Docker, program, settings, a supervised agent; again changes nothing."""
    with ExitStack() as stack:
        # Paths of sockets are short.
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="bare-", dir="/var/tmp"))
        )
        machine = stack.enter_context(BareMachine(folder))
        store = ObjectStore("STOREKEY", "store secret")
        machine.on_network(store.start)
        stack.callback(store.stop)
        server = ServerThere(machine, folder, account + "000002")
        stack.callback(server.kill)
        server.start()
        ecs = server.client()
        machine.on_network(lambda: ecs.create_cluster(clusterName="default"))
        token = machine.on_network(lambda: Admin(server)("CreateJoinToken"))["token"]
        store.objects["conf/ecs.config"] = (
            'ECS_INSTANCE_ATTRIBUTES={"rack":"9"}\nECS_IMAGE_PULL_BEHAVIOR=prefer-cached\n'
        )
        shutil.copy(BINARY, machine.root / "root" / "longshore")
        shutil.copy(USER_DATA, machine.root / "root" / "user-data")
        values = {
            "LONGSHORE_BINARY": "/root/longshore",
            "LONGSHORE_AGENT_CONFIG": "s3://conf/ecs.config",
            "LONGSHORE_SERVER": server.endpoint,
            "LONGSHORE_TOKEN": token,
            "LONGSHORE_AGENT_ENVIRONMENT": f"AWS_ENDPOINT_URL_S3={store.endpoint}\n"
            "AWS_ACCESS_KEY_ID=STOREKEY\nAWS_SECRET_ACCESS_KEY=store secret\n",
        }
        # A machine that was just switched on looks for updates by itself.
        stack.enter_context(apt_is_busy(machine.root, 10))
        done = machine.run("/root/user-data", **values)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "installing docker.io" in done.stdout

        def instances() -> list[dict[str, Any]]:
            return machine.on_network(server.wait_for_instance)

        (instance,) = instances()
        assert attributes(instance)["rack"] == "9"
        socket = f"unix://{machine.root}/run/docker.sock"
        image = subprocess.run(
            ["docker", "save", docker.TOOL], check=True, capture_output=True
        ).stdout
        loaded = subprocess.run(["docker", "-H", socket, "load"], input=image, capture_output=True)
        assert loaded.returncode == 0, loaded.stderr
        tasks = Tasks(ecs, "default", "bare")
        arn = machine.on_network(lambda: tasks.start(container("main", "trap", "7")))

        def agent() -> int:
            return json.loads((machine.root / "var/lib/ecs/data/agent.json").read_text())["pid"]

        first = agent()
        # What lets any machine in is not left on one that is.
        until(lambda: not (machine.root / "etc/longshore/join-token").exists(), "the token's end")
        assert token not in (machine.root / "etc/longshore/agent.env").read_text()
        assert token not in machine.run("cat", f"/proc/{first}/environ").stdout
        again = machine.run("/root/user-data", **values)
        assert again.returncode == 0, again.stderr
        assert again.stdout == "longshore: the agent runs\n"
        assert agent() == first

        # Whatever ends it, it comes back, and the task never noticed.
        machine.run("sh", "-c", f"kill -9 {first}")
        until(lambda: agent() != first, "another agent", 40)
        second = agent()
        values["LONGSHORE_AGENT_ENVIRONMENT"] += "ECS_LOGLEVEL=debug\n"
        changed = machine.run("/root/user-data", **values)
        assert "wrote /etc/longshore/agent.env" in changed.stdout and changed.returncode == 0, (
            changed
        )
        until(lambda: agent() != second, "an agent with the new environment", 40)
        instances()
        assert machine.on_network(lambda: tasks.describe(arn))["lastStatus"] == "RUNNING"
        names = subprocess.run(
            ["docker", "-H", socket, "ps", "--quiet"], check=True, capture_output=True, text=True
        )
        assert len(names.stdout.split()) == 1
        secret = machine.root / "etc/longshore/agent.env"
        assert secret.stat().st_mode & 0o777 == 0o600


@contextmanager
def apt_is_busy(root: Path, seconds: float) -> Iterator[None]:
    """Somebody holds apt's locks for so long: the one that it can wait for, and one that it cannot."""
    files = [root / "var/lib/dpkg/lock-frontend", root / "var/cache/apt/archives/lock"]
    with ExitStack() as stack:
        held = [stack.enter_context(file.open("a")) for file in files]
        for file in held:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        release = threading.Timer(
            seconds, lambda: [fcntl.lockf(file, fcntl.LOCK_UN) for file in held]
        )
        release.start()
        stack.callback(release.join)
        yield


class ServerThere(Server):
    """A server on the network of a bare machine."""

    def __init__(self, machine: BareMachine, folder: Path, account: str) -> None:
        super().__init__(folder, account)
        self.machine = machine

    def prefix(self) -> list[str]:
        return self.machine.network()
