"""Dilations for the filters of any network, and which of them a trained network asks for.

The space is Inception convolution's (Liu et al., arXiv 2012.13587), a pattern (rows, columns) of
distances between taps for each filter, in the reduced form that hardware likes: four groups of
filters a layer, each a multiple of eight, and four sections of layers that share their patterns.
Efficient dilation optimisation, of the same paper, trains one network whose kernels reach as far as
any pattern, and then takes for each filter the pattern whose taps come nearest to its output.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core.architecture import Value
from nas.core.errors import NasError
from nas.networks.mixers.depthwise import Depthwise, Size
from nas.networks.mixers.patterned import Convolution, Pattern, Patterned, is_channelwise
from nas.networks.parts.log import Log
from nas.networks.parts.merge import is_plain, own_kind
from nas.networks.parts.sparse import MADE, is_made
from nas.transforms.fold import is_merged
from nas.transforms.report import Report
from nas.transforms.running import watched
from nas.transforms.stages import Given, Transform
from nas.transforms.unnamed import weighted, with_rest

SECTIONS, GROUPS = 4, 4
MULTIPLE = 8  # filters of one pattern: what vector units and tensor cores are filled by
EXAMPLES = 64  # that outputs are compared on
POINT = "a 1x1 kernel has no taps to set apart"
NO_TAPS = "it has no taps that dilation could set apart"


@dataclass(frozen=True)
class Site:
    """A convolution that may be dilated: where it is, the map it sees, and its section."""

    path: str
    conv: Convolution
    size: Size
    section: int


def dilating(sections: Sequence[Sequence[Pattern]]) -> Transform:
    """The transform that gives each section's filters four patterns, a quarter of them each."""
    plain = [set(patterns) == {(1, 1)} for patterns in sections]
    if all(plain):
        return Transform("dilation")

    def prepare(module: nn.Module, given: Given) -> tuple[nn.Module, Report]:
        log, parts = Log(), weighted(module)
        for site in sites(module, given.examples(2), log):
            if plain[site.section]:
                log.skip(site.path, f"section {site.section} is not dilated")
                continue
            counts = shares(len(site.conv.weight))
            patterns = _merged(
                [(clipped(p, site), n) for p, n in zip(sections[site.section], counts, strict=True)]
            )
            if [pattern for pattern, _ in patterns] == [(1, 1)]:
                log.skip(site.path, "too few filters, or too small a map, for another pattern")
                continue
            module.set_submodule(site.path, Patterned(site.conv, patterns))
            shown = ", ".join(f"{n} filters {h}x{w}" for (h, w), n in patterns)
            log.touch(site.path, f"dilated: {shown}")
        return module, with_rest(_report(log), parts, NO_TAPS)

    return Transform("dilation", prepare)


def growing(largest: int) -> Transform:
    """The transform that gives every filter all taps that patterns up to `largest` could choose.

    When it is trained it reports, as choices of the axis, what its filters would choose. Its
    `prepare` raises NasError where the network has nothing to choose: it is not worth a training.
    """

    def prepare(module: nn.Module, given: Given) -> tuple[nn.Module, Report]:
        log, parts = Log(), weighted(module)
        found = sites(module, given.examples(2), log)
        if all(clipped((largest, largest), site) == (1, 1) for site in found):
            whys = Counter(why for _, why in log.skipped if why != POINT)
            common = max(whys, key=lambda w: whys[w], default="it has none larger than 1x1")
            why = "their maps are too small" if found else common
            raise NasError(
                f"no convolution of this network can be dilated: {why}",
                "choose dilation.kernel=own for it, or ask another network",
            )
        for site in found:
            grown = grow(site.conv, largest, fresh=not given.pretrained)
            module.set_submodule(site.path, grown)
            before, after = (
                f"{w.shape[-2]}x{w.shape[-1]}" for w in (site.conv.weight, grown.weight)
            )
            log.touch(site.path, f"{before} kernel grown to {after}")
        return module, with_rest(_report(log), parts, NO_TAPS)

    def finish(module: nn.Module, given: Given) -> tuple[nn.Module, Report]:
        log = Log()
        found = chosen(module, given.examples(EXAMPLES), largest, log)
        return module, Report("dilation", tuple(log.touched), tuple(log.skipped), suggests=found)

    return Transform("dilation", prepare, finish=finish)


def _report(log: Log) -> Report:
    return Report("dilation", tuple(log.touched), tuple(log.skipped))


# --- which layers --------------------------------------------------------------------------------


