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

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.core.task import Task
from nas.deploy.export import Exported
from nas.deploy.formats import NAMES
from nas.deploy.parity import Parity

CARD, TEXT, INFER, EXAMPLES = "card.json", "CARD.md", "infer.py", "examples.safetensors"
_PACKAGES = ("nas", "torch", "onnx", "onnxruntime", "openvino", "tensorrt", "numpy", "pillow")
_INSTALLED = {"onnxruntime": "onnxruntime", "openvino": "openvino", "torch": "torch",
              "tensorrt": "tensorrt torch"}  # fmt: skip


@dataclass(frozen=True)
class Examples:
    """What the file is checked with on any later day, on any machine.

    Args:
        inputs: as the file takes them, `(N, ...)`. expected: the trained network's outputs.
        found: the file's, when it was packaged. what: where the inputs are from, in words.
    """

    inputs: NDArray[Any]
    expected: NDArray[np.float32]
    found: NDArray[np.float32]
    what: str


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
        format: of the file: a name of `nas.deploy.formats.FORMATS`. about: what that is, in words.
        runtime: `name` and `options` of what ran the file for every number here.
        precision: what it computes in. in_graph: whether the graph normalises images itself.
        training: how the weights were trained: recipes and epochs.
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
    format: str = "onnx"
    about: str = "ONNX file"
    runtime: Mapping[str, Any] = field(
        default_factory=lambda: {"name": "onnxruntime", "options": []}
    )
    precision: str = "float32"
    in_graph: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)

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
                "in_graph": self.in_graph,
            }
        return {
            "title": self.title,
            "format": self.format,
            "about": self.about,
            "file": NAMES[self.format][0],
            "runtime": dict(self.runtime),
            "precision": self.precision,
            "input": list(self.input),
            "classes": list(self.classes),
            "preprocessing": preprocessing,
            "measurements": {m.objective: m.to_json() for m in self.measurements},
            "parity": self.parity.to_json(),
            "build": self.exported.build,
            "opset": self.exported.opset or None,
            "origin": dict(self.origin),
            "training": dict(self.training),
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


def package(
    folder: Path, files_: Path | Sequence[Path], card: Card, examples: Examples | None = None
) -> dict[str, Any]:
    """Writes the file(s), `card.json`, `CARD.md`, `infer.py` and the examples into a new folder.

    The folder appears whole or not at all. Returns the document in `card.json`, which holds the
    sha256 of all other parts, and of itself under `digest`.
    Raises: NasError where the folder holds something, cannot be written, or the file's outputs
    were found to differ from the module's.
    """
    if not card.parity.passed:
        raise NasError(
            f"the file differs from the trained network: {card.parity.said}",
            "export the network again",
        )
    paths = [files_] if isinstance(files_, Path) else list(files_)
    vacant(folder)
    try:
        return _written(folder.absolute(), paths, card, examples)
    except OSError as error:
        raise NasError(
            f"cannot write {folder}: {error.strerror or error}",
            "make room, or name a folder that you may write to",
        ) from error


def vacant(folder: Path) -> None:
    """Raises: NasError where a folder to write to holds something, or is none."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NasError(f"{folder} is there already, and not empty", "name a new folder")


def _written(
    folder: Path, paths: Sequence[Path], card: Card, examples: Examples | None
) -> dict[str, Any]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        names = NAMES[card.format]
        for path, name in zip(paths, names, strict=True):
            shutil.copyfile(path, partial / name)
        document = card.to_json()
        if examples is not None:
            tensors = {"inputs": examples.inputs, "expected": examples.expected,
                       "found": examples.found}  # fmt: skip
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, partial / EXAMPLES)
            document["examples"] = {"n": len(examples.inputs), "what": examples.what}
        infer = files("nas.deploy").joinpath(INFER).read_text(encoding="utf-8")
        (partial / INFER).write_text(infer, encoding="utf-8")
        document["bytes"] = {name: (partial / name).stat().st_size for name in names}
        parts = sorted(p.name for p in partial.iterdir())
        document["sha256"] = {name: sha256(partial / name) for name in parts}
        (partial / TEXT).write_text(readable(document), encoding="utf-8")
        document["sha256"][TEXT] = sha256(partial / TEXT)
        document["digest"] = digest_of(document)
        text = json.dumps(document, indent=2, allow_nan=False)
        (partial / CARD).write_text(text + "\n", encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return document


def digest_of(document: Mapping[str, Any]) -> str:
    """sha256 of a card's content but for its own `digest`."""
    plain = {k: v for k, v in document.items() if k != "digest"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def readable(document: Mapping[str, Any]) -> str:
    """`CARD.md`: what a card says, for people."""
    parity, runtime = document["parity"], document["runtime"]
    agreement = parity["top1_agreement"]
    agrees = "" if agreement is None else f"; the same class for {agreement:.2%}"
    rows = [_row(m) for m in document["measurements"].values()]
    sums = [f"{digest}  {name}" for name, digest in document["sha256"].items()]
    packages = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    origin = "\n".join(f"- {k}: {_plain(v)}" for k, v in document["origin"].items())
    training = "\n".join(f"- {k}: {_plain(v)}" for k, v in document["training"].items())
    under = "+".join([runtime["name"], *runtime["options"]])
    kept = document.get("examples")
    examples = [f"`{EXAMPLES}` holds {kept['n']} {kept['what']} with the outputs of the trained "
                "network and of this file.", ""] if kept else []  # fmt: skip
    return "\n".join([
        f"# {document['title']}", "",
        "| number | value | interval | unit | of |", "|---|---|---|---|---|", *rows, "",
        "The interval is where a repeat falls with 90 %; of a test score it is the confidence "
        f"interval, 90 %. All is of this very file, under {under}.", "",
        *_device(document["device"], document["measurements"].get("latency_ms")),
        f"Outputs against the trained network on {parity['n']} examples: largest difference "
        f"{parity['max_abs']:.2g} ({parity['relative']:.2g} of the largest output), mean "
        f"{parity['mean_abs']:.2g}{agrees}.", "",
        "## Load it", "", "```", f"pip install numpy pillow {_INSTALLED[runtime['name']]}",
        f"python infer.py {'IMAGE.png' if document['preprocessing'] else 'INPUTS.npy'}", "```", "",
        "```python", *_example(document), "```", "",
        _inputs(document), "",
        "## Where it comes from", "", origin,
        f"- data: {document['data'].get('source', '')} "
        f"(digest {document['data'].get('digest', '')})",
        f"- made with {packages}", "",
        *(["## Training", "", training, ""] if training else []),
        "## Check the files", "", *examples, "`nas verify .` checks hashes, outputs and latency.",
        "", "```", *sums, "```", "",
    ])  # fmt: skip


def _inputs(document: Mapping[str, Any]) -> str:
    """What the file takes and gives."""
    size, shape = sum(document["bytes"].values()), list(document["input"])
    names, about = " and ".join(f"`{n}`" for n in document["bytes"]), document["about"]
    name, kind = "`input`", "float32"
    if (document["preprocessing"] or {}).get("in_graph"):
        name, kind, shape = "`image`", "uint8", [*shape[1:], shape[0]]
    takes = ", ".join(map(str, shape))
    return (
        f"{names} ({about}, {size:,} bytes) takes {name}, {kind} of shape (B, {takes}), any B, "
        f"and gives `output`. {_preparation(document['preprocessing'])}"
    )


def _row(measurement: Mapping[str, Any]) -> str:
    m = measurement
    return (
        f"| {m['objective']} | {m['value']:.4g} | {m['low']:.4g} to {m['high']:.4g} | {m['unit']} "
        f"| {m['source']}, {m['basis']}, n={m['n']} |"
    )


def _device(device: Mapping[str, Any], timing: Mapping[str, Any] | None) -> list[str]:
    """What latencies were measured on, and their quantiles."""
    if not device:
        return []
    record = (timing or {}).get("record", {})
    known = [
        f"{q} {record[q + '_ms']:.4g} ms" for q in ("p50", "p90", "p99") if q + "_ms" in record
    ]
    known += [
        f"{k} {record[k]}" for k in ("workload", "threads", "host", "protocol") if k in record
    ]
    if not record.get("converged", True):
        why = "; ".join(record.get("unsettled", ()))
        known.append("not converged" + (f" ({why})" if why else ""))
    said = "Timed on " + ", ".join(f"{k} {_plain(v)}" for k, v in device.items())
    return [said + (": " + ", ".join(known) if known else "") + ".", ""]


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _preparation(preprocessing: Mapping[str, Any] | None) -> str:
    if preprocessing is None:
        return "It is not a network of images: prepare the input as in training."
    p = preprocessing
    inside = "and, in the graph itself, " if p["in_graph"] else ""
    return (
        f"An image becomes an input so: RGB, the middle square, resized to {p['size']}x{p['size']} "
        f"(bilinear), {inside}divided by 255, less {_rounded(p['mean'])}, divided by "
        f"{_rounded(p['std'])}. "
        "`card.json` has these numbers in full, and the class names."
    )


def _rounded(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:.4f}" for v in values) + ")"


def _example(document: Mapping[str, Any]) -> list[str]:
    lines = ["from infer import load, prepared, run", "network, card = load('.')"]
    if document["preprocessing"]:
        return [
            "from PIL import Image",
            *lines,
            "outputs = run(network, prepared(Image.open('IMAGE.png'), card)[None])",
            "print(card['classes'][outputs[0].argmax()])",
        ]
    return ["import numpy as np", *lines, "print(run(network, np.load('INPUTS.npy')))"]
