"""Codes stay within the space whatever is done to them, and come back as architectures."""

import numpy as np
import pytest

from nas.core.architecture import Architecture
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
        Choice("pattern", ["dense", "2:4", "zeros"], proposed=["dense", "zeros"]),
    ],
    build=lambda choices, task: None,
    presets={"wide": {"stride": 2, "mixer": "split", "kernel": 47, "depth": 3, "dropout": 0.1,
                      "head": "pool", "pattern": "dense"}},
)  # fmt: skip
GENES = Genes(SPACE)


def assert_proposable(codes):
    for code in codes:
        architecture = GENES.architecture(code)
        assert SPACE.check(architecture.choices) == []
        assert SPACE.architecture(architecture.choices) == architecture
        if architecture.choices["stride"] == 2:
            assert architecture.choices["kernel"] in (3, 5)
        assert architecture.choices["pattern"] != "2:4"
        assert np.allclose(GENES.code(architecture), code)


def test_samples_moves_and_mixtures_are_architectures():
    rng = np.random.default_rng(0)
    codes = GENES.sample(300, rng)
    assert_proposable(codes)
    assert_proposable(GENES.move(codes, rng, rng.integers(1, 5, size=300)))
    assert_proposable(GENES.mix(codes, codes[::-1], rng))


def test_where_all_is_useless_the_first_value_is_proposed():
    decisions = [Choice("pattern", ["dense", "2:4"], proposed=[]), Integer("b", 0, 9)]
    genes = Genes(SearchSpace("bare", decisions, build=lambda choices, task: None))
    codes = genes.sample(50, np.random.default_rng(0))
    assert {genes.architecture(code).choices["pattern"] for code in codes} == {"dense"}


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


def test_a_value_is_itself_however_often_it_is_asked_and_true_is_not_one():
    genes = Genes(SearchSpace("line", [Choice("n", [0, 1, 2])], build=lambda c, t: None))
    found = [genes.code(Architecture("line", {"n": n}))[0] for n in (True, 1, 1.0, True, 2, 7, 1)]
    assert found == [0, 1, 1, 0, 2, 2, 1]


def test_the_neighbours_of_a_code_are_all_that_differ_in_one_decision():
    decisions = [Choice("a", ["x", "y", "z"]), Integer("b", 0, 9), Choice("c", [1])]
    genes = Genes(SearchSpace("flat", decisions, build=lambda choices, task: None))
    code = np.array([1.0, 4.0, 0.0])
    near = genes.neighbours(code, np.random.default_rng(0))
    expected = {(a, 4, 0) for a in (0, 2)} | {(1, b, 0) for b in range(10) if b != 4}
    assert {tuple(map(int, row)) for row in near} == expected and len(near) == len(expected)
    alone = Genes(SearchSpace("one", [Choice("c", [1])], build=lambda choices, task: None))
    assert alone.neighbours(np.zeros(1), np.random.default_rng(0)).shape == (0, 1)


def test_neighbours_hold_to_conditions_and_are_each_once():
    rng, steps = np.random.default_rng(5), []
    for code in GENES.sample(8, rng):
        near = GENES.neighbours(code, rng)
        assert_proposable(near)
        assert len(np.unique(near, axis=0)) == len(near) and (near != code).any(axis=1).all()
        assert {a for a, b in zip(near[:, 0], near[:, 1], strict=True)} == {0.0, 1.0}
        dropouts = near[near[:, 6] != code[6], 6]
        assert ((dropouts >= 0) & (dropouts <= 1)).all()
        steps.append(len(dropouts))
    assert max(steps) == 4


def test_half_of_the_steps_on_a_scale_go_to_a_neighbour():
    rng, count = np.random.default_rng(6), 6000
    decisions = [Integer("b", 0, 9), Choice("c", list("abcdefghij"))]
    genes = Genes(SearchSpace("flat", decisions, build=lambda choices, task: None))
    codes = np.tile([0.0, 4.0], (count, 1))
    moved = genes.move(codes, rng, np.full(count, 2))
    share = [np.mean(moved[:, 0] == b) for b in range(10)]
    assert share == pytest.approx([0, 0.5 + 0.5 / 9, *[0.5 / 9] * 8], abs=0.02)
    assert np.mean(moved[:, 1] == 5) == pytest.approx(1 / 9, abs=0.02)  # names have no neighbours
    inner = genes.move(np.tile([9.0, 4.0], (count, 1)), rng, np.full(count, 2))
    assert np.mean(inner[:, 0] == 8) == pytest.approx(0.5 + 0.5 / 9, abs=0.02)
    middle = genes.move(np.tile([4.0, 4.0], (count, 1)), rng, np.full(count, 2))
    for b in (3, 5):
        assert np.mean(middle[:, 0] == b) == pytest.approx(0.25 + 0.5 / 9, abs=0.02)


def test_steps_on_a_continuous_scale_are_a_tenth_of_it():
    rng = np.random.default_rng(7)
    genes = Genes(SearchSpace("line", [Real("r", 0.0, 1.0)], build=lambda choices, task: None))
    steps = genes.move(np.full((4000, 1), 0.5), rng, np.ones(4000, dtype=np.int64)) - 0.5
    assert (steps.mean(), steps.std()) == pytest.approx((0.0, 0.1), abs=0.01)


def test_a_condition_on_a_number_holds_at_each_of_its_values():
    decisions = [
        Real("dropout", 0.0, 0.5),
        Choice("where", ["in", "out"], when={"dropout": [0.0, 0.25]}),
    ]
    space = SearchSpace("drop", decisions, build=lambda choices, task: None)
    genes, rng = Genes(space), np.random.default_rng(0)
    for dropout, exists in ((0.0, True), (0.25, True), (0.3, False)):
        code = np.array([[dropout / 0.5, np.nan]])
        assert (genes.mix(code, code, rng)[0, 1] != ABSENT) == exists
