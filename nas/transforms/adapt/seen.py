"""What a network is made of, seen by running it once: layers, branches, blocks, head.

Nothing is known of anybody's class names but one: a linear layer inside a module whose class is
called some kind of `Attention` mixes places; every other linear layer, and every convolution of one
tap, mixes channels. A head is the last linear layer or convolution before the output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nas.core.errors import NasError
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.patterned import Patterned
from nas.transforms.running import ALONE, watched

SECTIONS = 4
Matrix = nn.Linear | nn.Conv2d
Filters = nn.Conv2d | Depthwise | Patterned  # whose channels are the second axis
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm
_SUMS = ("add", "__add__", "__radd__", "__iadd__", "add_")
# Of the parts of attention, by the last word of a layer's path.
PARTS = {
    "query": ("q", "query", "q_proj", "wq", "to_q", "q_lin"),
    "key": ("k", "key", "k_proj", "wk", "to_k", "k_lin"),
    "value": ("v", "value", "v_proj", "wv", "to_v", "v_lin"),
    "fused": ("qkv", "in_proj", "to_qkv", "query_key_value"),
}


@dataclass(frozen=True)
class Layer:
    """A layer with weights, and where in the network it is.

    Args:
        path: its dotted name.
        site: `mixing` (attention, convolutions of more than one tap, depthwise ones), `channels`
            (linear layers and convolutions of one tap), `norms`.
        part: in attention, `query`, `key`, `value`, or `fused`, all three in rows of one weight;
            empty elsewhere.
        macs: multiply-adds of one example. section: the quarter of them that its middle lies in.
        shape, output: of what it takes and returns for one example, with the batch.
    """

    path: str
    site: str
    part: str
    macs: float
    shape: tuple[int, ...]
    output: tuple[int, ...]
    section: int = 0


@dataclass(frozen=True)
class Block:
    """A module with residual sums inside.

    Args:
        path: its dotted name. section: the quarter of the multiply-adds in which it ends.
        shape, output: of what it takes and returns for one example, with the batch; `output` is of
            the first tensor where it returns several.
        whole: whether it returns one tensor.
    """

    path: str
    shape: tuple[int, ...]
    output: tuple[int, ...]
    whole: bool
    section: int = 0


@dataclass(frozen=True)
class Seen:
    """A network as it ran.

    Args:
        layers: linear layers, convolutions and norms, in the order in which they first ran,
            without the head.
        ends: paths of the layers that end the branch of a residual sum: a norm right behind a
            convolution ends it, not the convolution.
        blocks: the outermost modules, below the network itself, that hold residual sums.
        pairs: `(maker, norms, depthwise and other layers by channel, reader)`, paths of layers
            whose channels nobody else reads (`nas.transforms.adapt.pruning`).
        head: the last layer before the output. output: the network's shape, of one example with
            the batch.
        uncalled: paths of layers that have weights and were never called as layers.
    """

    layers: tuple[Layer, ...]
    ends: tuple[str, ...]
    blocks: tuple[Block, ...]
    pairs: tuple[tuple[str, tuple[str, ...], str], ...]
    head: str
    uncalled: tuple[str, ...]
    output: tuple[int, ...]


def look(network: nn.Module, shape: tuple[int, ...]) -> Seen:
    """Runs a network in evaluation on one example of zeros and says what it saw.

    Works on the meta device too. Raises: NasError where it does not run, or where no layer with
    weights leads to the output.
    """
    held = next(network.parameters(), torch.zeros(()))
    flow = _Flow(network)
    # With gradients on, torch's attention runs the layers it is made of.
    parts = list(network.named_modules())
    with watched(network, parts, flow.enters, flow.leaves), flow, torch.enable_grad():
        output = network(torch.zeros((1, *shape), device=held.device, dtype=held.dtype))
    end = flow.of(output)
    if end is None:
        raise NasError(
            f"the network returns {type(output).__name__}, not a tensor made of its input",
            ALONE,
        )
    head = next((n.layer for n in _back(end) if flow.is_matrix(n.layer)), None)
    if head is None:
        raise NasError(
            "no linear layer or convolution right before the network's output was found",
            "end the network in one: it is the head, which is trained anew",
        )
    layers = _placed([layer for layer in flow.layers.values() if layer.path != head])
    return Seen(
        layers,
        tuple(dict.fromkeys(path for path in map(flow.branch, flow.sums) if path)),
        _outermost(flow, layers),
        tuple(flow.pairs()),
        head,
        tuple(flow.uncalled()),
        tuple(output.shape),
    )


@dataclass(eq=False)
class _Node:
    """What an operation made of data, or a layer."""

    made_of: list[_Node]
    operation: str = ""
    layer: str | None = None
    readers: int = 0


class _Flow(TorchFunctionMode):
    """Which operation took what another made, with the layers that they belong to."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.paths = {module: path for path, module in network.named_modules()}
        self.layers: dict[str, Layer] = {}
        self.sums: list[tuple[_Node, str]] = []
        self.blocks: dict[str, Block] = {}
        self.nodes: list[_Node] = []
        self._kept: list[Any] = []  # so that no tensor's identity is given away again
        self._of: dict[int, _Node] = {}
        self._inside: list[str] = []

    # -- watching

    def enters(self, path: str, module: nn.Module, inputs: Any) -> None:
        """Notes where the call is that begins, and what the network itself is given."""
        if not path:
            for tensor in _tensors(inputs):
                self._note(tensor, _Node([], "input"))
        self._inside.append(path)

    def leaves(self, path: str, module: nn.Module, inputs: Any, named: Any, output: Any) -> None:
        """Notes what a call took and made, and whose it was."""
        self._inside.pop()
        taken = next(iter(_tensors((inputs, named))), None)
        given = next(iter(_tensors(output)), None)
        if taken is None or given is None:
            return
        if _has_weights(module):
            node = self.of(given)
            if node is not None:
                node.layer = path
            found = _layer(self.network, module, path, tuple(taken.shape), tuple(given.shape))
            self.layers.setdefault(path, found)
        whole = isinstance(output, Tensor)
        self.blocks.setdefault(path, Block(path, tuple(taken.shape), tuple(given.shape), whole))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and notes what it was made of."""
        kwargs = kwargs or {}
        before = [n for t in _tensors((args, kwargs)) if (n := self._of.get(id(t))) is not None]
        output = func(*args, **kwargs)
        made = list(_tensors(output))
        if not before or not made:
            return output
        node = _Node(list(dict.fromkeys(before)), getattr(func, "__name__", ""))
        for tensor in made:
            self._note(tensor, node)
        for one in node.made_of:
            one.readers += 1
        self.nodes.append(node)
        if node.operation in _SUMS and len(node.made_of) == 2:
            self.sums.append((node, self._inside[-1] if self._inside else ""))
        return output

    def _note(self, tensor: Tensor, node: _Node) -> None:
        self._kept.append(tensor)
        self._of[id(tensor)] = node

    # -- asking

    def of(self, value: Any) -> _Node | None:
        """What made a tensor."""
        return self._of.get(id(value)) if isinstance(value, Tensor) else None

    def is_matrix(self, path: str | None) -> bool:
        """Whether a path is a linear layer's or a convolution's."""
        return path is not None and isinstance(self.network.get_submodule(path), Matrix)

    def branch(self, found: tuple[_Node, str]) -> str | None:
        """The layer that ends the branch of a residual sum; None where it is no such sum.

        Of two branches that both have layers, the one with more of them is meant: the other is a
        shortcut.
        """
        one, two = found[0].made_of
        lengths = [len(_ancestry(one) - _ancestry(two)), len(_ancestry(two) - _ancestry(one))]
        if not _ancestry(one) & _ancestry(two):
            return None
        longer = one if lengths[0] >= lengths[1] else two
        for node in _back(longer):
            if node.layer is not None:
                return node.layer
        return None

    def pairs(self) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Two dense layers with nothing but what works channel by channel between them."""
        last = {node.layer: node for node in self.nodes if node.layer is not None}
        for path, node in last.items():
            if not self.is_matrix(path) or _grouped(self.network.get_submodule(str(path))):
                continue
            if len(node.made_of) != 1:
                continue
            between: list[str] = []
            above = node.made_of[0]
            while above.readers == 1 and (above.layer is None or self._by_channel(above.layer)):
                if above.layer is not None:
                    between.append(above.layer)
                elif above.operation not in CHANNELWISE or len(above.made_of) != 1:
                    break
                if len(above.made_of) != 1:
                    break
                above = above.made_of[0]
            dense = self.is_matrix(above.layer) and above.readers == 1
            if dense and not _grouped(self.network.get_submodule(str(above.layer))):
                yield str(above.layer), tuple(reversed(between)), str(path)

    def _by_channel(self, path: str) -> bool:
        """Whether each channel that a layer returns depends on that same channel alone."""
        module = self.network.get_submodule(path)
        if isinstance(module, nn.Conv2d):
            return module.groups == module.in_channels == module.out_channels
        return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)

    def uncalled(self) -> Iterator[str]:
        """Layers whose weights somebody else reads."""
        inside = [p for p in self.layers if _fused(self.network.get_submodule(p))]
        for module, path in self.paths.items():
            held = any(path.startswith(f"{p}.") for p in inside)
            if _has_weights(module) and path not in self.layers and not held:
                yield path


