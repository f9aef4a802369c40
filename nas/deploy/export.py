"""From a deployed module to an ONNX file, whole or with new weights in a graph that exists.

Every parameter and buffer keeps its name and its values in the file: graph clean-up never folds
one into another (the runtime does that when it loads the file). A file can therefore take the
weights of another training of the same architecture in milliseconds.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.deploy.graph import UNUSED, WEIGHTS, build_digest, note, noted
from nas.deploy.translation import undecomposed
from nas.transforms.tracing import quiet, untraceable

OPSET = 20
_KINDS = {
    TensorProto.FLOAT: torch.float32, TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16, TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32, TensorProto.BOOL: torch.bool,
}  # fmt: skip
_MOST_BYTES = 2**31 - 2**20  # one protobuf message


@dataclass(frozen=True)
class Exported:
    """An ONNX file: the digest of its graph, its size, its opset.

    `fallback` says why `reweight` exported anew; None where it did not, and after `export`.
    `modules` says which module, by its dotted path, each operator of the file came from; after
    `export` alone, since the file does not hold it.
    """

    build: str
    bytes: int
    opset: int
    fallback: str | None = None
    modules: Mapping[str, str] = field(default_factory=dict, compare=False)


def export(module: nn.Module, input_shape: tuple[int, ...], path: Path) -> Exported:
    """Writes a deployed module as ONNX: `input` (B, *input_shape) to `output`, any B.

    The module must be in evaluation; nothing is folded here that the module did not fold itself.
    Raises: NasError where the module cannot be exported or the disk does not take the file.
    """
    training = [name for name, part in module.named_modules() if part.training]
    if training:
        raise NasError(
            f"the module is in training mode ({training[0] or 'all of it'})",
            "export what nas.transforms.fold returns",
        )
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    if size > _MOST_BYTES:
        raise NasError(f"{size:,} bytes of weights do not fit one ONNX file", "search smaller nets")
    proto, modules = _proto(module, input_shape)
    return replace(_write(proto, path, None), modules=modules)


def _proto(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[ModelProto, dict[str, str]]:
    """The graph, and the module that each of its operators came from."""
    device = next((t.device for t in module.state_dict().values()), torch.device("cpu"))
    # Two examples, because torch.export takes an axis of size one for a constant.
    example = torch.zeros((2, *input_shape), device=device)
    with quiet():
        try:
            with undecomposed():
                program = torch.onnx.export(
                    module, (example,), dynamo=True, external_data=False, optimize=False,
                    dynamic_shapes=({0: torch.export.Dim("batch")},), opset_version=OPSET,
                    input_names=["input"], output_names=["output"], verbose=False,
                )  # fmt: skip
        except Exception as error:  # the exporter documents no set of what it raises
            raise untraceable(error, "cannot be exported to ONNX", input_shape) from error
        assert program is not None
        graph = program.model.graph
        state = module.state_dict()
        weights = sorted(str(name) for name in graph.initializers if name in state)
        # As graph inputs without a value the weights are no constants: clean-up computes nothing
        # from them, and drops no bias because it is zero before training.
        values = {name: graph.initializers[name].const_value for name in weights}
        for name in weights:
            graph.inputs.append(graph.initializers.pop(name))
            graph.inputs[-1].const_value = None
        program.optimize()
        for value in list(graph.inputs)[1:]:
            graph.inputs.remove(value)
            value.const_value = values[str(value.name)]
            graph.initializers.add(value)
        proto: ModelProto = program.model_proto
    if proto.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value"):
        raise NasError(
            "the network takes the number of examples for a constant: its file has one batch size",
            "write x.shape[0], not len(x) or a number, where its forward needs the batch's size",
        )
    modules = _origins(proto)
    _strip(proto)
    held = {tensor.name for tensor in proto.graph.initializer} & set(weights)
    note(proto, held, set(module.state_dict()) - held)
    return proto, modules


_SCOPES = "pkg.torch.onnx.name_scopes"  # of an operator: a list of paths as text, itself last


def _origins(proto: ModelProto) -> dict[str, str]:
    """The module of every operator; one that clean-up made is its readers' innermost common one."""
    found: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    for node in reversed(proto.graph.node):
        notes = {p.key: p.value for p in node.metadata_props}
        if _SCOPES in notes:
            scopes: list[str] = ["", *ast.literal_eval(notes[_SCOPES])]
            path = scopes[-2]
            found[node.name] = "" if path.startswith("_empty_nn_module_stack") else path
        else:
            after = [path for name in node.output for path in readers.get(name, [])]
            paths = ["/" + path.replace(".", "/") for path in after]
            found[node.name] = posixpath.commonpath(paths or "/")[1:].replace("/", ".")
        for name in node.input:
            readers.setdefault(name, []).append(found[node.name])
    return dict(reversed(found.items()))


