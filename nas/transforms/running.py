"""Running a network to see what its layers take and make; it is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

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
