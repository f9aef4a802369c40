"""What one network costs: counts of its two forms, bytes, latency, memory, energy, by layer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.catalog import import_object
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.deploy import forms
from nas.hardware import layers
from nas.hardware.agent.workplace import workplace
from nas.hardware.counting import Counts, count
from nas.hardware.device import Device, attached
from nas.hardware.energy import energy, unreadable
from nas.hardware.footprint import peak_memory
from nas.hardware.lease import Lease, default_folder
from nas.hardware.memory import peak_activation_bytes
from nas.hardware.prediction.predict import predict
from nas.hardware.timing import measure
from nas.transforms.fold import fold
from nas.transforms.stages import Given, Pipeline
from nas.transforms.tracing import theirs

UNTRAINED = "untrained form"


def profile_architecture(
    space: SearchSpace, point: str | Architecture | None, task: TaskSpec, **options: Any
) -> dict[str, Any]:
    """Profiles a point of a space: a preset's name, an architecture, or a random one (None)."""
    if isinstance(point, str):
        architecture = space.preset(point)
    else:
        architecture = point or space.sample(np.random.default_rng(0))
    transforms = space.transforms(architecture.choices, task)
    pipeline = Pipeline(transforms, _anything(task))
    # counts need shapes only: the largest presets are never given memory; axes look at numbers
    plain = not any(t.prepare or t.finish for t in transforms)
    here = torch.device("meta") if options["device"] is None and plain else nullcontext()
    with (
        here,
        theirs(f"space {space.name!r} cannot build this network", "see its build(choices, task)"),
    ):
        torch.manual_seed(0)
        module, reports = pipeline.prepare(space.build(architecture.choices, task))
    found = {
        "space": space.name,
        "preset": point if isinstance(point, str) else None,
        "choices": dict(architecture.choices),
        **_profile(module, task, pipeline, **options),
    }
    return found if plain else found | {"reports": [r.to_json() for r in reports]}


def profile_module(name: str, task: TaskSpec, **options: Any) -> dict[str, Any]:
    """Profiles the module that a function `PKG.MOD:FN` of the task returns."""
    function = import_object(name, "network")
    with theirs(f"{name} makes no network", "it is called with the task"):
        module = function(task)
    if not isinstance(module, nn.Module):
        raise NasError(
            f"{name} returned {type(module).__name__}, not a torch.nn.Module",
            "write def FN(task): return the module that maps task.input to task.outputs",
        )
    return {"network": name, **_profile(module, task, Pipeline((), _anything(task)), **options)}


def _anything(task: TaskSpec) -> Given:
    """Random examples: what a network costs does not depend on them."""

    def examples(count: int) -> Tensor:
        return torch.randn(count, *task.input, generator=torch.Generator().manual_seed(0))

    return Given(task, examples)


def _profile(
    module: nn.Module,
    task: TaskSpec,
    pipeline: Pipeline,
    device: Device | None,
    batch: int,
    by_layer: bool,
) -> dict[str, Any]:
    shape = task.input
    size = " x ".join(map(str, shape))
    with theirs(f"the network does not run on an input of {size}", "see its forward"):
        trained = count(module, shape)
    deployed, reports = pipeline.deploy(module, shape)
    if any(t.finish for t in pipeline.transforms):
        shipped = count(deployed, shape)
    else:  # what the authors count; what is timed is folded as far as it goes
        shipped = count(fold(module, shape, published=True)[0], shape)
    report = reports[-1]
    uncounted = {**trained.uncounted, **shipped.uncounted}
    activations = peak_activation_bytes(deployed, shape) / 1e6
    found: dict[str, Any] = {
        "input": list(shape),
        "params": trained.params,
        "macs": trained.macs,
        "flops": 2 * trained.macs,
        "activations": trained.activations,
        "deploy": {"params": shipped.params, "macs": shipped.macs},
        "batch": batch,
        "peak_memory_mb": activations * batch,
        "peak_memory_basis": "activations, counted",
        "peak_activations_mb": activations,  # of one example, as all counts
        "uncounted_ops": uncounted,
        "fold": {"touched": len(report.touched), "skipped": [list(s) for s in report.skipped]},
    }
    # masks of the network's own are seen before they are settled, an axis's after it is done
    sparse = shipped if trained.nonzero_params == trained.params else trained
    if sparse.nonzero_params != sparse.params:
        found["nonzero"] = {"params": sparse.nonzero_params, "macs": sparse.nonzero_macs}
    if device is None:
        rows = layers.counted(count(deployed, shape)) if by_layer else {}
        return found | _size(shipped) | rows
    with workplace("profile") as folder:
        written = forms.write(deployed, shape, folder / "network", device)
        if pipeline.writes:
            written = forms.changed(written, pipeline.write)
        found |= {
            "size_mb": written.bytes / 1e6,
            "size_basis": written.about,
            "runtime": str(device.engine),
        }
        found |= _costs(written.path, device, Workload(batch))
        if by_layer:
            found |= _layers(written, count(deployed, shape), device, Workload(batch), found)
    return found


def _size(counts: Counts) -> dict[str, Any]:
    """Without a file, the bytes of its weights in fp32."""
    return {"size_mb": 4 * counts.params / 1e6, "size_basis": "weights in fp32, no file written"}


def _costs(path: Path, device: Device, workload: Workload) -> dict[str, Any]:
    """What a file takes on the device: predicted where that is not here, else measured.

    `not_measured` says of what there is no number, and why.
    """
    if not attached(device):
        return {"latency_ms": predict(path, device, workload).to_json()}
    lease = Lease(default_folder(), device.seat)
    (timing,) = measure([path], device, lease, workload, 3, basis=UNTRAINED)
    if isinstance(timing, str):
        raise NasError(f"{device.name} could not time this network: {timing}", "type --static")
    found: dict[str, Any] = {"latency_ms": timing.to_json()}
    missing: dict[str, str] = {}
    memory = peak_memory(path, device, lease, workload, basis=UNTRAINED)
    if isinstance(memory, str):
        missing["peak_memory_mb"] = memory
    else:
        found |= {
            "peak_memory_mb": memory.value,
            "peak_memory_basis": "beyond the runtime's own, measured",
            "peak_memory": memory.to_json(),
        }
    joules = unreadable(device) or energy(path, device, lease, workload, basis=UNTRAINED)
    if isinstance(joules, str):
        missing["energy_mj"] = joules
    else:
        found["energy_mj"] = joules.to_json()
    return found | {"not_measured": missing}


def _layers(
    written: forms.Deployed,
    counts: Counts,
    device: Device,
    workload: Workload,
    found: Mapping[str, Any],
) -> dict[str, Any]:
    """The breakdown of the timed form; of its counts alone where its layers cannot be timed."""
    kernels: layers.Profile | str
    if attached(device):
        lease = Lease(default_folder(), device.seat)
        kernels = layers.profiled(written.path, device, lease, workload)
    else:
        kernels = layers.predicted(written.path, device, workload)
    if isinstance(kernels, str):
        missing = {**found.get("not_measured", {}), "layers": kernels}
        return {**layers.counted(counts), "not_measured": missing}
    latency = found["latency_ms"]["value"]
    return layers.timed(counts, written.path, written.modules, kernels, latency)
