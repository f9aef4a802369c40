"""Adapters put into a network as a plan says, one method of `Work` for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from nas.core.errors import NasError
from nas.networks.parts.log import Log
from nas.networks.parts.merge import is_plain
from nas.transforms.adapt.adapted import Adapted, appearances
from nas.transforms.adapt.beside import channels_last_axis
from nas.transforms.adapt.bottleneck import bottleneck
from nas.transforms.adapt.difffit import affine, factor
from nas.transforms.adapt.dynamic import Dynamic, placed
from nas.transforms.adapt.linear import FIXED, linear_adapters
from nas.transforms.adapt.lora import low_rank, scaling
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.polyhistor import Several, several
from nas.transforms.adapt.prompts import Frame, Prompt, Prompted, obstacle
from nas.transforms.adapt.pruning import prune
from nas.transforms.adapt.sara import Progress, small_entries
from nas.transforms.adapt.seen import Block, Filters, Layer, Seen
from nas.transforms.adapt.snnk import kernel_adapter
from nas.transforms.adapt.ssf import scale_shift
from nas.transforms.fold import is_merged
from nas.transforms.running import watched
from nas.transforms.stages import Given


@dataclass(frozen=True)
class Work:
    """A network on its way to being adapted: one method here for each kind of adapter."""

    network: nn.Module
    seen: Seen
    plan: Plan
    given: Given
    log: Log

    def at(self, layer: Layer) -> nn.Module:
        """The layer's module."""
        return self.network.get_submodule(layer.path)

    def chosen(self, norms: bool = False) -> Iterator[Layer]:
        """The layers in adapted sections and sites; the others are logged with their reason."""
        for layer in self.seen.layers:
            why = self._why_not(layer, norms)
            if why is None:
                yield layer
            else:
                self.log.skip(layer.path, why)

    def _why_not(self, layer: Layer, norms: bool) -> str | None:
        if not self.plan.sections[layer.section]:
            return f"section {layer.section} is left frozen"
        wanted = {
            "mixing": self.plan.mixing != "none",
            "channels": self.plan.channels,
            "norms": self.plan.norms,
        }
        if layer.site == "norms" and not norms:
            return "a norm has no matrix"
        if not wanted[layer.site]:
            return f"{layer.site} are left frozen" if layer.site != "mixing" else "mixing is frozen"
        attends = layer.site == "mixing" and isinstance(self.at(layer), nn.Linear)
        if attends and self.plan.mixing == "queries" and layer.part in ("key", ""):
            return "only queries and values are adapted"
        return None

    def ends(self) -> Iterator[Layer]:
        """What ends a residual branch in an adapted section; every matrix where there is none."""
        by_path = {layer.path: layer for layer in self.seen.layers}
        found = [by_path[path] for path in self.seen.ends if path in by_path]
        if not found:
            self.log.skip("", "no residual branch: adapters are behind every matrix")
            found = [layer for layer in self.seen.layers if layer.site != "norms"]
        for layer in found:
            if self.plan.sections[layer.section]:
                yield layer
            else:
                self.log.skip(layer.path, f"section {layer.section} is left frozen")

    def replace(self, layer: Layer, made: tuple[nn.Module, str] | str) -> None:
        """Puts a wrapped layer in the layer's place, or logs why there is none."""
        if isinstance(made, str):
            self.log.skip(layer.path, made)
        elif appearances(self.network)[self.at(layer)] > 1:
            self.log.skip(layer.path, "used in more than one place")
        elif is_merged(self.network, layer.path):
            self.log.skip(layer.path, "merged with those beside it: nothing may stand between")
        else:
            self.network.set_submodule(layer.path, made[0])
            self.log.touch(layer.path, made[1])

    # -- the networks around it

    def dynamic(self, outputs: int) -> Dynamic:
        """Around it early heads. Raises: NasError where the network gives no answer of theirs."""
        if self.seen.output[1:] != (outputs,):
            answered = ", ".join(map(str, self.seen.output[1:]))
            raise NasError(
                f"adapter.heads={len(self.plan.quarters)}: early heads answer (B, {outputs}), "
                f"this network (B, {answered})",
                "leave early heads out for this network: adapter.heads=0",
            )
        behind = placed(self.seen, self.plan.quarters)
        made = Dynamic(self.network, self.seen.head, behind, self._axis, outputs)
        for path, head in zip(made.exits, made.heads, strict=True):
            number = sum(p.numel() for p in head.parameters())
            self.log.touch(path, f"an early head, {number:,} parameters")
        return made

    def _axis(self, block: Block) -> int:
        """The axis of a block's channels: the last one behind a linear layer."""
        inside = [la for la in self.seen.layers if f"{la.path}.".startswith(f"{block.path}.")]
        last = [la for la in inside if la.site != "norms"][-1]
        return -1 if channels_last_axis(self.at(last), block.output) else 1

    def several(self, parts: tuple[int, ...]) -> Several:
        """Around it a hyper-network for several tasks."""
        layers = [la for la in self.ends() if not isinstance(self.at(la), nn.MultiheadAttention)]
        whole, said = several(self.network, self.seen.head, layers, parts, self.plan.rank)
        self.log.touched.extend(said)
        return whole

    # -- the methods

    def nothing(self, whole: Adapted) -> None:
        """Nothing but the head."""

    def lora(self, whole: Adapted) -> None:
        """LoRA on every chosen matrix."""
        plan = self.plan
        scale = scaling(plan.alpha, plan.rank, plan.stable)
        for layer in self.chosen():
            module, dropped = self.at(layer), plan.drop_at(layer.section)
            parts = _slices(layer, plan.mixing)
            if isinstance(module, nn.MultiheadAttention):
                if module.in_proj_weight is None:
                    self.log.skip(layer.path, "its projections have a weight each")
                    continue
                if plan.mixing == "all":
                    said = low_rank(module.out_proj, (), plan.rank, scale, dropped)
                    self.log.touch(f"{layer.path}.out_proj", said)
            self.log.touch(layer.path, low_rank(module, parts, plan.rank, scale, dropped))

    def ssf(self, whole: Adapted) -> None:
        """SSF behind every chosen layer and norm."""
        for layer in self.chosen(norms=True):
            module = self.at(layer)
            if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is None:
                self.log.skip(layer.path, "its projections have a weight each")
                continue
            self.log.touch(layer.path, scale_shift(module))

    def difffit(self, whole: Adapted) -> None:
        """Biases, norms, and a factor on every residual branch."""
        ends = {layer.path for layer in self.ends()} & set(self.seen.ends)
        for layer in self.seen.layers:
            if not self.plan.sections[layer.section]:
                self.log.skip(layer.path, f"section {layer.section} is left frozen")
                continue
            module = self.at(layer)
            said = [affine(module), factor(module) if layer.path in ends else None]
            if any(said):
                self.log.touch(layer.path, "; ".join(filter(None, said)))
            else:
                self.log.skip(layer.path, "it has no bias and ends no branch")

    def zeroi2v(self, whole: Adapted) -> None:
        """Linear adapters beside every chosen matrix."""
        for layer in self.chosen():
            made = linear_adapters(self.at(layer), layer, self.plan.where, self.plan.ratio)
            self.replace(layer, made)

    def bottleneck(self, whole: Adapted) -> None:
        """A bottleneck at the end of every branch."""
        for end in self.ends():
            layer = self._matrix_of(end) if self.plan.form == "parallel" else end
            dropped = self.plan.drop_at(layer.section)
            made = bottleneck(self.at(layer), layer, self.plan.form, self.plan.rank, dropped)
            self.replace(layer, made)

    def _matrix_of(self, end: Layer) -> Layer:
        """The matrix before a norm that ends a branch; what ends it where that is one."""
        before = self.seen.layers[: self.seen.layers.index(end) + 1]
        return next(
            (la for la in reversed(before) if isinstance(self.at(la), nn.Linear | Filters)), end
        )

    def snnk(self, whole: Adapted) -> None:
        """A kernel adapter at the end of every branch."""
        for seed, layer in zip(count(self.given.seed), self.ends(), strict=False):
            made = kernel_adapter(self.at(layer), layer, self.plan.rank, seed)
            self.replace(layer, made)

    def prompt(self, whole: Adapted) -> None:
        """Tokens beside the image's in every chosen block, or a frame of pixels."""
        tokens = [b for b in self.seen.blocks if len(b.output) == 3 and b.shape == b.output]
        wanted = [b for b in tokens if not self.plan.deep or self.plan.sections[b.section]]
        placed = self._takers(wanted)
        if not placed and (wanted or not tokens):
            width = max(1, round(self.plan.prompts**0.5))
            frame = Frame(self.given.task.input, width)
            whole.front = frame
            self.log.touch("", f"a frame of {width} pixels around the input")
            return
        fan = self._patch()
        for block in placed:
            inside, last = self.network.get_submodule(block.path), block is placed[-1]
            enters = self.plan.deep or block is placed[0]
            number, width = self.plan.prompts, block.output[-1]
            prompt = Prompt(number, width, fan) if enters else None
            out = self.plan.deep or last
            self.network.set_submodule(block.path, Prompted(inside, number, prompt, out))
            if enters:
                self.log.touch(block.path, f"{number} prompts, {number * width:,} parameters")

    def _takers(self, wanted: list[Block]) -> list[Block]:
        """The blocks that prompts are of use in, the others logged with their reason.

        Shallow prompts go through all that are placed: blocks of one shape without another between.
        """
        calls: dict[str, tuple[Any, Any]] = {}
        layers = [(b.path, self.network.get_submodule(b.path)) for b in wanted]
        held = next(self.network.parameters())
        example = torch.zeros((1, *self.given.task.input), device=held.device, dtype=held.dtype)
        with watched(
            self.network, layers, leaves=lambda path, _, inputs, named, output:
            calls.setdefault(path, (inputs, named)),
        ), torch.no_grad():  # fmt: skip
            self.network(example)
        found: list[Block] = []
        over = False
        for block, (path, inside) in zip(wanted, layers, strict=True):
            why = obstacle(inside, *calls[path], self.plan.prompts)
            if why is None and not self.plan.deep and found:
                over = over or block.output != found[0].output
                why = "shallow prompts end before it" if over else None
            if why is None:
                found.append(block)
            else:
                over = bool(found)
                self.log.skip(path, why)
        return found

    def _patch(self) -> int:
        """Numbers in one patch: what the first convolution reads."""
        for layer in self.seen.layers:
            module = self.at(layer)
            if isinstance(module, nn.Conv2d):
                return module.weight[0].numel()
        return 0

    def sara(self, whole: Adapted) -> None:
        """The smallest entries of every chosen matrix."""
        whole.notes = Progress()
        for layer in self.chosen():
            self.log.touch(layer.path, small_entries(self.at(layer), self.plan.share))

    def pruning(self, whole: Adapted) -> None:
        """Masked low-rank updates on both sides of channels that nobody else reads."""
        sections = {layer.path: layer.section for layer in self.seen.layers}
        done: set[str] = set()
        pairs = []
        for maker, between, reader in self.seen.pairs:
            if {maker, reader} & done or reader not in sections:
                self.log.skip(maker, "its neighbour's channels are pruned already")
            elif not self.plan.sections[sections[maker]]:
                self.log.skip(maker, f"section {sections[maker]} is left frozen")
            elif not all(is_plain(self.network.get_submodule(p)) for p in (maker, reader)):
                self.log.skip(maker, "it or its neighbour is a layer of its own kind")
            elif any(map(self._fixed, (maker, *between, reader))):
                self.log.skip(maker, FIXED)
            else:
                one, two = (self.network.get_submodule(p) for p in (maker, reader))
                self.log.touch(maker, prune(one, two, self.plan.rank, self.plan.density))
                done |= {maker, reader}
                pairs.append((maker, between, reader))
        whole.pairs = tuple(pairs)

    def _fixed(self, path: str) -> bool:
        return parametrize.is_parametrized(self.network.get_submodule(path))


METHODS: dict[str, Callable[[Work, Adapted], None]] = {
    "head": Work.nothing,
    "lora": Work.lora,
    "ssf": Work.ssf,
    "difffit": Work.difffit,
    "linear": Work.zeroi2v,
    "bottleneck": Work.bottleneck,
    "prompt": Work.prompt,
    "snnk": Work.snnk,
    "sara": Work.sara,
    "pruning": Work.pruning,
    "polyhistor": Work.nothing,
}


def _slices(layer: Layer, mixing: str) -> tuple[str, ...]:
    """Which slices of a fused weight are adapted."""
    if layer.part != "fused":
        return ()
    return ("query", "value") if mixing == "queries" else ("query", "key", "value")
