"""Which values of decisions were hardly tried near the front."""

import numpy as np

from nas.core.decision import Choice, Integer, Real
from nas.core.space import SearchSpace
from nas.strategies.candidates import ABSENT, Genes
from nas.strategies.kernel import LONGEST
from nas.strategies.neglected import ENOUGH, neglected


def genes(*decisions):
    return Genes(SearchSpace("s", list(decisions), build=lambda choices, task: None))


def rare(found, tried, front):
    return neglected(
        found, np.array(tried, float), np.array(front, float), np.random.default_rng(0)
    )


PAIR = genes(Choice("a", ["x", "y", "z"]), Choice("b", ["p", "q"]), Choice("c", [1, 2]))


def test_a_value_that_enough_networks_near_the_front_have_is_not_neglected():
    tried = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0], [2, 1, 1], [2, 1, 1]]
    assert ENOUGH == 2
    # from the front 000 and 110: 001, 010 and themselves are near; 211 is two changes away
    assert set(rare(PAIR, tried, [[0, 0, 0], [1, 1, 0]])) == {(0, 2.0), (0, 1.0), (2, 1.0)}


def test_the_rarest_is_first():
    tried = [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert rare(PAIR, tried, [[0, 0, 0]]) == [(0, 2.0), (0, 1.0)]


def test_equally_rare_ones_come_in_any_order():
    tried, front = np.zeros((3, 3)), np.zeros((1, 3))
    firsts = {neglected(PAIR, tried, front, np.random.default_rng(s))[0] for s in range(40)}
    assert firsts == {(0, 1.0), (0, 2.0), (1, 1.0), (2, 1.0)}


def test_numbers_on_a_line_single_values_and_absent_decisions_have_none():
    mixed = genes(
        Choice("mixer", ["plain", "gated"]),
        Integer("wide", 1, LONGEST + 5),
        Real("rate", 0.0, 1.0),
        Choice("head", ["pool"]),
        Choice("bias", [False, True], when={"mixer": ["gated"]}),
    )
    tried = [[0, 3, 0.5, 0, ABSENT]] * 4
    assert set(rare(mixed, tried, tried[:1])) == {(0, 1.0), (4, 0.0), (4, 1.0)}
