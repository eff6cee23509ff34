#!/usr/bin/env python3
"""A launcher whose machines are agents on this very machine, for trying out capacity providers.

    longshore server --launcher local:0-4=/path/to/launcher.py

It is run as `launcher.py add COUNT` or `launcher.py remove INSTANCE_ARN...`, with the whole order as JSON on its standard
input, and has done it when it ends with 0. An order may come again after a crash, under the same number: so each machine
is named by the number of its order, and one that is there is not started again.

Settings, from the environment of the server:
    LAUNCHER_HOME       where machines keep their state (required)
    LAUNCHER_DATA_DIR   the server's data directory, where its address and key are (required)
    LAUNCHER_LONGSHORE  the program (default: longshore)
    LAUNCHER_CPU, LAUNCHER_MEMORY  how large a machine is (default: 1024 units, 512 MiB)

A launcher for real machines does the same with the API of a cloud: it starts COUNT of them with `instanceAttributes` in
their ECS_INSTANCE_ATTRIBUTES, the order's number as the idempotency token; and a join token in place of the root key.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

HOME = Path(os.environ["LAUNCHER_HOME"])
DATA = Path(os.environ["LAUNCHER_DATA_DIR"])
LONGSHORE = os.environ.get("LAUNCHER_LONGSHORE", "longshore")
# How long an agent has to end before it is killed, in seconds.
PATIENCE_S = 20
# What `add` calls a machine. An attribute is the word of whoever registered with it: nothing else is a folder of ours.
MACHINE = re.compile(r"[0-9]{1,20}-[0-9]{1,6}", re.ASCII)


def main() -> None:
    """Carries out one order. A lock keeps a repeated one from running beside the first."""
    order = json.load(sys.stdin)
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if order["action"] == "add":
            for number in range(order["count"]):
                add(f"{order['orderId']}-{number}", order, lock)
        else:
            for instance in order["containerInstances"]:
                # The attribute that `add` gave it says which machine it is.
                remove(instance["attributes"].get("machine", ""))


def add(machine: str, order: dict, lock: TextIO) -> None:
    """Starts the agent of a machine, if it does not run already."""
    folder = HOME / machine
    if running(folder):
        print(f"{machine} runs already")
        return
    folder.mkdir(exist_ok=True)
    server = json.loads((DATA / "server.json").read_text())
    key = json.loads((DATA / "root-access-key").read_text())
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "ECS_CLUSTER": order["cluster"],
        "ECS_BACKEND_HOST": server["endpoint"],
        "ECS_DATADIR": str(folder / "data"),
        "ECS_INSTANCE_ATTRIBUTES": json.dumps(order["instanceAttributes"] | {"machine": machine}),
        "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
        "LONGSHORE_CPU": os.environ.get("LAUNCHER_CPU", "1024"),
        "LONGSHORE_MEMORY": os.environ.get("LAUNCHER_MEMORY", "512"),
        "AWS_DEFAULT_REGION": server["region"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": key["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["secretAccessKey"],
    }
    (folder / "data").mkdir(exist_ok=True)
    with open(folder / "agent.log", "ab") as log:
        # In a session of its own: it outlives the launcher, and the server. It writes its number down before it is the
        # agent, and holds the lock, which is its standard input, until then: if this program is killed in between, the
        # repeated order waits for it and finds it.
        begin = 'echo $$ > "$0/pid" && exec "$@" < /dev/null'
        agent = subprocess.Popen(
            ["/bin/sh", "-c", begin, folder, LONGSHORE, "agent"],
            env=environment,
            stdin=lock,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    print(f"{machine} started as process {agent.pid}")


def remove(machine: str) -> None:
    """Ends the agent of a machine and forgets it. One that is not there is gone already."""
    folder = HOME / machine
    if not MACHINE.fullmatch(machine) or not folder.is_dir():
        print(f"there is no machine {machine!r}")
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        if pid := running(folder):
            os.kill(pid, number)
            end = time.monotonic() + PATIENCE_S
            while running(folder) and time.monotonic() < end:
                time.sleep(0.1)
    shutil.rmtree(folder)
    print(f"{machine} removed")


def running(folder: Path) -> int | None:
    """The process of a machine's agent, if it lives. A number alone may be somebody else's by now."""
    try:
        pid = int((folder / "pid").read_text())
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        ended = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (OSError, ValueError, IndexError):
        return None
    return pid if f"ECS_DATADIR={folder / 'data'}\0".encode() in environment and not ended else None


if __name__ == "__main__":
    main()
