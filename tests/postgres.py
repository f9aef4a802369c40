"""A PostgreSQL server for tests: one that `NAS_TEST_POSTGRES` names, or one started here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIVEN = os.environ.get("NAS_TEST_POSTGRES")  # such as postgresql+psycopg://nas@localhost/postgres
_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
MISSING = "neither NAS_TEST_POSTGRES nor PostgreSQL's programs (apt-get install postgresql)"


def program(name: str) -> str | None:
    """Where one of PostgreSQL's programs is; Debian keeps them off the path."""
    return shutil.which(name) or next(
        (str(d / name) for d in _DEBIAN[::-1] if (d / name).exists()), None
    )


def available() -> bool:
    """Whether there is a server, or can be one."""
    return GIVEN is not None or None not in (program("initdb"), program("pg_ctl"))


@dataclass
class Server:
    """A server of the tests' own, listening on this host alone; its superuser needs no password."""

    folder: Path
    port: int

    def url(self, database: str = "postgres", user: str = "nas") -> str:
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def control(self, action: str, *options: str) -> None:
        command = ["pg_ctl", "-D", str(self.folder / "data"), "-w", *options, action]
        given = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        if action == "start":
            command += ["-l", str(self.folder / "log"), "-o", given]
        self._run(*command)

    def start(self) -> None:
        self.control("start")

    def stop(self, mode: str = "fast") -> None:
        """Ends it; `immediate` as a crash would."""
        self.control("stop", "-m", mode)

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [str(program(name)), *arguments], cwd=self.folder, check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **_as_somebody(),
        )  # fmt: skip

    def make(self) -> None:
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "nas", "--auth=trust",
                  "--no-sync", "-E", "UTF8", "--locale=C")  # fmt: skip
        self.start()


def _as_somebody() -> dict[str, Any]:
    """The server refuses to run as root."""
    return {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}


@contextmanager
def server() -> Iterator[Server]:
    """A fresh server, ended at the end."""
    folder = Path(tempfile.mkdtemp(prefix="nas-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Server(folder, port)
    try:
        found.make()
        yield found
    finally:
        subprocess.run(
            [str(program("pg_ctl")), "-D", str(folder / "data"), "-m", "immediate", "stop"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, **_as_somebody(),
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


def fresh(url: str) -> str:
    """The URL of a new, empty database on the server of another URL."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    name = f"nas_{uuid.uuid4().hex[:12]}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)
