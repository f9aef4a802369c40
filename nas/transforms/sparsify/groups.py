"""Channels that can only go together, found by tracing.

Torch-Pruning (Fang et al. 2023) follows the gradient functions of one forward pass and says which
layers share channels. It believes what it sees: an operation that it does not know passes for one
that leaves channels alone, and a stage behind a `split` may be left out without a word. So every
group is tried before it is believed (`tried`), and every layer that is in none is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas.networks.mixers.patterned import Patterned
from nas.networks.parts.gates import ResponseNorm
from nas.networks.parts.norms import ChannelNorm
from nas.transforms.running import evaluating, randomised
from nas.transforms.sparsify.distortion import flat

Skips = list[tuple[str, str]]
Across = nn.LayerNorm | nn.GroupNorm | ChannelNorm | ResponseNorm
Layers = (nn.modules.conv._ConvNd, nn.Linear)
PERMUTED = "what follows depends on the order of its channels (a split, heads, some of them)"
FIXED = "the network's own code fixes this width"
INEXACT = "a norm looks across its channels: they can go before training only"
_FAR = 20  # times as many places as there are operations; a followed group has about as many
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@dataclass(frozen=True, eq=False)
class Member:
    """One axis of one tensor that a group's channels lie along.

    `channels[i]` is the channel that place `i` of the axis belongs to, -1 where none.
    """

    name: str
    axis: int
    channels: Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """`count` channels that are removed together.

    `layers` are the convolutions and linear layers that write them, `root` the first of these;
    `members` is all that loses places with them.
    """

    root: str
    count: int
    layers: tuple[str, ...]
    members: tuple[Member, ...]

    def skipped(self, why: str) -> Skips:
        """Every layer of the group with the reason why it stays."""
        return [(path, why) for path in self.layers]


class Trace:
    """Torch-Pruning's graph of a module, with our list of what each group reaches.

    Torch-Pruning replaces tensors of the module when channels are removed; a trace is good for one
    removal of any number of groups. Layers of several dilations are seen as plain convolutions of
    the same parameters: it would take each dilation for a convolution of all channels.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.patterned = {p: m for p, m in module.named_modules() if isinstance(m, Patterned)}
        self.plain = {path: layer.undilated() for path, layer in self.patterned.items()}
        self._put(self.plain)
        self.paths = {part: path for path, part in module.named_modules()}
        self.names = {id(p): name for name, p in _tensors(module).items()}
        self.frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
        modes = [(part, part.training) for part in module.modules()]
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        try:
            with warnings.catch_warnings(), torch.enable_grad():
                warnings.simplefilter("ignore")
                self.graph = tp.DependencyGraph().build_dependency(
                    module,
                    (example,),  # a bare tensor would be taken apart along the batch
                    unwrapped_parameters=_axes(module),
                    verbose=False,
                )
            self._map_again()
        finally:
            self._back(modes)
            self._put(self.patterned)

    def _map_again(self) -> None:
        """Lets concatenations and splits of channels map channels, which tokens' do not.

        Torch-Pruning takes every parameter of three axes before one for the positions of tokens,
        and the concatenation for one of tokens.
        """
        for node in self.graph.module2node.values():
            if node.type in (tp.ops.OPTYPE.CONCAT, tp.ops.OPTYPE.SPLIT):
                node.enable_index_mapping = not any(map(_is_positions, _before(node)))

    def _put(self, layers: Mapping[str, nn.Module]) -> None:
        for path, layer in layers.items():
            self.module.set_submodule(path, layer)

    def _back(self, modes: Sequence[tuple[nn.Module, bool]]) -> None:
        for part, training in modes:
            part.training = training
        for name in self.frozen:
            self.module.get_parameter(name).requires_grad_(False)

    def groups(self) -> tuple[list[Group], Skips]:
        """The groups, and why layers are in none."""
        found: list[Group] = []
        skipped: Skips = []
        seen: set[str] = set()
        for layer in [m for m in self.graph.module2node if isinstance(m, Layers)]:
            root = self.paths[layer]
            if root in seen:
                continue
            raw = self._raw(layer)
            if isinstance(raw, str):
                seen.add(root)
                skipped.append((root, raw))
                continue
            members, why = self._members(raw)
            group = Group(root, len(raw[0].idxs), self._writers(raw), tuple(members))
            seen |= {*group.layers}
            if why is None and not self._read(raw):
                why = "its channels are the network's outputs"
            if why is None:
                found.append(group)
            else:
                skipped += group.skipped(why)
        for path, layer in self.module.named_modules():
            if isinstance(layer, Layers) and path not in seen:
                skipped.append((path, "the tracer found no group for its channels"))
        return found, skipped

    def remove(self, kept: Mapping[str, Tensor]) -> None:
        """Removes, in place, the channels of each root that are not kept."""
        modes = [(part, part.training) for part in self.module.modules()]
        self._put(self.plain)
        filters: dict[str, set[int]] = {path: set() for path in self.plain}
        for root, alive in kept.items():
            gone = torch.flatten((~alive).nonzero()).tolist()
            if gone:
                layer = self.module.get_submodule(root)
                pruner = self.graph.get_pruner_of_module(layer)
                group = self.graph.get_pruning_group(layer, pruner.prune_out_channels, gone)
                for dep, places in group:
                    path = self._path(dep.target.module)
                    if path in filters and self.graph.is_out_channel_pruning_fn(dep.handler):
                        filters[path] |= set(places)
                group.prune()
        for path, conv in self.plain.items():
            self.patterned[path].shrink(conv, filters[path])
        self._put(self.patterned)
        self._back(modes)

    def _path(self, target: nn.Module | nn.Parameter) -> str | None:
        """Where a layer is, or the one that a parameter belongs to."""
        if isinstance(target, nn.Module):
            return self.paths.get(target)
        return self.names[id(target)].rpartition(".")[0]

    def _raw(self, layer: nn.Module) -> Any:
        """Torch-Pruning's group of all that a layer writes, or why it has none."""
        pruner = self.graph.get_pruner_of_module(layer)
        channels = list(range(pruner.get_out_channels(layer)))
        try:
            if self._wanders(layer, pruner.prune_out_channels, channels):
                return "the tracer cannot follow its channels (it finds ever new places for them)"
            return self.graph.get_pruning_group(layer, pruner.prune_out_channels, channels)
        except (IndexError, ValueError, TypeError) as error:  # a split that it takes for another
            return f"the tracer cannot follow its channels ({type(error).__name__}: {error})"

    def _wanders(self, layer: nn.Module, function: Any, channels: Sequence[int]) -> bool:
        """Whether following the channels meets far more than there is, maybe without an end.

        It does where the tracer takes one operation for another: each time around they come back
        to other places. Torch-Pruning itself compares with all that it met before, one by one.
        """
        tp.dependency.index_mapping.update_index_mapping(self.graph)
        if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.out_channels > 1:
            function = tp.function.prune_depthwise_conv_out_channels
        node = self.graph.module2node[layer]
        begin = tuple(tp._helpers._HybridIndex(idx=i, root_idx=i) for i in channels)
        stack, met = [(node, function, begin)], {(node, function, begin)}
        while stack:
            node, function, places = stack.pop()
            for dep in node.dependencies:
                if not dep.is_triggered_by(function):
                    continue
                mapped: Any = list(places)
                for mapping in dep.index_mapping:
                    mapped = mapped if mapping is None else mapping(mapped)
                found = (dep.target, dep.handler, tuple(mapped))
                if mapped and found not in met:
                    met.add(found)
                    stack.append(found)
            if len(met) > _FAR * len(self.graph.module2node):
                return True
        return False

    def _writers(self, raw: Any) -> tuple[str, ...]:
        """The layers that write the channels, the root first."""
        targets = (
            d.target.module for d, _ in raw if self.graph.is_out_channel_pruning_fn(d.handler)
        )
        return tuple(dict.fromkeys(self.paths[t] for t in targets if isinstance(t, Layers)))

    def _read(self, raw: Any) -> bool:
        """Whether some layer reads the channels."""
        return any(
            isinstance(dep.target.module, Layers)
            and self.graph.is_in_channel_pruning_fn(dep.handler)
            and not self.graph.is_out_channel_pruning_fn(dep.handler)
            for dep, _ in raw
        )

    def _members(self, raw: Any) -> tuple[list[Member], str | None]:
        """Every axis that the group reaches, or why it cannot be followed."""
        found: dict[tuple[str, int], Tensor] = {}
        for item in raw:
            target = item.dep.target.module
            outward = self.graph.is_out_channel_pruning_fn(item.dep.handler)
            axes = _reached(target, item.dep.target, outward)
            if axes is None:
                return [], f"its channels go through {type(target).__name__}"
            for tensor, axis in axes:
                name = self.names[id(tensor)]
                if max(item.idxs) >= tensor.shape[axis]:
                    return [], f"the tracer counts more channels in {name} than there are"
                channels = found.setdefault(
                    (name, axis), torch.full((tensor.shape[axis],), -1, device=tensor.device)
                )
                channels[torch.tensor(item.idxs)] = torch.tensor(item.root_idxs)
        return [Member(name, axis, ids) for (name, axis), ids in found.items()], None


