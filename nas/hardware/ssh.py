"""Another host, reached over ssh: it needs Python 3.9, numpy and the runtime, nothing of ours.

OpenSSH's client runs one command there: a Python that reads the agent from its standard input. The
agent asks for the files that it does not keep yet, takes that host's lease, measures in a process
of its own and sends the lines; no time is taken across the network. The connection is kept for the
next call, and an agent that hears nothing for half a minute ends what it began.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from nas.core.errors import NasError
from nas.hardware import bundle
from nas.hardware.hosts import Ended
from nas.hardware.lease import private

SCHEME = "ssh://"
BEAT_S = 5.0
GRACE_S = 30.0  # for the agent to end by itself once its time is up
GOODBYE_S = 3.0  # for the other side to remove what it wrote
_ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z_][\w.-]*)@)?"
    r"(?P<host>[A-Za-z0-9][\w.-]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])(?::(?P<port>\d{1,5}))?"
    r"(?:/(?P<profile>[A-Za-z][\w-]*)?)?(?:\?python=(?P<python>[\w/~][\w./+~-]*))?"
)
# Never a question, never anything carried back; `RemoteCommand` of the user's file would collide.
_OPTIONS = {
    "BatchMode": "yes", "ForwardAgent": "no", "ForwardX11": "no", "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no", "RequestTTY": "no", "RemoteCommand": "none", "EscapeChar": "none",
    "ConnectTimeout": "15", "ServerAliveInterval": "10", "ServerAliveCountMax": "3",
    "LogLevel": "ERROR",
}  # fmt: skip
_KEPT = {"ControlMaster": "auto", "ControlPersist": "60"}
_LONGEST_SOCKET = 100  # a Unix socket's path, of which ssh needs some for itself
# What the other host's Python runs: one line without quotes of the shell's. The agent comes first
# on its standard input; its folder goes when it ends.
_BOOT = (
    'import sys; sys.version_info >= (3, 9) or sys.exit("Python " + sys.version.split()[0]); '
    'import os, tempfile; folder = tempfile.TemporaryDirectory(prefix="nas-tmp-agent-"); '
    'path = os.path.join(folder.name, "agent.pyz"); file = open(path, "wb"); '
    "file.write(sys.stdin.buffer.read(int(sys.argv[1]))); file.close(); sys.path[0] = path; "
    "from nas_agent.remote import main; main(path)"
)


def remote(name: str) -> bool:
    """Whether a device's name speaks of another host."""
    return name.startswith(SCHEME)


@dataclass(frozen=True)
class Address:
    """A device on a host that ssh reaches: `ssh://[USER@]HOST[:PORT][/PROFILE][?python=PATH]`.

    What is left out is up to the user's ssh configuration; the profile is `cpu` by default, and
    `python` a program there, relative to the home folder where it has a slash.
    """

    host: str
    user: str | None = None
    port: int | None = None
    profile: str = "cpu"
    python: str = "python3"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        python = f"?python={self.python}" if self.python != "python3" else ""
        return f"{SCHEME}{user}{self.host}{port}/{self.profile}{python}"


def canonical(name: str) -> str:
    """A device's name in the one way in which studies write it.

    >>> canonical("ssh://kitchen"), canonical("cpu")
    ('ssh://kitchen/cpu', 'cpu')
    """
    return str(parse(name)) if remote(name) else name


def parse(text: str) -> Address:
    """The address that a person typed. Raises: NasError where it is none.

    >>> str(parse("ssh://pi@kitchen:2222"))
    'ssh://pi@kitchen:2222/cpu'
    """
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65536):
        raise NasError(
            f"not a device on another host: {text!r}",
            "write ssh://[USER@]HOST[:PORT]/PROFILE, for example ssh://pi@kitchen/cpu",
        )
    # Paths there begin at the home folder; a shell would not expand what is quoted for it.
    python = (found["python"] or "python3").removeprefix("~/")
    return Address(found["host"], found["user"], port, found["profile"] or "cpu", python)


