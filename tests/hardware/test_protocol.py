from dataclasses import asdict

import numpy as np
import pytest

from nas.hardware.agent.estimates import estimate
from nas.hardware.protocol import Protocol, Seen, differences, unsettled


def record(**changes):
    session = {
        "runtime": {"onnxruntime": changes.pop("version", "1.31")},
        "before": {"governor": changes.pop("governor", None)},
        "anchors_ms": {"dense": changes.pop("dense", 0.100), "depthwise": 0.2},
    }
    same = {"protocol": "1", "device": "cpu", "host": "h", "workload": "b1", "threads": 1}
    return same | changes | {"sessions": [session]}


def test_equal_conditions_may_be_compared():
    assert differences(record(), record(dense=0.104)) == []


def test_each_condition_that_differs_is_named():
    for change, word in [
        ({"protocol": "2"}, "protocol"), ({"device": "a100"}, "device"), ({"host": "i"}, "host"),
        ({"workload": "b8"}, "workload"), ({"threads": 2}, "threads"),
        ({"version": "2"}, "runtime"),
        ({"governor": "powersave"}, "governor"),
    ]:  # fmt: skip
        (why,) = differences(record(), record(**change))
        assert why.startswith(word)


def test_runtimes_and_their_options_are_told_apart_and_old_records_were_onnxruntimes():
    plain, half = ({"runtime": "torch", "options": o} for o in ([], ["bf16"]))
    assert differences(record(**plain), record(**half)) == ["options: [] and ['bf16']"]
    assert differences(record(), record(runtime="onnxruntime", options=[])) == []
    assert differences(record(), record(**plain)) == ["runtime: 'onnxruntime' and 'torch'"]


def test_an_anchor_that_moved_forbids_it():
    assert differences(record(), record(dense=0.110)) == ["anchor dense: +10.0%"]


def seen(**changes):
    """A record whose one session says all that sessions say now."""
    found = record()
    (session,) = found["sessions"]
    board = {"limit_milliwatts": 400_000, "max_sm_mhz": changes.pop("max_sm_mhz", 1410)}
    session |= {"environment": changes.pop("environment", {}),
                "throttled": changes.pop("throttled", [])}  # fmt: skip
    state = {"boost": "1", "mode": None, "mains": True, "quota": None} | changes
    session["before"] |= state | {"gpu": board}
    return found


def test_switches_of_clock_and_power_and_what_the_environment_says_are_conditions():
    assert differences(seen(), seen()) == []
    for change, words in [
        ({"boost": "0"}, "boost: 1 and 0"), ({"mains": False}, "mains: True and False"),
        ({"quota": 1.0}, "quota: None and 1.0"), ({"mode": "pmode:0002"}, "mode: None and pmode"),
        ({"environment": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}, "environment: {} and {'ONEDNN_MAX"),
        ({"throttled": ["the GPU's clock was held down for its heat, 40 ms"]},
         "held down: False and True"),
        ({"max_sm_mhz": 1200}, "GPU's max_sm_mhz: 1410 and 1200"),
    ]:  # fmt: skip
        (why,) = differences(seen(), seen(**change))
        assert why.startswith(words)
    hot = {"throttled": ["the processor was too hot 2 times"]}
    assert differences(seen(**hot), seen(**hot)) == [], "a device that is always held down"
    # who waits for a share of the processor is left out sample by sample
    waited = ["the container waited for its share of the processor 3 times"]
    assert differences(seen(), seen(throttled=waited)) == []
    assert differences(seen(), record()) == [], "what an older record does not say"


def test_fewer_cores_than_threads_forbid_it_which_no_anchor_shows():
    def on(cores, threads):
        found = record(threads=threads)
        found["sessions"][0]["affinity"] = cores
        return found

    (why,) = differences(on([0, 1], 2), on([1], 2))
    assert why == "cores for its threads: 2 and 1"
    assert differences(on([0, 1], 1), on([1], 1)) == [], "one thread needs but one"
    assert differences(on([0, 1, 2], 2), on([2, 3], 2)) == []
    assert differences(on([0, 1], 2), record(threads=2)) == [], "what an older record lacks"


