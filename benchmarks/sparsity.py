"""What sparsity is worth in the file that ships.

    python benchmarks/sparsity.py

Each network is exported as it is and sparse in several ways; all its files are timed in turn in the
same processes under onnxruntime on this processor, on one thread, and what is printed is how many
times faster than the dense file each is. Weights are untrained: time does not depend on them. Half
of the channels of a network of 3x3 convolutions must make it at least 1.7 times faster; zeros are
expected to change nothing. `--networks` measures some of them again and keeps the others' figures.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from kept import RESULTS, keep

from nas.catalog import load_space
from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.hardware.counting import count
from nas.hardware.device import named
from nas.hardware.lease import Lease, default_folder
from nas.hardware.timing import measure
from nas.transforms.sparsify import Plan, sparsifying
from nas.transforms.stages import Given, Pipeline

TARGET = ("resnet:resnet18", "channels 50 % uniform", 1.7)
NETWORKS = {"resnet:resnet18": 64, "resnet:resnet50": 64, "largekernel:convnext_a": 64}  # pixels
PLANS: Mapping[str, Plan | None] = {
    "dense": None,
    "channels 25 % uniform": Plan("channels", 0.25),
    "channels 50 % uniform": Plan("channels", 0.5),
    "channels 50 % erk": Plan("channels", 0.5, "erk"),
    "channels 50 % global": Plan("channels", 0.5, "global"),
    "channels 50 % precrop": Plan("channels", 0.5, "precrop"),
    "channels 75 % uniform": Plan("channels", 0.75),
    "2:4": Plan("2:4"),
    "unstructured 95 % erk": Plan("unstructured", 0.95, "erk"),
}


def written(network: str, pixels: int, plan: Plan | None, path: Path) -> dict[str, Any]:
    """Exports a network under a plan; what is counted of it."""
    torch.manual_seed(0)
    space_name, _, preset = network.partition(":")
    task = TaskSpec("digits", (3, pixels, pixels), 10)
    space = load_space(space_name).at(task)
    module = space.build(space.preset(preset).choices, task)
    pipeline = Pipeline([sparsifying(plan)] if plan else [], Given(task, partial(drawn, pixels)))
    prepared, _ = pipeline.prepare(module)
    deployed, _ = pipeline.deploy(prepared, task.input)
    size = export(deployed, task.input, path).bytes
    counts = count(deployed, task.input)
    return {
        "params": counts.params,
        "macs": counts.macs,
        "nonzero_params": counts.nonzero_params,
        "size_mb": size / 1e6,
    }


def drawn(pixels: int, examples: int) -> torch.Tensor:
    """Random examples, the same each time."""
    numbers = torch.Generator().manual_seed(0)
    return torch.randn(examples, 3, pixels, pixels, generator=numbers)


def compared(network: str, pixels: int, processes: int) -> dict[str, Any]:
    """Every form of one network: counts, milliseconds, and how many times faster than dense."""
    device = named("cpu")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.onnx" for number in range(len(PLANS))]
        rows = {
            name: written(network, pixels, plan, file)
            for (name, plan), file in zip(PLANS.items(), files, strict=True)
        }
        lease = Lease(default_folder(), device.seat)
        timings = measure(files, device, lease, processes=processes, basis="untrained form")
    failed = [t for t in timings if isinstance(t, str)]
    if failed:
        raise SystemExit(f"{network}: {failed[0]}")
    dense = timings[0]
    for (name, row), timing in zip(rows.items(), timings, strict=True):
        ratio = dense.value / timing.value
        doubt = 1.645 * math.hypot(dense.se / dense.value, timing.se / timing.value)
        row |= {
            "latency_ms": timing.value,
            "low": timing.low,
            "high": timing.high,
            "faster": ratio,
            "faster_low": ratio * math.exp(-doubt),
            "faster_high": ratio * math.exp(doubt),
        }
        print(
            f"{network} {pixels} px  {name:24}{row['params'] / 1e6:8.2f} M params"
            f"{row['macs'] / 1e6:9.1f} M MACs{timing.value:9.3f} ms{ratio:7.2f}x",
            flush=True,
        )
    return {"pixels": pixels, "forms": rows}


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where the result goes instead")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = given.out or RESULTS / "sparsity.json"
    found = json.loads(path.read_text())["found"] if path.exists() else {}
    torch_pruning = version("torch-pruning")
    for name in given.networks:
        date = datetime.now(UTC).isoformat(timespec="seconds")
        found[name] = {"date": date} | compared(name, NETWORKS[name], given.processes)
        keep("sparsity", {"torch_pruning": torch_pruning, "found": found}, path)
    network, form, wanted = TARGET
    if network in found:
        ratio = found[network]["forms"][form]["faster"]
        word = "reached" if ratio >= wanted else "missed"
        print(f"target {wanted}x for {form} of {network}: {ratio:.2f}x, {word}")


if __name__ == "__main__":
    main()
