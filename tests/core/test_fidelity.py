"""Rungs rise by the reduction and end at the full training."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.errors import NasError
from nas.core.fidelity import Fidelity


@given(st.integers(1, 500), st.integers(1, 20), st.integers(2, 6))
def test_rungs_rise_to_the_full_training(epochs: int, first: int, reduction: int) -> None:
    rungs = Fidelity(epochs, first=first, reduction=reduction).rungs
    assert rungs[-1] == epochs
    assert all(low < high for low, high in pairwise(rungs))
    assert all(r == first * reduction**i for i, r in enumerate(rungs[:-1]))


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"epochs": 3, "first": 0}, {"epochs": 3, "reduction": 1},
     {"epochs": 3, "data": 0.0}, {"epochs": 3, "data": 1.5}],
)  # fmt: skip
def test_refuses_what_cannot_be_trained(wrong: dict[str, float]) -> None:
    with pytest.raises(NasError, match="no such fidelity"):
        Fidelity(**wrong)  # type: ignore[arg-type]


def test_json_round_trip() -> None:
    fidelity = Fidelity(27, 0.5, 3, 3)
    assert Fidelity.from_json(fidelity.to_json()) == fidelity
