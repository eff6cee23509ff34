"""The agent's side of TCS (section 4): header-block frames out, bare acks in."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any
from urllib.parse import quote

from test_agent.instance import DOCKER, HASH, VERSION, Instance
from test_agent.signing import open_websocket, query_url, signed_headers


class Tcs:
    """One TCS connection."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.query = {
            "agentHash": HASH,
            "agentVersion": VERSION,
            "cluster": instance.cluster,
            "containerInstance": instance.arn,
            "dockerVersion": DOCKER,
        }
        self.endpoint = instance.discover()["telemetryEndpoint"]
        self.socket = open_websocket(
            self.endpoint, self.query, instance.credentials, instance.region
        )

    def __enter__(self) -> Tcs:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def publish(self, kind: str, message: dict[str, Any], headers: bool = True) -> None:
        """Sends a frame: a signed header block, an empty line, the JSON envelope."""
        envelope = json.dumps({"type": kind, "message": message})
        block = signed_headers(
            query_url(self.endpoint, self.query, quote),
            self.instance.credentials,
            self.instance.region,
            envelope.encode(),
        )
        block["Host"] = self.instance.wire.host
        lines = "".join(f"{name}: {value}\r\n" for name, value in sorted(block.items()))
        self.socket.send(f"{lines}\r\n{envelope}" if headers else envelope)

    def expect(self, kind: str, within: float = 10) -> dict[str, Any]:
        """The next message of a type; heartbeats in between are passed over."""
        deadline = time.monotonic() + within
        while True:
            frame = json.loads(self.socket.recv(timeout=max(deadline - time.monotonic(), 0.001)))
            if frame["type"] == kind:
                return frame["message"]
            assert frame["type"] == "HeartbeatMessage", frame

    def metadata(self, **more: Any) -> dict[str, Any]:
        """`metadata` of a publish request."""
        return {
            "cluster": self.instance.cluster,
            "containerInstance": self.instance.arn,
            "messageId": str(uuid.uuid4()),
            **more,
        }


def task_metrics(task_arn: str, cluster_arn: str) -> dict[str, Any]:
    """Metrics of one task with one container (section 4.3)."""
    plain = {"min": 0.5, "max": 1.5, "sampleCount": 20, "sum": 20.0}
    counter = {
        "min": 1, "max": 9, "sum": 90, "sampleCount": 20,
        "overflowMin": 0, "overflowMax": 0, "overflowSum": 0,
    }  # fmt: skip
    counters = ("rxBytes", "rxDropped", "rxErrors", "rxPackets")
    network: dict[str, Any] = {name: counter for name in counters}
    network |= {name.replace("rx", "tx"): counter for name in counters}
    network |= {"rxBytesPerSecond": plain, "txBytesPerSecond": plain}
    return {
        "taskArn": task_arn,
        "taskDefinitionFamily": "metrics",
        "taskDefinitionVersion": "1",
        "clusterArn": cluster_arn,
        "containerMetrics": [
            {
                "containerName": "main",
                "cpuStatsSet": plain,
                "memoryStatsSet": {"min": 1, "max": 2, "sampleCount": 20, "sum": 30},
                "networkStatsSet": network,
                "storageStatsSet": {"readSizeBytes": counter, "writeSizeBytes": counter},
            }
        ],
        "volumeMetrics": [],
        "serviceConnectMetricsWrapper": [],
    }
