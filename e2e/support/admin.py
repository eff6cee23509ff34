"""Longshore's own operations, beside those of ECS: tokens, identities, the mass-loss brake."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from support.processes import REGION, Server


class Refused(Exception):
    """An error answer."""

    def __init__(self, operation: str, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.code = body.get("__type", "").rsplit("#", 1)[-1]
        super().__init__(f"{operation}: {status} {body}")


class Admin:
    """Signs `Longshore.…` requests; as the owner, unless it is given another key."""

    def __init__(
        self, server: Server, key: dict[str, str] | None = None, ca: str | None = None
    ) -> None:
        self.server, self.key = server, key or server.key
        self.session = URLLib3Session(verify=ca or True, timeout=20)

    def __call__(self, operation: str, **body: Any) -> dict[str, Any]:
        """Calls an operation; an error answer is raised."""
        answer = self.session.send(self._signed(operation, body))
        told = json.loads(answer.content or b"{}")
        if answer.status_code != 200:
            raise Refused(operation, answer.status_code, told)
        return told

    def begin(self, operation: str, **body: Any) -> HTTPConnection:
        """Calls an operation and does not wait for the answer."""
        request = self._signed(operation, body)
        connection = HTTPConnection(urlsplit(self.server.endpoint).netloc, timeout=20)
        connection.request("POST", "/", body=request.body, headers=dict(request.headers.items()))
        return connection

    def _signed(self, operation: str, body: dict[str, Any]) -> AWSPreparedRequest:
        headers = {
            "X-Amz-Target": f"Longshore.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        data = json.dumps(body).encode()
        request = AWSRequest("POST", self.server.endpoint + "/", data=data, headers=headers)
        credentials = Credentials(self.key["accessKeyId"], self.key["secretAccessKey"])
        SigV4Auth(credentials, "ecs", REGION).add_auth(request)
        return request.prepare()