def _before(node: Any) -> Iterator[Any]:
    """The nodes of Torch-Pruning's graph that one is made of."""
    stack, met = [node], {node}
    while stack:
        for one in stack.pop().inputs:
            if one not in met:
                met.add(one)
                stack.append(one)
                yield one


def _is_positions(node: Any) -> bool:
    """Whether a node is the positions of tokens, `(1, N, C)`."""
    shape: tuple[int, ...] = node.module.shape if node.type == tp.ops.OPTYPE.PARAMETER else ()
    return len(shape) == 3 and shape[0] == 1


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _axes(module: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """The axis that channels lie along, for parameters that belong to no layer of torch's.

    A depthwise weight `(C, 1, h, w)` has them first, and so have numbers for its taps, `(C, k, k)`.
    Elsewhere they are last, but for maps `(1, C, h, w)` and factors `(C, 1, 1)`.
    """
    found = []
    known = tuple(t for t in (tp.ops.type2class(o) for o in tp.ops.OPTYPE) if t is not nn.Parameter)
    for part in module.modules():
        if isinstance(part, known) and not isinstance(part, tp.ops._ElementWiseOp):
            continue
        for parameter in part.parameters(recurse=False):
            sizes = parameter.shape
            wide = [axis for axis, size in enumerate(sizes) if size > 1]
            if not wide:
                continue
            image = len(sizes) == 4 and 1 in sizes[:2]
            image |= len(wide) == len(sizes) == 3 and sizes[-2] == sizes[-1]
            found.append((parameter, wide[0] if image else wide[-1]))
    return found


def _reached(target: Any, node: Any, outward: bool) -> list[tuple[Tensor, int]] | None:
    """The tensors and axes of one layer that lose channels with it; None where we cannot tell."""
    if isinstance(target, nn.Parameter):
        return [(target, node.pruning_dim)]
    if isinstance(target, nn.Module) and parametrize.is_parametrized(target):
        return None
    if isinstance(target, Layers):
        transposed = isinstance(target, nn.modules.conv._ConvTransposeNd)
        depthwise = getattr(target, "groups", 1) == target.weight.shape[0] > 1
        if getattr(target, "groups", 1) > 1 and not depthwise:
            return None
        first = 0 if depthwise or outward != transposed else 1
        bias = target.bias if outward or depthwise else None
        return [(target.weight, first)] + ([(bias, 0)] if bias is not None else [])
    if isinstance(target, nn.modules.batchnorm._BatchNorm):
        statistics = (target.running_mean, target.running_var)
        return [(p, 0) for p in (target.weight, target.bias, *statistics) if p is not None]
    if isinstance(target, nn.LayerNorm | nn.GroupNorm | nn.PReLU):
        affine = (target.weight, getattr(target, "bias", None))
        return [(p, p.ndim - 1) for p in affine if p is not None and p.numel() > 1]
    if isinstance(target, nn.Embedding):
        return [(target.weight, 1)]
    return None if type(target).__module__.startswith("torch.nn") else []


# --- whether a group is what the tracer says ---------------------------------------------------


def tried(
    module: nn.Module, groups: Sequence[Group], example: Tensor, late: bool
) -> tuple[list[Group], Skips]:
    """The groups that may be pruned, before training or, `late`, after it.

    On a copy with random weights, because zeros and fresh norms would hide errors: channels are
    interchangeable, so the output must not change when they trade places everywhere; the network
    must run without some of them; and where they are to go late, zero must be as good as gone,
    which it is not where a norm takes its mean over channels.
    """
    copy = randomised(module)
    try:
        wide = copy.double()
        reference = _answer(wide, example.double())
    except (RuntimeError, TypeError):  # a tensor of its own that does not follow
        wide = randomised(module)
        reference = _answer(wide, example)
    example = example.to(reference.dtype)
    moved = _failing(groups, lambda some: _interchangeable(wide, some, example, reference))
    kept = [group for group in groups if group not in moved]
    fixed = _failing(kept, lambda some: _removable(wide, some, example, reference))
    kept = [group for group in kept if group not in fixed]
    inexact = [group for group in kept if late and _across(module, group)]
    likely = [group for group in kept if late and group not in inexact]
    inexact += _failing(likely, lambda some: _exact(wide, some, example))
    kept = [group for group in kept if group not in inexact]
    whys = ((moved, PERMUTED), (fixed, FIXED), (inexact, INEXACT))
    return kept, [s for failed, why in whys for group in failed for s in group.skipped(why)]


def _across(module: nn.Module, group: Group) -> bool:
    """Whether one of the norms that take their mean over channels takes it over the group's."""
    paths = {member.name.rpartition(".")[0] for member in group.members}
    return any(isinstance(module.get_submodule(path), Across) for path in paths)


def _failing(groups: Sequence[Group], passes: Callable[[Sequence[Group]], bool]) -> list[Group]:
    """The groups that fail by themselves; all are tried together first, then halves."""
    if not groups or passes(groups):
        return []
    if len(groups) == 1:
        return list(groups)
    half = len(groups) // 2
    return [*_failing(groups[:half], passes), *_failing(groups[half:], passes)]


def _interchangeable(
    module: nn.Module, groups: Sequence[Group], example: Tensor, reference: Tensor
) -> bool:
    """Whether the output stays when channels trade places within their groups."""
    traded = _copies(module, groups)
    for group in groups:
        order = _order(group)
        for member in group.members:
            _trade(traded[member.name], member, order)
    return _same(_called(module, traded, example), reference)


def _removable(
    module: nn.Module, groups: Sequence[Group], example: Tensor, reference: Tensor
) -> bool:
    """Whether the network runs with half of the channels, and answers in the same shape."""
    try:
        return _without(module, groups, example).shape == reference.shape
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
        return False  # what a network's own code raises where it fixes a width


def _exact(module: nn.Module, groups: Sequence[Group], example: Tensor) -> bool:
    """Whether channels at zero are as good as gone."""
    zeroed = _copies(module, groups)
    for group in groups:
        alive = _half(group)
        for member in group.members:
            zeroed[member.name] *= spread(alive, member, zeroed[member.name])
    return _same(_called(module, zeroed, example), _without(module, groups, example))


def _without(module: nn.Module, groups: Sequence[Group], example: Tensor) -> Tensor:
    smaller = deepcopy(module)
    Trace(smaller, example).remove({group.root: _half(group) for group in groups})
    return _answer(smaller, example)


def _order(group: Group) -> Tensor:
    return torch.randperm(group.count, generator=torch.Generator().manual_seed(0))


def _half(group: Group) -> Tensor:
    """A mask of half of a group's channels, at least one."""
    return _order(group) >= max(1, group.count // 2) if group.count > 1 else torch.tensor([True])


def _copies(module: nn.Module, groups: Sequence[Group]) -> dict[str, Tensor]:
    """The tensors that groups reach, to be changed."""
    tensors = _tensors(module)
    names = {member.name for group in groups for member in group.members}
    return {name: tensors[name].detach().clone() for name in names}


def spread(alive: Tensor, member: Member, tensor: Tensor) -> Tensor:
    """A group's mask as one that multiplies a member: `alive` along its axis, else true."""
    along = torch.cat([alive, alive.new_ones(1)])[member.channels]  # -1 is the one at the end
    shape = [1] * tensor.ndim
    shape[member.axis] = -1
    return along.view(shape)


def _trade(tensor: Tensor, member: Member, order: Tensor) -> None:
    """Puts channel `order[c]` in the place of channel `c`, along one axis, in place."""
    places: dict[int, list[int]] = {}
    for place, channel in enumerate(member.channels.tolist()):
        places.setdefault(channel, []).append(place)
    source = list(range(tensor.shape[member.axis]))
    for channel, target in places.items():
        if channel >= 0:
            for to, of in zip(target, places.get(int(order[channel]), target), strict=False):
                source[to] = of
    tensor.copy_(tensor.index_select(member.axis, torch.tensor(source, device=tensor.device)))


def _answer(module: nn.Module, example: Tensor) -> Tensor:
    with evaluating(module), torch.no_grad():
        return flat(module(example))


def _called(module: nn.Module, tensors: Mapping[str, Tensor], example: Tensor) -> Tensor:
    with evaluating(module), torch.no_grad():
        return flat(torch.func.functional_call(module, dict(tensors), (example,)))


def _same(one: Tensor, other: Tensor) -> bool:
    tolerance = _TOLERANCE.get(other.dtype, 1e-2)
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= tolerance * other.abs().max().clamp(min=1e-30))
