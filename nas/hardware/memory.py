"""How much memory a forward pass needs beyond the weights, from shapes alone."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.hardware.meta import borrowed, on_meta, plain_attention


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the storages alive, and remembers the most there ever were.

    A storage counts from the operator that returns it until nothing refers to it; views share one.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: skipping it would import the compiler, which takes seconds."""
        return False

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = [t.untyped_storage() for t in [*module.parameters(), *module.buffers()]]
        self.known = {storage._cdata for storage in self.held}
        self.now = 0
        self.peak = 0

    def add(self, tensor: Tensor) -> None:
        """Counts a tensor's storage, unless it is a weight's or already counted."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.drop, key, size)

    def drop(self, key: int, size: int) -> None:
        """Forgets a storage that was freed."""
        self.known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operator and counts what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result


def peak_activation_bytes(module: nn.Module, input_shape: Sequence[int]) -> int:
    """The most bytes that one example's tensors hold at any moment of a forward pass.

    The input counts throughout; parameters and buffers do not, nor does what an operator needs
    only inside (a runtime that works in place needs less, one that unfolds convolutions more).
    Computed on the meta device where the module can live there; it is left as it was.

    >>> peak_activation_bytes(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), (4,))
    56
    """
    try:
        return _peak(on_meta(module), "meta", input_shape)
    except (RuntimeError, NotImplementedError):
        # It meets a tensor of its own on the CPU, or values that it needs: run it for real.
        device = next((t.device for t in module.parameters()), torch.device("cpu"))
        return _peak(borrowed(module), device, input_shape)


def _peak(module: nn.Module, device: str | torch.device, input_shape: Sequence[int]) -> int:
    floats = [p.dtype for p in module.parameters() if p.is_floating_point()]
    dtype = floats[0] if floats else torch.float32
    example = torch.zeros(1, *input_shape, device=device, dtype=dtype)
    storages = Storages(module)
    storages.add(example)
    with torch.no_grad(), plain_attention(), storages:
        module(example)
    return storages.peak
