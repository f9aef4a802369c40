"""Whatever a space looks like, what it proposes can be built, and it counts itself rightly."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core.architecture import Architecture, Value
from nas.core.decision import Choice, Decision, Integer, Real, is_active
from nas.core.errors import NasError
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec

SEEDS = st.integers(0, 2**32 - 1)


def nothing(choices: object, task: object) -> None:
    return None


@st.composite
def spaces(draw: st.DrawFn, reals: bool = False) -> SearchSpace:
    """Small spaces with conditions and limits between their decisions."""
    decisions: list[Decision] = []
    for number in range(draw(st.integers(1, 6))):
        earlier = [d for d in decisions if not isinstance(d, Real)]
        when = within = None
        if earlier and draw(st.booleans()):
            picked = draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=2, unique_by=id))
            when = {p.name: draw(_some(tuple(p.values))) for p in picked}
        values = draw(st.sampled_from([(1, 2, 3), (3, 5), ("a", "b", "c"), (False, True), (7,)]))
        if earlier and draw(st.booleans()):
            parent = draw(st.sampled_from(earlier))
            some = draw(_some(tuple(parent.values)))
            within = {parent.name: {v: draw(_some(values)) for v in some}}
        kinds: list[Decision] = [
            Choice(f"d{number}", values, when=when, within=within),
            Integer(f"d{number}", 1, draw(st.integers(1, 4)), when=when),
        ]
        if reals:
            kinds.append(Real(f"d{number}", 0.5, 2.0, log=draw(st.booleans()), when=when))
        decisions.append(draw(st.sampled_from(kinds)))
    return SearchSpace("random", decisions, nothing)


def _some(values: tuple[Value, ...]) -> st.SearchStrategy[list[Value]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True)


def enumerated(space: SearchSpace) -> Iterator[dict[str, Value]]:
    """Every architecture that may be proposed, by the definition."""

    def rest(listed: tuple[Decision, ...], chosen: dict[str, Value]) -> Iterator[dict[str, Value]]:
        if not listed:
            yield chosen
        elif not is_active(listed[0], chosen):
            yield from rest(listed[1:], chosen)
        else:
            head = listed[0]
            values = head.allowed(chosen) if isinstance(head, Choice) else head.values  # type: ignore[union-attr]
            for value in values:
                yield from rest(listed[1:], {**chosen, head.name: value})

    return rest(space.listed, {})


def may_be_proposed(space: SearchSpace, architecture: Architecture) -> bool:
    """Legal, complete, without decisions that have no effect, and within every limit."""
    choices = dict(architecture.choices)
    if space.check(choices) or set(choices) != {d.name for d in space.active(choices)}:
        return False
    limited = [d for d in space.active(choices) if isinstance(d, Choice)]
    return all(choices[d.name] in d.allowed(choices) for d in limited)


@given(spaces(reals=True), SEEDS)
def test_what_is_proposed_may_be_proposed(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = space.sample(rng), space.sample(rng)
    near = space.neighbours(one, rng, 3)
    for architecture in [one, other, *near, space.crossover(one, other, rng)]:
        assert may_be_proposed(space, architecture)
        assert space.architecture(architecture.choices) == architecture
        assert space.repair(architecture.choices) == architecture


ANYTHING = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=2)


@given(spaces(reals=True), st.data())
def test_repair_makes_an_architecture_of_anything(space: SearchSpace, data: st.DataObject) -> None:
    names = [d.name for d in space.listed] + ["not.there"]
    wild = data.draw(st.dictionaries(st.sampled_from(names), ANYTHING))
    assert may_be_proposed(space, space.repair(wild))


@given(spaces(), SEEDS)
def test_a_neighbour_is_another_architecture(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = space.sample(rng)
    if len(list(itertools.islice(enumerated(space), 2))) > 1:
        # A decision that is alone in its values now may still be free after another one moves.
        assert all(n != one for n in space.neighbours(one, rng, 3))


@given(spaces(reals=True), SEEDS)
def test_the_key_forgets_what_has_no_effect(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    architecture = space.sample(rng)
    idle = {d.name: d.draw(rng, {}) for d in space.listed if d.name not in architecture.choices}
    again = space.architecture({**idle, **architecture.choices})
    assert again == architecture and again.key == architecture.key


@given(spaces(reals=True), SEEDS)
def test_encoding(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [space.encode(space.sample(rng)) for _ in range(5)]
    assert len({row.shape for row in rows}) == 1
    assert all(((row >= 0) & (row <= 1)).all() for row in rows)


@given(spaces())
def test_the_encoding_tells_architectures_apart(space: SearchSpace) -> None:
    listed = [Architecture("random", c) for c in itertools.islice(enumerated(space), 200)]
    assert len({tuple(space.encode(a)) for a in listed}) == len(listed)


@settings(max_examples=300)
@given(spaces())
def test_the_size_is_that_of_the_enumeration(space: SearchSpace) -> None:
    listed = [Architecture("random", c) for c in enumerated(space)]
    assert len({a.key for a in listed}) == len(listed)
    assert space.size == len(listed)


@settings(max_examples=30)
@given(spaces(), SEEDS)
def test_sampling_reaches_everything(space: SearchSpace, seed: int) -> None:
    if space.size > 12:
        return
    rng = np.random.default_rng(seed)
    found = {space.sample(rng) for _ in range(1500)}
    assert found == {Architecture("random", c) for c in enumerated(space)}


def test_the_size_of_a_large_space_is_exact() -> None:
    stages = [
        decision
        for stage in range(30)
        for decision in (
            Choice(f"{stage}.kernel", [3, 5, 7]),
            Choice(f"{stage}.dilation", [1, 2], when={f"{stage}.kernel": [3]}),
        )
    ]
    assert SearchSpace("deep", stages, nothing).size == 4**30
    assert SearchSpace("real", [Real("x", 0, 1)], nothing).size == math.inf


def test_what_a_change_switches_on_is_drawn_anew() -> None:
    space = SearchSpace(
        "s",
        [Choice("on", [False, True]), Choice("width", [1, 2, 3, 4], when={"on": [True]})],
        nothing,
    )
    rng = np.random.default_rng(0)
    off = space.architecture({"on": False})
    widths = {a.choices["width"] for a in space.neighbours(off, rng, 60)}
    assert widths == {1, 2, 3, 4}


def test_a_child_takes_every_value_from_a_parent() -> None:
    space = SearchSpace("s", [Integer(f"d{i}", 0, 99) for i in range(12)], nothing)
    rng = np.random.default_rng(1)
    one, other = space.sample(rng), space.sample(rng)
    child = space.crossover(one, other, rng)
    assert all(child.choices[n] in (one.choices[n], other.choices[n]) for n in child.choices)
    assert child not in (one, other)


PUBLISHED = SearchSpace(
    "nets",
    [Choice("stride", [1, 2]), Choice("kernel", [3, 7], within={"stride": {2: [3]}}),
     Choice("width", [16, 32])],
    nothing,
    presets={"large": {"stride": 2, "kernel": 47, "width": 48}},
)  # fmt: skip


def test_a_preset_keeps_its_published_values() -> None:
    preset = PUBLISHED.preset("large")
    assert dict(preset.choices) == {"stride": 2, "kernel": 47, "width": 48}
    assert PUBLISHED.check(preset.choices) == []


def test_children_of_a_preset_keep_the_limits() -> None:
    rng = np.random.default_rng(0)
    preset = PUBLISHED.preset("large")
    children = PUBLISHED.neighbours(preset, rng, 50)
    children += [PUBLISHED.crossover(preset, PUBLISHED.sample(rng), rng) for _ in range(50)]
    assert {c.choices["kernel"] for c in children if c.choices["stride"] == 2} == {3}
    assert {c.choices["kernel"] for c in children} <= {3, 7}


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(NasError) as caught:
        PUBLISHED.architecture({"kernel": 4, "width": 16, "colour": "red"})
    hint = caught.value.hint
    assert "colour: not a decision" in hint and "stride: missing" in hint
    assert "kernel=4: not in [3, 7]" in hint


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(NasError, match="did you mean 'large'"):
        PUBLISHED.preset("lage")


def test_decisions_are_declared_in_order_and_once() -> None:
    late = SearchSpace("s", [Choice("a", [1], when={"b": [1]}), Choice("b", [1])], nothing)
    with pytest.raises(NasError, match="declared later"):
        late.sample(np.random.default_rng(0))
    with pytest.raises(NasError, match="twice"):
        SearchSpace("s", [Choice("a", [1]), Choice("a", [2])], nothing).listed  # noqa: B018


def test_decisions_that_depend_on_the_task_wait_for_it() -> None:
    def kernels(task: TaskSpec) -> list[Decision]:
        return [Choice("kernel", [k for k in (3, 31) if k <= 2 * task.input[1] - 1])]

    space = SearchSpace("s", kernels, nothing)
    with pytest.raises(NasError, match="depends on the task"):
        space.sample(np.random.default_rng(0))
    assert space.at(TaskSpec("digits", (1, 8, 8), 10)).size == 1
    assert space.at(TaskSpec("digits", (3, 32, 32), 10)).size == 2
