"""A measurement travels whole."""

import json

from nas.core.measurement import Measurement


def test_json_round_trip_keeps_the_record() -> None:
    taken = Measurement(
        "latency_ms", 4.2, "ms", 4.0, 4.6, 0.05, 300, "measured", "trained file", {"p99": 5.0}
    )
    again = Measurement.from_json(json.loads(json.dumps(taken.to_json())))
    assert again == taken and again.record == {"p99": 5.0}


def test_the_record_is_no_part_of_equality() -> None:
    one = Measurement("params", 1, "parameters", 1, 1, 0, 1, "measured", "counted", {"by": "a"})
    assert one == Measurement.exact("params", 1, "parameters")


def test_an_exact_number_has_no_doubt() -> None:
    counted = Measurement.exact("macs", 7.0, "MACs")
    assert (counted.low, counted.high, counted.se, counted.basis) == (7.0, 7.0, 0.0, "counted")
