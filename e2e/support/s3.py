"""A small object store on the loopback interface: GET only, and only with a good signature."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


class ObjectStore:
    """Objects by `bucket/key`, for whoever signs with this key. `stop` and `start` keep the port."""

    def __init__(
        self, access_key_id: str, secret: str, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self.credentials = Credentials(access_key_id, secret)
        self.objects: dict[str, str] = {}
        # What was asked for, with the answer's status.
        self.requests: list[tuple[str, int]] = []
        self.address = address
        self.server: ThreadingHTTPServer | None = None

    def __enter__(self) -> ObjectStore:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.address[0]}:{self.address[1]}"

    def start(self) -> None:
        """Listens."""
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 (the name is the library's)
                status, body = store.answer(self.path, self.headers)
                store.requests.append((self.path, status))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(self.address, Handler)
        self.address = self.server.server_address[:2]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Listens no more."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def answer(self, path: str, headers: Any) -> tuple[int, bytes]:
        """Status and body for a request."""
        if not self.is_signed(path, headers):
            return 403, error("SignatureDoesNotMatch", "The request signature does not match.")
        text = self.objects.get(path.lstrip("/"))
        return (
            (200, text.encode())
            if text is not None
            else (404, error("NoSuchKey", "There is no such key."))
        )

    def is_signed(self, path: str, headers: Any) -> bool:
        """Signs what arrived as botocore would, and compares."""
        given = headers.get("Authorization", "")
        if "Credential=" not in given:
            return False
        region = given.split("Credential=", 1)[1].split("/")[2]
        names = given.split("SignedHeaders=", 1)[1].split(",", 1)[0].split(";")
        request = AWSRequest("GET", self.endpoint + path, {name: headers[name] for name in names})
        request.context["timestamp"] = headers["x-amz-date"]
        signer = S3SigV4Auth(self.credentials, "s3", region)
        canonical = signer.canonical_request(request)
        return given.endswith(signer.signature(signer.string_to_sign(request, canonical), request))


def error(code: str, message: str) -> bytes:
    """An error's document."""
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
