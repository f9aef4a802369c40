"""The made-up study as the page of a report is given it, on two devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import example_study
import numpy as np

from nas.core.front import front_of
from nas.core.retarget import compare
from nas.core.trial import Event, Trial
from nas.deploy.outline import Layer
from nas.report.correlations import correlations_document
from nas.report.page import page
from nas.report.page.data import Findings, page_document
from nas.report.page.networks import drawing

START = datetime(2026, 11, 21, 8, tzinfo=UTC)
IMPORTANCE = {"study": "digits-1", "networks": 36, "rows": [
    {"decision": "stages.2.kernel", "share": 0.5, "active": 36},
    {"decision": "stages.0.depth", "share": 0.3, "active": 20},
    {"decision": "stem.stride", "share": 0.2, "active": 36},
]}  # fmt: skip


def layer(path: str, kernel: int, kind: str = "depthwise", **changes: Any) -> Layer:
    given: dict[str, Any] = {
        "node": path, "path": path, "kind": kind, "kernel": (kernel, kernel), "dilation": (1, 1),
        "stride": (1, 1), "channels": (16, 16), "map": (8, 8), "bits": 32, "zeros": 0.0,
        "params": 16 * kernel**2, "macs": 1024 * kernel**2,
    }  # fmt: skip
    return Layer(**{**given, **changes})


def network() -> dict[str, Any]:
    """A drawing of three stages, one of them quantized in part and half zeros, and timed."""
    mixed = [
        layer("stages.0.mixer", 13, map=(16, 16)),
        layer("stages.0.expand", 1, bits=8, zeros=0.5),
    ]
    stages = [("stem", [layer("stem.conv", 3, "convolution", map=(32, 32))]), ("stages.0", mixed),
              ("head", [layer("head", 1, "linear", map=(1, 1))])]  # fmt: skip
    rows = {"stem.conv": 0.1, "stages.0.mixer": 0.25, "stages.0.expand": 0.1, "(runtime)": 0.05}
    timed = {"layers": {"": {"latency_ms": 0.5}, **{n: {"latency_ms": v} for n, v in rows.items()}}}
    return drawing(stages, timed)


def findings(trials: Sequence[Trial] | None = None, *names: str, **changes: Any) -> Findings:
    """The example study on `cpu` and `a100` with everything that a page can show."""
    asked = example_study.spec(*names)
    made = example_study.predicted(list(trials or example_study.trials()), "a100")
    events = [
        Event(kind, t.number, {"state": t.state})
        for t in made
        for kind in ("proposed", "told")
        if kind == "proposed" or t.state != "running"
    ]
    fronts = {device: front_of(asked, made, device) for device in ("cpu", "a100")}
    given: dict[str, Any] = {
        "spec": asked,
        "trials": made,
        "events": events,
        "moments": [START + timedelta(seconds=9 * i) for i in range(len(events))],
        "fronts": fronts,
        "retargets": {"a100": compare(asked, made, made, "a100")},
        "importance": IMPORTANCE,
        "correlations": correlations_document(asked, made),
        "networks": {m.trial: network() for f in fronts.values() for m in f.members},
        "made": "nas 1.2.3  ·  2026-11-21",
    }
    return Findings(**{**given, **changes})


def many(count: int) -> list[Trial]:
    """So many complete trials along one curve, each of 40 decisions."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        latency = float(np.exp(rng.uniform(np.log(0.1), np.log(4.0))))
        accuracy = 98.0 - 1.3 / latency**0.8 - float(rng.exponential(3)) - 0.2
        trial = example_study.complete(number, accuracy, latency)
        extra = {f"stages.{i % 4}.part{i}": int(rng.integers(5)) for i in range(24)}
        choices = {**trial.architecture.choices, **extra}
        made.append(replace(trial, architecture=replace(trial.architecture, choices=choices)))
    return made


def written(found: Findings, path: Path) -> Path:
    path.write_text(page(page_document(found)))
    return path
