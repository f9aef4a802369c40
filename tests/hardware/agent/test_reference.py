"""What the reference kernel says of a machine."""

import pytest

from nas.hardware.agent import reference
from nas.hardware.agent.reference import Reference


def test_quiet_is_a_low_quantile_of_the_session_or_what_is_usual() -> None:
    for usual, base in ((None, 41.0), (35.0, 35.0), (90.0, 41.0)):
        made = Reference(usual)
        made.series = [41.0] * 3 + [50.0] * 17
        assert (made.own, made.base) == (41.0, base)


def test_rounds_that_are_not_timed_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made, done = Reference(), []
    monkeypatch.setattr(made, "_work", done.append)
    monkeypatch.setattr(reference.time, "perf_counter_ns", lambda: 5000 * len(done))
    assert made.run() == 5.0 and done == [reference.AGAIN, reference.ROUNDS]
    assert made.series == [5.0]
