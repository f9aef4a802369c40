import dataclasses
import json
import multiprocessing as mp
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Z90, Measurement
from nas.hardware import runtimes, timing
from nas.hardware.agent.estimates import estimate
from nas.hardware.agent.host import _TOLD
from nas.hardware.anchors import WIDE
from nas.hardware.device import parse
from nas.hardware.history import REFERENCE, AnchorHistory
from nas.hardware.protocol import Protocol
from nas.hardware.samples import SERIES, unpacked
from nas.hardware.session import sessions
from nas.hardware.timing import PROTOCOL, Run, measure, runtime_version

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


# --- statistics on made-up sessions --------------------------------------------------------------


def made_up(values, noise=0.01, passes=20, seed=0, trend=0.0, interrupted=0.0, jumpy=()):
    """A session in which each network's true latency is known (microseconds).

    Of a share `interrupted` of the calls another process had the core for 3 ms. Of the networks
    in `jumpy` every fifth call takes three times as long as the others.
    """
    rng = np.random.default_rng(seed)
    results = {}
    for i, (name, value) in enumerate(values.items()):
        place = np.repeat(np.arange(passes), 10)
        samples = value * (1 + trend * place / passes + rng.exponential(noise, place.size))
        away = 3000.0 * (np.arange(place.size) % 20 < 20 * interrupted)
        samples += away
        samples[::5] *= 3.0 if name in jumpy else 1.0
        results[name] = {
            "event": "result", "file": i, "load_s": 0.0, "first_ms": 0.0, "done": True,
            "samples": samples.tolist(), "refs": [50.0] * place.size, "passes": place.tolist(),
            "away": away.tolist(),
        }  # fmt: skip
    state = {"load": [0, 0, 0], "mhz": None, "governor": None, "celsius": None}
    session = timing.Session(list(values))
    session.results = results
    session.start = {"runtime": {"onnxruntime": "1"}, "versions": {}, "affinity": None}
    session.start["state"] = state
    session.end = {
        "reference_us": 50.0,
        "quiet_us": 50.0,
        "warm_s": 0.1,
        "pass_s": 0.1,
        "state": state,
    }
    return session


def runs_of(latencies, **options):
    rules = Protocol()
    return [
        timing.summary(made_up({0: value, "dense": 80.0}, seed=i, **options), rules)
        for i, value in enumerate(latencies)
    ]


def numbered(runs, rules=None):
    rules = rules or Protocol()
    spread = timing.between(runs, AnchorHistory(Path("nowhere"), "x"), rules, 1)
    return timing._measurement(0, runs, spread, {}, rules, "x")


def test_the_interval_has_both_terms():
    (run,) = runs_of([1000.0])
    found = numbered([run])
    within = run.estimates[0]["se"] / run.estimates[0]["value"]
    slack = run.estimates[0]["p50"] / run.estimates[0]["value"] - 1
    assert found.se / found.value == pytest.approx(np.linalg.norm([within, 0.03, slack]), rel=1e-6)
    assert found.high - found.value == pytest.approx(Z90 * 2**0.5 * found.se, rel=1e-6)
    assert found.value == pytest.approx(1.0, rel=0.01)


def test_processes_behind_each_other_share_what_slows_the_machine():
    """Nobody else can be told from the network by more of the same."""
    rules, shares = Protocol(), []
    for latencies in ([1000.0], [1000.0] * 3):
        runs = runs_of(latencies, interrupted=1.0)
        assert all(r.estimates[0]["quiet"] == 0.0 for r in runs)
        found = numbered(runs)
        assert not found.record["converged"]
        shares.append(found.se / found.value)
    assert min(shares) > rules.contention and shares[1] < shares[0]


