"""Registries as tests see them: ours by its protocol, Debian's `docker-registry` beside it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import docker
from support.processes import ROOT, Process, clean_environment
from support.waiting import until

IMAGE = "application/vnd.docker.distribution.manifest.v2+json"


def program() -> Path:
    """Debian's registry: the installed one, or that of its package, unpacked. Nothing is installed,
    and no service starts."""
    if found := shutil.which("docker-registry"):
        return Path(found)
    folder = Path(tempfile.gettempdir()) / f"longshore-docker-registry-{os.geteuid()}"
    binary = folder / "usr" / "bin" / "docker-registry"
    if not binary.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            pytest.skip("no docker-registry: it is a package of Debian")
        with tempfile.TemporaryDirectory() as download:
            fetch = ["apt-get", "download", "docker-registry"]
            done = subprocess.run(fetch, cwd=download, capture_output=True, text=True, timeout=120)
            packages = list(Path(download).glob("*.deb"))
            if not packages:
                pytest.skip(f"docker-registry cannot be had: {done.stderr.strip()}")
            subprocess.run(["dpkg-deb", "--extract", str(packages[0]), str(folder)], check=True)
    return binary


def bcrypt(password: str) -> str:
    """As `htpasswd -B` writes a password."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import crypt  # noqa: PLC0415  (warns when it is imported)

        return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))


class DebianRegistry(Process):
    """`docker-registry` on the loopback interface, with a user and a password, or open to all."""

    def __init__(self, folder: Path, user: str | None = None, password: str = "") -> None:
        super().__init__("docker-registry", folder / "docker-registry.log")
        self.program = program()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        config: dict[str, Any] = {
            "version": 0.1,
            "storage": {
                "filesystem": {"rootdirectory": str(folder / "registry")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.host, "secret": "of this test"},
        }
        if user:
            (folder / "htpasswd").write_text(f"{user}:{bcrypt(password)}\n")
            access = {"realm": "test", "path": str(folder / "htpasswd")}
            config["auth"] = {"htpasswd": access}
        self.config = folder / "docker-registry.yml"
        # JSON is YAML.
        self.config.write_text(json.dumps(config))

    def start(self) -> DebianRegistry:
        """Starts it, and waits until it answers."""
        self.spawn(["serve", str(self.config)], clean_environment(OTEL_TRACES_EXPORTER="none"))
        until(self._listens, "docker-registry to listen")
        return self

    def _listens(self) -> bool:
        assert self.alive, self.tail()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False


@contextlib.contextmanager
def logged_in(registry: str, user: str, password: str, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a `docker` that has logged in, in a folder of its own."""
    config = folder / f"docker-{registry.replace(':', '-')}"
    config.mkdir(exist_ok=True)
    environment = os.environ | {"DOCKER_CONFIG": str(config)}
    arguments = ["login", "--username", user, "--password-stdin", registry]
    docker.docker(*arguments, env=environment, input=password)
    yield environment
    shutil.rmtree(config)


def forget(*names: str) -> None:
    """Takes names from images of the shared Engine."""
    docker.docker("image", "rm", "--force", *names, check=False)


@dataclass
class Answer:
    """An answer of a registry."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body of most."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return self.json["errors"][0]["code"] if self.body else ""


class Wire:
    """A registry by its protocol alone."""

    def __init__(self, host: str, user: str = "", password: str = "") -> None:
        self.host = host
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = {"authorization": f"Basic {login}"} if user else {}

    def __call__(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request; header names are written with underscores."""
        if path.startswith("http://"):
            path = "/" + path.split("/", 3)[3]
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self.host, timeout=30)
        connection.request(method, path, body=body or None, headers=self.headers | given)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        read = Answer(answer.status, found, answer.read())
        connection.close()
        return read
