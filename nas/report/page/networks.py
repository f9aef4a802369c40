"""A network as the page draws it: stages with their maps, kernels, bits, zeros and latencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it brings onnx, which looking at a study does not wait for
    from nas.deploy.outline import Layer

Document = dict[str, Any]


def drawing(
    stages: Sequence[tuple[str, Sequence[Layer]]],
    timed: Mapping[str, Any] | None = None,
    about: str = "",
) -> Document:
    """The document of one network.

    Args:
        stages: names and layers, in the order in which they run.
        timed: `layers` and `by_layer` of `nas.hardware.layers.timed`, or None.
        about: why there are no latencies, where there are none.

    Returns: `stages`, each with `name`, `map`, `channels`, `kernels` (those larger than a point,
    with how often each occurs), `layers`, `bits` (how many layers have how many), `zeros` (share
    of the weights), `params`, `macs`, and `ms` where known; `layers`, the slowest first; `ms`, the
    whole; `about`.
    """
    rows = dict(timed["layers"]) if timed else {}
    whole = rows.pop("", {})
    heads = [_head(name, layers) for name, layers in stages]
    times = _shared(rows, heads)
    return {
        "stages": [
            _stage(name, layers, times.get(head))
            for head, (name, layers) in zip(heads, stages, strict=True)
        ],
        "layers": [
            {"name": name, "ms": _short(row["latency_ms"]), "stage": _home(name, heads)}
            for name, row in sorted(rows.items(), key=lambda pair: -pair[1]["latency_ms"])
        ],
        "ms": _short(whole["latency_ms"]) if whole else None,
        "about": about,
    }


def _head(name: str, layers: Sequence[Layer]) -> str:
    """What the paths of a stage begin with; of one cut by its maps, all its paths."""
    return name if any(layer.path.startswith(name) for layer in layers) else layers[0].path


def _home(path: str, heads: Sequence[str]) -> int:
    """The stage that a module lies in, or -1: the runtime's own time, and what encloses all."""
    inside = [i for i, head in enumerate(heads) if path == head or path.startswith(head + ".")]
    return inside[-1] if inside else -1


def _shared(rows: Mapping[str, Any], heads: Sequence[str]) -> dict[str, float]:
    """Milliseconds of each stage."""
    times = dict.fromkeys(heads, 0.0) if rows else {}
    for path, row in rows.items():
        place = _home(path, heads)
        if place >= 0:
            times[heads[place]] += row["latency_ms"]
    return times


def _stage(name: str, layers: Sequence[Layer], ms: float | None) -> Document:
    params = sum(layer.params for layer in layers)
    bits = sorted({layer.bits for layer in layers}, reverse=True)
    return {
        "name": name,
        "map": list(max(layers, key=lambda layer: layer.map).map),
        "out": list(layers[-1].map),
        "channels": layers[-1].channels[1],
        "kernels": _kernels(layers),
        "layers": len(layers),
        "bits": {str(b): sum(layer.bits == b for layer in layers) for b in bits},
        "zeros": _short(sum(layer.zeros * layer.params for layer in layers) / max(params, 1)),
        "params": params,
        "macs": sum(layer.macs for layer in layers),
        "ms": _short(ms),
    }


def _kernels(layers: Sequence[Layer]) -> list[Document]:
    """The kernels of a stage that see more than a point, the largest first."""
    found: dict[tuple[Any, ...], int] = {}
    for layer in layers:
        if layer.reach != (1, 1):
            key = (layer.kernel, layer.dilation, layer.kind, layer.reach)
            found[key] = found.get(key, 0) + 1
    ordered = sorted(found.items(), key=lambda pair: -pair[0][3][0] * pair[0][3][1])
    return [
        {"size": list(kernel), "dilation": max(dilation), "kind": kind, "reach": list(reach),
         "times": times}
        for (kernel, dilation, kind, reach), times in ordered
    ]  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
