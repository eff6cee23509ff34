"""How the official agent signs and opens a websocket (sections 2.1 and 4.1)."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote, quote_plus

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.sync.client import ClientConnection, connect


def query_url(base: str, query: dict[str, str], spaces: Any) -> str:
    """Adds the `ws` path and a query sorted by name, as Go's url.Values encodes it."""
    slash = "" if base.endswith("/") else "/"
    pairs = "&".join(f"{name}={spaces(value, safe='')}" for name, value in sorted(query.items()))
    return f"{base}{slash}ws?{pairs}"


def signed_headers(
    url: str, credentials: Credentials, region: str, payload: bytes = b""
) -> dict[str, str]:
    """SigV4 over `GET` and the URL; `host;x-amz-date` are signed, `payload` only by its hash."""
    request = AWSRequest("GET", url)
    FramePayload(payload, credentials, region).add_auth(request)
    return dict(request.headers.items())


class FramePayload(SigV4Auth):
    """Signs a request without a body, with the hash of something else as its payload."""

    def __init__(self, payload: bytes, credentials: Credentials, region: str) -> None:
        super().__init__(credentials, "ecs", region)
        self.frame = payload

    def payload(self, request: AWSRequest) -> str:
        """The hash of the frame."""
        return hashlib.sha256(self.frame).hexdigest()


def open_websocket(
    base: str, query: dict[str, str], credentials: Credentials, region: str
) -> ClientConnection:
    """Dials: the URL on the wire has `+` for a space, the canonical query `%20`."""
    headers = signed_headers(query_url(base, query, quote), credentials, region)
    url = query_url(base, query, quote_plus).replace("http://", "ws://", 1)
    return connect(
        url,
        additional_headers=headers,
        user_agent_header="Go-http-client/1.1",
        compression=None,
        proxy=None,
        open_timeout=10,
        close_timeout=2,
        ping_interval=None,
        max_size=None,
        max_queue=None,
    )
