"""What one network costs: counts of the training and the deployed form, bytes, memory, latency."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.catalog import import_object
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.deploy import forms
from nas.hardware.counting import Counts, count
from nas.hardware.device import Device, attached, engine_of
from nas.hardware.lease import Lease, default_folder
from nas.hardware.memory import peak_activation_bytes
from nas.hardware.predict import predict
from nas.hardware.timing import measure
from nas.transforms.fold import fold


def profile_architecture(
    space: SearchSpace, point: str | Architecture | None, task: TaskSpec, **options: Any
) -> dict[str, Any]:
    """Profiles a point of a space: a preset's name, an architecture, or a random one (None)."""
    if isinstance(point, str):
        architecture = space.preset(point)
    else:
        architecture = point or space.sample(np.random.default_rng(0))
    # counts need shapes only: the largest presets are never given memory
    with torch.device("meta") if options["device"] is None else nullcontext():
        module = space.build(architecture.choices, task)
    return {
        "space": space.name,
        "preset": point if isinstance(point, str) else None,
        "choices": dict(architecture.choices),
        **_profile(module, task, **options),
    }


def profile_module(name: str, task: TaskSpec, **options: Any) -> dict[str, Any]:
    """Profiles the module that a function `PKG.MOD:FN` of the task returns."""
    module = import_object(name, "network")(task)
    if not isinstance(module, nn.Module):
        raise NasError(
            f"{name} returned {type(module).__name__}, not a torch.nn.Module",
            "write def FN(task): return the module that maps task.input to task.outputs",
        )
    return {"network": name, **_profile(module, task, **options)}


def _profile(
    module: nn.Module, task: TaskSpec, device: Device | None, batch: int, by_layer: bool
) -> dict[str, Any]:
    shape = task.input
    trained = count(module, shape)
    # `deploy` counts what the authors count; what is timed is folded as far as it goes
    published, _ = fold(module, shape, published=True)
    shipped = count(published, shape)
    deployed, report = fold(module, shape)
    uncounted = {**trained.uncounted, **shipped.uncounted}
    found: dict[str, Any] = {
        "input": list(shape),
        "params": trained.params,
        "macs": trained.macs,
        "flops": 2 * trained.macs,
        "activations": trained.activations,
        "deploy": {"params": shipped.params, "macs": shipped.macs},
        "peak_memory_mb": peak_activation_bytes(deployed, shape) / 1e6,
        "uncounted_ops": uncounted,
        "fold": {"touched": len(report.touched), "skipped": [list(s) for s in report.skipped]},
    }
    if trained.nonzero_params != trained.params:
        found["nonzero"] = {"params": trained.nonzero_params, "macs": trained.nonzero_macs}
    if by_layer:
        found["layers"] = _layers(shipped)
    return found | (
        _timed(deployed, shape, device, batch) if device is not None else _size(shipped)
    )


def _layers(counts: Counts) -> dict[str, Any]:
    return {name: dict(row) for name, row in counts.by_module.items()}


def _size(counts: Counts) -> dict[str, Any]:
    """Without a file, the bytes of its weights in fp32."""
    return {"size_mb": 4 * counts.params / 1e6, "size_basis": "weights in fp32, no file written"}


def _latency(path: Path, device: Device, workload: Workload) -> Measurement | str:
    """Measured where the device is here, predicted otherwise."""
    if not attached(device):
        return predict(path, device, workload)
    lease = Lease(default_folder(), device.name)
    return measure([path], device, lease, workload, 3, basis="untrained form")[0]


def _timed(
    deployed: nn.Module, shape: tuple[int, ...], device: Device, batch: int
) -> dict[str, Any]:
    """Exports and times the deployed form."""
    with tempfile.TemporaryDirectory() as folder:
        written = forms.write(deployed, shape, Path(folder) / "network", device)
        timing = _latency(written.path, device, Workload(batch))
    if isinstance(timing, str):
        raise NasError(f"{device.name} could not time this network: {timing}", "type --static")
    return {
        "size_mb": written.bytes / 1e6,
        "size_basis": written.about,
        "runtime": str(engine_of(device)),
        "latency_ms": timing.to_json(),
    }
