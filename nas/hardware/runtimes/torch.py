"""torch: writes a deployed module as a program, and runs such a program for its outputs.

A program (`.pt2`) is what `torch.export` traced: operators, attributes and weights, in the layout
and precision that its runtime names, since those are the module's own and cannot be chosen when it
is loaded. It takes float32 and gives float32, whatever it computes in. It is written without the
example inputs, and so holds no pickle; one that holds any is refused (`engines.torch`). `.pt2`
files are never taken from outside: what is loaded is what this project's own processes wrote.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.architecture import digest
from nas.core.errors import NasError
from nas.hardware.agent.engines import torch as engine
from nas.hardware.runtimes import Array, Runtime
from nas.transforms.tracing import quiet, untraceable


class _Formed(nn.Module):
    """A module in another precision or layout, float32 outside."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> None:
        super().__init__()
        self.module = module.to(dtype)
        for value in self.module.parameters():
            if value.ndim == 4:
                value.data = value.data.contiguous(memory_format=layout)
        self.dtype, self.layout = dtype, layout

    def forward(self, inputs: Tensor) -> Tensor:
        if self.layout == torch.channels_last:
            inputs = inputs.contiguous(memory_format=self.layout)
        if self.dtype == torch.float32:
            result: Tensor = self.module(inputs)
            return result
        answer: Tensor = self.module(inputs.to(self.dtype))
        return answer.float()


@dataclass(frozen=True)
class Program:
    """A program as it was written.

    Args:
        build: names operators, attributes, shapes, types and layouts, not weights.
        bytes: the file's size.
        modules: operator -> the dotted path of the module it came from; the file does not say it.
    """

    build: str
    bytes: int
    modules: Mapping[str, str]


def write(module: nn.Module, input_shape: tuple[int, ...], path: Path, runtime: Runtime) -> Program:
    """Writes a deployed module as a program for any batch; returns what was written.

    Raises: NasError where the module cannot be traced in that form or the disk does not take it.
    """
    exported, modules = trace(module, input_shape, runtime)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights in another layout, if they are not on the CPU
        torch.export.save(exported, buffer)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NasError(
            f"cannot write {path}: {error.strerror or error}", "make room, or name another folder"
        ) from error
    return Program(build_digest(exported), len(buffer.getvalue()), modules)


def trace(
    module: nn.Module, input_shape: tuple[int, ...], runtime: Runtime
) -> tuple[torch.export.ExportedProgram, dict[str, str]]:
    """The program of a module for a runtime, and the module that each of its operators is of."""
    last = runtime.layout == "channels_last"
    if last and len(input_shape) != 3:
        raise NasError(
            f"channels_last is a layout of images, and the input is {input_shape}",
            "leave channels_last out of --runtime",
        )
    layout = torch.channels_last if last else torch.contiguous_format
    name = "float32" if runtime.precision == "tf32" else runtime.precision
    with torch.device("cpu"):
        example = torch.zeros((2, *input_shape))
        try:
            formed = _Formed(deepcopy(module).cpu(), getattr(torch, name), layout).eval()
            with quiet():
                exported = torch.export.export(
                    formed, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
                )
        except Exception as error:  # torch.export documents no set of what it raises
            what = f"cannot be a torch program in {runtime.precision}"
            raise untraceable(error, what, input_shape) from error
    modules = {n.name: _home(n) for n in exported.graph.nodes if n.op == "call_function"}
    exported.example_inputs = None  # a pickle, and as large as the input
    for node in exported.graph.nodes:  # where it was traced: lines and folders of this machine
        node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    return exported, modules


def _home(node: torch.fx.Node) -> str:
    """The path, inside `_Formed.module`, of the module that computed an operator; "" its root."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return path.partition("module")[2].removeprefix(".") if path.startswith("module") else ""


def build_digest(exported: torch.export.ExportedProgram) -> str:
    """Names what was built: two programs share it where they differ in weights alone."""
    numbers: dict[torch.fx.Node, int] = {}
    lifted = exported.graph_signature.inputs_to_lifted_tensor_constants
    described: list[Any] = []
    for node in exported.graph.nodes:
        numbers[node] = len(numbers)
        if node.op == "placeholder":
            row: list[Any] = ["input", *_look(node.meta.get("val"))]
            if node.name in lifted:
                row.append(digest(exported.constants[lifted[node.name]].tolist()))
        else:
            row = [node.op, str(node.target), _plain(node.args, numbers)]
            row.append(_plain(dict(node.kwargs), numbers))
        described.append(row)
    return digest(described)


def _look(value: Any) -> list[Any]:
    """Type, shape and layout of a tensor; a free dimension is `any`."""
    if not isinstance(value, Tensor):
        return [str(type(value).__name__)]
    sizes = [size if isinstance(size, int) else "any" for size in value.shape]
    strides = [int(stride) for stride in value.stride()] if "any" not in map(str, sizes) else []
    return [str(value.dtype), sizes, strides]


def _plain(value: Any, numbers: dict[torch.fx.Node, int]) -> Any:
    """An operator's arguments as plain data, values by number."""
    if isinstance(value, torch.fx.Node):
        return {"value": numbers[value]}
    if isinstance(value, dict):
        return {str(k): _plain(v, numbers) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v, numbers) for v in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def opened(
    path: Path, runtime: Runtime, kind: str, threads: int
) -> tuple[Callable[[Array], Array], int | None]:
    """What runs a program with one input; it takes any batch.

    Threads are those of the process, which trains in it too.
    """
    forward, _ = engine.program(str(path), kind)

    def run(rows: Array) -> Array:
        with torch.inference_mode(), _as_timed(runtime):
            found: Array = forward(torch.from_numpy(rows).to(kind)).cpu().numpy()
            return found

    return run, None


@contextmanager
def _as_timed(runtime: Runtime) -> Iterator[None]:
    """The precision that the engine times in; training in this process keeps its own."""
    products, convolutions = engine.allow_tf32("tf32" in runtime.options)
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = products
        torch.backends.cudnn.allow_tf32 = convolutions
