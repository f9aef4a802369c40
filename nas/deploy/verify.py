"""Whether a package is still what its card says: its files, its outputs, its latency.

A package may come from a stranger. None of its code is run (`infer.py` is only hashed), nothing in
it is unpickled, names and sizes are checked before anything is read. What is run is the network,
by its runtime, in a process of its own that is bounded in time and, on a processor, in memory: an
ONNX file or an OpenVINO one computes and does nothing else. A `.pt2` and a TensorRT engine may do
more, and are run only where the person trusts the package.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nas.core.errors import NasError
from nas.deploy.answers import answers
from nas.deploy.formats import FORMATS, NAMES
from nas.deploy.package import CARD, EXAMPLES, INFER, TEXT, digest_of, sha256
from nas.deploy.parity import AGREEMENT, THRESHOLDS, compare
from nas.hardware.runtimes import OPTIONS, Runtime

CARD_BYTES = 16_000_000
FILE_BYTES = 8_000_000_000
EXAMPLE_BYTES = 64_000_000
MEMBERS = 100_000
TRUSTED_ONLY = ("pt2", "tensorrt")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: `passed` is None where it could not be, and `said` says why."""

    name: str
    passed: bool | None
    said: str


@dataclass
class Opened:
    """A package whose card was read and whose files are what the card says.

    `runtime` is what the card's numbers are of.
    """

    folder: Path
    card: Mapping[str, Any]
    checks: list[Check] = field(default_factory=list)

    @property
    def format(self) -> str:
        """Of its network: a name of `FORMATS`."""
        return str(self.card["format"])

    @property
    def file(self) -> Path:
        """What the runtime is given."""
        return self.folder / NAMES[self.format][0]

    @property
    def runtime(self) -> Runtime:
        """What its numbers are of."""
        about = self.card["runtime"]
        return Runtime(about["name"], tuple(about["options"]))

    @property
    def whole(self) -> bool:
        """Whether nothing that was looked at failed."""
        return all(check.passed is not False for check in self.checks)


def opened(folder: Path) -> Opened:
    """A package, its card checked and its files hashed; what is wrong with them is in `checks`.

    Raises: NasError where the folder is no package at all.
    """
    card = _card(folder)
    found = Opened(folder, card)
    found.checks.append(Check("card", *_own(card)))
    expected = {*NAMES[found.format], INFER, TEXT, *([EXAMPLES] if "examples" in card else [])}
    if set(card["sha256"]) != expected:
        odd = printable(min(set(card["sha256"]) ^ expected))
        found.checks.append(Check("files", False, f"the card lists other files: {odd}"))
        return found
    for name in sorted(expected):
        found.checks.append(Check(name, *_hashed(folder / name, card["sha256"][name])))
    extra = sorted({p.name for p in folder.iterdir()} - expected - {CARD, "__pycache__"})
    if extra:
        said = f"not in the card, and not looked at: {printable(', '.join(extra[:5]))}"
        found.checks.append(Check("other files", None, said))
    return found


def _card(folder: Path) -> dict[str, Any]:
    """The card of a folder, its form checked. Raises: NasError where there is none."""
    path = folder / CARD
    if not folder.is_dir():
        raise NasError(f"no folder {folder}", "name the folder that nas export wrote")
    if not _plain(path):
        raise NasError(f"{folder} holds no {CARD}", "name a folder that nas export wrote")
    if path.stat().st_size > CARD_BYTES:
        raise NasError(f"{path} has {path.stat().st_size:,} bytes, which no card has",
                       "name a folder that nas export wrote")  # fmt: skip
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        _formed(card)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        said = printable(" ".join(str(error).split())[:100])
        raise NasError(
            f"{path} is not a card: {type(error).__name__}: {said}",
            "name a folder that nas export wrote, of this version or a later one",
        ) from None
    found: dict[str, Any] = card
    return found


def _formed(card: Any) -> None:
    """Raises: ValueError, KeyError or TypeError where a card lacks what a check needs."""
    runtime, form = card["runtime"], card["format"]
    if form not in FORMATS or runtime["name"] not in FORMATS[form]:
        raise ValueError(f"format {form!r} under {runtime['name']!r}")
    if not set(runtime["options"]) <= set(OPTIONS[runtime["name"]]):
        raise ValueError(f"options {runtime['options']!r}")
    if card["precision"] not in THRESHOLDS:
        raise ValueError(f"precision {card['precision']!r}")
    if not all(isinstance(v, str) and _SHA256.fullmatch(v) for v in card["sha256"].values()):
        raise ValueError("a sha256 is none")
    if not all(isinstance(n, int) and 0 < n < 2**20 for n in card["input"]):
        raise ValueError(f"input {card['input']!r}")
    if not isinstance(card["digest"], str) or not isinstance(card["title"], str):
        raise ValueError("digest and title")
    if not isinstance(card["device"].get("name", ""), str):
        raise ValueError(f"device {card['device']!r}")
    for name, found in card["measurements"].items():
        numbers = [found[part] for part in ("value", "low", "high")]
        if not all(map(_number, numbers)) or not isinstance(found["record"], dict):
            raise ValueError(f"measurement {name!r}")
    parity = card["parity"]
    if not (_number(parity["relative"]) and _number(parity["n"])):
        raise ValueError("parity")


def _number(value: Any) -> bool:
    """Whether it can be compared and printed as a number."""
    return isinstance(value, int | float) and abs(value) < 1e30  # NaN is not


