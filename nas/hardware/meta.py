"""A module on the meta device: shapes without numbers, so that any size costs nothing to try."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def on_meta(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no memory, in evaluation mode.

    Nothing is copied on the way, however large the module. Requirements of gradient, shared
    tensors and parametrizations stay.
    """
    memo: dict[int, Any] = {}
    for tensor in tensors(module):
        hollow = tensor.detach().to("meta")
        if isinstance(tensor, nn.Parameter):
            hollow = nn.Parameter(hollow, tensor.requires_grad)
        memo[id(tensor)] = hollow
    return copy.deepcopy(module, memo).eval()


def borrowed(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode that shares every tensor with the module."""
    memo = {id(t): t if t.is_leaf else t.detach() for t in tensors(module)}
    return copy.deepcopy(module, memo).eval()


def tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors kept as plain attributes (pruning keeps its product so)."""
    yield from module.parameters()
    yield from module.buffers()
    for part in module.modules():
        yield from (value for value in vars(part).values() if isinstance(value, Tensor))


@contextmanager
def plain_attention() -> Iterator[None]:
    """Without the fused layer of `nn.MultiheadAttention`, which hides what it is made of."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