@functools.cache
def connect(address: Address) -> Ssh:
    """The host at an address, one for the whole process: what it said of itself is remembered."""
    return Ssh(address)


class Unreachable(NasError):
    """A host cannot be used now, which is no candidate's fault."""


class Lost(Unreachable):
    """A connection that could not be made or broke off, and may be had again."""


@dataclass
class Ssh:
    """A host over ssh.

    Args:
        patience_s: how long a host that was lost is waited for before it is given up.
    """

    address: Address
    patience_s: float = 60.0
    _fingerprint: dict[str, Any] = field(default_factory=dict)
    _versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def run(self, job: Mapping[str, Any], seconds: float) -> Ended:
        """Runs the agent there, under that host's lease, which may be waited for without end.

        A connection that breaks off is made again and the job repeated, once. Raises: Unreachable.
        """
        files = {_name(Path(p)): Path(p) for p in (*job["files"], *job["anchors"])}
        named = {str(path): name for name, path in files.items()}
        parts = {part: [named[p] for p in job[part]] for part in ("files", "anchors")}
        request = {
            "ask": "measure",
            "files": [
                {"sha256": name, "bytes": path.stat().st_size, "suffix": path.suffix[:9]}
                for name, path in files.items()
            ],
            "job": {**job, **parts},
            "seconds": seconds,
        }
        try:
            said = self._ask(request, files)
        except Lost:
            self._wait()
            try:
                said = self._ask(request, files)
            except Lost as error:
                self._wait()
                return Ended("", f"{error.problem}, twice", 255)
        lines = "".join(json.dumps(line) + "\n" for line in said[:-1])
        return Ended(lines, said[-1]["error"], said[-1]["code"])

    def fingerprint(self) -> dict[str, Any]:
        """What a measurement there depends on, as the host last said. Raises: Unreachable."""
        if not self._fingerprint:
            self._ask({"ask": "about"})
        return self._fingerprint

    def versions(self, runtime: str) -> dict[str, str]:
        """The runtime that Python finds there. Raises: Unreachable, with what must be installed."""
        if runtime not in self._versions:
            answer = self._ask({"ask": "about", "runtime": runtime})[-1]
            if answer["lacking"]:
                missing = answer["lacking"]["module"]
                raise Unreachable(
                    f"Python {answer['python']} at {self.address.host} has no {missing}: "
                    f"{answer['lacking']['error']}",
                    f"type there: {self.address.python} -m pip install numpy {runtime}, "
                    "or name another Python: ssh://HOST/PROFILE?python=PATH",
                )
            self._versions[runtime] = answer["versions"]
        return self._versions[runtime]

    def _wait(self) -> None:
        """Until the host answers again. Raises: Lost when patience is at its end."""
        until, pause = time.monotonic() + self.patience_s, 1.0
        while True:
            try:
                self._ask({"ask": "about"})
                return
            except Lost:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 15.0)

    # --- one conversation

    def _ask(
        self, request: Mapping[str, Any], files: Mapping[str, Path] | None = None
    ) -> list[dict[str, Any]]:
        """The lines that come back, the last one an answer. Raises: Unreachable."""
        said: list[dict[str, Any]] = []
        with (
            tempfile.TemporaryFile() as errors,
            _running(self._command(), errors) as process,
            closing(_Line(process)) as line,
        ):
            line.send(bundle.packed() + json.dumps(request).encode() + b"\n")
            for event in line.events():
                self._fingerprint = event.pop("fingerprint", self._fingerprint)
                kind = event["event"]
                if kind == "missing":
                    line.send(*((files or {})[name] for name in event["files"]))
                    line.keep_alive()
                elif kind == "leased":
                    line.until = time.monotonic() + request["seconds"] + GRACE_S
                elif kind == "refused":
                    raise Unreachable(
                        f"{self.address.host} cannot measure: {event['error']}", "mend that there"
                    )
                elif kind != "waiting":
                    said.append(event)
                if kind in ("about", "ended"):
                    return said
            code = process.wait()
            errors.seek(0)
            last = (errors.read().decode(errors="replace").strip().splitlines() or [""])[-1]
        raise self._fault(code, last[:300])

    def _command(self) -> list[str]:
        options = dict(_OPTIONS)
        socket = private(Path(tempfile.gettempdir()) / f"nas-ssh-{os.getuid()}") / ("x" * 40)
        if len(str(socket)) < _LONGEST_SOCKET:
            options |= {**_KEPT, "ControlPath": str(socket.parent / "%C")}
        where = [f"-l{self.address.user}"] if self.address.user else []
        where += [f"-p{self.address.port}"] if self.address.port else []
        there = f"exec {shlex.quote(self.address.python)} -c {shlex.quote(_BOOT)}"
        return [
            "ssh", *(f"-o{name}={value}" for name, value in options.items()), *where, "--",
            self.address.host.strip("[]"), f"{there} {len(bundle.packed())}",
        ]  # fmt: skip

    def _fault(self, code: int, last: str) -> Unreachable:
        """What ssh, or the other side's shell, meant by its status and its last line."""
        host, python = self.address.host, self.address.python
        by_hand = f"ssh {f'-p {self.address.port} ' if self.address.port else ''}" + (
            f"{self.address.user}@{host}" if self.address.user else host
        )
        other = "ssh://HOST/PROFILE?python=PATH names another"
        if "Could not resolve" in last:
            return Unreachable(f"no host named {host!r}", "check the name, or add it to ssh's own")
        if "Permission denied" in last:
            return Unreachable(
                f"{host} refuses your keys: {last}",
                f"try  {by_hand}  by hand; nas never asks for a password (ssh-copy-id, ssh-add)",
            )
        if "Host key verification failed" in last or "host key" in last.lower():
            return Unreachable(
                f"the key of {host} is not known here, or is another than it was",
                f"try  {by_hand}  once by hand, and compare the key",
            )
        if code == 255 or code < 0:
            return Lost(
                f"no connection to {host}: {last or 'it broke off'}",
                f"is it switched on? try  {by_hand}  by hand",
            )
        if code in (126, 127):
            return Unreachable(f"there is no {python} at {host}: {last}", f"install it; {other}")
        if last.startswith("Python "):
            return Unreachable(f"{last} at {host} is too old", f"it takes 3.9 or later; {other}")
        return Lost(f"the agent at {host} ended early ({code}): {last}", f"try  {by_hand}  by hand")


