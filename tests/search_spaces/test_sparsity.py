"""Every point of the axis names a plan, and what a plan refuses is never proposed."""

from __future__ import annotations

import numpy as np
import pytest

from nas.catalog import load_axis, load_space
from nas.core.axis import join
from nas.core.errors import NasError
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec

TASK = TaskSpec("digits", (3, 32, 32), 10)


@pytest.fixture(scope="module")
def joint() -> SearchSpace:
    plain = SearchSpace("plain", [], lambda choices, task: None)
    return join(plain, [load_axis("sparsity")]).at(TASK)


def test_every_proposal_is_a_plan(joint: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        choices = joint.sample(rng).choices
        (transform,) = joint.transforms(choices, TASK)  # raises for what excludes each other
        assert (transform.prepare is None) == (choices["sparsity.pattern"] == "dense")
        seen |= {(name, value) for name, value in choices.items()}
    assert {v for n, v in seen if n == "sparsity.allocation"} == {
        "uniform", "erk", "global", "rd", "precrop",
    }  # fmt: skip
    assert {v for n, v in seen if n == "sparsity.schedule"} == {
        "start", "oneshot", "gradual", "acdc", "dst",
    }  # fmt: skip


def test_what_a_person_names_against_each_other_is_refused(joint: SearchSpace) -> None:
    choices = {
        "sparsity.pattern": "channels", "sparsity.removed": 0.5,
        "sparsity.allocation": "precrop", "sparsity.schedule": "gradual",
    }  # fmt: skip
    with pytest.raises(NasError, match=r"precrop .* gradual"):
        joint.transforms(choices, TASK)


def test_it_joins_networks_of_ours() -> None:
    joined = load_space("largekernel+sparsity").at(TASK)
    names = [d.name for d in joined.listed]
    assert "sparsity.pattern" in names and "stages.0.mixer" in names
    assert joined.preset("convnext_a").choices["sparsity.pattern"] == "dense"
