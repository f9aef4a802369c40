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


def test_every_rule_is_part_of_the_version():
    assert Protocol().version != Protocol(width=0.01).version
