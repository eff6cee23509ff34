"""A whole agent without Docker: it obeys payloads and reports what a container would have done."""

from __future__ import annotations

import threading
from typing import Any

from websockets.exceptions import ConnectionClosed

from test_agent.acs import Acs, Timeline
from test_agent.instance import Instance, Refused, container_change


class Engine:
    """Keeps one ACS session in a thread; tasks become RUNNING at once, and STOPPED on order."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.timeline = Timeline()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.starts: list[str] = []
        self.dropped: list[str] = []
        self.failure: BaseException | None = None
        self.ending = threading.Event()
        self.acs: Acs | None = None
        self.thread: threading.Thread | None = None

    def __enter__(self) -> Engine:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def connect(self) -> None:
        """Opens the session and serves it until `disconnect`."""
        self.ending.clear()
        self.acs = Acs(self.instance, self.timeline)
        self.thread = threading.Thread(target=self._serve, args=(self.acs,), daemon=True)
        self.thread.start()

    def disconnect(self) -> None:
        """Closes the session; what the agent knows stays."""
        self.ending.set()
        if self.acs:
            self.acs.socket.close()
        if self.thread:
            self.thread.join(5)

    def _serve(self, acs: Acs) -> None:
        try:
            while not self.ending.is_set():
                try:
                    acs.next_frame(0.1)
                except TimeoutError:
                    continue
                while acs.waiting:
                    self._obey(acs, acs.waiting[0]["type"])
        except ConnectionClosed:
            pass
        except BaseException as failure:  # shown by the test that looks at `failure`
            if not self.ending.is_set():
                self.failure = failure

    def _obey(self, acs: Acs, kind: str) -> None:
        if kind == "PayloadMessage":
            message = acs.payload()
            acs.ack(message)
            for task in sorted(message["tasks"], key=lambda t: t["desiredStatus"] != "STOPPED"):
                self._apply(task)
        elif kind == "TaskManifestMessage":
            message = acs.manifest()
            acs.ack(message)
            kept = {t["taskArn"] for t in message["tasks"] if t["desiredStatus"] == "RUNNING"}
            extra = [arn for arn in self.tasks if arn not in kept]
            if extra:
                for arn in acs.verify_stops(message, extra):
                    self.stop(arn)
        else:
            acs.receive(kind)

    def _apply(self, task: dict[str, Any]) -> None:
        arn = task["arn"]
        if task["desiredStatus"] == "STOPPED":
            self.stop(arn)
        elif arn not in self.tasks:
            self.tasks[arn] = task
            self.starts.append(arn)
            changes = [container_change(one["name"], "RUNNING") for one in task["containers"]]
            self._report(arn, "RUNNING", changes)

    def stop(self, arn: str, exit_code: int = 143) -> None:
        """Ends a task, or says that it is not known (section 2.6)."""
        task = self.tasks.pop(arn, None)
        if task is None:
            reason = "TaskStateError: Agent could not progress task's state to stopped"
            self._report(arn, "STOPPED", reason=reason)
            return
        changes = [
            container_change(one["name"], "STOPPED", exitCode=exit_code)
            for one in task["containers"]
        ]
        self._report(arn, "STOPPED", changes)

    def _report(self, arn: str, *change: Any, **more: Any) -> None:
        """Submits a change; one refused as InvalidParameterException is dropped (section 3.2)."""
        try:
            self.instance.submit(arn, *change, **more)
        except Refused as refused:
            if refused.code != "InvalidParameterException":
                raise
            self.dropped.append(arn)
