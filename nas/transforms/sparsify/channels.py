"""Channels that are gone: fewer numbers in the file, fewer in every product.

How many go is decided before training, by the network as the study's own seed makes it, so that the
graph that was timed is the graph that ships, whatever seed a repeat has; which ones go may be
decided by the training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.networks.mixers.patterned import Pattern, Patterned
from nas.transforms.report import Report
from nas.transforms.sparsify.allocate import in_proportion
from nas.transforms.sparsify.groups import Group, Layers, Skips, Trace, spread, tried
from nas.transforms.sparsify.held import Held
from nas.transforms.sparsify.patterns import largest
from nas.transforms.sparsify.plan import Plan
from nas.transforms.sparsify.widths import importance, widths
from nas.transforms.stages import Addition, Given
from nas.transforms.unnamed import weighted, with_rest

BUFFERS = ("channel_mask", "channel_round", "channel_width")
EXAMPLES = 2


def prepare(module: nn.Module, given: Given, plan: Plan) -> tuple[nn.Module, Report]:
    """Removes the channels where the schedule begins; else notes how many will stay."""
    at_start = plan.schedule.rounds == 0
    example = _example(module, given)
    groups, skipped = _groups(module, example, late=not at_start)
    parts = weighted(module)
    written = {g.root: (*g.layers, *_along(module, g, parts)) for g in groups}
    looks = plan.allocation in ("global", "rd")  # the others know shapes alone
    reference = given.reference() if looks and given.reference is not None else module
    kept = widths(reference, groups, plan, given)
    if at_start:
        masks = {
            g.root: largest(importance(module, g), w) for g, w in zip(groups, kept, strict=True)
        }
        Trace(module, example).remove(masks)
    else:
        for group, width in zip(groups, kept, strict=True):
            root = module.get_submodule(group.root)
            alive = torch.ones(group.count, dtype=torch.bool, device=example.device)
            root.register_buffer("channel_mask", alive)
            root.register_buffer("channel_round", torch.tensor(0, dtype=torch.int32))
            root.register_buffer("channel_width", torch.tensor(width, dtype=torch.int32))
    when = "before training" if at_start else f"by {plan.timing} in training"
    pairs = list(zip(groups, kept, strict=True))
    touched = [
        f"{path}: {g.count} -> {w} channels by {plan.allocation}, {when}"
        for g, w in pairs if w < g.count for path in written[g.root]
    ]  # fmt: skip
    whole = [(path, _kept(plan, w))
             for g, w in pairs if w == g.count for path in written[g.root]]  # fmt: skip
    report = Report("sparsity", tuple(touched), tuple(skipped + whole))
    return module, with_rest(report, parts, "in no group of channels that can be removed")


def _kept(plan: Plan, width: int) -> str:
    return f"{plan.allocation} keeps its {width} channels"


def during(module: nn.Module, given: Given, plan: Plan) -> Addition:
    """Keeps masked channels at zero, and chooses them by importance where the schedule says so."""
    groups = _marked(module, given)
    held = Held(_masks(module, groups))
    schedule = plan.schedule

    def after(over: float) -> None:
        due = schedule.round_at(over)
        if groups and due > int(_buffer(module, groups[0], "channel_round")):
            choose(module, groups, plan, due)
            if schedule.forgets:
                held.forget()
        held.hold()

    return Addition(after=after, begin=held.begin)


def finish(module: nn.Module, given: Given, plan: Plan) -> tuple[nn.Module, Report]:
    """Removes what the training left at zero; an untrained network loses its least important."""
    groups = _marked(module, given)
    if not groups:
        return module, Report("sparsity", (), ())
    if plan.schedule.share_in(int(_buffer(module, groups[0], "channel_round"))) < 1:
        choose(module, groups, plan, plan.schedule.rounds)
    masks = {g.root: _buffer(module, g, "channel_mask").clone() for g in groups}
    for group in groups:
        for name in BUFFERS:
            delattr(module.get_submodule(group.root), name)
    Trace(module, _example(module, given)).remove(masks)
    left = [(g, int(masks[g.root].sum())) for g in groups]
    touched = [f"{g.root}: {g.count} -> {w} channels" for g, w in left if w < g.count]
    whole = [(g.root, _kept(plan, w)) for g, w in left if w == g.count]
    return module, Report("sparsity", tuple(touched), tuple(whole))


def choose(module: nn.Module, groups: Sequence[Group], plan: Plan, round: int) -> None:
    """The channels that live in a round; between dense and the final width, whole numbers.

    Where filters have several dilations each of these gives its share, whatever the scores: the
    graph that was timed has so many of each.
    """
    share = plan.schedule.share_in(round)
    for group in groups:
        final = int(_buffer(module, group, "channel_width"))
        width = group.count - int(share * (group.count - final) + 0.5)
        scores, alive = importance(module, group), _buffer(module, group, "channel_mask")
        parts = _alike(module, group)
        for part, count in zip(parts, in_proportion([*map(len, parts)], width), strict=True):
            channels = torch.tensor(part).to(alive.device)
            alive.index_copy_(0, channels, largest(scores[part], count).to(alive.device))
        _buffer(module, group, "channel_round").fill_(round)


def _alike(module: nn.Module, group: Group) -> list[list[int]]:
    """The group's channels, those together whose filters have the same dilations in every layer."""
    patterns: list[list[Pattern]] = [[] for _ in range(group.count)]
    for member in group.members:
        path, _, tensor = member.name.rpartition(".")
        layer = module.get_submodule(path)
        if isinstance(layer, Patterned) and tensor == "weight" and member.axis == 0:
            for channel, pattern in zip(member.channels.tolist(), layer.pattern_of(), strict=True):
                if channel >= 0:
                    patterns[channel].append(pattern)
    found: dict[tuple[Pattern, ...], list[int]] = {}
    for channel, seen in enumerate(patterns):
        found.setdefault(tuple(seen), []).append(channel)
    return list(found.values())


