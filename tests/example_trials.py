"""Trials written down by hand."""

from __future__ import annotations

from typing import Any

from nas.core.architecture import Architecture
from nas.core.measurement import Measurement
from nas.core.trial import Trained, Trial


def trained(score: float, repeat: int = 0, se: float = 1.0) -> Trained:
    return Trained(repeat, f"{repeat}.onnx", score + 0.5, se, 300, score, se, 150)


def trial(number: int, *scores: float, macs: float = 1.0, **fields: Any) -> Trial:
    runs = tuple(trained(score, repeat) for repeat, score in enumerate(scores))
    given = {"state": "complete", "trained": runs, "costs": {"macs": macs}}
    return Trial(number, Architecture("toy", {"n": number}), **{**given, **fields})


def latency(value: float, form: str) -> dict[str, Measurement]:
    low, high, se = 0.9 * value, 1.2 * value, 0.1 * value
    basis = "trained file" if form == "trained" else "untrained form"
    taken = Measurement("latency_ms", value, "ms", low, high, se, 40, "measured", basis)
    return {f"latency_ms@cpu:b1/{form}": taken}
