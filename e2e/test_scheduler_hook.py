"""A cluster whose tasks go where an external HTTP scheduler says, on three instances of one Docker Engine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import Stage
from support.ecs import Tasks, container
from support.processes import BINARY, Server, clean_environment
from support.waiting import until

EXAMPLE = Path(__file__).parent.parent / "examples" / "schedulers" / "hook.py"
SIZE = {"LONGSHORE_INSTANCES": "3", "LONGSHORE_MEMORY": "128", "LONGSHORE_CPU": "1024"}
Think = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def server(module_stage: Stage, images: None) -> Server:
    """A server with three instances."""
    server = module_stage.server()
    module_stage.agent(server, **SIZE)
    ecs = server.client()
    until(
        lambda: len(ecs.list_container_instances()["containerInstanceArns"]) == 3,
        "three instances",
    )
    return server


@pytest.fixture
def tasks(server: Server, family: str) -> Iterator[Tasks]:
    """Tasks of a test, which leaves the instances empty and the cluster without a scheduler."""
    tasks = Tasks(server.client(), "default", family)
    yield tasks
    longshore(server, "unset", "default")
    tasks.ecs = server.client()
    tasks.stop_all()


def longshore(server: Server, *arguments: str) -> str:
    """`longshore scheduler …`, which must succeed."""
    done = subprocess.run(
        [str(BINARY), "scheduler", *arguments, "--data-dir", str(server.data)],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def scheduler(think: Think, port: int = 0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A scheduler of the test's own: its URL, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(question)
            answer = think(question)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    hook = ThreadingHTTPServer(("127.0.0.1", port), Hook)
    hook.daemon_threads = True
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{hook.server_port}/place", asked
    finally:
        hook.shutdown()
        hook.server_close()


def place(task: dict[str, Any], instance: str) -> dict[str, str]:
    return {"taskArn": task["taskArn"], "containerInstanceArn": instance}


def test_the_example_packs(server: Server, tasks: Tasks) -> None:
    child = subprocess.Popen(
        [sys.executable, str(EXAMPLE), "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout
        url = f"http://127.0.0.1:{child.stdout.readline().split()[-1]}/"
        longshore(server, "set", "default", "--url", url, "--fallback", "wait")
        shown = json.loads(longshore(server, "show", "default", "--output", "json"))
        assert shown["scheduler"] == {"url": url, "deadlineSeconds": 5, "fallback": "wait"}
        definition = tasks.define(container("main", "sleep", "600", memory=40))
        answer = tasks.request(definition, count=3)
        assert {task["lastStatus"] for task in answer["tasks"]} == {"PROVISIONING"}
        homes = {tasks.wait(arn, "RUNNING")["containerInstanceArn"] for arn in tasks.arns}
        assert len(homes) == 1, "three of 40 fit one of 128"
        more = tasks.request(definition, count=7)["tasks"]
        until(
            lambda: sum(tasks.describe(t["taskArn"])["lastStatus"] == "RUNNING" for t in more) == 6,
            "nine that run",
            60,
        )
        [left] = [t for t in more if tasks.describe(t["taskArn"])["lastStatus"] == "PROVISIONING"]
        tasks.stop(tasks.arns[0])
        task = tasks.wait(left["taskArn"], "RUNNING")
        assert task["containerInstanceArn"] in homes
    finally:
        child.kill()
        child.wait()


def test_nonsense_harms_nothing_and_is_told(server: Server, tasks: Tasks) -> None:
    """Answers twice, foreign instances, too large tasks, no JSON at all, and in the end a good one."""
    foreign = f"arn:aws:ecs:us-east-1:{server.account}:container-instance/default/{'0' * 32}"

    def think(question: dict[str, Any]) -> Any:
        [task] = question["tasks"]
        match len(asked):
            case 1:
                return b"<html>"
            case 2:
                return {"placements": [place(task, foreign), place(task, foreign)]}
            case 3:
                return {"placements": [{"taskArn": 1}]}
            case _:
                good = place(task, task["candidates"][0]["containerInstanceArn"])
                return {"placements": [good, good], "unknown": True}

    with scheduler(think) as (url, asked):
        longshore(server, "set", "default", "--url", url, "--fallback", "wait")
        arn = tasks.run(tasks.define(container()))
        task = tasks.wait(arn, "RUNNING")
        expected = asked[-1]["tasks"][0]["candidates"][0]["containerInstanceArn"]
        assert task["containerInstanceArn"] == expected
        assert len(asked[0]["tasks"][0]["candidates"]) == 3
        [refused] = asked[2]["refused"]
        assert (refused["taskArn"], refused["reason"]) == (arn, "MISSING")


def test_fallbacks_when_nobody_answers(server: Server, tasks: Tasks) -> None:
    nobody = ("set", "default", "--url", "http://127.0.0.1:1/", "--deadline", "2s")
    definition = tasks.define(container())
    longshore(server, *nobody, "--fallback", "stop")
    stopped = tasks.wait(tasks.run(definition), "STOPPED")
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert "http://127.0.0.1:1/ did not place the task within 2 seconds" in stopped["stoppedReason"]
    longshore(server, *nobody, "--fallback", "place")
    tasks.wait(tasks.run(definition), "RUNNING")


def test_a_restarted_server_asks_again(server: Server, tasks: Tasks) -> None:
    silent = threading.Event()

    def think(question: dict[str, Any]) -> Any:
        if not silent.is_set():
            return {"placements": []}
        candidates = [t["candidates"][0]["containerInstanceArn"] for t in question["tasks"]]
        tasks_asked = zip(question["tasks"], candidates, strict=True)
        return {"placements": [place(task, one) for task, one in tasks_asked]}

    with scheduler(think) as (url, asked):
        longshore(server, "set", "default", "--url", url, "--fallback", "wait")
        arn = tasks.run(tasks.define(container()))
        until(lambda: asked, "the first question")
        server.kill()
        silent.set()
        server.start()
        tasks.ecs = server.client()
        tasks.wait(arn, "RUNNING", 60)
