"""A registry for one image, which falls silent in the middle of a layer when it is told to."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.engine import OwnEngine

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(data: bytes) -> str:
    """The name of a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def marked(layer: bytes, mark: bytes) -> bytes:
    """A layer with one more file, so that no Engine has it yet."""
    buffer = io.BytesIO(layer)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        entry = tarfile.TarInfo("mark")
        entry.size = len(mark)
        archive.addfile(entry, io.BytesIO(mark))
    return buffer.getvalue()


class Registry:
    """Serves an image of the machine's Engine over plain HTTP on a loopback interface: the machine's, or that of an Engine of
    its own."""

    def __init__(self, image: str, name: str, engine: OwnEngine | None = None) -> None:
        saved = subprocess.run(["docker", "save", image], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:

            def read(path: str) -> bytes:
                file = archive.extractfile(path)
                assert file is not None, path
                return file.read()

            (listed,) = json.loads(read("manifest.json"))
            document = json.loads(read(listed["Config"]))
            *below, last = [read(layer) for layer in listed["Layers"]]
        last = marked(last, secrets.token_bytes(1 << 16))
        document["rootfs"]["diff_ids"][-1] = digest(last)
        config = json.dumps(document).encode()
        layers = [gzip.compress(layer, mtime=0) for layer in (*below, last)]
        self.blobs = {digest(blob): blob for blob in [config, *layers]}
        self.layers = {digest(layer) for layer in layers}

        def described(kind: str, blob: bytes) -> dict[str, object]:
            return {"mediaType": kind, "size": len(blob), "digest": digest(blob)}

        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(CONFIG, config),
            "layers": [described(LAYER, layer) for layer in layers],
        }
        self.manifests: dict[str, bytes] = {}
        self.publish(json.dumps(manifest).encode())
        # So many requests for a layer get the first half of it and then nothing.
        self.stalls = 0
        # What was asked for, in order.
        self.asked: list[str] = []
        self.released = threading.Event()

        def server() -> ThreadingHTTPServer:
            return ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

        self.server = engine.inside(server) if engine else server()
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.name = f"127.0.0.1:{self.server.server_address[1]}/{name}:1"

    def publish(self, manifest: bytes) -> None:
        """From now on the name stands for this; what it stood for can still be had by its digest."""
        self.digest = digest(manifest)
        self.manifests[self.digest] = manifest

    def move(self) -> None:
        """The name stands for another image, of the same layers."""
        self.publish(self.manifests[self.digest] + b"\n")

    def close(self) -> None:
        """Lets everybody go."""
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

            def do_HEAD(self) -> None:
                """Whether it is there."""
                self._answer(body=False)

            def do_GET(self) -> None:
                """What is there."""
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                registry.asked.append(f"{self.command} {self.path}")
                last = self.path.rsplit("/", 1)[-1]
                if self.path == "/v2/":
                    kind, data = "application/json", b"{}"
                elif "/manifests/" in self.path and last in ("1", *registry.manifests):
                    name = registry.digest if last == "1" else last
                    kind, data = MANIFEST, registry.manifests[name]
                elif "/blobs/" in self.path and last in registry.blobs:
                    kind, data = "application/octet-stream", registry.blobs[last]
                else:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Docker-Content-Digest", digest(data))
                self.end_headers()
                if not body:
                    return
                if last in registry.layers and registry.stalls > 0:
                    registry.stalls -= 1
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    registry.released.wait()
                    self.close_connection = True
                    return
                self.wfile.write(data)

        return Handler