CHANNELWISE = (
    "relu", "relu_", "gelu", "silu", "hardswish", "hardtanh", "leaky_relu", "elu", "dropout",
    "tanh", "sigmoid", "contiguous", "max_pool2d", "avg_pool2d", "mish",
)  # fmt: skip


def _grouped(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups > 1


def _fused(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention)


def _has_weights(module: nn.Module) -> bool:
    if isinstance(module, Norm):
        return module.weight is not None
    return isinstance(module, nn.Linear | Filters) or _fused(module)


def _layer(
    network: nn.Module, module: nn.Module, path: str, shape: tuple[int, ...], out: tuple[int, ...]
) -> Layer:
    part = next((p for p, names in PARTS.items() if path.rpartition(".")[2] in names), "")
    if isinstance(module, Norm):
        return Layer(path, "norms", "", 0.0, shape, out)
    if isinstance(module, nn.MultiheadAttention):
        return Layer(path, "mixing", "fused", 4.0 * module.embed_dim * math.prod(out), shape, out)
    if isinstance(module, Filters):
        mixes = tuple(module.weight.shape[2:]) != (1, 1)
        macs = module.weight.numel() * math.prod(out[2:])
        return Layer(path, "mixing" if mixes else "channels", "", macs, shape, out)
    assert isinstance(module, nn.Linear)
    parents = [path.rsplit(".", n)[0] for n in range(1, path.count(".") + 1)]
    attends = any("attention" in type(network.get_submodule(p)).__name__.lower() for p in parents)
    macs = module.weight.numel() * math.prod(out[1:-1])
    return Layer(
        path, "mixing" if attends else "channels", part if attends else "", macs, shape, out
    )


def _placed(layers: list[Layer]) -> tuple[Layer, ...]:
    """The layers with their sections: quarters of the multiply-adds, by each layer's middle."""
    total = sum(layer.macs for layer in layers) or 1.0
    done, found = 0.0, []
    for layer in layers:
        section = min(SECTIONS - 1, int(SECTIONS * (done + layer.macs / 2) / total))
        done += layer.macs
        found.append(replace(layer, section=section))
    return tuple(found)


def _outermost(flow: _Flow, layers: tuple[Layer, ...]) -> tuple[Block, ...]:
    """Modules whose own forward adds residually, without those inside another such module."""
    holders = {inside for node, inside in flow.sums if inside and flow.branch((node, inside))}
    kept = [p for p in holders if not any(p.startswith(f"{q}.") for q in holders)]
    found = []
    for path, block in flow.blocks.items():
        if path in kept:
            last = [la.section for la in layers if la.path.startswith(f"{path}.")]
            found.append(replace(block, section=last[-1] if last else 0))
    return tuple(found)


def _back(node: _Node) -> Iterator[_Node]:
    """A node and those before it, as long as each was made of one other."""
    while True:
        yield node
        if len(node.made_of) != 1:
            return
        node = node.made_of[0]


def _ancestry(node: _Node) -> set[_Node]:
    found, waiting = set(), [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(one.made_of)
    return found


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from _tensors(value)