def test_every_session_of_a_record_counts():
    late = seen()
    late["sessions"] += seen(boost="0")["sessions"]
    assert differences(seen(), late) == ["boost: 1 and ['1', '0']"]
    two = record()
    two["sessions"] += record(dense=0.130)["sessions"]
    assert differences(record(), two) == ["anchor dense: +15.0%"]
    assert differences(record(), record() | {"host_changed": True}) == [
        "host: it changed during a measurement"
    ]


def test_those_that_agree_stand_for_all_that_they_say_and_as_far_as_they_reach():
    alike = Seen.of(record())
    for other in (seen(), record(dense=0.104)):
        assert not alike.against(Seen.of(other))
        alike.join(Seen.of(other))
    assert differences(record(), record(dense=0.0965)) == []
    assert alike.against(Seen.of(record(dense=0.0965))) == ["anchor dense: -7.2%"]
    assert alike.against(Seen.of(seen(boost="0"))) == ["boost: 1 and 0"]


def test_records_of_several_callers_are_compared_by_what_they_saw():
    plain = {"device": "cpu", "before": {"governor": "performance"}}
    assert differences(plain, plain) == []
    other = plain | {"before": {"governor": "powersave"}}
    assert differences(plain, other) == ["governor: performance and powersave"]


def test_every_rule_that_changes_numbers_is_part_of_the_version():
    assert Protocol().version != Protocol(width=0.01).version
    # what only judges them is not: numbers taken before it was a rule stay what they are
    assert "jitter" not in asdict(Protocol())


def calls(slow, times=8.0, refs=50.0):
    """The estimate of 400 calls of about a millisecond, a share of which take so many times that.

    They are what jumps of the scheduler do to a machine that its reference kernel finds quiet.
    """
    rng = np.random.default_rng(0)
    samples = 1000 + rng.exponential(5.0, 400)
    samples[rng.permutation(400) < 400 * slow] *= times
    passes, away = np.arange(400) // 20, np.zeros(400)
    return estimate(samples, np.full(400, refs), passes, away, 50.0, asdict(Protocol()))


def test_calls_that_jump_have_not_converged_however_narrow_the_interval():
    found = calls(slow=0.4)
    assert found["width"] < 0.001 and not found["noisy"] and found["quiet"] == 1.0
    assert found["p90"] > 7 * found["p50"]
    (why,) = unsettled(found, 0.0, Protocol())
    assert why == f"one call in twenty took {found['p95'] / found['p50']:.1f} times the middle one"


@pytest.mark.parametrize(("slow", "times"), [(0.0, 8.0), (0.03, 8.0), (0.4, 1.4)])
def test_calm_calls_and_rare_or_small_jumps_have_converged(slow, times):
    assert unsettled(calls(slow, times), 0.0, Protocol()) == []


def test_jumps_beside_a_slow_reference_are_not_the_calls_own():
    """The gate leaves a neighbour's bursts out; where it leaves nothing, that is what is said."""
    rng = np.random.default_rng(0)
    busy = rng.random(400) < 0.4
    samples = (1000 + rng.exponential(5.0, 400)) * np.where(busy, 8.0, 1.0)
    passes, rules = np.arange(400) // 20, asdict(Protocol())
    refs = np.where(busy, 90.0, 50.0)
    found = estimate(samples, refs, passes, np.zeros(400), 50.0, rules)
    assert unsettled(found, 0.0, Protocol()) == []
    found = estimate(samples, np.full(400, 90.0), passes, np.zeros(400), 50.0, rules)
    assert unsettled(found, 0.0, Protocol()) == ["the machine was hardly ever quiet"]


def test_each_reason_not_to_have_converged_is_said():
    assert unsettled(calls(0.0) | {"width": 0.031, "passes": 3}, 0.07, Protocol()) == [
        "an anchor drifted by 7.0%",
        "only 3 passes count",
        "the interval is still 3.1% to either side",
    ]