def test_what_neighbours_take_of_the_shared_cache_is_learnt_between_measurements(tmp_path):
    rules, history = Protocol(), AnchorHistory(tmp_path, "x")
    runs = [dataclasses.replace(r, wide_us=us) for r, us in zip(
        runs_of([1000.0, 1000.0, 1000.0]), (900.0, 1000.0, 1400.0), strict=True)]  # fmt: skip
    assert timing._taken(runs, history, rules) == pytest.approx(rules.caches)  # of 1 ms, assumed
    for us in (1200.0, 1400.0):
        history.add({WIDE: us})
    # the mean of 1000, 1000, 1200 and 1400 is 1150
    squares = 2 * 150**2 + 50**2 + 250**2 + 2 * (rules.caches * 1150) ** 2
    assert timing._taken(runs, history, rules) == pytest.approx((squares / 5) ** 0.5 / 1e3)
    assert timing._taken(runs_of([1000.0]), history, rules) == 0.0  # none was timed
    reached = [timing._reached(mb, rules) for mb in (0.1, 2.0, 3.5, 5.0, 99.0)]
    assert reached == [rules.reach * share for share in (0.0, 0.0, 0.5, 1.0, 1.0)]
    (run,) = runs_of([1000.0])
    plain = timing._measurement(0, [run], (0.03, "assumed"), {}, rules, "x")
    doubted = timing._measurement(0, [run], (0.03, "assumed"), {}, rules, "x", 0.2)
    assert doubted.value == plain.value and doubted.record["caches"] == pytest.approx(0.2, rel=0.01)
    assert doubted.se == pytest.approx((plain.se**2 + 0.2**2) ** 0.5)


def test_the_wide_anchor_is_compared_with_nothing():
    session = made_up({0: 1000.0, "dense": 80.0, WIDE: 500.0}, trend=0.0)
    session.results[WIDE]["samples"] = np.linspace(300, 900, 200).tolist()
    found = timing.summary(session, Protocol())
    assert set(found.estimates) == {0, "dense"} and found.drift < 0.05
    assert found.wide_us is not None and 300 < found.wide_us < 900


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


def test_the_quiet_machine_is_the_same_whatever_is_timed(tmp_path):
    device, lease = parse('kind = "cpu"', "cpu"), timing.Lease(tmp_path, "cpu")
    torch = device.under("torch")
    one, other = (timing._quiet(lease, d, Protocol()) for d in (device, torch))
    for _ in range(5):
        one.add({REFERENCE: 40.0})
    assert other.usual() == {REFERENCE: 40.0}


def test_anchors_of_another_batch_say_nothing_of_the_spread(tmp_path):
    device, lease = parse('kind = "cpu"', "cpu"), timing.Lease(tmp_path, "cpu")
    one, same, many = (
        timing._history(lease, device, Workload(batch), Protocol()) for batch in (1, 1, 8)
    )
    one.add({"dense": 100.0})
    many.add({"dense": 400.0})
    assert len(same.rows()) == len(many.rows()) == 1


def test_the_spread_between_processes_is_learnt_from_files_and_anchors():
    rng = np.random.default_rng(5)
    none = AnchorHistory(Path("nowhere"), "x")
    calm, wild = (
        timing.between(runs_of(1000 * np.exp(rng.normal(0, s, 12))), none, Protocol(), 1)
        for s in (0.002, 0.2)
    )
    assert calm[1] == wild[1] == "measured"
    assert calm[0] < 0.012 and wild[0] > 0.08
    assert timing.between(runs_of([1000.0]), none, Protocol(), 4) == (0.08, "assumed")


def test_sessions_that_share_the_files_measure_no_spread_between_processes():
    rules, none = Protocol(), AnchorHistory(Path("nowhere"), "x")
    runs = [timing.summary(made_up({i: 1000.0, "dense": 80.0}, seed=i), rules) for i in range(2)]
    assert timing.between(runs, none, rules, 1) == (0.03, "assumed")


def test_one_process_learns_from_the_anchors_of_earlier_sessions(tmp_path):
    history = AnchorHistory(tmp_path, "x")
    rng = np.random.default_rng(3)
    for _ in range(40):
        history.add({"dense": 80 * np.exp(rng.normal(0, 0.01)), "depthwise": 60.0})
    found, known = timing.between(runs_of([1000.0]), history, Protocol(), 1)
    assert known == "history"
    # 39 deviations of 1 %, 39 of none, two assumed of 3 %
    assert found == pytest.approx(((39 * 1e-4 + 2 * 9e-4) / 80) ** 0.5, rel=0.15)