def _groups(module: nn.Module, example: Tensor, late: bool) -> tuple[list[Group], Skips]:
    """What may be pruned, and why not the rest."""
    try:
        found, untraced = Trace(module, example).groups()
    except Exception as error:  # Torch-Pruning documents no set of what it raises
        return [], [("", f"it cannot be traced: {type(error).__name__}: {str(error)[:200]}")]
    kept, failed = tried(module, found, example, late)
    return kept, [*untraced, *failed]


def _along(module: nn.Module, group: Group, parts: Mapping[str, str]) -> list[str]:
    """The parts that lose the group's channels without being layers that write them."""
    names = [member.name for member in group.members]
    found = dict.fromkeys(n if n in parts else n.rpartition(".")[0] for n in names)
    layers = {path for path, part in module.named_modules() if isinstance(part, Layers)}
    return [path for path in found if path in parts and path not in layers]


def _marked(module: nn.Module, given: Given) -> list[Group]:
    """The groups that `prepare` put a mask on."""
    parts = module.named_modules()
    marked = {path for path, part in parts if isinstance(getattr(part, BUFFERS[0], None), Tensor)}
    if not marked:
        return []
    found, told = Trace(module, _example(module, given)).groups()
    kept = [group for group in found if group.root in marked]
    lost = marked - {group.root for group in kept}
    if lost:
        path = min(lost)
        raise NasError(
            f"channels of {path} cannot be followed any longer: {dict(told).get(path, 'changed')}",
            "choose the schedule start, or leave the other axis out",
        )
    return kept


def _masks(
    module: nn.Module, groups: Sequence[Group]
) -> list[tuple[nn.Parameter, Callable[[], Tensor]]]:
    """Every parameter that groups reach, with the product of their masks."""
    parameters = dict(module.named_parameters())
    reached: dict[str, list[tuple[Group, int]]] = {}
    for group in groups:
        for place, member in enumerate(group.members):
            if member.name in parameters:
                reached.setdefault(member.name, []).append((group, place))

    def mask(name: str) -> Tensor:
        found: Tensor | None = None
        for group, place in reached[name]:
            alive = _buffer(module, group, "channel_mask")
            one = spread(alive, group.members[place], parameters[name])
            found = one if found is None else found & one
        assert found is not None
        return found

    return [(parameters[name], partial(mask, name)) for name in reached]


def _buffer(module: nn.Module, group: Group, name: str) -> Tensor:
    return module.get_submodule(group.root).get_buffer(name)


def _example(module: nn.Module, given: Given) -> Tensor:
    """A few examples, of the kind and on the device of the module's numbers."""
    tensor = next(iter(module.parameters()), torch.zeros(()))
    return given.examples(EXAMPLES).to(tensor)
