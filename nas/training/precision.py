"""bfloat16 where it is really faster: measured once for each device and input size, and kept.

Matrix products in bfloat16 run at twice the speed where the processor or GPU has instructions for
them, and slower where it has not; small networks lose it again in conversions. Networks' outputs
are float32 again before the loss, weights and the optimizer's state always.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nas.networks.largekernel.kept import kept, of_device
from nas.networks.mixers.depthwise import Depthwise
from nas.training.products import quick

_WORTH = 1.2  # times faster that a block must be: a whole network gains less
_ROUNDS = 15
_SIDE = 16  # of the least first maps that networks make of larger images


def lowered(precision: str, device: torch.device, shape: tuple[int, ...]) -> bool:
    """Whether to train in bfloat16.

    Args:
        precision: `float32`, `bfloat16`, or `fastest`, which measures, once; float32 is what
            other processes could not be told of.
        device: where the network is.
        shape: of a batch of inputs, `(B, C, H, W)` for images; other inputs stay in float32.
    """
    if precision != "fastest":
        return precision == "bfloat16"
    if len(shape) != 4:
        return False
    batch, side = shape[0], max(min(_SIDE, shape[-1]), shape[-1] // 4, 1)
    name = (
        f"bfloat16 as products over float32 on {batch}x64x{side}x{side}, "
        f"{torch.get_num_threads()} threads, {of_device(device)}"
    )
    found = kept(name, lambda: _speedup(device, batch, side), lambda: 0.0)
    return bool(found >= _WORTH)


def within(lower: bool, device: torch.device) -> AbstractContextManager[Any]:
    """The context that a network is called in."""
    return torch.autocast(device.type, torch.bfloat16) if lower else nullcontext()


def widened(output: Any) -> Any:
    """A network's output with all tensors of fewer bits in float32."""
    narrow = (torch.bfloat16, torch.float16)
    return pytree.tree_map_only(Tensor, lambda t: t.float() if t.dtype in narrow else t, output)


def _speedup(device: torch.device, batch: int, side: int) -> float:
    """How many times faster a training step of one inverted bottleneck is in bfloat16."""
    with torch.random.fork_rng():
        block = nn.Sequential(
            Depthwise(64, 7),
            nn.BatchNorm2d(64),
            nn.Conv2d(64, 256, 1),
            nn.GELU(),
            nn.Conv2d(256, 64, 1),
        ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.randn(batch, 64, side, side).to(device, memory_format=torch.channels_last)
    full, lower = (partial(_step, block, x, narrow) for narrow in (False, True))
    with quick(block):
        rounds = [(_seconds(full, device), _seconds(lower, device)) for _ in range(_ROUNDS)]
    slow, fast = (min(times) for times in zip(*rounds, strict=True))
    speedup: float = round(slow / fast, 3)
    return speedup


def _step(block: nn.Module, x: Tensor, lower: bool) -> None:
    with within(lower, x.device):
        y = block(x)
    widened(y).square().mean().backward()


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    """How long a run takes; of the processor's own time where one thread does it."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started
