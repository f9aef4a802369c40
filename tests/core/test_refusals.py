"""What is refused is never proposed, and named with its reason to whoever asks for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from nas.catalog import axes, load_axis, load_space
from nas.core.axis import join
from nas.core.decision import Choice
from nas.core.errors import NasError
from nas.core.refusals import REFUSALS, USELESS, limited, nothing_left, reasons
from nas.core.space import SearchSpace
from nas.core.target import Target
from nas.core.task import TaskSpec
from nas.hardware.capabilities import target
from nas.hardware.device import named

TASK = TaskSpec("digits", (3, 16, 16), 10)
CPU = ("int8", "int8-dynamic", "int8-weights", "int4-weights")
PLAIN = SearchSpace("plain", [Choice("kernel", [3, 5])], build=lambda choices, task: None)
TARGETS = {
    "nothing known": None,
    "latency on a processor": Target("onnxruntime", CPU, ("accuracy", "latency_ms")),
    "bytes on a processor": Target("onnxruntime", CPU, ("accuracy", "size_mb")),
    "a gpu": Target("tensorrt", ("int8", "fp16", "bf16", "fp8", "2:4"), ("accuracy", "latency_ms")),
    "no weights": Target("onnxruntime", CPU, ("accuracy",), pretrained=False),
    "given weights": Target("onnxruntime", CPU, ("accuracy",), pretrained=True),
}


def joint(*names: str) -> SearchSpace:
    return join(PLAIN, [load_axis(name) for name in names or axes()])


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("turned", [False, True])
def test_strategies_never_propose_what_is_refused(target: Target | None, turned: bool) -> None:
    space = joint(*(reversed(axes()) if turned else axes())).at(TASK, target)
    rng = np.random.default_rng(0)
    points = [space.sample(rng) for _ in range(60)]
    points += [space.sample_sized(rng, float(share)) for share in rng.random(20)]
    for _ in range(60):
        one, other = rng.choice(len(points), 2, replace=False)
        points.append(space.crossover(points[one], points[other], rng))
        points += space.neighbours(points[one], rng)
    for point in points:
        assert reasons(point.choices, target) == []
        assert space.check(point.choices) == []


def test_every_row_names_decisions_and_values_that_exist_and_spares_the_first() -> None:
    from fnmatch import fnmatchcase

    every = [*joint().at(TASK).listed, *load_space("mixer").at(TASK).listed]
    listed = {d.name: d for d in every if isinstance(d, Choice)}
    sides = [(r.one, r.values) for r in REFUSALS] + [(r.other, r.others) for r in REFUSALS]
    sides += [(u.one, u.values) for u in USELESS]
    for pattern, values in sides:
        named = [d for n, d in listed.items() if fnmatchcase(n, pattern)]
        assert named, pattern
        for decision in named:
            assert decision.values[0] not in values, (decision.name, values)
            legal = {*decision.values, "polyhistor"}  # offered where a task has several parts
            assert set(values) <= legal, (decision.name, values)


@pytest.mark.parametrize(
    ("target", "kept"), [("latency on a processor", "dense"), ("a gpu", "2:4")]
)
def test_what_a_device_refuses_of_another_studys_point_is_left_alone(
    target: str, kept: str
) -> None:
    space = joint("sparsity").at(TASK, TARGETS[target])
    theirs = {"kernel": 5, "sparsity.pattern": "2:4", "sparsity.schedule": "oneshot",
              "sparsity.ends": "dense"}  # fmt: skip
    point = space.repair(theirs, plainly=True)
    assert point.choices["sparsity.pattern"] == kept and point.choices["kernel"] == 5
    assert (dict(point.choices) == theirs) == (kept == "2:4")
    assert space.check(point.choices) == []


def test_a_user_is_told_the_two_choices_and_why() -> None:
    space = joint("adapter", "sparsity").at(TASK)
    choices = space.repair({"adapter.method": "lora", "sparsity.pattern": "unstructured"}).choices
    assert choices["sparsity.pattern"] != "unstructured"
    wrong = {**space.repair({"sparsity.pattern": "2:4"}).choices,
             **space.repair({"adapter.method": "lora"}).choices,
             "sparsity.pattern": "2:4"}  # fmt: skip
    wrong |= {"sparsity.schedule": "oneshot", "sparsity.ends": "dense"}
    with pytest.raises(NasError) as caught:
        space.architecture(wrong)
    problem, hint = str(caught.value).splitlines()
    assert problem == "adapter.method=lora and sparsity.pattern=2:4 exclude each other"
    assert "zeros" in hint and "change one of the two" in hint
    assert any("exclude each other" in fault for fault in space.check(wrong))


@pytest.mark.parametrize("method", ["head", "lora", "ssf", "sara", "prompt", "polyhistor"])
def test_the_grown_kernel_is_not_asked_of_a_frozen_network(method: str) -> None:
    [(pair, why)] = reasons({"dilation.kernel": "full", "adapter.method": method})
    assert pair == f"dilation.kernel=full and adapter.method={method}" and "frozen" in why
    assert reasons({"dilation.kernel": "own", "adapter.method": method}) == []
    assert reasons({"dilation.kernel": "full", "adapter.method": "none"}) == []


@pytest.mark.parametrize("method", ["head", "lora", "prompt", "polyhistor"])
def test_taps_of_a_frozen_network_are_not_set_apart(method: str) -> None:
    own = {"dilation.kernel": "own", "adapter.method": method}
    [(pair, why)] = reasons({**own, "dilation.section.2.dilated": True})
    assert pair == f"dilation.section.2.dilated=True and adapter.method={method}"
    assert "frozen" in why
    assert reasons({**own, "dilation.section.2.dilated": False}) == []
    assert reasons({"dilation.section.2.dilated": True, "adapter.method": "none"}) == []


@pytest.mark.parametrize("mixer", ["deformable", "salient"])  # a gate has such a convolution too
@pytest.mark.parametrize("bits", ["int8", "mixed", "divided"])
def test_deformable_convolutions_stay_in_fp32(mixer: str, bits: str) -> None:
    [(pair, why)] = reasons({"meta.stages.2.mixer": mixer, "bitwidth.weights": bits})
    assert pair == f"meta.stages.2.mixer={mixer} and bitwidth.weights={bits}"
    assert "no runtime has an int8 kernel" in why
    assert reasons({"meta.stages.2.mixer": "gated", "bitwidth.weights": bits}) == []


def test_beside_a_deformable_convolution_no_bits_are_proposed() -> None:
    space, rng = load_space("mixer+bitwidth").at(TASK), np.random.default_rng(0)
    found = set()
    for choices in (space.sample(rng).choices for _ in range(200)):
        mixers = {v for k, v in choices.items() if k.endswith(".mixer")}
        found.add((bool(mixers & {"deformable", "salient"}), choices["bitwidth.weights"] != "fp32"))
    assert found == {(True, False), (False, False), (False, True)}


def test_beside_other_faults_all_are_told_at_once() -> None:
    space = joint("adapter", "sparsity").at(TASK)
    with pytest.raises(NasError, match="not an architecture") as caught:
        space.architecture({"adapter.method": "lora", "sparsity.pattern": "2:4", "kernel": 4})
    assert "exclude each other" in str(caught.value) and "kernel=4" in str(caught.value)


@pytest.mark.parametrize(
    ("choice", "refused", "taken"),
    [
        ({"bitwidth.format.0": "fp16"}, "latency on a processor", "bytes on a processor"),
        ({"bitwidth.format.3": "fp8"}, "latency on a processor", "a gpu"),
        ({"bitwidth.format.1": "int4"}, "a gpu", "bytes on a processor"),
        ({"bitwidth.format.2": "int8-weights"}, "a gpu", "latency on a processor"),
        ({"bitwidth.format.2": "int4-weights"}, "a gpu", "bytes on a processor"),
        ({"bitwidth.weights": "divided"}, "latency on a processor", "bytes on a processor"),
        ({"sparsity.pattern": "2:4"}, "bytes on a processor", "a gpu"),
        ({"sparsity.allocation": "precrop"}, "given weights", "a gpu"),
        ({"adapter.method": "lora"}, "no weights", "given weights"),
        ({"adapter.method": "head"}, "no weights", "a gpu"),
    ],
)
def test_some_choices_are_held_against_the_study(
    choice: Mapping[str, str], refused: str, taken: str
) -> None:
    [(pair, why)] = reasons(choice, TARGETS[refused])
    [(name, value)] = choice.items()
    assert pair.startswith(f"{name}={value} and ") and why
    assert reasons(choice, TARGETS[taken]) == reasons(choice) == []


def test_what_a_choice_is_held_against_is_named_as_it_is_typed() -> None:
    def pair(choices: Mapping[str, str], target: Target) -> str:
        [(found, _)] = reasons(choices, target)
        return found.partition(" and ")[2]

    divided = {"bitwidth.weights": "divided"}
    assert pair(divided, Target("onnxruntime", CPU, ("accuracy", "macs"))) == (
        "objectives accuracy, macs"
    )
    assert pair(divided, Target("onnxruntime", CPU, ())) == "no objective of bytes"
    assert pair({"sparsity.pattern": "2:4"}, Target("onnxruntime", CPU)) == "--runtime onnxruntime"


def test_an_axis_that_could_do_nothing_is_an_error_not_a_search() -> None:
    torch = Target("torch", (), ("accuracy", "latency_ms"))
    left = nothing_left(joint("bitwidth").at(TASK).listed, torch)
    assert left is not None and "--runtime torch" in left[0]
    assert nothing_left(joint().at(TASK).listed, Target("onnxruntime", CPU)) is None


def test_adapters_want_weights_or_a_network_that_may_bring_them() -> None:
    def left(network: str | None, weights: str | None) -> tuple[str, str] | None:
        aims = target(named("cpu"), ("accuracy",), network, weights)
        return nothing_left(joint("adapter").at(TASK, aims).listed, aims)

    said = left(None, None)
    assert said is not None and said[0] == "adapter.method=head and no --weights"
    assert left("mine:net", "net.safetensors") is None
    assert left("mine:net", None) is None  # the function may load its own


def test_limits_meet_those_that_a_space_has_of_its_own() -> None:
    own = [
        Choice("adapter.method", ["none", "lora", "sara"]),
        Choice(
            "sparsity.pattern", ["dense", "channels", "2:4"],
            within={"adapter.method": {"sara": ["dense", "2:4"]}},
        ),
    ]  # fmt: skip
    method, pattern = limited(own)
    assert isinstance(pattern, Choice) and method == own[0]
    assert pattern.allowed({"adapter.method": "none"}) == ("dense", "channels", "2:4")
    assert pattern.allowed({"adapter.method": "lora"}) == ("dense", "channels")
    assert pattern.allowed({"adapter.method": "sara"}) == ("dense",)
    assert limited(limited(own)) == limited(own)
