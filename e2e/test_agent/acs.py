"""The agent's side of ACS (section 2): frames in, acks out, nothing else."""

from __future__ import annotations

import json
import time
from typing import Any

from websockets.exceptions import ConnectionClosed

from test_agent.instance import DOCKER, HASH, VERSION, Instance
from test_agent.signing import open_websocket


class Timeline:
    """What an agent remembers across connections: the numbers of section 2.8."""

    def __init__(self) -> None:
        self.highest = 0
        self.connected_before = False
        self.latest_manifest: str | None = None


class Acs:
    """One ACS connection. The test decides when something is acked; heartbeats are answered."""

    def __init__(self, instance: Instance, timeline: Timeline | None = None, **query: str) -> None:
        self.instance = instance
        self.timeline = timeline or Timeline()
        self.heartbeats = 0
        self.waiting: list[dict[str, Any]] = []
        parameters = {
            "agentHash": HASH,
            "agentVersion": VERSION,
            "clusterArn": instance.cluster,
            "containerInstanceArn": instance.arn,
            "dockerVersion": f"DockerVersion: {DOCKER}",
            "protocolVersion": "2",
            "sendCredentials": "false" if self.timeline.connected_before else "true",
            "seqNum": "1",
            **query,
        }
        endpoint = instance.discover()["endpoint"]
        self.socket = open_websocket(endpoint, parameters, instance.credentials, instance.region)
        self.timeline.connected_before = True

    def __enter__(self) -> Acs:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # In

    def receive(self, kind: str, within: float = 10) -> dict[str, Any]:
        """The next message of a type; messages of other types wait for their own `receive`."""
        deadline = time.monotonic() + within
        while True:
            for index, frame in enumerate(self.waiting):
                if frame["type"] == kind:
                    return self.waiting.pop(index)["message"]
            left = deadline - time.monotonic()
            try:
                frame = self.next_frame(max(left, 0.001))
            except TimeoutError:
                frame = None
            if frame is None:
                raise AssertionError(f"no {kind} within {within} s; waiting: {self.waiting}")

    def next_frame(self, within: float) -> dict[str, Any]:
        """Reads one frame, answers a heartbeat at once, keeps it for `receive`."""
        text = self.socket.recv(timeout=within)
        assert isinstance(text, str), "ACS frames are text frames"
        frame = json.loads(text)
        assert set(frame) == {"type", "message"}, frame
        if frame["type"] == "HeartbeatMessage":
            self.heartbeats += 1
            self.send("HeartbeatAckRequest", {"messageId": frame["message"]["messageId"]})
        self.waiting.append(frame)
        return frame

    def nothing(self, kind: str, within: float) -> None:
        """Asserts that no message of a type comes for a while."""
        try:
            message = self.receive(kind, within)
        except AssertionError:
            return
        raise AssertionError(f"unexpected {kind}: {message}")

    def closed(self, within: float = 10) -> int:
        """Waits until the server closes the connection; the close code."""
        deadline = time.monotonic() + within
        try:
            while True:
                self.next_frame(max(deadline - time.monotonic(), 0.001))
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006

    def payload(self, within: float = 10) -> dict[str, Any]:
        """The next payload, with what the agent demands of every one (section 2.6)."""
        message = self.receive("PayloadMessage", within)
        for name in ("messageId", "clusterArn", "containerInstanceArn"):
            assert message.get(name), f"an agent drops a payload without {name}"
        assert message["containerInstanceArn"] == self.instance.arn
        assert isinstance(message["seqNum"], int) and isinstance(message["generatedAt"], int)
        self.timeline.highest = max(self.timeline.highest, message["seqNum"])
        return message

    def manifest(self, within: float = 10) -> dict[str, Any]:
        """The next manifest; one that an agent would silently drop fails (section 2.8)."""
        message = self.receive("TaskManifestMessage", within)
        for name in ("messageId", "clusterArn", "containerInstanceArn"):
            assert message.get(name), f"an agent drops a manifest without {name}"
        assert isinstance(message["timeline"], int)
        assert message["timeline"] > self.timeline.highest, (
            f"an agent drops this manifest: timeline {message['timeline']}, "
            f"highest number seen {self.timeline.highest}"
        )
        self.timeline.highest = message["timeline"]
        self.timeline.latest_manifest = message["messageId"]
        return message

    # Out

    def send(self, kind: str, message: dict[str, Any]) -> None:
        """Sends one envelope."""
        self.socket.send(json.dumps({"type": kind, "message": message}))

    def ack(self, message: dict[str, Any]) -> None:
        """AckRequest; `cluster` echoes the message's `clusterArn` (section 2.4)."""
        self.send(
            "AckRequest",
            {
                "cluster": message["clusterArn"],
                "containerInstance": message["containerInstanceArn"],
                "messageId": message["messageId"],
            },
        )

    def verify_stops(self, manifest: dict[str, Any], tasks: list[str]) -> list[str]:
        """Offers stop candidates and returns those the control plane confirms."""
        candidates = [
            {"taskArn": arn, "taskClusterArn": manifest["clusterArn"], "desiredStatus": "STOPPED"}
            for arn in tasks
        ]
        message = {"messageId": manifest["messageId"], "stopCandidates": candidates}
        self.send("TaskStopVerificationMessage", message)
        answer = self.receive("TaskStopVerificationAck")
        assert answer["messageId"] == manifest["messageId"]
        return [one["taskArn"] for one in answer.get("stopTasks") or []]