def test_a_machine_that_is_slow_throughout_has_not_converged(tmp_path):
    history, runs = AnchorHistory(tmp_path, "x"), runs_of([1000.0])
    assert timing.slower(runs, history.usual()) is None
    for _ in range(5):
        history.add({"dense": 60.0, "another": 1.0})
    slower = timing.slower(runs, history.usual())
    assert slower == pytest.approx(80 / 60, rel=0.02)
    spread = 0.03, "assumed"
    rules = Protocol()
    calm, slow = (
        timing._measurement(0, runs, spread, {"slower_than_usual": s}, rules, "x").record
        for s in (1.02, slower)
    )
    assert calm["converged"] and not slow["converged"]
    assert slow["slower_than_usual"] == slower
    assert calm["unsettled"] == []
    (why,) = slow["unsettled"]
    assert why == f"the anchors took {slower:.2f} times as long as they usually do here"


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


def test_the_intervals_hold_for_nine_repeats_of_ten():
    rng = np.random.default_rng(7)
    held = []
    for _ in range(300):
        # between processes as assumed, so the stated interval must be right
        first, second = runs_of(1000 * np.exp(rng.normal(0, 0.03, 2)), passes=8)
        found, repeat = numbered([first]), numbered([second])
        held.append(found.low <= repeat.value <= found.high)
    assert 0.85 <= np.mean(held) <= 0.95


def test_a_drifting_anchor_is_seen_and_the_session_repeated(monkeypatch, cpu, lease, files):
    asked = timing.Asked((files["small"],), (), cpu, lease, Workload(), Protocol(), 0)
    trends = iter([0.3, 0.0])
    monkeypatch.setattr(
        timing, "sessions",
        lambda *a: ([made_up({0: 100.0, "dense": 80.0}, trend=next(trends))], {}),
    )  # fmt: skip
    (found,), reasons = timing.run(asked, [0], 0)
    assert isinstance(found, Run) and found.repeated and found.drift < 0.05 and not reasons
    steady = iter([0.0])
    monkeypatch.setattr(
        timing, "sessions",
        lambda *a: ([made_up({0: 100.0, "dense": 80.0}, trend=next(steady))], {}),
    )  # fmt: skip
    (found,), _ = timing.run(asked, [0], 0)
    assert not found.repeated


def test_a_measurement_is_pinned_to_the_cores_of_its_device(cpu, lease, files):
    core = min(os.sched_getaffinity(0))
    device = dataclasses.replace(cpu, cores=(core,))
    (found,) = measure([files["small"]], device, lease, protocol=QUICK, basis="table")
    assert found.record["cores"] == found.record["sessions"][0]["affinity"] == [core]


def test_of_two_sessions_that_drifted_the_calmer_counts(monkeypatch, cpu, lease, files):
    asked = timing.Asked((files["small"],), (), cpu, lease, Workload(), Protocol(), 0)

    def measured(*shares, trend=0.3):
        left = iter(shares)
        names = {0: 100.0, "dense": 80.0}
        monkeypatch.setattr(
            timing, "sessions",
            lambda *a: ([made_up(names, interrupted=next(left), trend=trend)], {}),
        )  # fmt: skip
        (found,), _ = timing.run(asked, [0], 0)
        return round(found.quiet, 2), found.repeated

    assert measured(0.5, trend=0.0) == (0.5, False)
    assert measured(0.9, 0.1) == (0.9, True)
    assert measured(0.9, 0.95) == (0.1, False)


