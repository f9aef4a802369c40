"""The depthwise convolution of training: forward and both gradients by whichever methods suit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.largekernel import passes
from nas.networks.largekernel.choice import choose
from nas.networks.largekernel.geometry import Geometry, crop
from nas.networks.largekernel.method import wide
from nas.networks.largekernel.passes import expand
from nas.networks.parts.layout import dense, layout_of, traced


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    dilation: int = 1,
    cells: tuple[int, ...] | None = None,
) -> Tensor:
    """Depthwise convolution of `x (B, C, H, W)`: the framework's, whole; what is exported.

    Args:
        weight: `(C, 1, kh, kw)` odd taps, or `(C, 1, s, s)` with `cells`.
        bias: `(C,)` or None.
        stride: pixels between outputs; dilation: between taps.
        cells: the cell of each tap of a line, where taps share weights.
    """
    if cells is not None:
        weight = expand(weight, cells)
    padding = [(taps - 1) // 2 * dilation for taps in weight.shape[-2:]]
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if weight.shape[0] == 1 and learns and not traced():
        # oneDNN's gradients of one channel write outside of their memory: two are safe
        two, both = F.pad(x, (0, 0, 0, 0, 0, 1)), F.pad(weight, (0, 0, 0, 0, 0, 0, 0, 1))
        y = F.conv2d(two, both, None, stride, padding, dilation, groups=2).narrow(-3, 0, 1)
        return y if bias is None else y + bias[:, None, None]
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups=weight.shape[0])


def convolve_quickly(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    dilation: int = 1,
    cells: tuple[int, ...] | None = None,
) -> Tensor:
    """`convolve`, the same up to rounding, by the methods chosen for shape, device and pass.

    As with `convolve`, `x` may be one image, `(C, H, W)`, and autocast leaves float64 alone.
    """
    transformed = traced() and not torch.compiler.is_compiling()
    if not len(x) or x.is_meta or transformed:  # there is nothing to time methods with
        return _whole(x, weight, bias, stride, dilation, cells)
    if x.ndim == 3:  # one image alone, which evaluation takes too
        return convolve_quickly(x[None], weight, bias, stride, dilation, cells)[0]
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:  # autocast leaves it
        lower = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(lower), weight.to(lower)
        bias = None if bias is None else bias.to(lower)
    with torch.autocast(x.device.type, enabled=False):
        x = dense(x)
        if torch.compiler.is_compiling():
            y: Tensor = depthwise_op(x, weight, stride, dilation, list(cells or ()))
            return y if bias is None else y + bias[:, None, None]
        geometry = _geometry(x, weight, stride, dilation, cells)
        choice = choose(x, geometry)
        if choice == passes.Choice("native", "native", "native"):
            full = None if bias is None else wide(bias)
            return _whole(wide(x), wide(weight), full, stride, dilation, cells).to(x.dtype)
        found: Tensor = _Depthwise.apply(x, weight, bias, geometry, choice)  # type: ignore[no-untyped-call]
        return found


def _whole(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    dilation: int,
    cells: tuple[int, ...] | None,
) -> Tensor:
    """`convolve` without the taps that meet no data: the framework's, whatever it is asked for."""
    if cells is not None:
        weight = expand(weight, cells)
    height, width = x.shape[-2:]
    return convolve(x, crop(weight, (height, width), dilation), bias, stride, dilation)


def _geometry(
    x: Tensor, weight: Tensor, stride: int, dilation: int, cells: tuple[int, ...] | None
) -> Geometry:
    batch, channels, height, width = x.shape
    kernel = (weight.shape[-2], weight.shape[-1]) if cells is None else (len(cells),) * 2
    return Geometry(batch, channels, (height, width), kernel, stride, dilation, cells)


class _Depthwise(torch.autograd.Function):
    """Calls the chosen methods; where gradients of gradients are asked for, the framework's."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        choice: passes.Choice,
    ) -> Tensor:
        """The output in the layout of `x`."""
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.choice = geometry, choice
        y = passes.forward(choice.forward, x, weight, geometry)
        return y if bias is None else y.add_(bias[:, None, None])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of input, weight and bias that are needed."""
        x, weight = ctx.saved_tensors
        g = ctx.geometry
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        db = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        if torch.is_grad_enabled() or traced():
            return *_differentiable(grad, x, weight, g, wanted), db, None, None
        if not any(wanted):
            return None, None, db, None, None
        grad = grad.contiguous(memory_format=layout_of(x))
        return *passes.backward(ctx.choice, grad, x, weight, g, wanted), db, None, None


def _differentiable(
    grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Those gradients that are wanted as functions that can be differentiated again."""
    g = geometry
    with torch.enable_grad():
        y = _whole(x, weight, None, g.stride, g.dilation, g.cells)
        of = [part for part, want in zip((x, weight), wanted, strict=True) if want]
        found = iter(torch.autograd.grad(y, of, grad, create_graph=True) if of else ())
    dx, dw = (next(found) if want else None for want in wanted)
    return dx, dw


@torch.library.custom_op("nas::depthwise", mutates_args=())
def depthwise_op(x: Tensor, weight: Tensor, stride: int, dilation: int, cells: list[int]) -> Tensor:
    """`convolve_quickly` as an operator that `torch.compile` takes as a whole; no cells: `[]`."""
    geometry = _geometry(x, weight, stride, dilation, tuple(cells) or None)
    return passes.forward(choose(x, geometry).forward, x, weight, geometry)


@depthwise_op.register_fake
def _(x: Tensor, weight: Tensor, stride: int, dilation: int, cells: list[int]) -> Tensor:
    height, width = ((side - 1) // stride + 1 for side in x.shape[-2:])
    shape = (x.shape[0], x.shape[1], height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))


@torch.library.custom_op("nas::depthwise_backward", mutates_args=())
def depthwise_backward_op(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int, cells: list[int]
) -> tuple[Tensor, Tensor]:
    """The gradients of `depthwise_op`'s input and weight."""
    geometry = _geometry(x, weight, stride, dilation, tuple(cells) or None)
    grad = grad.contiguous(memory_format=layout_of(x))
    dx, dw = passes.backward(choose(x, geometry), grad, x, weight, geometry)
    assert dx is not None and dw is not None
    return dx, dw.contiguous()


@depthwise_backward_op.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int, cells: list[int]
) -> tuple[Tensor, Tensor]:
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
    return dx, weight.new_empty(weight.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, *ctx.shape = inputs
    ctx.save_for_backward(x, weight)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dx, dw = depthwise_backward_op(grad, *ctx.saved_tensors, *ctx.shape)
    return dx, dw, None, None, None


depthwise_op.register_autograd(_gradients, setup_context=_setup)
