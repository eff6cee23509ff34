"""The edge under people who mean no good, or too many who do: others are served, memory is bounded."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.processes import Server
from support.waiting import until
from support.wire import Wire

PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
MIB = 1 << 20


class Scarce(Server):
    """A server that may open few files."""

    files = 400

    def prefix(self) -> list[str]:
        return ["prlimit", f"--nofile={self.files}:{self.files}"]


@pytest.fixture
def scarce(tmp_path: Path, account: str) -> Iterator[Scarce]:
    server = Scarce(tmp_path / "scarce", f"{account}000000")
    yield server.start()
    server.kill()


@pytest.fixture(autouse=True)
def many_files() -> None:
    """This process opens as many sockets as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def rss(server: Server) -> int:
    """Resident memory in bytes."""
    assert server.child is not None
    status = Path(f"/proc/{server.child.pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


def connect(server: Server) -> socket.socket:
    """A TCP connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed it; what it has sent is thrown away."""
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass
        return False
    return True


def is_served(wire: Wire) -> None:
    """Others get their answers, soon."""
    began = time.monotonic()
    assert wire.call("ListClusters", {}).status == 200
    assert time.monotonic() - began < 5


@pytest.mark.timeout(180)
def test_ten_thousand_idle_connections_cost_little_and_keep_nobody_out(
    server: Server, wire: Wire
) -> None:
    is_served(wire)
    before = rss(server)
    with contextlib.ExitStack() as stack:
        idle = []
        for number in range(10_000):
            connection = stack.enter_context(connect(server))
            # Every second one was spoken on, which costs more.
            if number % 2:
                connection.sendall(PING)
            idle.append(connection)
            if number % 1000 == 0:
                is_served(wire)
        is_served(wire)
        grown = rss(server) - before
        print(f"10,000 idle connections: {grown / MIB:.0f} MiB, {grown / 10_000:.0f} bytes each")
        assert grown < 300 * MIB, f"{grown / MIB:.0f} MiB"
        assert sum(map(is_open, idle[1::2])) > 4_900, "those that were spoken on are kept"
    until(lambda: rss(server) < before + 300 * MIB, "the memory to come back", 20)
    is_served(wire)


def test_when_there_are_no_more_files_the_quietest_connection_goes(scarce: Scarce) -> None:
    """The one after the last takes the place of the one that has been silent for longest."""
    wire = Wire(scarce.endpoint, scarce.key)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(scarce)) for _ in range(4 * scarce.files)]
        is_served(wire)
        until(lambda: sum(map(is_open, idle)) < scarce.files, "the oldest to be closed", 10)
        states = [is_open(each) for each in idle]
        assert not any(states[: scarce.files]), "the oldest went"
        assert all(states[-50:]), "the newest are kept"
    is_served(wire)
    log = scarce.log.read_text()
    assert "Too many open files" not in log and "error" not in log.lower(), scarce.tail()


def test_a_thousand_slow_senders_are_cut_off_while_others_are_served(
    server: Server, wire: Wire
) -> None:
    """Slowloris: a byte now and then, of headers and of bodies."""
    before = rss(server)
    body = (
        b"POST / HTTP/1.1\r\nHost: x\r\n"
        b"X-Amz-Target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n"
        b"Content-Length: 100000\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(1000)]
        for number, connection in enumerate(slow):
            connection.sendall(b"POST / HTTP/1.1\r\nX-Slow: " if number % 2 else body)
        began = time.monotonic()
        alive = list(slow)
        while alive and time.monotonic() - began < 30:
            for connection in list(alive):
                try:
                    connection.setblocking(True)
                    connection.sendall(b"x")
                except OSError:
                    alive.remove(connection)
            alive = [connection for connection in alive if is_open(connection)]
            is_served(wire)
            time.sleep(0.5)
        assert not alive, f"{len(alive)} are still open after 30 s"
    assert rss(server) < before + 100 * MIB


@pytest.mark.timeout(120)
def test_a_hundred_clients_at_once_are_answered_or_throttled(server: Server, wire: Wire) -> None:
    """Reads and writes as fast as they go, for seconds: no server error, no growing memory."""
    is_served(wire)
    before = rss(server)
    calls = [
        ("ListClusters", {}),
        ("DescribeClusters", {"clusters": ["default"], "include": ["STATISTICS"]}),
        ("CreateCluster", {"clusterName": "hammered"}),
        ("RunTask", {"taskDefinition": "nothing"}),
        ("ListTasks", {"desiredStatus": "STOPPED"}),
    ]
    requests = [raw(wire, operation, body) for operation, body in calls]
    deadline = time.monotonic() + 6
    peak = threading.Event()

    def client(number: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        with connect(server) as connection, connection.makefile("rb") as answers:
            while time.monotonic() < deadline:
                # Several at once: pipelined.
                batch = [requests[(number + i) % len(requests)] for i in range(8)]
                connection.sendall(b"".join(batch))
                for _ in batch:
                    status, body = read_answer(answers)
                    code = re.search(rb'"__type":"(\w+)"', body)
                    seen[f"{status} {code[1].decode() if code else ''}".strip()] += 1
                if rss(server) > before + 400 * MIB:
                    peak.set()
        return seen

    with ThreadPoolExecutor(100) as pool:
        seen = sum(pool.map(client, range(100)), Counter())
    print(dict(seen))
    assert not peak.is_set(), "the memory grew with the callers' number"
    assert set(seen) <= {"200", "400 ThrottlingException", "400 ClientException"}, seen
    assert seen["200"] > 1000
    is_served(wire)


def raw(wire: Wire, operation: str, body: dict[str, object]) -> bytes:
    """A signed request as bytes; good for minutes, so it is signed once."""
    request = wire.sign(wire.request(operation, body))
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    length = f"Content-Length: {len(request.data)}"
    lines = ["POST / HTTP/1.1", f"Host: {wire.host}", *headers, length]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + request.data


def read_answer(answers: object) -> tuple[int, bytes]:
    """Status and body of the next answer on a connection."""
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline().rstrip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, answers.read(length)
