"""A Docker socket that can be taken away: the Engine itself belongs to others, too."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

ENGINE = "/var/run/docker.sock"


class DockerProxy:
    """Passes bytes between a socket of its own and the Engine's, until `cut`. What goes to the Engine is shown to `watch`
    first."""

    def __init__(
        self, path: Path, engine: str = ENGINE, watch: Callable[[bytes], None] | None = None
    ) -> None:
        self.path = path
        self.engine = engine
        self.watch = watch
        self.listener: socket.socket | None = None
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.restore()

    @property
    def url(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self.path}"

    def restore(self) -> None:
        """Listens, as an Engine that has started again does."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self) -> None:
        """As if the Engine had died: nobody listens, every connection ends."""
        os.unlink(self.path)
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        for pair in self.pairs:
            for end in pair:
                shut(end)
        self.pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self.engine)
            except OSError:
                # The Engine is gone, or never was there.
                shut(near)
                continue
            self.pairs.append((near, far))
            for ways in ((near, far, self.watch), (far, near, None)):
                threading.Thread(target=pump, args=ways, daemon=True).start()


def pump(
    source: socket.socket, sink: socket.socket, watch: Callable[[bytes], None] | None = None
) -> None:
    """Copies until the source ends."""
    try:
        while data := source.recv(65536):
            if watch:
                watch(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        shut(sink)


def shut(end: socket.socket) -> None:
    """Ends a connection in both directions."""
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
