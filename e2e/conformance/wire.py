"""One kept connection and a signature that costs microseconds: thousands of requests a second."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import time
from typing import Any

from support.wire import CONTENT_TYPE, TARGET, Answer

SIGNED = "content-type;host;x-amz-date;x-amz-target"
# Longer than anything that is answered at all takes, shorter than anybody's patience.
TIMEOUT_SECONDS = 10.0
# How often a request that came too fast is made again.
THROTTLED_TRIES = 20


class NoAnswer(Exception):
    """The connection was dropped, or nothing came in time."""


class Caller:
    """Signs and sends; opens a new connection only when the last one broke."""

    def __init__(self, endpoint: str, key: dict[str, str], region: str = "us-east-1") -> None:
        self.host = endpoint.removeprefix("http://")
        self.key, self.region = key, region
        self.day, self.signing_key = "", b""
        self.connection: http.client.HTTPConnection | None = None

    def call(self, operation: str, body: Any) -> Answer:
        """Calls an operation with any JSON; waits and tries again when it is throttled."""
        for patience in range(THROTTLED_TRIES):
            answer = self.once(operation, json.dumps(body).encode())
            if answer.status != 400 or '"ThrottlingException"' not in answer.text:
                break
            time.sleep(0.05 * (patience + 1))
        return answer

    def must(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Calls an operation that has to succeed: a step on the way to something else."""
        answer = self.call(operation, body)
        assert answer.status == 200, f"{operation} {body}: {answer.status} {answer.text}"
        return answer.body

    def once(self, operation: str, body: bytes) -> Answer:
        """One request, one answer."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.host, timeout=TIMEOUT_SECONDS)
        try:
            self.connection.request("POST", "/", body, self._headers(TARGET + operation, body))
            answer = self.connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as cause:
            self.close()
            raise NoAnswer(f"no answer: {cause!r}") from cause

    def close(self) -> None:
        """Gives the connection up."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _headers(self, target: str, body: bytes) -> dict[str, str]:
        now = datetime.datetime.now(datetime.UTC)
        date, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        if day != self.day:
            self.day, self.signing_key = day, self._signing_key(day)
        values = (CONTENT_TYPE, self.host, date, target)
        lines = "\n".join(
            f"{name}:{value}" for name, value in zip(SIGNED.split(";"), values, strict=True)
        )
        canonical = f"POST\n/\n\n{lines}\n\n{SIGNED}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{day}/{self.region}/ecs/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
        signature = hmac.new(self.signing_key, text.encode(), hashlib.sha256).hexdigest()
        credential = f"{self.key['accessKeyId']}/{scope}"
        return {
            "Content-Type": CONTENT_TYPE,
            "X-Amz-Date": date,
            "X-Amz-Target": target,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, "
            f"SignedHeaders={SIGNED}, Signature={signature}",
        }

    def _signing_key(self, day: str) -> bytes:
        key = ("AWS4" + self.key["secretAccessKey"]).encode()
        for part in (day, self.region, "ecs", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key