def test_files_whose_calls_jump_are_timed_once_more_and_what_still_does_has_not_converged(
    monkeypatch, cpu, lease, files
):
    asked = timing.Asked((files["small"],) * 3, (), cpu, lease, Workload(), Protocol(), 0)
    jumps, seen = iter([(0, 2), (2,)]), []

    def stand_in(asked, alive, seed):
        seen.append(alive)
        names = dict.fromkeys(alive, 100.0) | {"dense": 80.0}
        return [made_up(names, jumpy=next(jumps), seed=seed)], {}

    monkeypatch.setattr(timing, "sessions", stand_in)
    runs, reasons = timing.run(asked, [0, 1, 2], 0)
    assert seen == [[0, 1, 2], [0, 2]] and not reasons
    assert [(r.files, r.repeated) for r in runs] == [([1], False), ([0, 2], True)]
    spread = timing.between(runs, AnchorHistory(Path("nowhere"), "x"), Protocol(), 1)
    assert spread == (0.03, "assumed"), "two sessions of different files measure no spread"
    records = [timing._measurement(i, runs, spread, {}, Protocol(), "x").record for i in range(3)]
    assert [r["converged"] for r in records] == [True, True, False]
    assert records[2]["unsettled"] == ["one call in twenty took 3.0 times the middle one"]
    assert records[2]["p95_ms"] == pytest.approx(0.3, rel=0.02)
    assert [r["sessions"][0]["repeated"] for r in records] == [True, False, True]


def test_a_noisy_session_is_not_repeated_for_its_jumps(monkeypatch, cpu, lease, files):
    asked = timing.Asked((files["small"],), (), cpu, lease, Workload(), Protocol(), 0)
    (once,) = [made_up({0: 100.0, "dense": 80.0}, interrupted=1.0, jumpy=(0,))]
    answers = iter([once])
    monkeypatch.setattr(timing, "sessions", lambda *a: ([next(answers)], {}))
    (found,), _ = timing.run(asked, [0], 0)
    assert found.estimates[0]["noisy"] and not numbered([found]).record["converged"]


def test_a_file_that_failed_before_the_repeat_keeps_its_reason(monkeypatch, cpu, lease, files):
    asked = timing.Asked((files["small"],) * 2, (), cpu, lease, Workload(), Protocol(), 0)
    answers = iter([(0.3, {1: "hung"}), (0.0, {})])
    seen = []

    def stand_in(asked, alive, seed):
        trend, reasons = next(answers)
        seen.append(alive)
        return [made_up({0: 100.0, "dense": 80.0}, trend=trend)], reasons

    monkeypatch.setattr(timing, "sessions", stand_in)
    _, reasons = timing.run(asked, [0, 1], 0)
    assert seen == [[0, 1], [0]] and reasons == {1: "hung"}


def test_a_single_pass_has_no_drift():
    (run,) = runs_of([1000.0], passes=1)
    assert run.drift == 0.0


def test_drift_that_stays_is_not_converged():
    runs = runs_of([1000.0], trend=0.3)
    assert runs[0].drift > 0.05
    assert not numbered(runs).record["converged"]
    assert numbered(runs_of([1000.0])).record["converged"]


def test_interruptions_widen_the_interval_and_where_nearly_all_are_it_has_not_converged():
    calm, half, always = (numbered(runs_of([1000.0], interrupted=s)) for s in (0.0, 0.5, 1.0))
    rules = Protocol()
    for found in (calm, half, always):
        slack = found.record["p50_ms"] / found.value - 1
        terms = (
            found.record["within"],
            0.03,
            rules.contention * (1 - found.record["quiet"]) ** 3,
            slack,
        )
        assert found.se / found.value == pytest.approx(np.linalg.norm(terms), rel=1e-3)
        assert found.value == pytest.approx(1.0, rel=0.01)
    assert [f.record["quiet"] for f in (calm, half, always)] == [1.0, 0.5, 0.0]
    assert [f.record["noisy"] for f in (calm, half, always)] == [False, False, True]
    assert calm.record["converged"] and not always.record["converged"]


def test_few_passes_that_agree_have_not_converged():
    assert not numbered(runs_of([1000.0], passes=3)).record["converged"]


def test_rules_cross_as_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(Protocol()))) == dataclasses.asdict(Protocol())
