import dataclasses
import json
import multiprocessing as mp
import os
import signal
import threading
import time

import numpy as np
import onnxruntime
import pytest
from made_up_sessions import made_up, numbered, runs_of

from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.hardware import runtimes, timing
from nas.hardware.agent.estimates import estimate
from nas.hardware.agent.host import _TOLD
from nas.hardware.anchors import WIDE
from nas.hardware.device import parse
from nas.hardware.history import AnchorHistory
from nas.hardware.protocol import Protocol
from nas.hardware.runs import slower
from nas.hardware.samples import SERIES, unpacked
from nas.hardware.session import sessions
from nas.hardware.timing import PROTOCOL, measure, runtime_version

QUICK = Protocol(max_passes=8, seconds=0.2, call_cap_s=1.5)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """Timings are filed under what a machine sets for its libraries, too."""
    for name in list(os.environ):
        if name.startswith(_TOLD):
            monkeypatch.delenv(name)


@pytest.fixture
def timed(cpu, lease):
    def run(files, **options):
        options = {"protocol": QUICK, "basis": "untrained form"} | options
        return measure(files, cpu, lease, **options)

    return run


@pytest.mark.slow
def test_each_file_gets_a_measurement_with_its_record(timed, files, monkeypatch):
    monkeypatch.setattr(Protocol, "jitter", np.inf)  # a second session would tell of the spread
    small, large = timed([files["small"], files["large"]])
    assert 0 < small.low < small.value < small.high < large.value
    assert (small.objective, small.unit, small.source) == ("latency_ms", "ms", "measured")
    assert small.basis == "untrained form"
    record = small.record
    assert record["between_is"] == "assumed" and record["between"] == 0.03
    assert record["protocol"] == QUICK.version and record["workload"] == "b1"
    assert record["p50_ms"] <= record["p90_ms"] <= record["p99_ms"]
    (session,) = record["sessions"]
    assert set(session["anchors_ms"]) == {"dense", "depthwise"}
    calls = unpacked(session["samples"])  # the number again, from what its record says
    rules, series = dataclasses.asdict(QUICK), [calls[name] for name in SERIES]
    again = estimate(*series, session["quiet_us"], rules)
    assert (again["n"], again["value"]) == (record["n"], pytest.approx(small.value * 1e3, rel=1e-3))
    assert session["runtime"]["onnxruntime"] in runtime_version(parse('kind = "cpu"', "cpu"))
    text = json.dumps(small.to_json())
    assert len(text) < 15_000
    assert Measurement.from_json(json.loads(text)) == small


@pytest.mark.slow
def test_one_bad_file_fails_alone(timed, files):
    names = ["small", "broken", "missing", "hanging", "greedy", "fixed", "large"]
    begin = time.monotonic()
    found = dict(zip(names, timed([files[n] for n in names]), strict=True))
    assert isinstance(found["small"], Measurement) and isinstance(found["large"], Measurement)
    assert "INVALID_PROTOBUF" in found["broken"].upper()
    assert "no such file" in found["missing"]
    assert "hung: one call took over 1." in found["hanging"]
    assert "alloc" in found["greedy"].lower()
    assert "fixed at batch 4" in found["fixed"]
    assert time.monotonic() - begin < 30


@pytest.mark.slow
def test_a_batch_is_one_call(timed, files):
    one, many, fixed = (
        timed([files[n]], workload=Workload(batch))[0]
        for n, batch in (("large", 1), ("large", 64), ("fixed", 4))
    )
    assert many.value > 2 * one.value and many.record["batch"] == 64
    assert isinstance(fixed, Measurement)


@pytest.mark.slow
def test_three_processes_measure_the_spread_between_them(timed, files):
    (found,) = timed([files["large"]], processes=3)
    assert found.record["between_is"] == "measured"
    assert len(found.record["processes_ms"]) == len(found.record["sessions"]) == 3
    assert found.value == pytest.approx(np.median(found.record["processes_ms"]), rel=1e-3)
    assert len(json.dumps(found.to_json())) < 15_000


def busy(stop):
    while not stop.is_set():
        sum(range(10_000))


@pytest.mark.slow
def test_under_load_the_value_holds_or_says_it_does_not(timed, files):
    again = {"workload": Workload(64), "protocol": Protocol()}
    for _ in range(5):  # until it is known how long the reference takes when quiet
        timed([files["cached"]], **again)
    # The intervals are of 90 %: so one pair may part.
    pairs = (
        (timed([files["cached"]], **again)[0], under_load(timed, files["cached"], **again))
        for _ in range(3)
    )
    assert any(agree(quiet, loaded) for quiet, loaded in pairs)


def under_load(timed, file, **again):
    context = mp.get_context("spawn")
    stop = context.Event()
    others = [context.Process(target=busy, args=(stop,), daemon=True) for _ in range(2)]
    for other in others:
        other.start()
    try:
        (found,) = timed([file], **again)
    finally:
        stop.set()
        for other in others:
            other.join(20)
    assert found.record["sessions"][0]["after"]["load"]
    assert found.record["p99_ms"] > found.value
    return found


def agree(one, other):
    if not (one.record["converged"] and other.record["converged"]):
        return True
    return one.low <= other.value <= one.high or other.low <= one.value <= other.high


