"""A module on the meta device: shapes without numbers, so that any size costs nothing to try."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def on_meta(module: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have shapes and no memory, in evaluation mode.

    Nothing is copied on the way, however large the module. Requirements of gradient, shared
    tensors and parametrizations stay.
    """
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        hollow = tensor.detach().to("meta")
        if isinstance(tensor, nn.Parameter):
            hollow = nn.Parameter(hollow, tensor.requires_grad)
        memo[id(tensor)] = hollow
    return copy.deepcopy(module, memo).eval()


@contextmanager
def plain_attention() -> Iterator[None]:
    """Without the fused layer of `nn.MultiheadAttention`, which hides what it is made of."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
