"""A network that is frozen but for its head and for what was put into it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


class Part(nn.Module):
    """What an adapter adds to a network: trained, and in training mode while the rest is not.

    A part that cannot be merged stays in the deployed form with its cost.
    """


class Adapted(nn.Module):
    """A network whose weights, dropouts and batch norms stand still, whatever is asked of it.

    Running statistics of batch norms are the pretrained ones, in training as in evaluation, as in
    the authors' code of the methods that say so (VPT keeps its backbone in evaluation): an adapter
    then answers to the very network that its merged form runs in.

    Args:
        network: is frozen in place.
        head: path of the layer before its output. It begins anew, because the pretrained one's
            outputs are another task's, and is trained with what is added.
    """

    def __init__(self, network: nn.Module, head: str) -> None:
        super().__init__()
        self.network = network
        self.head = head
        self.front: Part | None = None  # between the input and the network
        self.notes: Part | None = None  # what a training keeps with its checkpoints
        self.pairs: tuple[tuple[str, tuple[str, ...], str], ...] = ()  # of layers to be pruned
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        layer = network.get_submodule(head)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        layer.reset_parameters()
        for parameter in layer.parameters():
            parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> Adapted:
        """Puts what was added, and the head, into training mode; all else stays in evaluation."""
        super().train(False)
        self.training = mode
        for part in self.learning():
            part.train(mode)
        return self

    def learning(self) -> Iterator[nn.Module]:
        """The head and the parts."""
        yield self.network.get_submodule(self.head)
        yield from parts(self)

    def forward(self, x: Tensor) -> Tensor:
        """What the network answers."""
        found: Tensor = self.network(x if self.front is None else self.front(x))
        return found


def parts(module: nn.Module) -> Iterator[Part]:
    """Every part in a module."""
    for found in module.modules():
        if isinstance(found, Part):
            yield found


def appearances(network: nn.Module) -> dict[nn.Module, int]:
    """In how many places each module of a network is used."""
    found: dict[nn.Module, int] = {}
    for _, module in network.named_modules(remove_duplicate=False):
        found[module] = found.get(module, 0) + 1
    return found