def sites(module: nn.Module, examples: Tensor, log: Log) -> list[Site]:
    """The convolutions that may be dilated, in the order in which they run, in four sections."""
    found = list(_possible(module, log))
    sizes = {path: seen.shape[-2:] for path, seen in _inputs(module, dict(found), examples).items()}
    ran = [(path, conv) for path, conv in found if path in sizes]
    for path in (path for path, _ in found if path not in sizes):
        log.skip(path, "it did not run on an example")
    ran.sort(key=lambda each: list(sizes).index(each[0]))
    return [
        Site(path, conv, (sizes[path][0], sizes[path][1]), SECTIONS * i // len(ran))
        for i, (path, conv) in enumerate(ran)
    ]


def _possible(module: nn.Module, log: Log) -> Iterator[tuple[str, Convolution]]:
    for path, layer in module.named_modules():
        if not isinstance(layer, nn.Conv2d | Depthwise):
            continue
        tall, wide = layer.weight.shape[-2:]
        if tall == wide == 1:
            log.skip(path, POINT)
            continue
        why = _obstacle(layer)
        if is_merged(module, path):
            why = "its kernel is merged with those beside it"
        if why is None:
            yield path, layer
        else:
            log.skip(path, why)


def _obstacle(conv: Convolution) -> str | None:
    """Why a convolution is left alone, or None."""
    tall, wide = conv.weight.shape[-2:]
    if is_made(conv):
        return MADE
    if not is_plain(conv):
        return own_kind(conv)
    if tall % 2 == 0 or wide % 2 == 0:
        return f"a {tall}x{wide} kernel has no centre"
    if conv.dilation not in (1, (1, 1)):
        return "dilated already"
    if isinstance(conv, Depthwise):
        return None
    if conv.groups != 1 and not is_channelwise(conv):
        return f"{conv.groups} groups of channels"
    if conv.padding not in ((tall // 2, wide // 2), "same") or conv.padding_mode != "zeros":
        return f"padding {conv.padding} does not keep the map's size"
    return None


def _inputs(
    module: nn.Module, layers: Mapping[str, nn.Module], examples: Tensor
) -> dict[str, Tensor]:
    """What each layer sees of the examples, in the order in which they run."""
    seen: dict[str, Tensor] = {}

    def note(path: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.setdefault(path, inputs[0].detach())

    parameter = next(module.parameters(), examples)
    with watched(module, layers.items(), note), torch.no_grad():
        module(examples.to(parameter))
    return seen


# --- which patterns ------------------------------------------------------------------------------


def shares(filters: int) -> list[int]:
    """How many filters each of the four groups has: multiples of eight, the rest in the first.

    >>> shares(64), shares(48), shares(20)
    ([16, 16, 16, 16], [16, 8, 16, 8], [12, 0, 8, 0])
    """
    units = max(1, filters // MULTIPLE)
    ends = [MULTIPLE * -(-units * i // GROUPS) for i in range(GROUPS + 1)]
    counts = [b - a for a, b in itertools.pairwise(ends)]
    return [counts[0] + filters - MULTIPLE * units, *counts[1:]]


def clipped(pattern: Pattern, site: Site) -> Pattern:
    """The pattern, no wider than lets a tap beside the centre meet the map.

    >>> clipped((4, 2), Site("conv", nn.Conv2d(8, 8, 3, padding=1), (3, 3), 0))
    (2, 2)
    """
    tall, wide = (max(1, min(d, n - 1)) for d, n in zip(pattern, site.size, strict=True))
    return tall, wide


def _merged(patterns: Sequence[tuple[Pattern, int]]) -> list[tuple[Pattern, int]]:
    """Each pattern once, with all its filters; those without filters left out."""
    counts: Counter[Pattern] = Counter()
    for pattern, count in patterns:
        counts[pattern] += count
    return [(pattern, count) for pattern, count in counts.items() if count]


def up_to(largest: int) -> list[Pattern]:
    """Every pattern of distances up to `largest`.

    >>> up_to(2)
    [(1, 1), (1, 2), (2, 1), (2, 2)]
    """
    return [(h, w) for h in range(1, largest + 1) for w in range(1, largest + 1)]


# --- statistical search --------------------------------------------------------------------------


def grow(conv: Convolution, largest: int, fresh: bool) -> Convolution:
    """The convolution with every tap that a pattern up to `largest` could choose.

    A trained one keeps its function: its taps in the centre, zeros around. A fresh one is drawn
    again, its taps as much smaller as they are more, so that outputs keep their size.
    """
    taps = [largest * (n - 1) + 1 for n in conv.weight.shape[-2:]]
    tall, wide = taps
    grown: Convolution
    if isinstance(conv, Depthwise):
        grown = Depthwise(len(conv.weight), (tall, wide), bias=conv.bias is not None)
    else:
        grown = nn.Conv2d(
            conv.in_channels, conv.out_channels, (tall, wide), _pair(conv.stride),
            (tall // 2, wide // 2), groups=conv.groups, bias=conv.bias is not None,
        )  # fmt: skip
    margins = [
        (after - before) // 2 for after, before in zip(taps, conv.weight.shape[-2:], strict=True)
    ]
    with torch.no_grad():
        placed = F.pad(conv.weight, (margins[1], margins[1], margins[0], margins[0]))
        if fresh:
            share = conv.weight[0, 0].numel() / placed[0, 0].numel()
            placed = torch.randn_like(placed) * conv.weight.std() * share**0.5
        grown.weight.copy_(placed)
        if conv.bias is not None and grown.bias is not None:
            grown.bias.copy_(conv.bias)
    return grown


def _pair(values: Sequence[int]) -> Size:
    return values[0], values[1]


def kept(taps: Size, largest: int, pattern: Pattern) -> Tensor:
    """Which taps `(h, w)` of a grown kernel a pattern keeps.

    >>> kept((5, 5), 2, (2, 1)).int().sum(1).tolist()
    [3, 0, 3, 0, 3]
    """
    lines = []
    for length, distance in zip(taps, pattern, strict=True):
        side = (length - 1) // largest // 2  # taps of the own kernel on each side of its centre
        line = torch.zeros(length, dtype=torch.bool)
        line[[length // 2 + distance * i for i in range(-side, side + 1)]] = True
        lines.append(line)
    return lines[0][:, None] & lines[1][None, :]


def output_errors(conv: Convolution, inputs: Tensor, largest: int) -> Tensor:
    """`(filters, patterns)`: how far each filter's output is, on average, with a pattern's taps.

    The mean absolute difference over examples and places between the grown kernel's output and
    that of the taps that the pattern keeps: the paper's expected output error, taken over real
    inputs `(B, C, H, W)` instead of from their expectation alone.
    """
    taps = (conv.weight.shape[-2], conv.weight.shape[-1])
    groups = len(conv.weight) if is_channelwise(conv) else 1
    stride = conv.stride if isinstance(conv, nn.Conv2d) else (1, 1)
    columns = []
    for pattern in up_to(largest):
        lost = conv.weight.detach() * ~kept(taps, largest, pattern)
        away = F.conv2d(inputs, lost, None, stride, (taps[0] // 2, taps[1] // 2), 1, groups)
        columns.append(away.abs().mean((0, 2, 3)))
    return torch.stack(columns, 1)


def chosen(module: nn.Module, examples: Tensor, largest: int, log: Log) -> dict[str, Value]:
    """The axis's choices that a trained, grown network asks for.

    Each filter takes the pattern of the least output error; a section's four groups go to its
    patterns by largest remainder.
    """
    unsaid = Log()
    found = sites(module, examples[:2], unsaid)
    inputs = _inputs(module, {site.path: site.conv for site in found}, examples)
    patterns, votes = up_to(largest), [Counter[Pattern]() for _ in range(SECTIONS)]
    for site in found:
        best = output_errors(site.conv, inputs[site.path], largest).argmin(1)
        counts = Counter(patterns[int(i)] for i in best)
        for pattern, count in counts.items():
            votes[site.section][pattern] += count / len(best)  # type: ignore[assignment]
        shown = ", ".join(f"{n} filters {h}x{w}" for (h, w), n in counts.most_common())
        log.touch(site.path, f"nearest patterns: {shown}")
    choices: dict[str, Value] = {"kernel": "own"}
    for section, counted in enumerate(votes):
        at, groups = f"section.{section}.", apportioned(counted)
        choices[at + "dilated"] = groups[0] != (1, 1)
        if choices[at + "dilated"]:
            choices |= {f"{at}filters.{i}": f"{h}x{w}" for i, (h, w) in enumerate(groups)}
    return choices


def apportioned(votes: Mapping[Pattern, float]) -> list[Pattern]:
    """The patterns of the four groups, widest first: shares of the votes by largest remainder.

    >>> apportioned({(1, 1): 30.0, (2, 2): 9.0, (1, 2): 1.0})
    [(2, 2), (1, 1), (1, 1), (1, 1)]
    """
    total = sum(votes.values())
    if not total:
        return [(1, 1)] * GROUPS
    exact = {pattern: GROUPS * count / total for pattern, count in votes.items()}
    seats = {pattern: int(share) for pattern, share in exact.items()}
    byremainder = sorted(exact, key=lambda p: (seats[p] - exact[p], p))
    for pattern in byremainder[: GROUPS - sum(seats.values())]:
        seats[pattern] += 1
    listed = (pattern for pattern, count in seats.items() for _ in range(count))
    return sorted(listed, reverse=True)
