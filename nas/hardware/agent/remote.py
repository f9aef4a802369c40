"""The agent on another host: a conversation over one connection, and the watch over it.

Standard input brings a request, one line of JSON, and what is asked back for; standard output
takes lines as the agent's own. Two requests are known:

- `about`: the host's fingerprint, and the versions of a runtime or why it cannot be used;
- `measure`: files by what is in them (SHA-256), and a job that names them so; its `kind` is what
  is leased. `missing` asks for the files that are not kept here, their bytes one after the other.
  Then comes `waiting` for the host's own lease, `leased`, the lines of the measuring process, and
  `ended`.

After the files the caller sends something every few seconds. Silence or the end of the input means
that the caller or the connection is gone: the measuring process is killed, and the lease is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .fingerprint import fingerprint
from .lease import Lease, Unusable, default_folder, private
from .watch import say
from .workplace import claim, reclaim

SILENCE_S = 30.0
KEPT_BYTES = 512 * 2**20
_PIECE = 1 << 20


def main(agent: str) -> None:
    """Answers one request; `agent` is the file that this was read from."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    source = sys.stdin.buffer
    request = json.loads(source.readline())
    try:
        # the folder that the caller's line of Python made, from here on known to be in use
        claim(Path(agent).parent)
        reclaim(Path(tempfile.gettempdir()))
        if request["ask"] == "about":
            about(request.get("runtime"))
        else:
            with kept_files(cache_folder()) as kept:
                measure(request, source, kept, Path(agent))
    except (Unusable, OSError) as error:
        say("refused", error=getattr(error, "problem", None) or f"{type(error).__name__}: {error}")


def about(runtime: str | None) -> None:
    """Says what this host is, and whether the runtime can be used."""
    found: dict[str, str] = {}
    lacking = None
    if runtime:
        try:
            from .engines import versions

            found = versions({"runtime": runtime})
        except ImportError as error:
            lacking = {"module": error.name or runtime, "error": str(error)[:300]}
    say(
        "about",
        fingerprint=fingerprint(),
        python=platform.python_version(),
        versions=found,
        lacking=lacking,
    )


def measure(request: dict[str, Any], source: BinaryIO, kept: Kept, agent: Path) -> None:
    """Takes the files in, waits for the lease, measures in a process of its own."""
    wanted = {f["sha256"]: f for f in request["files"]}
    missing = [f for f in wanted.values() if not kept.holds(f)]
    say("missing", files=[f["sha256"] for f in missing], fingerprint=fingerprint())
    for file in missing:
        kept.take(file, source)
    job = dict(request["job"])
    for part in ("files", "anchors"):
        job[part] = [str(kept.path(wanted[name])) for name in job[part]]
    process = Measuring(agent)
    threading.Thread(target=process.end_with_the_caller, daemon=True).start()
    say("waiting")
    with Lease(default_folder(), request["job"]["kind"]).measuring():
        say("leased")
        code, said = process.run(job, request["seconds"])
    say("ended", code=code, error=said, fingerprint=fingerprint())


class Measuring:
    """The measuring process, in a group of its own, and its end."""

    def __init__(self, agent: Path) -> None:
        self._agent = agent
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, job: dict[str, Any], seconds: float) -> tuple[int, str]:
        """Runs the agent on a job; its status, or minus the signal, and the end of its errors."""
        said = ""
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(
                [sys.executable, str(self._agent)],
                stdin=subprocess.PIPE, stderr=errors, start_new_session=True,
            )  # fmt: skip
            self._child = child
            try:
                child.communicate(json.dumps(job).encode(), timeout=seconds)
            except subprocess.TimeoutExpired:
                said = f"no answer in {seconds:g} s"
            finally:
                self._kill()
                child.wait()
            errors.seek(0)
            said = said or errors.read().decode(errors="replace")[-2000:]
        return child.returncode, said

    def _kill(self) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def end_with_the_caller(self) -> None:
        """Listens; ends everything when there is nobody to hear or to be heard."""
        while True:
            ready, _, _ = select.select([0], [], [], SILENCE_S)
            if not ready or not os.read(0, 4096):
                self._kill()
                shutil.rmtree(self._agent.parent, ignore_errors=True)
                os._exit(5)


# --- files -------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where this user keeps files that were sent: beside other caches, or where it can be."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        with contextlib.suppress(Unusable):
            return private(Path(home) / "nas-agent")
    return private(Path(tempfile.gettempdir()) / f"nas-agent-{os.getuid()}")


@contextlib.contextmanager
def kept_files(folder: Path, limit: int = KEPT_BYTES) -> Iterator[Kept]:
    """The files kept in a folder; whoever finds nobody else there clears it first."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    kept = Kept(folder)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kept.clear(limit)
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield kept
    finally:
        os.close(handle)


class Kept:
    """Files named by what is in them: `{"sha256": ..., "bytes": ..., "suffix": ".onnx"}`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, file: dict[str, Any]) -> Path:
        """Where the file is, or would be."""
        name: str = file["sha256"] + file["suffix"]
        return self._folder / name

    def holds(self, file: dict[str, Any]) -> bool:
        """Whether the file is here; it is then counted as used now."""
        path = self.path(file)
        if not path.is_file() or path.stat().st_size != file["bytes"]:
            return False
        os.utime(path)
        return True

    def take(self, file: dict[str, Any], source: BinaryIO) -> None:
        """Reads the file's bytes. Raises: OSError where they are not what they should be."""
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        seen, left = hashlib.sha256(), file["bytes"]
        with os.fdopen(handle, "wb") as target:
            while left:
                piece = source.read(min(left, _PIECE))
                if not piece:
                    raise EOFError("the connection ended while a file was sent")
                seen.update(piece)
                target.write(piece)
                left -= len(piece)
        if seen.hexdigest() != file["sha256"]:
            os.unlink(name)
            raise OSError("a file arrived that is not the one that was named")
        os.replace(name, self.path(file))

    def clear(self, limit: int) -> None:
        """Removes what was left half-sent, and the files longest unused beyond `limit` bytes."""
        for path in self._folder.glob("*.part"):
            path.unlink()
        files = [p for p in self._folder.iterdir() if p.name != "lock"]
        files.sort(key=lambda p: p.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > limit:
                path.unlink()
