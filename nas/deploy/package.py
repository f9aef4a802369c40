"""A folder that somebody else can run: the network, a card of its numbers, and how to load it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.core.task import Task
from nas.deploy.export import Exported
from nas.deploy.parity import Parity

_PACKAGES = ("nas", "torch", "onnx", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True)
class Card:
    """What is known of a packaged network.

    Args:
        title: one line that says what it is.
        exported: the file's build, size and opset.
        parity: how far the file is from the trained module.
        measurements: what was measured on this very file, each with its interval.
        origin: where it came from: study, trial, space, choices, key.
        input: shape of one example.
        classes: names of the outputs, where they have names.
        normalisation: mean and std per channel of an image scaled to [0, 1]; None where the task
            is not of images.
        data: source and digest of the data.
        device: what latencies were measured on.
    """

    title: str
    exported: Exported
    parity: Parity
    measurements: Sequence[Measurement]
    origin: Mapping[str, Any]
    input: tuple[int, ...]
    classes: tuple[str, ...] = ()
    normalisation: Mapping[str, Sequence[float]] | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_task(cls, task: Task, source: str, **known: Any) -> Card:
        """A card with what a task knows filled in; `known` are the other fields."""
        return cls(
            input=tuple(task.input),
            classes=task.classes,
            normalisation=task.normalisation,
            data={"source": source, "digest": task.digest},
            **known,
        )

    def to_json(self) -> dict[str, Any]:
        """The document `card.json`, but for the hashes of the files beside it."""
        preprocessing = None
        if self.normalisation is not None:
            preprocessing = {
                "size": self.input[-1],
                "colour": "RGB",
                "crop": "middle square",
                "filter": "bilinear",
                "scale": "1/255",
                "mean": list(self.normalisation["mean"]),
                "std": list(self.normalisation["std"]),
            }
        return {
            "title": self.title,
            "input": list(self.input),
            "classes": list(self.classes),
            "preprocessing": preprocessing,
            "measurements": {m.objective: m.to_json() for m in self.measurements},
            "parity": self.parity.to_json(),
            "build": self.exported.build,
            "opset": self.exported.opset,
            "origin": dict(self.origin),
            "data": dict(self.data),
            "device": dict(self.device),
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number may depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def package(folder: Path, file: Path, card: Card) -> dict[str, Any]:
    """Writes `model.onnx`, `card.json`, `infer.py` and `README.md` into a new folder.

    The folder appears whole or not at all. Returns the document in `card.json`.
    Raises: NasError where the folder holds something, cannot be written, or the file's outputs
    were found to differ from the module's.
    """
    if not card.parity.passed:
        raise NasError(
            f"the file differs from the trained network: {card.parity.relative:.2g} of the largest "
            f"output, allowed is {card.parity.threshold:.2g}",
            "export the network again",
        )
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise NasError(f"{folder} is there already, and not empty", "name a new folder")
        return _written(folder.absolute(), file, card)
    except OSError as error:
        raise NasError(
            f"cannot write {folder}: {error.strerror or error}",
            "make room, or name a folder that you may write to",
        ) from error


def _written(folder: Path, file: Path, card: Card) -> dict[str, Any]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        shutil.copyfile(file, partial / "model.onnx")
        infer = files("nas.deploy").joinpath("infer.py").read_text(encoding="utf-8")
        (partial / "infer.py").write_text(infer, encoding="utf-8")
        hashes = {name: _sha256(partial / name) for name in ("model.onnx", "infer.py")}
        size = {"model.onnx": (partial / "model.onnx").stat().st_size}
        document = {**card.to_json(), "bytes": size, "sha256": hashes}
        text = json.dumps(document, indent=2, allow_nan=False)
        (partial / "card.json").write_text(text + "\n", encoding="utf-8")
        (partial / "README.md").write_text(readme(document), encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return document


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def readme(document: Mapping[str, Any]) -> str:
    """The README of a packaged network, from its card."""
    parity = document["parity"]
    agreement = parity["top1_agreement"]
    agrees = "" if agreement is None else f"; the same class for {agreement:.2%}"
    rows = [_row(m) for m in document["measurements"].values()]
    sums = [f"{digest}  {name}" for name, digest in document["sha256"].items()]
    size, shape = document["bytes"]["model.onnx"], ", ".join(map(str, document["input"]))
    packages = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    origin = "\n".join(f"- {k}: {_plain(v)}" for k, v in document["origin"].items())
    return "\n".join([
        f"# {document['title']}", "",
        "| number | value | 90 % of repeats | unit | of |", "|---|---|---|---|---|", *rows, "",
        *_device(document["device"]),
        f"Outputs against the trained network on {parity['n']} examples: largest difference "
        f"{parity['max_abs']:.2g} ({parity['relative']:.2g} of the largest output){agrees}.", "",
        "## Load it", "", "```", "pip install numpy pillow onnxruntime",
        f"python infer.py {'IMAGE.png' if document['preprocessing'] else 'INPUTS.npy'}", "```", "",
        "```python", *_example(document), "```", "",
        f"`model.onnx` (opset {document['opset']}, {size:,} bytes) takes "
        f"`input`, float32 of shape (B, {shape}), any B, and gives `output`. "
        f"{_preparation(document['preprocessing'])}", "",
        "## Where it comes from", "", origin,
        f"- data: {document['data'].get('source', '')} "
        f"(digest {document['data'].get('digest', '')})",
        f"- made with {packages}", "",
        "## Check the files", "", "```", *sums, "```", "",
    ])  # fmt: skip


def _row(measurement: Mapping[str, Any]) -> str:
    m = measurement
    return (
        f"| {m['objective']} | {m['value']:.4g} | {m['low']:.4g} to {m['high']:.4g} | {m['unit']} "
        f"| {m['source']}, {m['basis']}, n={m['n']} |"
    )


def _device(device: Mapping[str, Any]) -> list[str]:
    if not device:
        return []
    return ["Timed on " + ", ".join(f"{k} {_plain(v)}" for k, v in device.items()) + ".", ""]


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _preparation(preprocessing: Mapping[str, Any] | None) -> str:
    if preprocessing is None:
        return "It is not a network of images: prepare the input as in training."
    p = preprocessing
    return (
        f"An image becomes an input so: RGB, the middle square, resized to {p['size']}x{p['size']} "
        f"(bilinear), divided by 255, less {_rounded(p['mean'])}, divided by {_rounded(p['std'])}. "
        "`card.json` has these numbers in full, and the class names."
    )


def _rounded(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:.4f}" for v in values) + ")"


def _example(document: Mapping[str, Any]) -> list[str]:
    lines = ["from infer import load, prepared, run", "session, card = load('.')"]
    if document["preprocessing"]:
        return [
            "from PIL import Image",
            *lines,
            "outputs = run(session, prepared(Image.open('IMAGE.png'), card)[None])",
            "print(card['classes'][outputs[0].argmax()])",
        ]
    return ["import numpy as np", *lines, "print(run(session, np.load('INPUTS.npy')))"]
