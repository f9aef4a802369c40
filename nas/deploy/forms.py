"""The file of a deployed module for a device: what its runtime takes, in one place.

onnxruntime, OpenVINO and TensorRT take the ONNX file; torch takes a program of its own, in whose
graph precision and layout are decided. A device that is not attached has its latency predicted, and
predictions read ONNX. Whoever needs the file of a network asks here, so that what is timed, scored,
weighed and shipped is one file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from nas.core.architecture import digest
from nas.deploy.export import Exported, export, read, reweight, save
from nas.deploy.graph import UNUSED, WEIGHTS, note, noted
from nas.hardware import runtimes
from nas.hardware.device import Device, attached, engine_of
from nas.hardware.runtimes import Opened, Runtime

ONNX = Runtime("onnxruntime")


@dataclass(frozen=True)
class Deployed:
    """A deployed module as a file.

    Args:
        build: digest of the graph and, where the runtime decides it on loading, of the precision.
        bytes: the file's size. about: what kind of file it is, for people.
        modules: which module each operator of the file came from.
    """

    path: Path
    build: str
    bytes: int
    about: str
    modules: Mapping[str, str] = field(default_factory=dict, compare=False)


def write(module: nn.Module, shape: tuple[int, ...], stem: Path, device: Device) -> Deployed:
    """Writes a deployed module, input `(B, *shape)`, for a device; the suffix is put behind `stem`.

    Raises: NasError where the module cannot be exported, the runtime cannot take it in its
    precision or layout, or the disk does not take the file.
    """
    engine = engine_of(device)
    path = stem.with_name(stem.name + engine.suffix)
    if engine.suffix == ".pt2":
        return _program(module, shape, path, engine)
    return _onnx(export(module, shape, path), path, engine)


def rewrite(
    source: Path, module: nn.Module, shape: tuple[int, ...], stem: Path, device: Device
) -> Deployed:
    """Writes another training of the module in `source`, a file that `write` made for the device.

    The graph is the same where `build` is; an ONNX file takes the weights without a new export.
    """
    engine = engine_of(device)
    path = stem.with_name(stem.name + engine.suffix)
    if engine.suffix == ".pt2":
        return _program(module, shape, path, engine)
    return _onnx(reweight(source, module, path), path, engine)


def changed(written: Deployed, change: Callable[[Path], object]) -> Deployed:
    """The file after `change` rewrote it in place, as an axis does that works on files.

    What was no weight before keeps counting with its value in the build; what the change brought
    (scales, zero points, integers) follows from the weights, and counts with its shape.
    """
    before = read(written.path)
    fixed = {tensor.name for tensor in before.graph.initializer} - noted(before, WEIGHTS)
    change(written.path)
    after = read(written.path)
    held = {tensor.name for tensor in after.graph.initializer} - fixed
    note(after, held, noted(before, UNUSED))
    found = save(after, written.path)
    return replace(written, build=found.build, bytes=found.bytes)


def open_file(path: Path, device: Device, threads: int = 1) -> Opened:
    """A file of `write`'s, ready to answer in its runtime, on the device where this host has it.

    A file for another host's device, or for predictions, is run by this host's processor.
    Raises: NasError where the runtime is not installed or cannot load the file.
    """
    engine, here = (
        engine_of(device),
        device.address is None and attached(replace(device, stands=None)),
    )
    if device.address is not None and engine.suffix == ".onnx":
        engine = ONNX
    return runtimes.opened(path, engine, device.kind if here else "cpu", threads)


def _onnx(exported: Exported, path: Path, engine: Runtime) -> Deployed:
    build = exported.build
    if engine.precision != "float32":
        build = digest([build, engine.precision])
    about = f"ONNX file, opset {exported.opset}"
    return Deployed(path, build, exported.bytes, about, exported.modules)


def _program(module: nn.Module, shape: tuple[int, ...], path: Path, engine: Runtime) -> Deployed:
    from nas.hardware.runtimes.torch import write as write_program

    found = write_program(module, shape, path, engine)
    about = f"torch program, {engine.precision}, {engine.layout}"
    return Deployed(path, found.build, found.bytes, about, found.modules)
