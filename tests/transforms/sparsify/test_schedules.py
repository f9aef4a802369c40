from __future__ import annotations

import pytest

from nas.core.errors import NasError
from nas.transforms.sparsify.schedules import DST_ROUNDS, NAMES, Schedule, dropped_in


def sparse(name: str, percent: int) -> bool:
    schedule = Schedule(name)
    return schedule.share_in(schedule.round_at(percent / 100)) > 0


def test_acdc_is_that_of_the_paper() -> None:
    """Dense for 10 epochs, phases of 5 that begin sparse until 75, dense until 85, then sparse."""
    expected = [
        percent >= 85 or (10 <= percent < 75 and (percent - 10) // 5 % 2 == 0)
        for percent in range(100)
    ]
    assert [sparse("acdc", p) for p in range(100)] == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_ends_with_all_of_the_sparsity(name: str) -> None:
    schedule = Schedule(name)
    rounds = [schedule.round_at(i / 1000) for i in range(1001)]
    assert rounds == sorted(rounds) and rounds[-1] == schedule.rounds
    assert schedule.share_in(schedule.rounds) == 1
    assert all(0 <= schedule.share_in(r) <= 1 for r in rounds)


def test_gradual_is_the_cubic_ramp() -> None:
    """Zhu and Gupta: s(t) = s_f (1 - (1 - t)^3), here at the middle of the ramp."""
    schedule = Schedule("gradual")
    assert schedule.share_in(schedule.round_at(0.4)) == pytest.approx(1 - 0.5**3, abs=1e-9)
    shares = [schedule.share_in(schedule.round_at(i / 100)) for i in range(101)]
    assert shares == sorted(shares) and shares[9] == 0 and shares[71] == 1


def test_dynamic_training_ends_its_rounds_at_three_quarters() -> None:
    schedule = Schedule("dst")
    assert schedule.round_at(0.74) < DST_ROUNDS == schedule.round_at(0.75) == schedule.rounds
    drops = [dropped_in(r) for r in range(DST_ROUNDS + 1)]
    assert drops == sorted(drops, reverse=True) and drops[-1] == pytest.approx(0)


def test_an_unknown_schedule_is_named() -> None:
    with pytest.raises(NasError, match="gradul"):
        Schedule("gradul")
