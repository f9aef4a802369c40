"""The algebra of re-parameterisation: what can be multiplied into a neighbour, exactly.

All in float64 whatever the module's type, so that merging adds no more than one rounding.
Batch norm in eval mode is `y = scale * x + shift` with `scale = weight / sqrt(variance + eps)`
and `shift = bias - mean * scale` (RepVGG, arXiv 2101.03697; ACNet, arXiv 1908.03930).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.networks.parts.log import Log
from nas.networks.parts.unified import UnifiedNorm

Linear = nn.Conv2d | nn.Linear
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d
Affine = BatchNorm | UnifiedNorm  # norms that are a factor and a constant in eval mode


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer does what its kind does: torch's or ours, or with their forward; no hooks.

    >>> class Standardised(nn.Conv2d):
    ...     __module__ = "mine"
    ...     def forward(self, x): return super().forward(x - x.mean())
    >>> is_plain(nn.Conv2d(1, 1, 1)), is_plain(Standardised(1, 1, 1))
    (True, False)
    """
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    if type(layer).__module__.startswith(("torch.", "nas.")):
        return True
    base = next((b for b in (nn.Conv2d, nn.Linear, _BatchNorm) if isinstance(layer, b)), None)
    named = ("forward", "_conv_forward")
    own = type(layer)
    return base is None or all(getattr(own, n, None) is getattr(base, n, None) for n in named)


def own_kind(layer: nn.Module) -> str:
    """What is said of a layer that is not plain."""
    return f"{type(layer).__name__} is a layer of its own kind"


def affine(norm: Affine) -> tuple[Tensor, Tensor]:
    """`(scale, shift)` of a norm in eval mode, each `(C,)`, float64."""
    if isinstance(norm, UnifiedNorm):
        root = (norm.running_var.double() + norm.eps).rsqrt()
        return (norm.weight.double() * root).detach(), norm.bias.detach().double()
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double()
        shift = shift + norm.bias.double()
    return scale.detach(), shift.detach()


def obstacle(norm: nn.Module) -> str | None:
    """Why this norm cannot be folded; None when it can."""
    if isinstance(norm, UnifiedNorm):
        return None
    if not isinstance(norm, BatchNorm):
        return f"{type(norm).__name__} depends on the input"
    if norm.running_mean is None or norm.running_var is None:
        return "keeps no running statistics"
    return None


def dilate(weight: Tensor, dilation: int) -> Tensor:
    """The dense kernel of a dilated one: `dilation - 1` zeros between taps."""
    tall, wide = ((taps - 1) * dilation + 1 for taps in weight.shape[-2:])
    dense = weight.new_zeros(*weight.shape[:2], tall, wide)
    dense[..., ::dilation, ::dilation] = weight
    return dense


def centred(weights: Iterable[Tensor]) -> Tensor:
    """The sum of odd kernels, each padded with zeros around its centre to the largest box."""
    listed = list(weights)
    tall, wide = (max(w.shape[axis] for w in listed) for axis in (-2, -1))
    padded = []
    for weight in listed:
        rows, columns = (tall - weight.shape[-2]) // 2, (wide - weight.shape[-1]) // 2
        padded.append(F.pad(weight, (columns, columns, rows, rows)))
    return torch.stack(padded).sum(0)


def normalised(weight: Tensor, bias: Tensor | None, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of a convolution followed by its batch norm."""
    scale, shift = affine(norm)
    if bias is not None:
        shift = shift + bias.detach().double() * scale
    return weight.detach().double() * scale.view(-1, *[1] * (weight.dim() - 1)), shift


def folded_branches(convs: nn.ModuleList, norms: nn.ModuleList) -> list[tuple[Tensor, Tensor]]:
    """`normalised` weight and bias of each convolution with its norm."""
    found = []
    for conv, norm in zip(convs, norms, strict=True):
        assert isinstance(conv.weight, Tensor) and isinstance(norm, BatchNorm)
        found.append(normalised(conv.weight, conv.bias, norm))  # type: ignore[arg-type]
    return found


class Parallel(nn.Module):
    """The sum of convolutions of one input: stripes too long to be worth one dense kernel."""

    def __init__(self, convs: Iterable[nn.Conv2d]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        total: Tensor = self.convs[0](x)
        for conv in list(self.convs)[1:]:
            total = total + conv(x)
        return total


class Concatenated(nn.Module):
    """The outputs of convolutions, one after the other along the channels.

    All see the whole input; `channelwise`, each sees as many of its channels as it has filters.
    """

    def __init__(self, convs: Iterable[nn.Conv2d], channelwise: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.channelwise = channelwise

    @property
    def filters(self) -> list[int]:
        """How many each convolution has."""
        return [conv.out_channels for conv in self.convs if isinstance(conv, nn.Conv2d)]

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, filters, H, W)`."""
        parts = torch.split(x, self.filters, 1) if self.channelwise else [x] * len(self.convs)
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], 1)


