"""A Ray cluster of several nodes on this machine, and searches on it that faults are done to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.store.store import Store

MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    # what a killed cluster leaves open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FAULTS = Path(__file__).parent / "faults"
OUTAGE_S = float(os.environ.get("NAS_TEST_OUTAGE_S", "3"))
MARK = f"faults-{uuid.uuid4().hex[:8]}"  # in the environment of every process of these clusters
TRIALS = 6
STARTED: list[subprocess.Popen[str]] = []


def awaited(what: str, found: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What is found at last; the test fails where nothing is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.05)
    pytest.fail(f"not in {seconds:g} s: {what}")


class Gate:
    """Jobs that come to it are under way until it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        self.path.touch()

    def came(self) -> list[int]:
        """All workers that ever came to it, also those that are gone."""
        return [int(p.suffix[1:]) for p in self.path.parent.glob(f"{self.path.name}.*")]

    def waiting(self, many: int) -> list[int]:
        """The workers that wait at it, as soon as there are so many."""

        def found() -> list[int]:
            search = STARTED[-1]
            assert search.poll() is None, search.communicate()[1][-2000:]
            there = [n for n in workers() if Path(f"{self.path}.{n}").exists()]
            return there if len(there) >= many else []

        waiting: list[int] = awaited(f"{many} workers at the gate", found)
        return waiting


class Place:
    """A cluster of a head that works not and two nodes that do, and searches on it."""

    def __init__(self, folder: Path, nodes: int = 2, port: int = 0, **everywhere: Any) -> None:
        from ray.cluster_utils import Cluster

        os.environ["NAS_TEST_MARK"] = MARK
        self.folder = folder
        self.locks = folder / "locks"
        self._everywhere = everywhere
        head = {"num_cpus": 0, "include_dashboard": False, **everywhere}
        head |= {"gcs_server_port": port} if port else {}
        self.cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        for _ in range(nodes):
            self.join()

    def join(self, cpus: int = 1, **given: Any) -> None:
        """Adds a node."""
        self.nodes.append(self.cluster.add_node(num_cpus=cpus, **self._everywhere, **given))

    def leave(self, node: Any) -> None:
        """Kills a node, as a power cut would."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def restart_head(self) -> None:
        """Ends what a head knows the cluster by, and starts it again at the same address."""
        head, address = self.cluster.head_node, self.cluster.address
        head.kill_gcs_server()
        head._gcs_address = head._gcs_client = None  # of Ray's own class, which starts it once
        head.start_gcs_server()
        assert self.cluster.address == address

    def alive(self) -> int:
        """How many nodes the head takes for living."""
        return sum(node["Alive"] for node in self.cluster.global_state.node_table())

    def gate(self) -> Gate:
        return Gate(self.folder / f"gate-{uuid.uuid4().hex[:8]}")

    def search(
        self, url: str, study: str, preload: Path | None = None, home: Path | None = None,
        shell: tuple[str, ...] = (), gates: Mapping[str, Gate] | None = None, **given: Any,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Starts a search in a process of its own; `home` is another checkout to run it from."""
        asked = {"url": url, "study": study, "address": self.cluster.address, "trials": TRIALS,
                 "rung_s": 0.2, "locks": str(self.locks),
                 "gates": {kind: str(gate.path) for kind, gate in (gates or {}).items()},
                 **given}  # fmt: skip
        drive = [sys.executable, str(FAULTS.parent / "drive.py"), json.dumps(asked)]
        return self._started(
            [*shell, *drive], home, {"LD_PRELOAD": str(preload)} if preload else {}
        )

    def nas_search(self, url: str, study: str, *words: str) -> subprocess.Popen[str]:
        """Starts `nas search` on this cluster, typed in its folder."""
        named = ["--study", study, "--storage", url, "--address", self.cluster.address]
        command = [sys.executable, "-m", "nas", "search", "--runner", "ray", *named, *words]
        return self._started(command, None, {})

    def _started(
        self, command: list[str], home: Path | None, more: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        paths = [str(home or Path(nas.__file__).parents[1]), str(FAULTS.parent)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}
        STARTED.append(subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ))  # fmt: skip
        return STARTED[-1]

    def close(self) -> None:
        self.cluster.shutdown()


def ended(search: subprocess.Popen[str], code: int = 0, seconds: float = 150) -> str:
    """What a search wrote until it ended, as it should, with this exit status."""
    out, err = search.communicate(timeout=seconds)
    assert search.returncode == code, err[-3000:]
    return out + err


def until(url: str, study: str, events: int, search: subprocess.Popen[str]) -> None:
    """Waits until a study has so many events."""
    deadline = time.monotonic() + 120
    while search.poll() is None and time.monotonic() < deadline:
        try:
            with Store(url, read_only=True) as store:
                if len(store.events(study)) >= events:
                    return
        except nas.NasError:
            pass  # not there yet
        time.sleep(0.05)
    pytest.fail(f"no {events} events of {study}: {search.poll()} {search.communicate()[1][-2000:]}")


def workers(words: bytes = b"nas.runners.worker") -> list[int]:
    """The worker processes of these clusters, or those with other words in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or words not in (entry / "cmdline").read_bytes():
                continue
            if MARK.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def checkout(folder: Path) -> Path:
    """A copy of the package and of what lies beside it, as somebody else would have it."""
    home = Path(nas.__file__).parents[1]
    for part in ("nas", "hardware_profiles", "search_spaces"):
        shutil.copytree(home / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def elsewhere() -> tuple[str, ...]:
    """What makes a command another machine's, by name; nothing where this system has no such."""
    shell = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
    apart = subprocess.run([*shell, "true"], check=False, stderr=subprocess.DEVNULL)
    return shell if apart.returncode == 0 else ()


def states(url: str, study: str) -> dict[int, tuple[str, str]]:
    with Store(url, read_only=True) as store:
        return {t.number: (t.state, t.error or "") for t in store.trials(study)}


def parent(process: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def errors(url: str, study: str) -> list[str]:
    """What was held against trials, in words."""
    with Store(url, read_only=True) as store:
        events = store.events(study)
    return [e.payload["error"] for e in events if e.kind == "reported" and "error" in e.payload]


def sources(url: str, study: str) -> list[str]:
    """Where timings came from: `measured` or `predicted`, each of them."""
    with Store(url, read_only=True) as store:
        payloads = [e.payload for e in store.events(study) if e.kind == "reported"]
    return [p["measurement"]["source"] for p in payloads if "measurement" in p]
