"""Combinations that cannot work or are of no use, as data: two choices, and why not both.

They are held against choices before anything is built: strategies never propose them, and whoever
names them by hand is told the two and the reason. Decisions are named by patterns, `*` for any
part. The first value of a decision, which leaves a network alone, is never refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache

from nas.core.architecture import Choices, Value
from nas.core.decision import Choice, Decision
from nas.core.target import Target


@dataclass(frozen=True)
class Refusal:
    """Two choices that exclude each other: `values` of `one` and `others` of `other`."""

    one: str
    values: Sequence[Value]
    other: str
    others: Sequence[Value]
    why: str


@dataclass(frozen=True)
class Useless:
    """A choice that is refused in some studies: `holds` says of a target whether in this one.

    `against` names what the choice is held against, in the words of the command line.
    """

    one: str
    values: Sequence[Value]
    holds: Callable[[Target, Value], bool]
    against: Callable[[Target], str]
    why: str


MERGED = ("lora", "linear", "ssf", "difffit", "sara", "pruning")
FROZEN = ("head", *MERGED, "bottleneck", "snnk", "prompt", "polyhistor")
MOVED = ("lora", "linear", "pruning")  # merging adds to every weight, also to those at zero
ZEROS = ("2:4", "unstructured")
SHORT = ("int8", "mixed", "divided")

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "adapter.method", MOVED, "sparsity.pattern", ZEROS,
        "merging the adapter fills in the zeros: none of 2:4's groups keeps its pattern",
    ),
    Refusal(
        "adapter.method", MERGED, "bitwidth.method", ("qat", "switching"),
        "merging the adapter takes the weights off the grid whose steps were learned",
    ),
    Refusal(
        "adapter.method", ("sara",), "sparsity.pattern", ("channels", *ZEROS),
        "one trains the small weights that the other removes",
    ),
    Refusal(
        "adapter.method", ("pruning",), "sparsity.pattern", ("channels",),
        "both remove channels, each for its own reasons",
    ),
    Refusal(
        "adapter.method", FROZEN, "sparsity.schedule", ("oneshot", "gradual", "acdc", "dst"),
        "the adapter's network is frozen: what goes in training is what can go at its start",
    ),
    Refusal(
        "adapter.method", FROZEN, "sparsity.allocation", ("precrop",),
        "channels are cropped before training, and the frozen ones that stay are not trained again",
    ),
    Refusal(
        "bitwidth.method", ("qat", "switching"),
        "sparsity.schedule", ("oneshot", "gradual", "acdc", "dst"),
        "steps would be learned for weights that the schedule has yet to remove",
    ),
    Refusal(
        "bitwidth.format.*", ("int2",), "bitwidth.depthwise", ("int8",),
        "depthwise convolutions lose too much in 2 bits (MobileNetV2: 50 % instead of 72 %)",
    ),
    Refusal(
        "dilation.kernel", ("full",), "sparsity.pattern", ("channels", *ZEROS),
        "the grown kernel is there to be read by the statistical search, and never ships",
    ),
    Refusal(
        "dilation.kernel", ("full",), "bitwidth.weights", SHORT,
        "the grown kernel is there to be read by the statistical search, and never ships",
    ),
    Refusal(
        "dilation.kernel", ("full",), "adapter.method", FROZEN,
        "the statistical search reads a kernel that was trained whole, and the adapter's is frozen",
    ),
    Refusal(
        "dilation.section.*.dilated", (True,), "adapter.method", FROZEN,
        "taps that are set apart need training again, and the adapter's network is frozen",
    ),
    Refusal(
        "meta.stages.*.mixer", ("deformable", "salient"), "bitwidth.weights", SHORT,
        "a deformable convolution reads between pixels where the image says: no runtime has an "
        "int8 kernel for it",
    ),
)  # fmt: skip


def _no_kernel(target: Target, value: Value) -> bool:
    return str(value) not in target.kernels


def _no_bytes(target: Target, value: Value) -> bool:
    return not target.saves_bytes


def _storage(target: Target, value: Value) -> bool:
    return _no_kernel(target, value) and not target.saves_bytes


def _runtime(target: Target) -> str:
    return f"--runtime {target.runtime}"


def _objectives(target: Target) -> str:
    return "objectives " + ", ".join(target.wanted) if target.wanted else "no objective of bytes"


USELESS: tuple[Useless, ...] = (
    Useless(
        "sparsity.pattern", ("2:4",), _no_kernel, _runtime,
        "it has no 2:4 kernel on this device: the zeros would be multiplied and stored",
    ),
    Useless(
        "bitwidth.format.*", ("fp16", "bf16", "fp8", "int8-weights", "int4-weights"),
        _storage, _runtime,
        "it has no kernel for them on this device: they save bytes, and size_mb is not asked for",
    ),
    Useless(
        "bitwidth.format.*", ("int6", "int4", "int2"), _no_bytes, _objectives,
        "no runtime computes in them: they save bytes, and size_mb is not asked for",
    ),
    Useless(
        "bitwidth.weights", ("divided",), _no_bytes, _objectives,
        "fewer bits than 8 save bytes alone, and size_mb is not asked for",
    ),
    Useless(
        "bitwidth.format.*", ("int8-dynamic",), _no_kernel, _runtime, "it has no kernel for it",
    ),
    Useless(
        "sparsity.allocation", ("precrop",), lambda target, value: bool(target.pretrained),
        lambda target: "--weights",
        "channels are cropped before training, as if there were no weights yet",
    ),
    Useless(
        "adapter.method", FROZEN, lambda target, value: target.pretrained is False,
        lambda target: "no --weights",
        "what an adapter freezes is as it was drawn: it has learned nothing worth keeping",
    ),
    Useless(
        "bitwidth.weights", SHORT,
        lambda target, value: target.runtime == "torch", _runtime,
        "number formats are written into ONNX files, and it runs programs of torch's",
    ),
)  # fmt: skip


def reasons(choices: Choices, target: Target | None = None) -> list[tuple[str, str]]:
    """Every refused pair among choices: the two in words, and why.

    >>> [(pair, why)] = reasons({"adapter.method": "lora", "sparsity.pattern": "2:4"})
    >>> pair
    'adapter.method=lora and sparsity.pattern=2:4'
    """
    choices = {name: value for name, value in choices.items() if _named(name)}
    found = []
    for refusal in REFUSALS:
        for name in _having(choices, refusal.one, refusal.values):
            for other in _having(choices, refusal.other, refusal.others):
                pair = f"{name}={choices[name]} and {other}={choices[other]}"
                found.append((pair, refusal.why))
    for useless in USELESS if target is not None else ():
        assert target is not None
        for name in _having(choices, useless.one, useless.values):
            if useless.holds(target, choices[name]):
                pair = f"{name}={choices[name]} and {useless.against(target)}"
                found.append((pair, useless.why))
    return found


def _having(choices: Choices, pattern: str, values: Sequence[Value]) -> list[str]:
    return [n for n, v in choices.items() if fnmatchcase(n, pattern) and v in values]


def limited(decisions: Iterable[Decision], target: Target | None = None) -> tuple[Decision, ...]:
    """The decisions, of which nothing is proposed that is refused.

    Of two that exclude each other the later gives way, as what may be proposed beside the earlier
    one's value (`Choice.within`).
    """
    done: list[Decision] = []
    named: list[Choice] = []
    for decision in decisions:
        if isinstance(decision, Choice) and _named(decision.name):
            named.append(_useful(_beside(decision, named), target))
            done.append(named[-1])
        else:
            done.append(decision)
    return tuple(done)


def nothing_left(decisions: Iterable[Decision], target: Target) -> tuple[str, str] | None:
    """A pair, and why, where a target leaves an axis nothing but the network as it is; or None."""
    for decision in decisions:
        if isinstance(decision, Choice) and not decision.when and _named(decision.name):
            refused = [reasons({decision.name: v}, target) for v in decision.values[1:]]
            if refused and all(refused):
                return refused[0][0]
    return None


@cache
def _named(name: str) -> bool:
    """Whether any refusal looks at the decision of that name."""
    pairs = [*((r.one, r.other) for r in REFUSALS), *((u.one, u.one) for u in USELESS)]
    return any(fnmatchcase(name, pattern) for pair in pairs for pattern in pair)


def _beside(decision: Choice, earlier: Sequence[Choice]) -> Choice:
    within: dict[str, Mapping[Value, Sequence[Value]]] = dict(decision.within or {})
    for before in earlier:
        table = dict(within.get(before.name, {}))
        for value in before.values:
            gone = _excluded(before.name, value, decision)
            if gone:
                kept = table.get(value, decision.values)
                table[value] = [v for v in kept if v not in gone]
        if table:
            within[before.name] = table
    return replace(decision, within=within or None)


def _excluded(name: str, value: Value, decision: Choice) -> list[Value]:
    """The values of a decision that one value of another excludes."""
    pairs = [{name: value, decision.name: v} for v in decision.values]
    return [p[decision.name] for p in pairs if reasons(p)]


def _useful(decision: Choice, target: Target | None) -> Choice:
    if target is None:
        return decision
    values = decision.values if decision.proposed is None else decision.proposed
    kept = [v for v in values if not reasons({decision.name: v}, target)]
    return decision if len(kept) == len(values) else replace(decision, proposed=kept)
