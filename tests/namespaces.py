"""A network of its own on this machine, and a link to it that can be taken away."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Namespace:
    """A network namespace; `here` and `there` are the addresses of the two ends of its link."""

    name: str
    here: str
    there: str

    def start(self, *command: str, **given: Any) -> subprocess.Popen[str]:
        """Starts a program in it, with a `/tmp/ray` of its own."""
        private = 'mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray && exec "$@"'
        inside = ["ip", "netns", "exec", self.name, "sh", "-c", private, "sh", *command]
        return subprocess.Popen(inside, text=True, **given)

    def listener(self) -> socket.socket:
        """A socket of this process that listens in there."""
        made: list[socket.socket] = []

        def enter() -> None:  # a thread may be elsewhere than its process
            with open(f"/run/netns/{self.name}") as handle:
                if ctypes.CDLL(None).setns(handle.fileno(), CLONE_NEWNET) == 0:
                    made.append(socket.create_server((self.there, 0)))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return made.pop()

    def cut(self) -> None:
        """Whatever is sent from now on is lost; nobody is told."""
        _ip("-n", self.name, "link", "set", "inner", "down")

    def mend(self) -> None:
        _ip("-n", self.name, "link", "set", "inner", "up")

    def processes(self) -> set[int]:
        """What runs in there."""
        return {int(n) for n in _ip("netns", "pids", self.name).split()}


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def lacking() -> str | None:
    """Why there can be no such network here; None where it can."""
    if shutil.which("ip") is None:
        return "no program ip (apt-get install iproute2)"
    if os.geteuid() != 0:
        return "only root may make a network namespace"
    made = subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True, text=True)
    return f"no network namespace can be made: {made.stderr.strip()}" if made.returncode else None


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A fresh one; what still runs there at the end is killed."""
    net = f"198.18.{random.randrange(256)}.{4 * random.randrange(64)}"  # for tests of networks
    first, _, last = net.rpartition(".")
    name = f"nas{uuid.uuid4().hex[:8]}"
    found = Namespace(name, f"{first}.{int(last) + 1}", f"{first}.{int(last) + 2}")
    _ip("netns", "add", name)
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "inner", "netns", name)
        _ip("addr", "add", f"{found.here}/30", "dev", name)
        _ip("link", "set", name, "up")
        _ip("-n", name, "addr", "add", f"{found.there}/30", "dev", "inner")
        for device in ("lo", "inner"):
            _ip("-n", name, "link", "set", device, "up")
        yield found
    finally:
        for process in found.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with suppress(subprocess.CalledProcessError):
            _ip("link", "delete", name)  # else it stays until the kernel has ended the namespace
        _ip("netns", "delete", name)
