"""Ten points of a CIFAR-10 study, shipped in every format and run where only the runtime is.

    python benchmarks/ship.py --data folder:cifar10.zip [--epochs 1] [--study ship-cifar10]
    python benchmarks/ship.py --data digits --study ship-digits --result ship-digits.json

The points are given, not searched for: fp32 networks that are folded or re-parameterised, bfloat16,
static int8, channels removed, unstructured zeros, adapters. Each is trained briefly on a twelfth of
the images an epoch. Each format is exported through the gate, then
`infer.py` names a JPEG in a process that sees numpy, Pillow and the runtime alone, and
`nas verify` checks the package. What was done is kept in the result: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import clean
from PIL import Image

from nas import api
from nas.api.places import storage_url
from nas.api.planning import plan
from nas.catalog import load_space
from nas.core.errors import NasError
from nas.core.study import Start
from nas.core.task import TaskSpec
from nas.deploy.package import versions
from nas.store.store import Store

RESULT = Path(__file__).parent / "results" / "ship.json"
SPACE = "largekernel+sparsity+bitwidth"
SMALL = {
    **{f"stages.{i}.width": 16 * 2**i for i in range(4)},
    **{f"stages.{i}.depth": 1 for i in range(4)},
    **{f"stages.{i}.mixer": "depthwise" for i in range(4)},
    **{f"stages.{i}.kernel": 7 for i in range(4)},
    "stem.kind": "deep",
}
CNN = {**SMALL, "block": "convnext", **{f"stages.{i}.norm": "batch" for i in range(4)}}
UNI = {**SMALL, "block": "unireplknet", **{f"stages.{i}.mixer": "dilated" for i in range(2)}}
REP = {**SMALL, "block": "replknet", **{f"stages.{i}.mixer": "smallkernel" for i in range(2)}}
POINTS: dict[str, dict[str, Any]] = {
    "fp32": CNN,
    "fp32, dilated branches merged": UNI,
    "fp32, small kernels merged": REP,
    "bfloat16": {**CNN, "stages.2.width": 96},
    "int8": {**CNN, "bitwidth.weights": "int8"},
    "int8, small kernels merged": {**REP, "bitwidth.weights": "int8", "bitwidth.ends": "fp32"},
    "half the channels removed": {**CNN, "sparsity.pattern": "channels", "sparsity.removed": 0.5},
    "80 % zeros": {**UNI, "sparsity.pattern": "unstructured", "sparsity.zeros": 0.8},
}
ADAPTED: dict[str, dict[str, Any]] = {
    "adapted (ssf)": {"adapter.method": "ssf"},
    "adapted (lora)": {"adapter.method": "lora", "adapter.rank": 4},
}
FORMATS = {"onnx": "onnxruntime", "openvino": "openvino", "pt2": "torch"}
HALF = {"onnx": "openvino:bf16", "openvino": "openvino:bf16", "pt2": "torch:bf16"}


def cnn(task: TaskSpec) -> Any:
    """The network of the adapted points: no space's own is adapted without weights."""
    space = load_space("largekernel").at(task)
    return space.build(space.repair(CNN).choices, task)


def main() -> None:
    """Searches nothing, trains ten points, ships each in each format, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder:PATH of CIFAR-10, or a .zip of it")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--study", default="ship-cifar10")
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    trained(given.data, given.epochs, given.study)
    rows = shipped(given)
    for row in rows.values():
        print("  ".join(str(row.get(k, "")) for k in ("point", "format", "runtime", "outcome")))
    done = [row for row in rows.values() if row["outcome"] == "runs"]
    print(f"{len(done)} of {len(rows)} packages agree with their network, run and verify")


def trained(data: str, epochs: int, study: str) -> None:
    """The studies of the ten points, each trained to its end."""
    _trained(data, epochs, study, SPACE, POINTS)
    _trained(data, epochs, f"{study}-adapted", "adapter", ADAPTED, "ship:cnn")


def _trained(
    data: str, epochs: int, study: str, space: str, points: dict[str, dict[str, Any]],
    network: str | None = None,
) -> None:  # fmt: skip
    url = storage_url(None)
    with Store(url) as store:
        if study not in {row.name for row in store.studies()}:
            spec = plan(
                space, "cpu", data, ["accuracy", "size_mb"], [], "random", "none", [],
                len(points) + bool(network), None, epochs, study, 0, False, network=network,
            )  # fmt: skip
            found = load_space(space, network).at(spec.task)
            starts = tuple(
                Start(found.repair(choices).choices, name) for name, choices in points.items()
            )
            store.create(replace(spec, starts=starts, proxies=False, confirm=0.0))
    api.search(study=study, resume=True, runner="inline")


def places(study: str) -> dict[str, tuple[str, int]]:
    """The study and the trial of each point; an adapted network's trial 0 is the network itself."""
    found = {point: (study, number) for number, point in enumerate(POINTS)}
    return found | {p: (f"{study}-adapted", number) for number, p in enumerate(ADAPTED, 1)}


def shipped(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every point in every format; what an earlier run did is not done again."""
    kept = json.loads(given.result.read_text())["rows"] if given.result.exists() else {}
    image = a_jpeg(given.data)
    for point, (study, number) in places(given.study).items():
        for form in FORMATS:
            name = f"{point} / {form}"
            if name in kept:
                continue
            kept[name] = one(study, number, point, form, image)
            print(json.dumps(kept[name]), file=sys.stderr)
            document = {
                "date": date.today().isoformat(), "data": given.data, "epochs": given.epochs,
                "versions": versions(), "rows": kept,
            }  # fmt: skip
            given.result.write_text(json.dumps(document, indent=1) + "\n")
    return kept


def a_jpeg(data: str) -> Path:
    """One test image of a zipped data set, else a gradient, as a file."""
    folder = Path(tempfile.mkdtemp(prefix="nas-ship-"))
    if not data.endswith(".zip"):
        Image.linear_gradient("L").save(folder / "image.jpg")
        return folder / "image.jpg"
    with zipfile.ZipFile(data.removeprefix("folder:")) as archive:
        name = next(n for n in archive.namelist() if n.startswith("test/") and n.endswith(".jpg"))
        (folder / "image.jpg").write_bytes(archive.read(name))
    return folder / "image.jpg"


def one(study: str, number: int, point: str, form: str, image: Path) -> dict[str, Any]:
    """One point in one format: exported, run alone, verified; what was measured of it."""
    runtime = HALF[form] if point == "bfloat16" else None
    row: dict[str, Any] = {"point": point, "trial": number, "format": form}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nas-ship-") as folder:
        out = Path(folder) / "out"
        try:
            found = api.export(study, number, out, format=form, runtime=runtime)
        except NasError as error:
            return {**row, "outcome": f"refused: {error.problem}"}
        row |= {
            "runtime": found["runtime"],
            "parity": {k: found["parity"][k] for k in ("relative", "top1_agreement", "threshold")},
            **{k: found.get(k, {}).get("value") for k in ("accuracy", "latency_ms", "size_mb")},
            "not_timed": found.get("not_timed"),
            "slower": found.get("slower", {}).get("line"),
        }
        name = found["runtime"].partition(":")[0]
        where = clean.site(Path(folder) / "site", ["numpy", "pillow", name])
        said = clean.run(where, out / "infer.py", str(image)).partition(": ")[2].strip()
        checked = api.verify(out, trust=True, latency=False)
        row |= {"said": said, "verified": checked["passed"],
                "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    right = re.match(r"\w+ \d+\.\d%", said) and checked["passed"]
    return {**row, "outcome": "runs" if right else "fails"}


if __name__ == "__main__":
    main()
