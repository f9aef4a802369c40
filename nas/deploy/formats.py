"""The files of a package in the format asked for, and what runs them.

ONNX is where every format but torch's begins: OpenVINO's own format and a TensorRT engine are made
of the ONNX file by their makers' converters.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper
from torch import nn

from nas.core.errors import NasError
from nas.deploy.export import OPSET, read, save
from nas.deploy.graph import precision as precision_of
from nas.hardware import runtimes
from nas.hardware.runtimes import Runtime

# What a format may be run by; the first is the default.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "openvino", "tensorrt"),
    "pt2": ("torch",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
}
NAMES: Mapping[str, tuple[str, ...]] = {
    "onnx": ("model.onnx",), "pt2": ("model.pt2",), "openvino": ("model.xml", "model.bin"),
    "tensorrt": ("model.engine",),
}  # fmt: skip
LARGEST_BATCH = 64  # of a TensorRT engine, which is built for a range of batches


@dataclass(frozen=True)
class Written:
    """The files of a format: the one that a runtime is given, first.

    `precision` is what is computed in: int8 where the file has integers, else the runtime's.
    `about` is what kind of file it is, for people.
    """

    format: str
    paths: tuple[Path, ...]
    runtime: Runtime
    precision: str
    about: str

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.paths)


def runtime_for(form: str, asked: Runtime, kind: str) -> Runtime:
    """What runs a file of the format: `asked` where it can, else the format's default.

    Raises: NasError, with the line that installs it, where that runtime is not here.
    """
    names = FORMATS[form]
    found = asked if asked.name in names else Runtime(names[0])
    if form == "tensorrt":
        runtimes.require(found, "cuda")
        if kind != "cuda":
            raise NasError(
                f"a TensorRT engine is built on the GPU that it is for, and the device is a {kind}",
                "type --format onnx, or name a CUDA device that is attached",
            )
    runtimes.require(found, kind)
    return found


def from_onnx(source: Path, form: str, folder: Path, runtime: Runtime) -> Written:
    """Writes an ONNX file as another format, under the names of `NAMES`, into a folder.

    Raises: NasError where the format's converter refuses the file.
    """
    paths = tuple(folder / name for name in NAMES[form])
    proto = read(source)
    inner = precision_of(proto)
    precision = runtime.precision if inner == "float32" else inner
    if form == "onnx":
        shutil.copyfile(source, paths[0])
        return Written(form, paths, runtime, precision, f"ONNX file, opset {OPSET}")
    try:
        if form == "openvino":
            about = _openvino(source, paths[0])
        else:
            from nas.hardware.runtimes.tensorrt import write

            about = write(source, paths[0], runtime, LARGEST_BATCH)
    except NasError:
        raise
    except Exception as error:  # converters' errors share no class of their own
        said = " ".join(str(error).split())[:200]
        raise NasError(
            f"the network cannot be written for {form}: {type(error).__name__}: {said}",
            "type --format onnx",
        ) from error
    return Written(form, paths, runtime, precision, about)


def program(module: nn.Module, shape: tuple[int, ...], folder: Path, runtime: Runtime) -> Written:
    """Writes a deployed module, input `(B, *shape)`, as a torch program of the runtime's precision.

    Raises: NasError where it cannot be traced or written.
    """
    from nas.hardware.runtimes.torch import write

    path = folder / NAMES["pt2"][0]
    write(module, shape, path, runtime)
    about = f"torch program, {runtime.precision}, {runtime.layout}"
    return Written("pt2", (path,), runtime, runtime.precision, about)


def _openvino(source: Path, path: Path) -> str:
    """An ONNX file as OpenVINO's .xml and .bin; weights keep their type."""
    from nas.hardware.runtimes.openvino import convert

    convert(source, path)
    return f"OpenVINO IR, from ONNX opset {OPSET}"


def preprocessing(
    source: Path, target: Path, mean: list[float], std: list[float], classes: Sequence[str] = ()
) -> None:
    """Puts what happens to an image after it is resized before a network's file.

    The input becomes `image`, uint8 of shape (B, H, W, 3), RGB: scaled to [0, 1], less the mean,
    over the standard deviation, channels first. The nodes that do so are named `preprocess.*`. The
    file's metadata says `size` and, in JSON, `classes`.
    """
    proto = read(source)
    graph = proto.graph
    old = graph.input[0]
    batch, channels, height, width = old.type.tensor_type.shape.dim
    if channels.dim_value != 3:
        raise NasError(f"the network takes {channels.dim_value} channels, an image has 3",
                       "leave --preprocess-in-graph out")  # fmt: skip
    new = helper.make_tensor_value_info(
        "image", TensorProto.UINT8,
        [batch.dim_param or batch.dim_value, height.dim_value, width.dim_value, 3],
    )  # fmt: skip
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    constants = [
        helper.make_tensor(f"preprocess.{name}", TensorProto.FLOAT, [3], values)
        for name, values in (("scale", scale), ("offset", offset))
    ]
    steps = [
        ("Cast", ["image"], "pixels", {"to": TensorProto.FLOAT}),
        ("Mul", ["preprocess.pixels", "preprocess.scale"], "scaled", {}),
        ("Add", ["preprocess.scaled", "preprocess.offset"], "normal", {}),
        ("Transpose", ["preprocess.normal"], old.name, {"perm": [0, 3, 1, 2]}),
    ]
    nodes = [
        helper.make_node(
            op, given, [name if op == "Transpose" else f"preprocess.{name}"],
            name=f"preprocess.{op}", **more,
        )
        for op, given, name, more in steps
    ]  # fmt: skip
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(constants)
    del graph.input[:]
    graph.input.append(new)
    facts = {"size": str(width.dim_value), "classes": json.dumps(list(classes))}
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=value)
    _checked(proto)
    save(proto, target)


def _checked(proto: ModelProto) -> None:
    """Raises: NasError for a graph that is none; a fault of ours, found before it is shipped."""
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        said = str(error).splitlines()[0]
        raise NasError(
            f"preprocessing does not fit this graph: {said}", "leave --preprocess-in-graph out"
        ) from error
