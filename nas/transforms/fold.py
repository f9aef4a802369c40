"""The deployed form: branches merged, norms multiplied into weights, dead taps cut off.

Exact in eval mode up to one rounding (`nas.networks.parts.merge`). What a layer's own merge looks
like is in its file, beside its forward; this file only walks the network and treats sequences of
plain layers, in anybody's network.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from nas.networks.mixers.depthwise import Mergeable, Size
from nas.networks.parts.log import Log
from nas.networks.parts.merge import (
    Affine,
    Concatenated,
    Linear,
    fold_backward,
    fold_forward,
    is_plain,
    obstacle,
)
from nas.networks.parts.norms import ChannelNorm
from nas.networks.parts.pooling import SpatialMean
from nas.networks.parts.residual import DropPath
from nas.networks.parts.sparse import is_made, settle
from nas.networks.parts.unified import UnifiedNorm
from nas.transforms.report import Report
from nas.transforms.running import watched

ALONE = "no layer is known that it could be folded into"
OWN_NORM = "{} is no plain batch norm"
Norm = _NormBase | nn.LayerNorm | nn.GroupNorm | ChannelNorm | UnifiedNorm


@runtime_checkable
class Absorbent(Protocol):
    """A block that multiplies its norms into its own layers, in place."""

    keeps_norms: bool  # whether the family's own deployed form leaves them alone

    def absorb_norms(self, path: str, log: Log) -> None:
        """Leaves identities where it succeeded."""


def fold(
    module: nn.Module, input_shape: tuple[int, ...], *, published: bool = False
) -> tuple[nn.Module, Report]:
    """A deployed copy of `module` in eval mode, and what was done; `module` is untouched.

    Args:
        module: any network; it must run in eval mode on one example.
        input_shape: of one example, `(C, H, W)`: kernels are cut to the maps it leads to.
        published: stop where the family's own code stops, to compare counts with its paper:
            RepLKNet merges parallel branches and leaves its other norms (0.2 % more parameters).
    """
    # Training leaves weights channels last, which the exporter would write into the graph.
    copy = deepcopy(module).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    log = Log()
    made = {path for path, layer in copy.named_modules() if is_made(layer)}
    for path in settle(copy):
        said = "mask applied for good: real zeros"
        if path in made:
            said = "its weight, made of other tensors, as it is now"
        log.touch(path, said)
    shared = {id(m) for m, times in _appearances(copy).items() if times > 1}
    copy = _merge(copy, "", _sizes(copy, input_shape), log)
    whole = (deepcopy(copy), deepcopy(log)) if is_foreign(copy) else None
    _absorb(copy, "", shared, log, published)
    followed = Linear | Concatenated if whole and not published else Concatenated
    parts = list(copy.modules())
    if any(isinstance(m, Affine) for m in parts) and any(isinstance(m, followed) for m in parts):
        _fold_followers(copy, followed, log)
    if whole and not answers_alike(whole[0], copy, input_shape):
        copy, log = whole
        log.skip("", "its norms stay: with them folded it answers otherwise")
    elif not published:
        _name_norms(copy, log)
    return copy.eval(), Report("fold", tuple(log.touched), tuple(log.skipped))


def is_foreign(module: nn.Module) -> bool:
    """Whether the whole is of no class of ours, or any part of none of torch's either.

    It may do anything: even of torch's layers in a row it is not known along which axis they work.
    """
    known = ("torch.", "nas.")
    kinds = [type(part).__module__ for part in module.modules()]
    return not kinds[0].startswith("nas.") or not all(k.startswith(known) for k in kinds)


def answers_alike(one: nn.Module, other: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Whether two networks give the same for two random examples, in float64 where they can."""
    tensors = [*one.parameters(), *one.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        return True  # nothing but shapes
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    example = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    one, other = _smooth(one), _smooth(other)
    try:
        pair = [_answers(deepcopy(m).double(), example.double()) for m in (one, other)]
        tolerance = 1e-6
    except (RuntimeError, TypeError):  # a type written into its forward
        pair = [_answers(m, example.to(dtype)) for m in (one, other)]
        tolerance = 1e-2 if dtype.itemsize < 4 else 1e-3
    return len(pair[0]) == len(pair[1]) and all(
        a.shape == b.shape and (a - b).abs().amax() <= tolerance * a.abs().amax().clamp(min=1e-12)
        for a, b in zip(*pair, strict=True)
    )


def _smooth(module: nn.Module) -> nn.Module:
    """A copy without roundings, which make much of what is not quite equal."""
    copy = deepcopy(module)
    for path, part in list(copy.named_modules()):
        if getattr(part, "rounds", False):
            copy.set_submodule(path, nn.Identity())
    return copy


def _answers(module: nn.Module, example: Tensor) -> list[Tensor]:
    with torch.no_grad():
        leaves = torch.utils._pytree.tree_leaves(module.eval()(example))
    return [leaf.double() for leaf in leaves if isinstance(leaf, Tensor) and leaf.numel()]


def _name_norms(module: nn.Module, log: Log) -> None:
    """Says of every norm that is left why it is."""
    told = dict(log.skipped)
    for path, norm in module.named_modules():
        if isinstance(norm, Norm) and path not in told:
            own = None if is_plain(norm) else OWN_NORM.format(type(norm).__name__)
            log.skip(path, obstacle(norm) or own or ALONE)


def is_merged(module: nn.Module, path: str) -> bool:
    """Whether a layer around this one makes another of its weights; a `mixer` it deploys whole."""
    parts = path.split(".")
    around = (module.get_submodule(".".join(parts[:i])) for i in range(len(parts)))
    pairs = zip(around, parts, strict=True)
    return any(isinstance(outer, Mergeable) and name != "mixer" for outer, name in pairs)


def _appearances(module: nn.Module) -> Counter[nn.Module]:
    return Counter(m for _, m in module.named_modules(remove_duplicate=False))


def _merges(layer: nn.Module) -> bool:
    return isinstance(layer, Mergeable)


def _sizes(module: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Size]:
    """The height and width that each mergeable layer sees, by path; computed without numbers."""
    sizes: dict[str, Size] = {}

    def note(path: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before = sizes.get(path, (1, 1))  # a layer used twice keeps what either use needs
        height, width = inputs[0].shape[-2:]
        sizes[path] = max(before[0], height), max(before[1], width)

    layers = [(path, layer) for path, layer in module.named_modules() if _merges(layer)]
    if layers:
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
        dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
        example = torch.empty(1, *input_shape, dtype=dtype, device="meta")
        with watched(module, layers, note), torch.no_grad():
            torch.func.functional_call(module, shapes, (example,))
    return sizes


def _merge(module: nn.Module, path: str, sizes: dict[str, Size], log: Log) -> nn.Module:
    """Replaces every layer that merges, outermost first."""
    if isinstance(module, Mergeable) and path in sizes:
        return module.deployed(path, sizes[path], log)
    for name, child in list(module.named_children()):
        setattr(module, name, _merge(child, f"{path}.{name}".lstrip("."), sizes, log))
    return module


def _absorb(module: nn.Module, path: str, shared: set[int], log: Log, published: bool) -> None:
    """Folds norms from the inside out, and removes what only training needs."""
    for name, child in list(module.named_children()):
        inside = f"{path}.{name}".lstrip(".")
        if isinstance(child, DropPath | nn.Dropout):
            setattr(module, name, nn.Identity())
        else:
            _absorb(child, inside, shared, log, published)
    if isinstance(module, Absorbent):
        if not (published and module.keeps_norms):
            module.absorb_norms(path, log)
    elif isinstance(module, nn.Sequential) and _is_chain(module) and not published:
        _fold_sequence(module, path, shared, log)


def _is_chain(module: nn.Sequential) -> bool:
    return type(module).forward is nn.Sequential.forward


def _fold_sequence(sequence: nn.Sequential, path: str, shared: set[int], log: Log) -> None:
    """Folds each norm of a chain of layers into the one before it, or the one after."""
    layers = list(sequence.named_children())
    for i, (name, norm) in enumerate(layers):
        inside = f"{path}.{name}".lstrip(".")
        if not isinstance(norm, Affine):
            continue
        before = next((m for _, m in reversed(layers[:i]) if not _is_nothing(m)), None)
        after = next((m for _, m in layers[i + 1 :] if not _averages(m)), None)
        if any(id(m) in shared for m in (norm, before, after)):
            log.skip(inside, "used in more than one place")
        elif isinstance(before, Linear | Concatenated):
            if _fold_follower(inside, before, norm, log):
                sequence[i] = nn.Identity()
        elif not is_plain(norm):
            log.skip(inside, OWN_NORM.format(type(norm).__name__))
        elif after is None:
            log.skip(inside, ALONE)
        elif not is_plain(after):
            log.skip(inside, f"{type(after).__name__} after it is a layer of its own kind")
        elif fold_forward(inside, norm, after, log):
            sequence[i] = nn.Identity()


def _fold_follower(path: str, before: nn.Module, norm: nn.Module, log: Log) -> bool:
    """Folds a norm into the layer right before it; False, and the reason, where it cannot."""
    if not is_plain(norm):
        log.skip(path, OWN_NORM.format(type(norm).__name__))
    elif not is_plain(before):
        log.skip(path, f"{type(before).__name__} before it is a layer of its own kind")
    elif isinstance(before, nn.Linear) and isinstance(norm, nn.BatchNorm2d):
        log.skip(path, "the layer before it has its outputs along another axis")
    else:
        return fold_backward(path, before, norm, log)
    return False


class _Tracer(torch.fx.Tracer):
    """Walks into a network as far as to the layers that a norm may be folded into."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Convolutions side by side are one layer."""
        return isinstance(m, Concatenated) or super().is_leaf_module(m, module_qualified_name)


def _fold_followers(module: nn.Module, followed: Any, log: Log) -> None:
    """Folds norms into the layers `followed`, wherever a forward calls one right after the other.

    Some runtimes do so themselves for a single convolution; behind the concatenation of several
    none does.
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # a forward may raise anything when it meets a symbol
        log.skip("", f"norms outside of its sequences stay: untraceable, {type(error).__name__}")
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, torch.fx.Node) or before.op != "call_module":
            continue
        norm, layer = (module.get_submodule(str(n.target)) for n in (node, before))
        once = calls[node.target] == calls[before.target] == len(before.users) == 1
        pair = isinstance(norm, Affine) and isinstance(layer, followed)
        if pair and once and _fold_follower(str(node.target), layer, norm, log):
            module.set_submodule(str(node.target), nn.Identity())


def _is_nothing(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity)


def _averages(module: nn.Module) -> bool:
    """Whether a factor and a constant per channel pass through: identities, global means."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return module.output_size in (1, (1, 1))
    return isinstance(module, nn.Identity | nn.Flatten | SpatialMean)
