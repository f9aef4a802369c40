"""The README's cluster, word for word: two nodes, a database with roles, a search that is resumed.

What the README leaves to the reader is filled in (where the head and the database are, a folder
that all nodes see), and the search is made brief. Both nodes are this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import postgres
import pytest
from readme import README, blocks

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(500)]

BRIEF = "--trials 3 --epochs 1 --no-proxies --max-concurrent 1"
ROLES = README.parent / "nas" / "store" / "roles.sql"
STUDY = "largekernel-digits-cpu"


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of somebody who has nothing; Ray's sockets want a short path to it."""
    found = Path(tempfile.mkdtemp(prefix="nas-"))
    yield found
    while left := _of(found):  # one that ends takes others with it, or has just started one
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    shutil.rmtree(found, ignore_errors=True)


def _of(home: Path) -> list[int]:
    """The processes that were started in this home."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"HOME={home}".encode() in (
                entry / "environ"
            ).read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
    return found


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _typed(home: Path, port: int, server: postgres.Server) -> list[str]:
    """The section's commands as they are typed here, with the roles made where it says so."""
    (section,) = [b for b in blocks(README.read_text("utf-8"), "bash") if "ray start --head" in b]
    url = "postgresql+psycopg://{}@" + f"127.0.0.1:{server.port}/"
    here = {
        "HEAD:6379": f"127.0.0.1:{port}", "--port=6379": f"--port={port}",
        "postgresql+psycopg://OWNER@DB/": url.format("nas"),
        "postgresql+psycopg://ada@DB/": url.format("ada"), "/shared/nas": f"{home}/shared",
    }  # fmt: skip
    for word, ours in here.items():
        section = section.replace(word, ours)
    lines = []
    for line in section.splitlines():
        if line.startswith("pip install"):
            continue  # this environment was made that way
        lines.append(f"{line} {BRIEF}" if line.startswith("nas search") else line)
        if line.startswith("nas studies --create"):
            database = f"{postgres.program('psql')} -q -h 127.0.0.1 -p {server.port} -U nas -d nas"
            lines.append(f"{database} -f {ROLES}")
            lines.append(f"{database} -c 'CREATE ROLE ada LOGIN IN ROLE nas_searches'")
    return lines


def _run(lines: list[str], home: Path) -> str:
    """What a shell says to these lines, in a new home, where Python's programs are found."""
    kept = {k: v for k, v in os.environ.items() if not re.match("RAY_|NAS_|PG", k)}
    environment = kept | {
        "HOME": str(home), "RAY_TMPDIR": str(home), "NAS_LOCKS": str(home / "locks"),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }  # fmt: skip
    said = home / "said"  # a pipe would stay open as long as Ray's daemons live
    with said.open("w") as out:
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join(lines)], cwd=home, env=environment,
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=240, check=False,
        )  # fmt: skip
    assert done.returncode == 0, said.read_text()[-4000:]
    return said.read_text()


def test_the_section_makes_a_cluster_that_searches_and_goes_on(home: Path) -> None:
    pytest.importorskip("ray")
    if not postgres.available() or postgres.GIVEN or postgres.program("psql") is None:
        pytest.skip(postgres.MISSING)
    with postgres.server() as server:
        made = f"{postgres.program('createdb')} -h 127.0.0.1 -p {server.port} -U nas nas"
        lines = _typed(home, _free(), server)
        _run([made, *lines], home)
        search = next(line for line in lines if line.startswith("nas search"))
        storage = re.search(r"--storage (\S+)", search)
        assert storage is not None
        again = f"nas search --resume --study {STUDY} --trials 4 --storage {storage[1]}"
        rest = search[search.index("--runner") :].replace(f"--storage {storage[1]}", "")
        rest = re.sub(r"--(trials|epochs) \S+|--no-proxies", "", rest)
        _run(["export RAY_AUTH_MODE=token", f"{again} {rest}"], home)
        front = json.loads(_run([f"nas front {STUDY} --json --quiet --storage {storage[1]}"], home))
        assert front["trials"]["complete"] + front["trials"]["stopped"] == 4
        numbers = [member["measurements"]["accuracy"] for member in front["front"]]
        assert numbers and all(n["basis"] == "trained file" for n in numbers)
        assert list((home / "shared").iterdir())  # where all nodes see it
