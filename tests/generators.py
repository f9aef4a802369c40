"""Hypothesis strategies for what a study is made of: any values that a program could produce."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from nas.core.architecture import Architecture
from nas.core.fidelity import Fidelity
from nas.core.measurement import Measurement
from nas.core.objective import Constraint, Objective
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.core.trial import Evaluation, Event, Rung, Timing, Trained, Trial

numbers = st.floats(allow_nan=False, allow_infinity=False)
small = st.integers(0, 2**31 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,15}", fullmatch=True)
values = st.booleans() | st.integers() | numbers | st.text(max_size=8)


def tables(of: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Small mappings from any text."""
    return st.dictionaries(st.text(max_size=6), of, max_size=3)


plain = st.recursive(
    st.none() | values, lambda inner: st.lists(inner, max_size=3) | tables(inner), max_leaves=6
)
notes = tables(plain)
architectures = st.builds(Architecture, texts, tables(values))
measurements = st.builds(
    Measurement, texts, numbers, texts, numbers, numbers, numbers, small,
    st.sampled_from(["measured", "predicted"]), texts, notes,
)  # fmt: skip
rungs = st.builds(
    Rung, small, small, small, numbers, small, st.none() | texts,
    st.sampled_from(["continue", "stop"]), st.booleans(),
)  # fmt: skip
trainings = st.builds(
    Trained, small, texts, numbers, numbers, small, numbers, numbers, small
)  # fmt: skip
trials = st.builds(
    Trial,
    number=small,
    architecture=architectures,
    origin=st.sampled_from(["strategy", "preset", "network", "user"]),
    notes=notes,
    state=st.sampled_from(["running", "complete", "stopped", "infeasible", "failed"]),
    build=st.none() | texts,
    file=st.none() | texts,
    costs=tables(numbers | st.integers()),
    uncounted=st.lists(st.text(max_size=6), max_size=3).map(tuple),
    measurements=tables(measurements),
    rungs=st.lists(rungs, max_size=2).map(tuple),
    trained=st.lists(trainings, max_size=2).map(tuple),
    values=tables(numbers),
    violations=tables(numbers),
    attempts=small,
    error=st.none() | texts,
    reused=st.none() | texts,
)
events = st.builds(
    Event, st.sampled_from(["proposed", "reported", "told", "resumed"]), small, notes
)
evaluations = st.builds(Evaluation, texts, texts, texts, texts, small, small, notes)
timings = st.builds(Timing, texts, texts, texts, texts, texts, texts, texts, measurements)

tasks = st.builds(
    TaskSpec,
    source=texts,
    input=st.lists(st.integers(1, 512), min_size=1, max_size=3).map(tuple),
    outputs=small,
    goal=st.sampled_from(["minimize", "maximize"]),
    digest=texts,
)
objectives = st.builds(
    Objective, texts, texts, st.sampled_from(["minimize", "maximize"]),
    st.sampled_from(["choices", "module", "file", "measure", "trained"]),
)  # fmt: skip
constraints = st.builds(
    Constraint,
    st.sampled_from(["latency_ms", "macs", "birdnet:widest_layer"]),
    st.sampled_from(["<=", ">="]),
    numbers,
    quantile=st.none() | st.sampled_from(["p50", "p90", "p99"]),
    device=st.none() | st.sampled_from(["cpu", "a100-x1"]),
    batch=st.none() | st.sampled_from(["1", "8", "1-8"]),
    resolution=st.none() | st.integers(1, 512),
)
specs = st.builds(
    StudySpec,
    name=names,
    space=texts,
    task=tasks,
    device=texts,
    objectives=st.lists(objectives, min_size=1, max_size=3).map(tuple),
    constraints=st.lists(constraints, max_size=3).map(tuple),
    trials=st.integers(1, 2**31 - 1),
    hours=st.none() | st.floats(0, 1e9, exclude_min=True),
    fidelity=st.builds(
        Fidelity, st.integers(1, 99), st.floats(0.01, 1), st.integers(2, 5), st.integers(1, 9)
    ),
    recipe=notes,
    confirm=numbers,
    seed=st.integers(),
    presets=st.lists(texts, max_size=2).map(tuple),
    network=st.none() | texts,
    weights=st.none() | texts,
    fresh=st.booleans(),
    files=tables(texts),
)
