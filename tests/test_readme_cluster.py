"""The README's cluster, word for word: two nodes, a database with roles, a search that is killed.

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
from audit import audit
from clusters import checkout, elsewhere, until
from readme import README, blocks

from nas.core.trial import Event
from nas.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(500)]

BRIEF = "--trials 3 --epochs 1 --no-proxies --max-concurrent 1"
ROLES = README.parent / "nas" / "store" / "roles.sql"
STUDY = "largekernel-digits-cpu"
TOKEN = "export RAY_AUTH_MODE=token"


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
    """The section's commands as they are typed here; the last two are the database, the search."""
    (section,) = [b for b in blocks(README.read_text("utf-8"), "bash") if "ray start --head" in b]
    url = "postgresql+psycopg://{}@" + f"127.0.0.1:{server.port}/"
    here = {
        "HEAD:6379": f"127.0.0.1:{port}", "--port=6379": f"--port={port}",
        "-h DB -U OWNER": f"-h 127.0.0.1 -p {server.port} -U nas",
        "nas/store/roles.sql": str(ROLES),
        "postgresql+psycopg://OWNER@DB/": url.format("nas"),
        "postgresql+psycopg://ada@DB/": url.format("ada"), "/shared/nas": f"{home}/shared",
    }  # fmt: skip
    for word, ours in here.items():
        assert word in section
        section = section.replace(word, ours)
    # this environment was made as the section's first line says
    lines = [line for line in section.splitlines() if not line.startswith("pip install")]
    assert lines[-2].startswith("export NAS_STORAGE=") and lines[-1].startswith("nas search")
    return [*lines[:-1], f"{lines[-1]} {BRIEF}"]


def _environment(home: Path) -> dict[str, str]:
    """Of a shell in a new home, where Python's programs and PostgreSQL's are found."""
    kept = {k: v for k, v in os.environ.items() if not re.match("RAY_|NAS_|PG", k)}
    programs = [str(Path(p).parent) for p in (sys.executable, postgres.program("psql")) if p]
    return kept | {
        "HOME": str(home), "RAY_TMPDIR": str(home), "NAS_LOCKS": str(home / "locks"),
        "PATH": os.pathsep.join((*programs, os.environ["PATH"])),
    }  # fmt: skip


def _run(
    lines: list[str], home: Path, folder: Path | None = None, before: tuple[str, ...] = ()
) -> str:
    """What a shell says to these lines; `before` is what starts the shell."""
    said = home / "said"  # a pipe would stay open as long as Ray's daemons live
    with said.open("w") as out:
        done = subprocess.run(
            [*before, "bash", "-e", "-c", "\n".join(lines)], cwd=folder or home,
            env=_environment(home), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            timeout=240, check=False,
        )  # fmt: skip
    assert done.returncode == 0, said.read_text()[-4000:]
    return said.read_text()


def _killed(storage: str, line: str, home: Path, url: str) -> list[Event]:
    """Types a search, kills it in its second trial, and says what was recorded until then."""
    lines = f"{TOKEN}\n{storage}\nexec {line}"
    search = subprocess.Popen(
        ["bash", "-e", "-c", lines], cwd=home, env=_environment(home), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    with search:
        until(url, STUDY, 7, search)
        search.kill()
    with Store(url, read_only=True) as store:
        events = store.events(STUDY)
        assert [trial for trial in store.trials(STUDY) if trial.state == "running"]
    return events


def test_the_section_makes_a_cluster_whose_search_is_killed_and_goes_on_elsewhere(
    home: Path,
) -> None:
    pytest.importorskip("ray")
    if not postgres.available() or postgres.GIVEN or postgres.program("psql") is None:
        pytest.skip(postgres.MISSING)
    with postgres.server() as server:
        *lines, storage, search = _typed(home, _free(), server)
        _run(lines, home)
        address = re.search(r"--address (\S+)", search)
        url = re.search(r"NAS_STORAGE=(\S+)", storage)
        assert address is not None and url is not None
        count = f"import ray; ray.init('{address[1]}'); print(sum(n['Alive'] for n in ray.nodes()))"
        assert _run([TOKEN, f'python -c "{count}" 2> /dev/null'], home).split()[-1] == "2"
        before = _killed(storage, search, home, url[1])
        _goes_on_elsewhere(storage, search, home)
        with Store(url[1], read_only=True) as store:
            assert store.events(STUDY)[: len(before)] == before
        assert audit(url[1], STUDY, home / "locks") == []
        front = json.loads(_run([f"nas front {STUDY} --json --quiet --storage {url[1]}"], home))
        assert front["trials"]["complete"] + front["trials"]["stopped"] == 4
        numbers = [member["measurements"]["accuracy"] for member in front["front"]]
        assert numbers and all(n["basis"] == "trained file" for n in numbers)
        assert list((home / "shared").iterdir())  # where all nodes see it


def _goes_on_elsewhere(storage: str, search: str, home: Path) -> None:
    """Resumes a search from another checkout, in another folder, on another machine by name."""
    copy, shell, folder = checkout(home / "checkout"), elsewhere(), home / "elsewhere"
    folder.mkdir()
    theirs = [TOKEN, storage, f"export PYTHONPATH={copy}"]
    where = _run([*theirs, "python -c 'import nas; print(nas.__file__)'"], home, folder)
    assert where.strip() == str(copy / "nas" / "__init__.py")
    rest = re.sub(r"--(trials|epochs) \S+|--no-proxies", "", search[search.index("--runner") :])
    again = f"nas search --resume --study {STUDY} --trials 4 {rest}"
    if shell:
        refused = f"! {again} 2> refused"
        _run([*theirs, refused, "grep -q -e --take-over refused"], home, folder, shell)
    _run([*theirs, f"{again} --take-over"], home, folder, shell)
