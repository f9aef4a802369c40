"""A GPU in pretence, for machines without one.

Its tensors hold the processor's numbers but refuse, as a GPU's do, to be mixed with those of the
processor; so a training on it gives the processor's results exactly, or fails where it would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

# Tensors must name a device that this torch knows how to stand for
GPU = torch.device("lazy:0")
_ATEN = torch.ops.aten
_MOVES = {_ATEN._to_copy.default, _ATEN.copy_.default}
_INDEXES = {_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN.index_put.default}


class OnGpu(Tensor):
    """A tensor of the pretended GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        """The GPU's tensor of a processor's numbers, `held`."""
        made: OnGpu = Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=GPU
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """Its numbers."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, call: Any, types: Any, args: Any = (), given: Any = None) -> Any:
        return _called(call, args, given or {})


class Pretence(TorchDispatchMode):
    """Within, there is a `GPU`."""

    def __enter__(self) -> Any:
        # a parameter that is given other data would keep what it `held`
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.__future__.set_overwrite_module_params_on_conversion(False)

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), given: Any = None) -> Any:
        return _called(call, args, given or {})


def _called(call: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
    """An operator's result, on the device where a GPU's would be. Raises: RuntimeError for a mix"""
    tensors = [t for t in tree_leaves((args, given)) if isinstance(t, Tensor)]
    there = [t for t in tensors if isinstance(t, OnGpu)]
    here = [t for t in tensors if not isinstance(t, OnGpu) and t.dim()]
    if there and here and call not in _MOVES | _INDEXES:
        raise RuntimeError(f"{call}: tensors of the GPU and of the processor together")
    asked = given.get("device")
    on_gpu = bool(there) if asked is None else torch.device(asked) == GPU
    known = given if asked is None else {**given, "device": torch.device("cpu")}
    plain_args, plain_given = tree_map_only(OnGpu, lambda t: t.held, (args, known))
    found = call(*plain_args, **plain_given)
    results = call._schema.returns
    if not results or (results[0].alias_info and results[0].alias_info.is_write):  # in place
        return given.get("out", args[0]) if results else None
    return tree_map_only(Tensor, OnGpu, found) if on_gpu else found
