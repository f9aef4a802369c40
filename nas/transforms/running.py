"""Running a network to see what its layers take and make; it is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

# What to do about a network that returns more than one tensor, or none.
ALONE = "return the tensor of outputs alone, as  lambda x: net(x).logits  does"

Enters = Callable[[str, nn.Module, tuple[Any, ...]], object]
Leaves = Callable[[str, nn.Module, tuple[Any, ...], Mapping[str, Any], Any], object]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation; every part's own mode comes back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def randomised(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode with every parameter and statistic drawn, the same each time.

    One on the meta device gets numbers on the processor, whole ones zeros.
    """
    copy = deepcopy(module).eval()
    tensors = {**dict(copy.named_parameters()), **dict(copy.named_buffers())}
    if any(tensor.is_meta for tensor in tensors.values()):
        copy = copy.to_empty(device="cpu")
        tensors = {**dict(copy.named_parameters()), **dict(copy.named_buffers())}
        for tensor in tensors.values():
            tensor.detach().zero_()
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=numbers, device="cpu")
            if name.endswith("running_var"):
                drawn = 0.5 + drawn.abs()
            elif tensor.ndim > 1:
                drawn = drawn / max(1, tensor[0].numel()) ** 0.5
            elif isinstance(tensor, nn.Parameter):
                drawn = 1 + 0.3 * drawn
            tensor.copy_(drawn)
    return copy


@contextmanager
def watched(
    module: nn.Module,
    layers: Iterable[tuple[str, nn.Module]],
    enters: Enters | None = None,
    leaves: Leaves | None = None,
) -> Iterator[None]:
    """The module in evaluation, with somebody told of every call of some of its layers.

    Args:
        module: the network; it is run by whoever is inside.
        layers: with their paths.
        enters: told the path, the layer and its inputs before a call.
        leaves: told the path, the layer, its inputs, those given by name and its output after one.
    """
    handles: list[RemovableHandle] = []
    try:
        for path, layer in layers:
            if enters is not None:
                handles.append(layer.register_forward_pre_hook(_before(path, enters)))
            if leaves is not None:
                told = _after(path, leaves)
                handles.append(layer.register_forward_hook(told, with_kwargs=True))
        with evaluating(module):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _before(path: str, enters: Enters) -> Callable[..., None]:
    def hook(layer: nn.Module, inputs: tuple[Any, ...]) -> None:  # what it returned would be taken
        enters(path, layer, inputs)

    return hook


def _after(path: str, leaves: Leaves) -> Callable[..., None]:
    def hook(layer: nn.Module, inputs: tuple[Any, ...], named: Any, output: Any) -> None:
        leaves(path, layer, inputs, named, output)

    return hook
