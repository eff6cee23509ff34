"""Readers of the server's event stream: server-sent events over `http.client`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from support.processes import REGION, Server

TASK = "ECS Task State Change"
INSTANCE = "ECS Container Instance State Change"


def request(
    server: Server,
    key: dict[str, str] | None = None,
    last: str | None = None,
    repeated: Sequence[tuple[str, str]] = (),
    **query: str,
) -> http.client.HTTPResponse:
    """Asks for events; the answer, of which nothing but the head is read."""
    parameters = [(name.replace("_", "-"), value) for name, value in query.items()]
    url = f"{server.endpoint}/events?{urlencode([*parameters, *repeated], quote_via=quote)}"
    signed = AWSRequest("GET", url)
    key = key or server.key
    credentials = Credentials(key["accessKeyId"], key["secretAccessKey"])
    SigV4Auth(credentials, "ecs", REGION).add_auth(signed)
    headers = dict(signed.headers.items()) | ({"Last-Event-ID": last} if last else {})
    connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=30)
    connection.request("GET", url.removeprefix(server.endpoint), headers=headers)
    return connection.getresponse()


class Stream:
    """One connection: its events as they come, and the cursor behind the last one."""

    def __init__(self, server: Server, last: str | None = None, **query: str) -> None:
        self.answer = request(server, last=last, **query)
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.headers["Content-Type"] == "text/event-stream"
        self.cursor = ""
        self.seen: list[dict[str, Any]] = []
        # What the server greets with is the cursor where it begins.
        assert self._block() == ""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()

    def _block(self) -> str | None:
        """The data of the next block, empty if it has none; nothing at the end."""
        data = ""
        while line := self.answer.readline():
            text = line.decode().rstrip("\n")
            if not text:
                return data
            name, _, value = text.partition(": ")
            if name == "id":
                self.cursor = value
            elif name == "data":
                data = value
        return None

    def next(self) -> dict[str, Any] | None:
        """The next event; nothing at the end of the stream."""
        while (data := self._block()) is not None:
            if data:
                self.seen.append(json.loads(data))
                return self.seen[-1]
        return None

    def rest(self) -> list[dict[str, Any]]:
        """Every event up to the end of the stream."""
        events = []
        while event := self.next():
            events.append(event)
        return events

    def until(self, arn: str, status: str) -> list[dict[str, Any]]:
        """Reads until a task has a status; all events read so far."""
        while event := self.next():
            if event["resources"] == [arn] and event["detail"]["lastStatus"] == status:
                return self.seen
        raise AssertionError(f"the stream ended before {arn} was {status}: {self.seen}")


def history(events: list[dict[str, Any]], arn: str) -> list[tuple[str, str]]:
    """Last and desired status of a task, event by event; its versions must rise."""
    own = [event["detail"] for event in events if event["resources"] == [arn]]
    versions = [detail["version"] for detail in own]
    assert versions == sorted(set(versions)), versions
    return [(detail["lastStatus"], detail["desiredStatus"]) for detail in own]