def _name(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _running(command: list[str], errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block, nor hears the terminal's interrupts."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise Unreachable("there is no ssh on this machine", "install OpenSSH's client") from None
    try:
        yield process
    finally:
        with suppress(OSError, subprocess.TimeoutExpired):  # what could not be sent any more
            cast(IO[bytes], process.stdin).close()
            process.wait(GOODBYE_S)
        process.kill()
        process.wait()
        cast(IO[bytes], process.stdout).close()


class _Line:
    """Both directions of a conversation, and the signs of life in between."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._in, self._out = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        self._over = threading.Event()
        self.until: float | None = None

    def send(self, *parts: bytes | Path) -> None:
        """Sends bytes, or what is in files; who is gone is noticed by what does not come back."""
        with suppress(BrokenPipeError, ValueError):  # broken off there, or closed here
            for part in parts:
                if isinstance(part, bytes):
                    self._in.write(part)
                else:
                    with part.open("rb") as file:
                        shutil.copyfileobj(file, self._in, 1 << 20)
            self._in.flush()

    def events(self) -> Iterator[dict[str, Any]]:
        """What comes back, one JSON object a line; what a login prints is passed by."""
        for line in self._out:
            if line.startswith(b'{"event":') and line.endswith(b"}\n"):
                yield json.loads(line)

    def keep_alive(self) -> None:
        """Sends a byte now and then, until closed; ends the process when its time is up."""
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            self.send(b"\n")
            if self.until is not None and time.monotonic() > self.until:
                self._process.kill()

    def close(self) -> None:
        """Ends the signs of life."""
        self._over.set()