def printable(text: str) -> str:
    """A stranger's words on one line, without what would move a terminal's cursor or colour it.

    >>> printable("a" + chr(27) + "[31mb" + chr(10))
    'a?[31mb?'
    """
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _own(card: Mapping[str, Any]) -> tuple[bool, str]:
    if digest_of(card) == card["digest"]:
        return True, "unchanged"
    return False, "its content is not what its own digest says: it was changed"


def _plain(path: Path) -> bool:
    """Whether it is a file of the folder itself, and no link to elsewhere."""
    return path.is_file() and not path.is_symlink()


def _hashed(path: Path, wanted: str) -> tuple[bool, str]:
    if not path.exists():
        return False, "missing"
    if not _plain(path):
        return False, "not a plain file"
    if path.stat().st_size > FILE_BYTES:
        return False, f"{path.stat().st_size:,} bytes, too large to be looked at"
    if sha256(path) != wanted:
        return False, "not what the card says: damaged, or another file"
    return True, "unchanged"


def refused(package: Opened, trust: bool) -> Check | None:
    """Why the network of a package is not run here, or None where it is.

    It is a failure where the network is not what a package holds; else it is only not checked.
    """
    if not package.whole:
        return Check("outputs", None, "not run: its files are not what the card says")
    if package.format in TRUSTED_ONLY and not trust:
        holds = "may hold a pickle" if package.format == "pt2" else "is a program for the GPU"
        said = f"not run: a {package.format} file {holds}; --trust runs it all the same"
        return Check("outputs", None, said)
    why = None
    if package.format == "onnx":
        why = _outside(package.file)
    if package.format == "pt2":
        why = _unzipped(package.file)
    return None if why is None else Check("outputs", False, f"not run: {why}")


def _outside(path: Path) -> str | None:
    """Why an ONNX file is not run: it is none, or it would read other files than itself."""
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # onnx documents no set of what it raises
        return f"it is no ONNX file ({type(error).__name__})"
    tensors = [*_tensors(proto.graph)]
    for function in proto.functions:
        tensors += _attributes(function.node)
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in tensors):
        return "it takes weights from files outside of the package"
    return None


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Every tensor of a graph and of the graphs inside of it."""
    sparse = [t for s in graph.sparse_initializer for t in (s.values, s.indices)]
    return [*graph.initializer, *sparse, *_attributes(graph.node)]


def _attributes(nodes: Iterable[onnx.NodeProto]) -> list[onnx.TensorProto]:
    """Every tensor that nodes hold."""
    found: list[onnx.TensorProto] = []
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        found += [attribute.t, *attribute.tensors]
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            found += [sparse.values, sparse.indices]
        for inner in (attribute.g, *attribute.graphs):
            found += _tensors(inner)
    return found


def _unzipped(path: Path) -> str | None:
    """Why a .pt2 is not run: it is no zip, or one that unpacks to far more than it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return f"it is no .pt2 file ({error})"
    total = sum(member.file_size for member in members)
    if len(members) > MEMBERS or total > 4 * path.stat().st_size + 2**24:
        return f"it unpacks to {total:,} bytes in {len(members):,} files"
    return None


def examples_of(package: Opened) -> dict[str, NDArray[Any]]:
    """The inputs and outputs that a package holds. Raises: NasError where they are not whole."""
    path = package.folder / EXAMPLES
    if "examples" not in package.card:
        raise NasError("the package holds no examples", "export it again with this version")
    if path.stat().st_size > EXAMPLE_BYTES:
        raise NasError(f"{path} has {path.stat().st_size:,} bytes", "no package has so many")
    try:
        found = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise NasError(
            f"{path} cannot be read: {printable(str(error))}", "export the network again"
        ) from error
    inputs = found.get("inputs")
    shapes = {tuple(found[k].shape) for k in ("expected", "found") if k in found}
    size = sorted(package.card["input"])
    numbers = all(tensor.dtype.kind in "fiu" for tensor in found.values())
    whole = len(shapes) == 1 and {"expected", "found"} <= set(found) and numbers
    if inputs is None or not whole or not len(inputs) or sorted(inputs.shape[1:]) != size:
        raise NasError(f"{path} holds other tensors than examples", "export the network again")
    return found


def outputs(package: Opened, kind: str = "cpu") -> list[Check]:
    """The file's outputs now, against the trained network's and against its own when packaged."""
    try:
        examples = examples_of(package)
        found = answers(package.file, package.runtime, kind, examples["inputs"])
        said = np.asarray(found, np.float64)
        precision = package.card["precision"]
        before = examples["found"].astype(np.float64)
        same = compare(before, said, THRESHOLDS[precision])
        wanted = examples["expected"].astype(np.float64)
        then = compare(wanted, before, THRESHOLDS[precision]).top1_agreement
        # of few examples, one that fell otherwise from the start may be more than the limit allows
        least = AGREEMENT[precision] if then is None else min(AGREEMENT[precision], then)
        now = compare(wanted, said, THRESHOLDS[precision], least)
    except NasError as error:
        lacking = "is not installed" in error.problem
        return [Check("outputs", None if lacking else False, printable(error.problem))]
    card = package.card["parity"]
    first = f"when it was packaged {card['relative']:.2g} on {card['n']}"
    repeat = f"within {same.relative:.2g} of its own outputs when it was packaged"
    return [
        Check("parity", now.passed, f"{now.said}; {first}"),
        Check("repeat", same.passed, repeat),
    ]