def _strip(proto: ModelProto) -> None:
    """Takes out what the exporter notes of the machine: stack traces, paths, its own names."""
    del proto.metadata_props[:]
    proto.ClearField("doc_string")
    proto.graph.name = "network"
    for part in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output,
                 *proto.graph.initializer, *proto.graph.value_info):  # fmt: skip
        part.ClearField("doc_string")
        del part.metadata_props[:]
    del proto.graph.value_info[:]


def _write(proto: ModelProto, path: Path, fallback: str | None) -> Exported:
    data = proto.SerializeToString(deterministic=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NasError(
            f"cannot write {path}: {error.strerror or error}", "make room, or name another folder"
        ) from error
    return _described(proto, len(data), fallback)


def save(proto: ModelProto, path: Path) -> Exported:
    """Writes a graph whole or not at all. Raises: NasError where the disk does not take it."""
    return _write(proto, path, None)


def examine(path: Path) -> Exported:
    """What `export` said of a file it wrote. Raises: NasError where there is no such file."""
    return _described(read(path), path.stat().st_size)


def _described(proto: ModelProto, size: int, fallback: str | None = None) -> Exported:
    opset = next(o.version for o in proto.opset_import if not o.domain)
    return Exported(build_digest(proto), size, opset, fallback)


def reweight(source: Path, module: nn.Module, path: Path) -> Exported:
    """Writes the graph of `source` with the weights of `module`, another training of the same.

    Every weight of the file must be in the module, by name, shape and type, and every weight of
    the module in the file; otherwise the module is exported anew and the result says why.
    """
    proto = read(source)
    state = {k: v.detach().cpu() for k, v in module.state_dict().items()}
    reason = _mismatch(proto, state)
    if reason is not None:
        sizes = proto.graph.input[0].type.tensor_type.shape.dim[1:]
        fresh, _ = _proto(module, tuple(d.dim_value for d in sizes))
        return _write(fresh, path, reason)
    for tensor in proto.graph.initializer:
        if tensor.name in state:
            value = state[tensor.name].contiguous().numpy()
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    return _write(proto, path, None)


def read(path: Path) -> ModelProto:
    """A file that `export` wrote. Raises: NasError where it is none."""
    proto = ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise NasError(f"{path} cannot be read: {error}", "export the module instead") from error
    if not proto.graph.input:
        raise NasError(f"{path} is no ONNX network", "export the module instead")
    return proto


def _mismatch(proto: ModelProto, state: Mapping[str, Tensor]) -> str | None:
    """Why these weights do not fit this graph, or None."""
    weights = noted(proto, WEIGHTS)
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    if not weights:
        return "the file does not say which of its tensors are weights"
    strange = sorted(weights - set(state)) or sorted(weights - set(held))
    if strange:
        return f"the file's weight {strange[0]} is not in the module"
    # What the graph does not read (a counter of batches) is not in the file either way.
    moved = sorted((set(state) - weights) ^ noted(proto, UNUSED))
    if moved:
        return f"the module's weight {moved[0]} is not in the file"
    for name in sorted(weights):
        value, tensor = state[name], held[name]
        if list(tensor.dims) != list(value.shape) or _KINDS.get(tensor.data_type) != value.dtype:
            return (
                f"{name} is {list(tensor.dims)} in the file and "
                f"{list(value.shape)} of {value.dtype} in the module"
            )
    return None
