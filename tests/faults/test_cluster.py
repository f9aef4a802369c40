"""What goes wrong on a cluster, done for real; afterwards an independent check finds nothing amiss.

    pytest -q -m "long or not long" tests/faults     or ten times: python benchmarks/fault_suite.py

`NAS_TEST_OUTAGE_S` is how long the database is away in the test that restarts it (3 seconds).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
from audit import audit

import nas
from nas.store.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    # what a killed cluster leaves open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HERE = Path(__file__).parent
OUTAGE_S = float(os.environ.get("NAS_TEST_OUTAGE_S", "3"))
MARK = f"faults-{uuid.uuid4().hex[:8]}"  # in the environment of every process of these clusters
TRIALS = 6
STARTED: list[subprocess.Popen[str]] = []


class Place:
    """A cluster of a head that works not and two nodes that do, and searches on it."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.locks = folder / "locks"
        self.cluster: Any = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def search(
        self, url: str, study: str, preload: Path | None = None, home: Path | None = None,
        shell: tuple[str, ...] = (), **given: Any,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Starts a search in a process of its own; `home` is another checkout to run it from."""
        asked = {"url": url, "study": study, "address": self.cluster.address, "trials": TRIALS,
                 "rung_s": 0.2, "locks": str(self.locks), **given}  # fmt: skip
        home = home or Path(nas.__file__).parents[1]
        paths = [str(home), str(HERE.parent)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        environment |= {"LD_PRELOAD": str(preload)} if preload else {}
        command = [*shell, sys.executable, str(HERE / "drive.py"), json.dumps(asked)]
        STARTED.append(subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ))  # fmt: skip
        return STARTED[-1]

    def close(self) -> None:
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    pytest.importorskip("ray.cluster_utils")
    os.environ["NAS_TEST_MARK"] = MARK
    found = Place(tmp_path_factory.mktemp("cluster"))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _nobody_left() -> Iterator[None]:
    """Ends the searches that a failed test leaves."""
    yield
    while STARTED:
        search = STARTED.pop()
        search.kill()
        search.communicate()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/nas.db"


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


def workers() -> list[int]:
    """The worker processes of these clusters."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                not entry.name.isdigit()
                or b"nas.runners.worker" not in (entry / "cmdline").read_bytes()
            ):
                continue
            if MARK.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def states(url: str, study: str) -> dict[int, tuple[str, str]]:
    with Store(url, read_only=True) as store:
        return {t.number: (t.state, t.error or "") for t in store.trials(study)}


@pytest.mark.long
def test_candidates_that_crash_hang_or_eat_memory_cost_one_trial_each(
    place: Place, url: str
) -> None:
    ways = ["segfault", "hang", "memory"]
    ended(place.search(url, "s", presets=ways, silence_s=15.0))
    found = states(url, "s")
    for number, reason in enumerate(["SIGSEGV", "said nothing for 15 s", "MemoryError"]):
        state, error = found[number]
        assert state == "failed" and reason in error
    assert {found[n][0] for n in range(3, TRIALS)} <= {"complete", "stopped"}
    assert audit(url, "s", place.locks) == []


def test_a_worker_killed_then_a_node_killed_mid_rung(place: Place, url: str) -> None:
    search = place.search(url, "s", trials=10, rung_s=1.0)
    until(url, "s", 5, search)
    os.kill(workers()[0], signal.SIGKILL)
    until(url, "s", 12, search)
    place.cluster.remove_node(place.nodes.pop(), allow_graceful=False)
    place.nodes.append(place.cluster.add_node(num_cpus=1))
    ended(search)
    assert {state for state, _ in states(url, "s").values()} <= {"complete", "stopped"}
    with Store(url, read_only=True) as store:
        errors = [e.payload["error"] for e in store.events("s") if "error" in e.payload
                  and e.kind == "reported"]  # fmt: skip
    assert any("SIGKILL" in error for error in errors)
    assert not any("node" in error for error in errors)  # that was no trial's fault
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_a_node_that_joins_is_given_work(place: Place, url: str) -> None:
    search = place.search(url, "s", trials=14, rung_s=1.0)
    until(url, "s", 5, search)
    place.nodes.append(place.cluster.add_node(num_cpus=2))
    most = 0
    while search.poll() is None:
        most = max(most, len(workers()))
        time.sleep(0.2)
    place.cluster.remove_node(place.nodes.pop())
    ended(search)
    assert most > len(place.nodes)
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_the_disk_is_full_and_the_search_resumed(place: Place, url: str) -> None:
    told = ended(place.search(url, "s", fsize=160_000), code=2)
    assert "--resume" in told or "look after the disk" in told
    ended(place.search(url, "s", resume=True))
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_the_clock_jumps_a_day_and_back_all_the_time(
    place: Place, url: str, tmp_path: Path
) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make the clock jump with")
    shim = tmp_path / "jumps.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(shim), str(HERE / "jumps.c"), "-ldl"], check=True
    )
    ended(place.search(url, "s", preload=shim))
    with Store(url, read_only=True) as store:
        moments = store.moments("s")
    assert (max(moments) - min(moments)).days >= 1  # it did jump
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_two_searches_ride_out_a_crash_of_their_database(place: Place) -> None:
    if not postgres.available() or postgres.GIVEN:
        pytest.skip(postgres.MISSING)
    with postgres.server() as server:
        url = server.url()
        with Store(url):
            pass
        searches = [place.search(url, study, at_once=1) for study in ("one", "two")]
        for study, search in zip(("one", "two"), searches, strict=True):
            until(url, study, 6, search)
        server.stop("immediate")  # as a crash: what was not on its disk is gone
        time.sleep(OUTAGE_S)
        server.start()
        for search in searches:
            ended(search, seconds=200)
        assert audit(url, "one", place.locks) == audit(url, "two", place.locks) == []


@pytest.mark.long
def test_killed_and_resumed_on_another_machine(place: Place, tmp_path: Path) -> None:
    if not postgres.available() or postgres.GIVEN:
        pytest.skip(postgres.MISSING)
    checkout = tmp_path / "checkout"
    home = Path(nas.__file__).parents[1]
    for part in ("nas", "hardware_profiles", "search_spaces"):
        shutil.copytree(home / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    with postgres.server() as server:
        url = server.url()
        search = place.search(url, "s")
        until(url, "s", 9, search)
        search.kill()
        search.communicate()
        # its name is another machine's, where this system lets a process have one of its own
        elsewhere = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
        apart = subprocess.run([*elsewhere, "true"], check=False, stderr=subprocess.DEVNULL)
        shell = elsewhere if apart.returncode == 0 else ()
        if shell:
            refused = place.search(url, "s", home=checkout, shell=shell, resume=True)
            assert "--take-over" in ended(refused, code=2)
        ended(place.search(url, "s", home=checkout, shell=shell, resume=True, take_over=True))
        assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_the_head_is_lost_and_the_search_resumed_on_another_cluster(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("NAS_TEST_MARK", MARK)
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # a minute otherwise
    first = Place(tmp_path)
    try:
        search = first.search(url, "s")
        until(url, "s", 7, search)
        first.cluster.remove_node(first.cluster.head_node, allow_graceful=False)
        search.communicate(timeout=120)
        assert search.returncode != 0
    finally:
        first.close()
    second = Place(tmp_path)
    try:
        ended(second.search(url, "s", resume=True))
    finally:
        second.close()
    assert audit(url, "s", second.locks) == []