def test_a_killed_agent_is_one_failure_and_the_lease_is_free(timed, files, lease):
    agents = []

    def kill():
        deadline = time.monotonic() + 20
        while len(agents) < 1 and time.monotonic() < deadline:
            for name in os.listdir("/proc"):
                if name.isdigit() and int(name) not in agents and _is_child_agent(int(name)):
                    os.kill(int(name), signal.SIGKILL)
                    agents.append(int(name))
            time.sleep(0.005)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    (found,) = timed([files["large"]])
    killer.join(20)
    assert agents
    assert isinstance(found, str) and "killed by signal 9" in found
    with lease.measuring():
        assert not list(lease.folder.glob("anchors-*/*")), "a dead session left anchors"


def _is_child_agent(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as line:
            parent = int(stat.read().rpartition(")")[2].split()[1])
            return parent == os.getpid() and "agent.py" in line.read()
    except OSError:
        return False


def test_a_device_that_is_not_here_is_refused(lease, files):
    absent = parse('kind = "cuda"\nnames = ["Cray"]', "cray")
    with pytest.raises(NasError, match="not attached"):
        measure([files["small"]], absent, lease, basis="x")


def test_a_runtime_that_is_not_installed_is_refused(lease, files, monkeypatch):
    monkeypatch.setattr(runtimes, "version", lambda name: None)
    other = parse('kind = "cpu"\nruntime = "openvino"', "cpu")
    with pytest.raises(NasError, match="openvino is not installed here"):
        measure([files["small"]], other, lease, basis="x")


def test_a_timing_on_a_gpu_is_not_filed_where_one_on_the_processor_is(monkeypatch):
    gpu = parse('kind = "cuda"\nruntime = "torch"\nnames = ["Any"]', "gpu")
    monkeypatch.setattr(timing, "_refuse", lambda device: None)
    assert runtime_version(gpu).endswith(", on cuda")


def test_runtime_version_names_options_and_threads():
    assert runtime_version(parse('kind = "cpu"\nthreads = 2', "cpu")).endswith(", 2 threads")
    found = runtime_version(parse('kind = "cpu"\nruntime = "torch:bf16+channels_last"', "cpu"))
    assert found.startswith("torch 2.") and found.endswith(" channels_last bf16, 1 thread")
    assert Protocol().version == PROTOCOL


def test_files_larger_than_a_cores_caches_are_timed_beside_the_wide_anchor(
    cpu, files, lease, monkeypatch
):
    asked = []
    spawn = sessions.__globals__["spawn"]
    monkeypatch.setitem(
        sessions.__globals__, "spawn", lambda a, *rest: asked.append(a) or spawn(a, *rest)
    )
    monkeypatch.setattr(Protocol, "small_mb", 1e-6)
    (found,) = measure([files["small"]], cpu, lease, protocol=QUICK, basis="x")
    assert [path.stem for path in asked[0].anchors] == ["dense", "depthwise", WIDE]
    assert set(found.record["sessions"][0]["anchors_ms"]) == {"dense", "depthwise"}


def test_a_machine_that_is_slow_throughout_has_not_converged(tmp_path):
    history, runs = AnchorHistory(tmp_path, "x"), runs_of([1000.0])
    assert slower(runs, history.usual()) is None
    for _ in range(5):
        history.add({"dense": 60.0, "another": 1.0})
    times = slower(runs, history.usual())
    assert times == pytest.approx(80 / 60, rel=0.02)
    spread = 0.03, "assumed"
    rules = Protocol()
    calm, slow = (
        timing._measurement(0, runs, spread, {"slower_than_usual": s}, rules, "x").record
        for s in (1.02, times)
    )
    assert calm["converged"] and not slow["converged"]
    assert slow["slower_than_usual"] == times
    assert calm["unsettled"] == []
    (why,) = slow["unsettled"]
    assert why == f"the anchors took {times:.2f} times as long as they usually do here"


def test_a_number_is_not_filed_under_a_runtime_that_did_not_run(cpu):
    session = made_up({0: 1000.0})
    session.start["runtime"] = {"onnxruntime": "0.1"}
    with pytest.raises(NasError, match=r"and 0\.1 in the process that measures") as error:
        timing._refuse_another(cpu, session)
    assert "pip uninstall onnxruntime" in error.value.hint
    session.start["runtime"] = {"onnxruntime": onnxruntime.__version__ + "+cpu"}
    timing._refuse_another(cpu, session)


def test_another_machine_or_driver_at_either_end_is_seen():
    session = made_up({0: 1000.0})
    assert not timing._another_host(session, {"driver": "1"})
    session.start["fingerprint"] = {"driver": "1"}
    session.end["fingerprint"] = {"driver": "2"}
    assert timing._another_host(session, {"driver": "1"})


def test_a_timing_is_filed_under_its_cores_and_what_the_environment_says(monkeypatch):
    plain = runtime_version(parse('kind = "cpu"', "cpu"))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # set for the process that measures anyway
    assert runtime_version(parse('kind = "cpu"', "cpu")) == plain
    pinned = parse('kind = "cpu"\ncores = [1]', "cpu")
    assert runtime_version(pinned) == plain + " on core 1"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert runtime_version(parse('kind = "cpu"', "cpu")) == plain + ", ONEDNN_MAX_CPU_ISA=AVX2"


def test_a_measurement_is_pinned_to_the_cores_of_its_device(cpu, lease, files):
    core = min(os.sched_getaffinity(0))
    device = dataclasses.replace(cpu, cores=(core,))
    (found,) = measure([files["small"]], device, lease, protocol=QUICK, basis="table")
    assert found.record["cores"] == found.record["sessions"][0]["affinity"] == [core]


def test_few_passes_that_agree_have_not_converged():
    assert not numbered(runs_of([1000.0], passes=3)).record["converged"]


def test_rules_cross_as_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(Protocol()))) == dataclasses.asdict(Protocol())
