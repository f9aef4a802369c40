"""Codes stay within the space whatever is done to them, and come back as architectures."""

import numpy as np
import pytest

from nas.core.decision import Choice, Integer, Real
from nas.core.space import SearchSpace
from nas.strategies.candidates import ABSENT, Genes

SPACE = SearchSpace(
    "zoo",
    [
        Choice("stride", [1, 2]),
        Choice("mixer", ["plain", "gated", "split"]),
        Choice("kernel", [3, 5, 7, 13], within={"stride": {2: [3, 5]}}),
        Choice("dilation", [1, 2, 3], when={"kernel": [3, 5]}),
        Choice("bias", [False, True], when={"mixer": ["plain"], "dilation": [1, 2]}),
        Integer("depth", 1, 9, step=2),
        Real("dropout", 0.0, 0.5),
        Real("scale", 1e-4, 1e-1, log=True, when={"mixer": ["gated"]}),
        Choice("head", ["pool"]),
    ],
    build=lambda choices, task: None,
    presets={"wide": {"stride": 2, "mixer": "split", "kernel": 47, "depth": 3, "dropout": 0.1,
                      "head": "pool"}},
)  # fmt: skip
GENES = Genes(SPACE)


def assert_proposable(codes):
    for code in codes:
        architecture = GENES.architecture(code)
        assert SPACE.check(architecture.choices) == []
        assert SPACE.architecture(architecture.choices) == architecture
        if architecture.choices["stride"] == 2:
            assert architecture.choices["kernel"] in (3, 5)
        assert np.allclose(GENES.code(architecture), code)


def test_samples_moves_and_mixtures_are_architectures():
    rng = np.random.default_rng(0)
    codes = GENES.sample(300, rng)
    assert_proposable(codes)
    assert_proposable(GENES.move(codes, rng, rng.integers(1, 5, size=300)))
    assert_proposable(GENES.mix(codes, codes[::-1], rng))


def test_a_move_changes_one_decision_and_what_hangs_on_it():
    decisions = [Choice("a", ["x", "y", "z"]), Integer("b", 0, 9), Choice("c", [1])]
    space = SearchSpace("flat", decisions, build=lambda choices, task: None)
    genes, rng = Genes(space), np.random.default_rng(1)
    codes = genes.sample(200, rng)
    moved = genes.move(codes, rng, np.ones(200, dtype=np.int64))
    assert ((moved != codes).sum(axis=1) == 1).all()


def test_a_child_of_two_equal_parents_is_their_like():
    codes = GENES.sample(50, np.random.default_rng(2))
    assert np.array_equal(GENES.mix(codes, codes, np.random.default_rng(3)), codes)


def test_samples_are_drawn_evenly():
    codes = GENES.sample(6000, np.random.default_rng(4))
    assert np.mean(codes[:, 1] == 0) == pytest.approx(1 / 3, abs=0.03)
    wide = codes[:, 0] == 0
    assert np.mean(codes[wide, 2] == 3) == pytest.approx(1 / 4, abs=0.03)


def test_a_value_that_is_never_proposed_is_the_nearest_one():
    code = GENES.code(SPACE.preset("wide"))
    assert code[2] == 3 and code[3] == ABSENT
