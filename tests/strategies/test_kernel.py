"""The embedding's squared distances are the distances it promises, group by group."""

import numpy as np
import pytest

from nas.core.decision import Choice, Integer, Real
from nas.core.space import SearchSpace
from nas.strategies.candidates import ABSENT, Genes
from nas.strategies.kernel import Embedding, squared

SPACE = SearchSpace(
    "zoo",
    [
        Choice("mixer", ["plain", "gated", "split"]),
        Choice("kernel", [3, 5, 7]),
        Choice("dilation", [1, 2], when={"kernel": [3]}),
        Integer("width", 0, 99),
        Real("dropout", 0.0, 0.5),
    ],
    build=lambda choices, task: None,
)


def test_each_group_is_the_distance_it_stands_for():
    genes = Genes(SPACE)
    embedding = Embedding(genes, extras=1)
    rng = np.random.default_rng(0)
    codes, extras = genes.sample(40, rng), rng.normal(size=(40, 1))
    features = embedding(codes, extras)
    [part] = embedding.parts
    assert features.shape == (40, len(part.design)) and part.columns == slice(0, len(part.design))
    one, other = codes[:, None], codes[None]
    differs = (one != other).astype(float)
    expected = [
        differs[..., 0],  # mixer
        differs[..., 1],  # kernel, by name
        np.abs(one - other)[..., 1] / 2,  # kernel, on its scale
        differs[..., 2],  # dilation; absent is a value of its own
        ((one - other)[..., 3] / 99) ** 2,  # width, a long scale
        (one - other)[..., 4] ** 2,  # dropout
        (extras[:, None, 0] - extras[None, :, 0]) ** 2,
    ]
    assert part.count == len(expected)
    for group, distance in enumerate(expected):
        mine = features[:, part.design[:, group] == 1]
        assert np.allclose(squared(mine, mine), distance, atol=1e-12)
    assert (codes[:, 2] == ABSENT).any() and (codes[:, 2] != ABSENT).any()


def test_decisions_with_the_same_values_share_what_a_value_is():
    same = SearchSpace(
        "cell",
        [
            Choice("left", ["none", "conv"]),
            Choice("right", ["none", "conv"]),
            Choice("top", [1, 2]),
        ],
        build=lambda choices, task: None,
    )
    design = Embedding(Genes(same), extras=1).parts[0].design
    assert design.shape == (2 + 2 + 2 + 1, 3 + 1 + 4)
    assert (design[0, 4:] == design[2, 4:]).all() and (design[1, 4:] == design[3, 4:]).all()
    assert not (design[4:6, 4:] @ design[:4, 4:].T).any()
    assert design[6].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_what_decisions_share_is_how_often_each_value_occurs():
    """The same operations at other places: no distance in the second part, much in the first."""
    ops = ["none", "skip", "conv"]
    decisions = [Choice("stem", ["plain", "wide"])]
    decisions += [Choice(f"edge {i}", ops) for i in range(4)]
    decisions += [Choice(f"width {i}", [8, 16]) for i in range(2)]
    decisions += [Choice("extra", ops, when={"stem": ["wide"]})]
    genes = Genes(SearchSpace("cell", decisions, build=lambda choices, task: None))
    embedding = Embedding(genes, extras=2)
    whole, shared = embedding.parts
    rng = np.random.default_rng(0)
    codes, extras = genes.sample(30, rng), rng.normal(size=(30, 2))
    features = embedding(codes, extras)
    assert whole.columns.stop - shared.columns.start == 2  # the extra numbers are of both
    assert shared.columns.stop == features.shape[1] == shared.columns.start + len(shared.design)
    assert shared.count == 2 + 2 and shared.design.shape == (2 + 3 + 2, 2 + 2 + 3 + 2)
    mine = features[:, shared.columns]
    assert (mine[:, :2] == extras).all()
    edges = codes[:, [1, 2, 3, 4, 7]]  # one of them does not always exist, and has no value then
    often = np.array([[(row == v).sum() for v in range(3)] for row in edges])
    assert np.allclose(mine[:, 2:5], often / np.sqrt(10)) and (edges == ABSENT).any()
    assert np.allclose(mine[:, 5], (codes[:, 5:7] == 0).sum(axis=1) / 2)
    turned = codes[:, [0, 2, 3, 4, 1, 6, 5, 7]]
    again = embedding(turned, extras)
    assert np.array_equal(again[:, shared.columns], mine)
    assert (again[:, whole.columns] != features[:, whole.columns]).any()


@pytest.mark.parametrize("count", [24, 25, 500])
def test_names_without_an_order_are_told_apart_however_many_they_are(count):
    decisions = [
        Choice("kind", [f"kind {i}" for i in range(count)]),
        Choice("part", [f"part {i}" for i in range(count)], when={"kind": ["kind 1"]}),
    ]
    genes = Genes(SearchSpace("zoo", decisions, build=lambda choices, task: None))
    embedding = Embedding(genes)
    codes = np.array([[0, ABSENT], [1, 0], [1, count - 1], [count - 1, ABSENT]], dtype=float)
    features = embedding(codes)
    [part] = embedding.parts
    assert features.shape == (4, 2 * count + 1) and part.count == 2
    for i in range(2):
        mine = features[:, part.design[:, i] == 1]
        assert np.allclose(squared(mine, mine), codes[:, None, i] != codes[None, :, i])
    # Their weights are few: of 500 values that are tried once each nothing is learnt of one alone.
    assert part.design.shape[1] == (2 if count > 24 else 2 + 24 + 25)


def test_a_number_that_does_not_exist_is_in_the_middle_of_its_scale():
    decisions = [
        Choice("mixer", ["plain", "gated"]),
        Real("scale", 0.0, 1.0, when={"mixer": ["gated"]}),
        Integer("width", 0, 49, when={"mixer": ["gated"]}),
        Integer("depth", 1, 3, when={"mixer": ["gated"]}),
    ]
    genes = Genes(SearchSpace("parts", decisions, build=lambda choices, task: None))
    embedding = Embedding(genes)
    assert embedding.extras == 0
    features = embedding(np.array([[0.0, ABSENT, ABSENT, ABSENT]]))[0]
    half = np.sqrt(0.5)
    # mixer's two values; scale; width; depth: absent or one of three, and its two steps
    steps = [1 / np.sqrt(2), 0.0]
    assert np.allclose(features, [half, 0, 0.5, 0.5, half, 0, 0, 0, *steps])
    assert len(features) == len(embedding.parts[0].design)
