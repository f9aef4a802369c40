"""A toy study that needs neither torch nor a device: what it is searched for is arithmetic."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import postgres
import pytest

from nas.core.decision import Choice, Integer
from nas.core.fidelity import Fidelity
from nas.core.objective import BUILTIN, Constraint
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.task import TaskSpec

# Nothing is measured into the user's cache: large kernels are computed as the rule says.
os.environ.setdefault("NAS_LARGEKERNEL", "rule")

CHECKPOINT = hashlib.sha256(b"").hexdigest() + ".safetensors"  # of an empty file
TASK = TaskSpec("digits", (3, 32, 32), 10, examples=900, digest="d" * 32)


def toy_space() -> SearchSpace:
    return SearchSpace(
        "toy",
        [
            Choice("kernel", [3, 5, 7, 9]),
            Integer("depth", 1, 6),
            Choice("width", [16, 32, 64, 128]),
            Choice("dilation", [1, 2], when={"kernel": [3]}),
        ],
        build=lambda choices, task: None,
    )


def toy_spec(**changes: Any) -> StudySpec:
    given: dict[str, Any] = {
        "name": "toy",
        "space": "toy",
        "task": TASK,
        "device": "cpu",
        "objectives": (BUILTIN["accuracy"], BUILTIN["macs"]),
        "strategy": "random",
        "trials": 12,
        "fidelity": Fidelity(epochs=9),
        "seed": 3,
    }
    return StudySpec(**{**given, **changes})


def toy_accuracy(choices: Mapping[str, Any], epochs: int, seed: int) -> float:
    quality = 2 * choices["depth"] + choices["kernel"] + choices["width"] / 32
    noise = ((zlib.crc32(repr((sorted(choices.items()), seed)).encode()) % 1000) / 1000) - 0.5
    return min(99.0, 50 + quality + 4 * epochs**0.5 + noise)


class ToyPerform:
    """Does jobs by arithmetic, as `nas.evaluate.perform` does them by work."""

    def __init__(self, spec: StudySpec, fail: frozenset[int] = frozenset()) -> None:
        self.spec = spec
        self.fail = fail
        self.done: list[Mapping[str, Any]] = []

    def __call__(self, job: Mapping[str, Any], report: Any) -> dict[str, Any]:
        self.done.append(job)
        if job["kind"] != "measure" and job["trial"] in self.fail:
            return {"error": "it broke", "values": {}, "seconds": 0.0}
        return {"values": getattr(self, job["kind"])(job, report), "error": None, "seconds": 0.0}

    def build(self, job: Mapping[str, Any], report: Any) -> dict[str, Any]:
        choices = job["architecture"]["choices"]
        macs = float(choices["depth"] * choices["width"] ** 2 * choices["kernel"])
        costs = {"macs": macs, "params": macs / 10, "size_mb": macs / 1e6}
        return {"build": f"b{macs:g}", "file": "0" * 64 + ".onnx", "costs": costs}

    def measure(self, job: Mapping[str, Any], report: Any) -> dict[str, Any]:
        basis = "trained file" if job["form"] == "trained" else "untrained form"
        found = {}
        for trial, build in zip(job["trials"], job["builds"], strict=True):
            if trial in self.fail:
                found[str(trial)] = {"error": "it hangs"}
                continue
            value = float(build[1:]) / 1e5 + 0.01 * (job["form"] == "trained")
            found[str(trial)] = {
                "objective": job["objective"], "value": value, "low": 0.95 * value,
                "unit": {"latency_ms": "ms", "energy_mj": "mJ"}.get(job["objective"], "10^6 bytes"),
                "high": 1.05 * value, "se": 0.02 * value, "n": 50, "source": "measured",
                "basis": basis, "record": {"p99_ms": 1.5 * value},
            }  # fmt: skip
        return {"measurements": found}

    def train(self, job: Mapping[str, Any], report: Any) -> dict[str, Any]:
        choices = job["architecture"]["choices"]
        rungs = self.spec.fidelity.rungs
        for rung in range(job["from_rung"] + 1, job["to_rung"] + 1):
            score = toy_accuracy(choices, rungs[rung], job["seed"])
            values = {"epochs": rungs[rung], "score": score, "n": 300,
                      "checkpoint": CHECKPOINT}  # fmt: skip
            if report(rung, values) == "stop":
                return {}
        score = toy_accuracy(choices, rungs[-1], job["seed"])
        return {
            "file": "2" * 64 + ".onnx",
            "score": {"score": score, "se": 1.0, "n": 300},
            "confirm": {"score": score - 0.1, "se": 1.5, "n": 150},
            "costs": {},
        }


@pytest.fixture
def latency_constraint() -> Constraint:
    return Constraint.parse("latency_ms<=8")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server: one that is given, or one that is started."""
    if postgres.GIVEN:
        yield postgres.GIVEN
    elif not postgres.available():
        pytest.skip(postgres.MISSING)
    else:
        with postgres.server() as started:
            yield started.url()
