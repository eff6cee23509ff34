"""Raw HTTP requests, signed by botocore's own signer, for what boto3 would never send."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.client
import json
from dataclasses import dataclass
from typing import Any
from unittest import mock

import botocore.auth
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

TARGET = "AmazonEC2ContainerServiceV20141113."
CONTENT_TYPE = "application/x-amz-json-1.1"


@dataclass
class Answer:
    """Status, headers (lower case) and body of an answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def error(self) -> str:
        """The error's type without namespace."""
        return self.body["__type"].rsplit("#", 1)[-1]

    @property
    def message(self) -> str:
        """The error's message."""
        return self.body.get("message") or self.body.get("Message") or ""


class Wire:
    """Sends requests to one endpoint with one key; each step can be spoiled by a test."""

    def __init__(self, endpoint: str, key: dict[str, str], region: str = "us-east-1") -> None:
        self.endpoint, self.region = endpoint, region
        self.host = endpoint.removeprefix("http://")
        self.credentials = Credentials(key["accessKeyId"], key["secretAccessKey"])

    def request(self, operation: str, body: bytes | str | dict[str, Any]) -> AWSRequest:
        """An unsigned request for an operation."""
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        headers = {"X-Amz-Target": TARGET + operation, "Content-Type": CONTENT_TYPE}
        return AWSRequest("POST", self.endpoint + "/", data=body, headers=headers)

    def sign(self, request: AWSRequest, shift: float = 0, service: str = "ecs") -> AWSRequest:
        """Signs a request as if the clock were `shift` seconds off."""
        with shifted_clock(shift):
            SigV4Auth(self.credentials, service, self.region).add_auth(request)
        return request

    def presign(self, request: AWSRequest, expires: int = 60, shift: float = 0) -> AWSRequest:
        """Signs a request in its query string."""
        with shifted_clock(shift):
            BodyQueryAuth(request.data, self.credentials, self.region, expires).add_auth(request)
        return request

    def send(self, request: AWSRequest) -> Answer:
        """Sends a request as it is."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            path = request.url.removeprefix(self.endpoint) or "/"
            connection.request(request.method, path, request.data, dict(request.headers.items()))
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read().decode(errors="replace"))
        finally:
            connection.close()

    def call(self, operation: str, body: bytes | str | dict[str, Any]) -> Answer:
        """Signs and sends."""
        return self.send(self.sign(self.request(operation, body)))


class BodyQueryAuth(SigV4QueryAuth):
    """The presigned form of a request that keeps its JSON body."""

    def __init__(self, body: bytes, credentials: Any, region: str, expires: int) -> None:
        super().__init__(credentials, "ecs", region, expires)
        self.body = body

    def payload(self, request: AWSRequest) -> str:
        """The hash of the body that will be sent."""
        return hashlib.sha256(self.body).hexdigest()

    def add_auth(self, request: AWSRequest) -> None:
        """Signs with the body put aside: the base class would move it into the query."""
        request.data = b""
        super().add_auth(request)
        request.data = self.body


def shifted_clock(seconds: float) -> Any:
    """botocore's clock, off by some seconds; untouched (other threads sign, too) when it is not."""
    if not seconds:
        return contextlib.nullcontext()
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    naive = now.replace(tzinfo=None)

    def shifted(remove_tzinfo: bool = True) -> datetime.datetime:
        return naive if remove_tzinfo else now

    return mock.patch.object(botocore.auth, "get_current_datetime", shifted)
