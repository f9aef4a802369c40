from nas.hardware.protocol import Protocol, differences


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
    # who waits for a share of the processor is left out sample by sample
    waited = ["the container waited for its share of the processor 3 times"]
    assert differences(seen(), seen(throttled=waited)) == []
    assert differences(seen(), record()) == [], "what an older record does not say"


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


def test_records_of_several_callers_are_compared_by_what_they_saw():
    plain = {"device": "cpu", "before": {"governor": "performance"}}
    assert differences(plain, plain) == []
    other = plain | {"before": {"governor": "powersave"}}
    assert differences(plain, other) == ["governor: performance and powersave"]


def test_every_rule_is_part_of_the_version():
    assert Protocol().version != Protocol(width=0.01).version
