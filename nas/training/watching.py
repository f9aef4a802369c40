"""What happens inside an untrained network: its maps, the signs before activations, its norms.

Functions are seen as torch calls them, so it is the same whether a network writes `nn.ReLU()` or
`torch.relu`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

Functions = frozenset[Callable[..., Any]]
ACTIVATIONS: Functions = frozenset({
    torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu, F.relu6, F.gelu, F.silu,
    F.hardswish, F.leaky_relu, F.elu, F.celu, F.selu, F.mish, F.prelu, torch.prelu, F.softplus,
    F.leaky_relu_, F.elu_, F.celu_, F.selu_, F.rrelu, F.rrelu_, F.threshold,
    torch.threshold, torch.threshold_, F.hardtanh, F.hardtanh_,  # which `nn.ReLU6` calls too
})  # fmt: skip
BATCH_NORMS: Functions = frozenset({F.batch_norm, torch.batch_norm})
OTHER_NORMS: Functions = frozenset({
    F.layer_norm, torch.layer_norm, F.group_norm, torch.group_norm, F.instance_norm,
    torch.instance_norm, F.rms_norm, torch.rms_norm,
})  # fmt: skip
# Bounded functions: of large values all are the same, and no gradient passes.
BOUNDED: Functions = frozenset({
    torch.softmax, Tensor.softmax, F.softmax, F.softmin, torch.log_softmax, Tensor.log_softmax,
    F.log_softmax, F.gumbel_softmax, F.scaled_dot_product_attention,
    F.multi_head_attention_forward, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_,
    torch.special.expit, F.sigmoid, F.hardsigmoid, F.logsigmoid, torch.tanh, torch.tanh_,
    Tensor.tanh, Tensor.tanh_, F.tanh, F.softsign, F.glu,
})  # fmt: skip
# Bounded where they are given values beyond a limit, and elsewhere not.
CLIPPING: Functions = frozenset({
    F.relu6, F.hardtanh, F.hardtanh_, torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_,
    torch.clip, torch.clip_, Tensor.clip, Tensor.clip_, torch.clamp_max, torch.clamp_max_,
    Tensor.clamp_max, Tensor.clamp_max_,
})  # fmt: skip
Handler = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def prepared(module: nn.Module) -> nn.Module:
    """A copy whose batch norms use the batch, while dropout and its like are off."""
    copied = copy.deepcopy(module).eval()
    for part in copied.modules():
        if isinstance(part, _BatchNorm):
            part.train()
    return copied


def weights(module: nn.Module) -> list[nn.Parameter]:
    """The parameters with two or more axes: those of convolutions and linear layers."""
    return [p for p in module.parameters() if p.ndim >= 2]


def redraw(module: nn.Module, draw: Callable[[Tensor], Any]) -> None:
    """Draws every weight anew; biases become 0 and scales that have an effect 1."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim >= 2:
                draw(parameter)
            elif name.rpartition(".")[2] == "bias":
                parameter.zero_()
            elif parameter.any():
                parameter.fill_(1.0)


class Intercept(TorchFunctionMode):
    """Hands every call of some torch functions to a handler, which may make the call itself."""

    def __init__(self, functions: Functions, handle: Handler) -> None:
        super().__init__()
        self._functions = functions
        self._handle = handle

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one function of torch's."""
        if func in self._functions:
            return self._handle(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def without_norms() -> Intercept:
    """Norms of every kind pass on what they are given."""
    return Intercept(BATCH_NORMS | OTHER_NORMS, lambda func, args, kwargs: _input(args, kwargs))


def bounded(seen: list[str]) -> Intercept:
    """Keeps the names of the bounded functions that are called: softmax, sigmoid, tanh.

    Of those that only clip, such as ReLU6, where they make a value that has a gradient smaller.
    """

    def keep(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        before = _input(args, kwargs).clone() if func in CLIPPING else None
        output = func(*args, **kwargs)
        if before is None or (before.requires_grad and bool((output < before).any())):
            seen.append(func.__name__.strip("_"))
        return output

    return Intercept(BOUNDED | CLIPPING, keep)


def signs(seen: list[Tensor]) -> Intercept:
    """Keeps which values are above zero before each activation, `(B, units)` of 0 and 1."""

    def keep(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        seen.append((_input(args, kwargs).detach() > 0).flatten(1).double())
        return func(*args, **kwargs)

    return Intercept(ACTIVATIONS, keep)


@dataclass
class Maps:
    """The outputs with four axes `(B, C, H, W)` that modules gave, in order.

    `variances` are of what norms were given: how many maps came before, and the mean variance.
    """

    outputs: list[Tensor] = field(default_factory=list)
    variances: list[tuple[int, float]] = field(default_factory=list)

    def norm(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Takes in the variance that a norm is about to divide by, then lets it."""
        given = _input(args, kwargs).detach()
        self.variances.append((len(self.outputs), _variance(func, given, args, kwargs)))
        return func(*args, **kwargs)


@contextmanager
def watched(module: nn.Module, parts: list[nn.Module]) -> Iterator[Maps]:
    """Keeps the maps that these modules give, and what norms divide by."""
    maps = Maps()

    def keep(part: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            # What is not needed for gradients may be changed in place later on.
            maps.outputs.append(output if output.requires_grad else output.clone())

    handles = [part.register_forward_hook(keep) for part in parts]
    try:
        with Intercept(BATCH_NORMS | OTHER_NORMS, maps.norm):
            yield maps
    finally:
        for handle in handles:
            handle.remove()


def leaves(module: nn.Module) -> list[nn.Module]:
    """The modules that hold no others."""
    return [m for m in module.modules() if not any(m.children())]


def blocks(module: nn.Module) -> list[nn.Module]:
    """What a network is a chain of: the composed items of its innermost sequences of such items.

    In a network without such sequences every convolution is a block.
    """
    found = _chained(module)
    if len(found) >= 2:
        return found
    return [m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]


def _chained(module: nn.Module) -> list[nn.Module]:
    items = list(module.children())
    inner = [block for item in items for block in _chained(item)]
    if inner or not isinstance(module, nn.Sequential):
        return inner
    composed = [item for item in items if any(item.children())]
    return composed if len(composed) >= 2 or len(composed) == len(items) else []


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    found: Tensor = args[0] if args else kwargs["input"]
    return found


def _variance(
    func: Callable[..., Any], x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> float:
    """The mean over channels (batch norm) or positions (the others) of the variance."""
    if func in BATCH_NORMS:
        return float(x.transpose(0, 1).flatten(1).var(1).mean())
    given = args[1] if len(args) > 1 else next(iter(kwargs.values()))
    if func in (F.group_norm, torch.group_norm):
        groups = int(kwargs.get("num_groups", given))
        return float(x.reshape(len(x), groups, -1).var(2, correction=0).mean())
    if func in (F.instance_norm, torch.instance_norm):
        return float(x.flatten(2).var(2, correction=0).mean())
    axes = len(kwargs.get("normalized_shape", given))
    return float(x.flatten(-axes).var(-1, correction=0).mean())
