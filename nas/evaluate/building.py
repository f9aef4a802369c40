"""The job that builds an untrained candidate, and counts it."""

from __future__ import annotations

from typing import Any

from torch import nn

from nas.core.architecture import Architecture
from nas.core.job import Build, Outcome
from nas.evaluate.modules import prepared, written_form
from nas.evaluate.objectives import Candidate, own_objectives
from nas.evaluate.place import Place
from nas.hardware.counting import count
from nas.hardware.memory import peak_activation_bytes
from nas.training.proxies import proxies, unseen
from nas.transforms.adapt.stored import task_bytes
from nas.transforms.stages import Transform

UNSEEN = ("adapter", "bitwidth")  # by proxies


def build(place: Place, job: Build) -> Outcome:
    """Builds, folds, counts and exports an untrained candidate."""
    module, reports = prepared(place, job.architecture, place.spec.seed)
    shape, stem = place.spec.task.input, place.scratch(str(job.trial))
    deployed, done = place.pipeline(job.architecture).deploy(module, shape)
    written, changed = written_form(place, job.architecture, deployed, stem, place.device())
    counts = count(deployed, shape)
    costs: dict[str, float] = {
        "params": counts.params,
        "macs": counts.macs,
        "activations": counts.activations,
        "trainable_params": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "task_mb": task_bytes(module) / 1e6,
        "peak_memory_mb": peak_activation_bytes(deployed, shape) / 1e6,
        "size_mb": written.bytes / 1e6,
    }
    candidate = Candidate(job.architecture.choices, place.task, module, written.path)
    costs |= own_objectives(place, candidate, trained=False)
    return Outcome(
        {
            "build": written.build,
            "file": place.artifacts.put(written.path),
            "costs": costs,
            "uncounted": sorted(counts.uncounted),
            "reports": [r.to_json() for r in (*reports, *done, *changed)],
            **_proxies(place, job.architecture, module),
        }
    )


def _proxies(place: Place, architecture: Architecture, module: nn.Module) -> dict[str, Any]:
    """What untrained networks tell, where the study asks for it and trains."""
    if not (place.spec.proxies and place.spec.trains):
        return {}
    transforms = place.pipeline(architecture).transforms
    blind = [t.name for t in transforms if t.name in UNSEEN and t != Transform(t.name)]
    found = unseen(blind) if blind else proxies(module, place.task, place.spec.seed)
    return {"proxies": found.values, "undefined": found.undefined}
