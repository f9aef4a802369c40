"""Adapters that are functions of a layer's weight and bias alone: they merge by being evaluated.

Each is a parametrization, put before any other (a mask of the axis `sparsity`): what is pruned is
then the adapted weight, so the pattern of zeros survives merging, and dead entries of an adapter
get no gradient.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas.transforms.adapt.adapted import Part


class Function(Part):
    """A tensor of a layer to the adapted tensor, of the same shape."""

    def forward(self, tensor: Tensor) -> Tensor:
        """The adapted tensor."""
        raise NotImplementedError


def adapt(layer: nn.Module, name: str, function: Function) -> None:
    """Makes `layer.NAME` what `function` makes of it.

    A bias that the layer does not have is put in as zeros.
    """
    if getattr(layer, name) is None:
        weight = getattr(layer, name.replace("bias", "weight"))
        zeros = weight.new_zeros(len(weight))
        setattr(layer, name, nn.Parameter(zeros, requires_grad=False))
    parametrize.register_parametrization(layer, name, function)
    stack = layer.parametrizations[name]  # type: ignore[index]
    functions = list(stack)
    for place, one in enumerate([functions[-1], *functions[:-1]]):
        stack[place] = one


def merge(network: nn.Module) -> list[str]:
    """Evaluates every such adapter in place, in float64, and removes it; names the tensors.

    Masks and the like that were there before stay, on top of the merged tensor. Torch's own
    removal is not used: it deletes the property from a class that copies of the layer share.
    """
    merged = []
    for path, layer in list(network.named_modules()):
        stacks = layer.parametrizations.values() if parametrize.is_parametrized(layer) else ()
        if not any(isinstance(function, Function) for stack in stacks for function in stack):
            continue
        values: dict[str, Tensor] = {}
        left: dict[str, list[nn.Module]] = {}
        for name, stack in layer.parametrizations.items():
            value = stack.original.detach()
            like, rest = value, []
            for function in stack:
                if isinstance(function, Function):
                    value = function.double()(value.double()).detach()
                    merged.append(f"{path}.{name}")
                else:
                    rest.append(function)
            values[name], left[name] = value.to(like), rest
        _plain(layer, values)
        for name, rest in left.items():
            for function in rest:
                parametrize.register_parametrization(layer, name, function)
    return merged


def _plain(layer: nn.Module, values: dict[str, Tensor]) -> None:
    """Makes a parametrized layer one with plain tensors."""
    stacks = dict(layer.parametrizations.items())  # type: ignore[union-attr,operator]
    trained = {name: stack.original.requires_grad for name, stack in stacks.items()}
    del layer.parametrizations
    layer.__class__ = type(layer).__bases__[0]
    for name, value in values.items():
        layer.register_parameter(name, nn.Parameter(value, requires_grad=trained[name]))
