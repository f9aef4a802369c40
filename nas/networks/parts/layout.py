"""How maps lie in memory: in planes, or channels last, as training has them."""

from __future__ import annotations

import torch
from torch import Tensor


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels last where `x` is so and cannot be read as planes too."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def traced() -> bool:
    """Whether a graph is being traced or a function transformed, where layouts mean nothing."""
    functions = torch._C._functorch.maybe_current_level() is not None
    return functions or torch.compiler.is_compiling()


def dense(x: Tensor) -> Tensor:
    """Some channels of a channels-last map as a map of their own, channels last; others as is."""
    if traced():
        return x
    part = x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()
    return x.contiguous(memory_format=torch.channels_last) if part else x


def with_dense_gradient(x: Tensor) -> Tensor:
    """`x`, whose gradient will be a map of its own where it is a part of a larger one.

    A batch norm's gradient takes several times as long from a part (torch 2.13, on a processor).
    """
    if x.requires_grad and not traced():
        x.register_hook(dense)  # type: ignore[no-untyped-call]
    return x