def scale_output(module: nn.Module, scale: Tensor, shift: Tensor | None) -> bool:
    """Makes `module` return `scale * y + shift` per channel; False where it has no weights for it.

    Exact for any convolution or linear layer, for a sum of them (the shift goes in once) and for
    convolutions side by side.
    """
    if isinstance(module, Concatenated):
        parts = torch.split(scale, module.filters)
        shifts = [None] * len(parts) if shift is None else torch.split(shift, module.filters)
        for conv, part, extra in zip(module.convs, parts, shifts, strict=True):
            scale_output(conv, part, extra)
        return True
    if isinstance(module, Parallel):
        for i, conv in enumerate(module.convs):
            scale_output(conv, scale, shift if i == 0 else None)
        return True
    if not isinstance(module, Linear) or module.weight.shape[0] != len(scale):
        return False
    like = module.weight
    rows = scale.double().view(-1, *[1] * (like.dim() - 1))
    module.weight = nn.Parameter((like.detach().double() * rows).to(like))
    bias = shift
    if module.bias is not None:
        scaled = module.bias.detach().double() * scale.double()
        bias = scaled if shift is None else scaled + shift.double()
    module.bias = None if bias is None else nn.Parameter(bias.to(like))
    return True


def scale_input(module: nn.Module, scale: Tensor, shift: Tensor) -> bool:
    """Makes `module` take `x` where it took `scale * x + shift`; False where that is not exact.

    Exact for a linear layer and for a dense convolution without padding (a padded one would see
    zeros where it saw `shift`).
    """
    if isinstance(module, nn.Conv2d):
        if module.groups != 1 or module.padding not in (0, (0, 0), "valid"):
            return False
    elif not isinstance(module, nn.Linear):
        return False
    like = module.weight
    if like.shape[1] != len(scale):
        return False
    weight = like.detach().double()
    columns = [1, -1] + [1] * (weight.dim() - 2)
    bias = (weight * shift.double().view(columns)).flatten(1).sum(1)
    if module.bias is not None:
        bias = bias + module.bias.detach().double()
    module.weight = nn.Parameter((weight * scale.double().view(columns)).to(like))
    module.bias = nn.Parameter(bias.to(like))
    return True


def fold_backward(path: str, module: nn.Module, norm: nn.Module, log: Log) -> bool:
    """Folds a batch norm into the convolution before it; False, and the reason, where it cannot."""
    why = obstacle(norm)
    if why is None and scale_output(module, *affine(norm)):  # type: ignore[arg-type]
        log.touch(path, f"{said(norm)} into the layer before it")
        return True
    log.skip(path, why or f"{type(module).__name__} before it has no weight for every channel")
    return False


def said(norm: nn.Module) -> str:
    """What a norm that folds is called."""
    return "unified norm" if isinstance(norm, UnifiedNorm) else "batch norm"


def fold_forward(
    path: str, norm: nn.Module, module: nn.Module, log: Log, *others: nn.Module
) -> bool:
    """Folds a norm into the linear layer after it; False, and the reason, where it cannot.

    `others` take the norm's output as well; each must be linear.
    """
    why = obstacle(norm)
    if why is None and all(isinstance(m, nn.Linear) for m in others):
        given = affine(norm)  # type: ignore[arg-type]
        if scale_input(module, *given):
            for other in others:
                scale_input(other, *given)
            log.touch(path, f"{said(norm)} into the linear layer after it")
            return True
    log.skip(
        path,
        why or f"{type(module).__name__} after it cannot take it: not linear, padded or grouped",
    )
    return False
