"""A way to a server of this host, on which nothing goes on while it is frozen."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import make_url


class Wire:
    """Passes bytes on, both ways, from a port of its own to another one.

    Args:
        port: of the server. listener: where it listens itself; a port of this host by default.
    """

    def __init__(self, port: int, listener: socket.socket | None = None) -> None:
        self._to = port
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._flows, self._held = threading.Event(), threading.Event()
        self._flows.set()
        self._ends: list[socket.socket] = []
        self._made: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._untold: set[socket.socket] = set()  # ends that do not hear of the other's
        threading.Thread(target=self._accept, daemon=True).start()

    def reached(self, url: str) -> str:
        """The URL of a server, by this way."""
        host, port = self._listener.getsockname()
        return make_url(url).set(host=host, port=port).render_as_string(hide_password=False)

    def freeze(self) -> None:
        """From now on nothing passes; nobody is told."""
        self._held.clear()
        self._flows.clear()

    def holds_something(self) -> None:
        """Returns once somebody waits for what was sent on the frozen wire."""
        assert self._held.wait(60), "nobody sent anything"

    def thaw(self) -> None:
        """What was held arrives."""
        self._flows.set()

    def cut(self) -> None:
        """Every connection is broken, and what was held is lost; new ones go through."""
        while self._ends:
            with suppress(OSError):
                self._ends.pop().shutdown(socket.SHUT_RDWR)
        self._flows.set()

    def vanish(self) -> None:
        """Every connection is broken, and the server is not told, as when a host loses its power.

        New ones go through.
        """
        self._untold.update(self._ends[1::2])
        for near in self._ends[::2]:
            with suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: Any) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._untold.clear()
        for end in self._made:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in self._made:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                self._ends += (near, far)
                self._made += (near, far)
                for way in ((near, far), (far, near)):
                    self._threads.append(
                        threading.Thread(target=self._carry, args=way, daemon=True)
                    )
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self._flows.is_set():
                    self._held.set()
                    self._flows.wait()
                target.sendall(data)
        for end in {source, target} - self._untold:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
