"""What int8 is worth in time: quantized files against fp32 ones, timed together.

    python benchmarks/bitwidth.py

Each network of `NETWORKS` is built with random weights, folded and exported, and its file quantized
by the axis's own code: static int8, with and without its depthwise convolutions. The three files
are timed interleaved, as a search times candidates, in as many fresh processes as `--processes`
says; a speed-up is the ratio of two latencies of one session. What is done already is not done
again. Writes `benchmarks/results/bitwidth.json`, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.catalog import load_space
from nas.core.architecture import Value
from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.hardware.counting import count
from nas.hardware.device import host_fingerprint, named
from nas.hardware.lease import Lease, default_folder
from nas.hardware.timing import measure
from nas.networks.published.largekernel import convnext, replknet
from nas.transforms.fold import fold
from nas.transforms.quantize.file import quantize
from nas.transforms.quantize.plan import Plan

SIDE = 128
TASK = TaskSpec("none", (3, SIDE, SIDE), 10)
EXAMPLES = 16
LEAST = 2.5  # of a 3x3 ResNet, and of a folded RepLKNet with kernels of at most 7
RESULT = Path(__file__).parent / "results" / "bitwidth.json"
PLANS = {"int8": Plan(), "int8 and depthwise": Plan(depthwise=True)}


def large(choices: Mapping[str, Value], depth: int = 2) -> nn.Module:
    """A network of the space `largekernel`, with so many blocks in each stage."""
    space = load_space("largekernel").at(TASK)
    shallow = {**choices, **{f"stages.{i}.depth": depth for i in range(4)}, "drop_path": 0.0}
    module: nn.Module = space.build(space.repair(shallow).choices | shallow, TASK)
    return module


def resnet(name: str) -> nn.Module:
    """A published network of the space `resnet`."""
    space = load_space("resnet").at(TASK)
    module: nn.Module = space.build(space.preset(name).choices, TASK)
    return module


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "ResNet-18, 3x3": lambda: resnet("resnet18"),
    "RepLKNet, K = 3": lambda: large(replknet(128, (3,) * 4, small=0)),
    "RepLKNet, K = 7": lambda: large(replknet(128, (7,) * 4)),
    "RepLKNet, K = 13": lambda: large(replknet(128, (13,) * 4)),
    "RepLKNet, K = 31": lambda: large(replknet(128, (31, 29, 27, 13))),
    "ConvNeXt, LayerNorm and GELU": lambda: large(convnext("t")),
    "ConvNeXt, narrow": lambda: large(convnext("a")),
}


def files(make: Callable[[], nn.Module], folder: Path) -> tuple[dict[str, Path], float]:
    """The network's files by name, fp32 first, and its multiply-adds."""
    torch.manual_seed(0)
    module = make()
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():  # statistics of batch norms, so that ranges are those of a network
        module.train()(torch.randn(8, *TASK.input, generator=numbers))
    deployed, _ = fold(module.eval(), TASK.input)
    made = {"fp32": folder / "fp32.onnx"}
    export(deployed, TASK.input, made["fp32"])
    examples = torch.randn(EXAMPLES, *TASK.input, generator=numbers).numpy()
    for name, plan in PLANS.items():
        made[name] = folder / f"{name}.onnx"
        quantize(made["fp32"], made[name], plan, examples)
    return made, count(deployed, TASK.input).macs


def timed(make: Callable[[], nn.Module], processes: int) -> dict[str, Any]:
    """Latencies, and each quantized file's speed-up."""
    device = named("cpu")
    with tempfile.TemporaryDirectory() as folder:
        made, macs = files(make, Path(folder))
        sizes = {name: path.stat().st_size / 1e6 for name, path in made.items()}
        found = measure(
            list(made.values()), device, Lease(default_folder(), device.seat),
            processes=processes, basis="untrained form",
        )  # fmt: skip
    latencies: dict[str, Measurement] = {}
    for name, one in zip(made, found, strict=True):
        if isinstance(one, str):
            raise NasError(f"{name} could not be timed: {one}", "try again on a quieter host")
        latencies[name] = one
    whole = latencies["fp32"].value
    return {
        "gmacs": round(macs / 1e9, 3),
        "latency_ms": {
            n: {"value": m.value, "low": m.low, "high": m.high, "n": m.n}
            for n, m in latencies.items()
        },
        "size_mb": sizes,
        "speedup": {n: round(whole / latencies[n].value, 2) for n in PLANS},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def table(found: Mapping[str, Any]) -> str:
    """One line for each network."""
    lines = [f"{'network':30} {'fp32':>8} {'int8':>8} {'+ depthwise':>12}  speed-ups"]
    for name, row in found.items():
        times = [row["latency_ms"][n]["value"] for n in ("fp32", *PLANS)]
        ratios = " and ".join(f"{row['speedup'][n]:.2f}" for n in PLANS)
        lines.append(f"{name:30} {times[0]:8.2f} {times[1]:8.2f} {times[2]:12.2f}  {ratios}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=3, help="fresh processes for each network")
    parser.add_argument("--only", default="", help="networks whose name has this in it")
    parser.add_argument("--fresh", action="store_true", help="time all of them again")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    found = {} if given.fresh else dict(known.get("networks", {}))
    for name, make in NETWORKS.items():
        if given.only in name and name not in found:
            found[name] = timed(make, given.processes)
            RESULT.write_text(json.dumps(_document(found), indent=1) + "\n")
            print(table({name: found[name]}).splitlines()[1], flush=True)
    print(table({name: found[name] for name in NETWORKS if name in found}))
    for name in ("ResNet-18, 3x3", "RepLKNet, K = 3", "RepLKNet, K = 7"):
        if name in found:
            best = max(found[name]["speedup"].values())
            verdict = "reached" if best >= LEAST else "missed"
            print(f"{name}: {best:.2f} times, {verdict} (at least {LEAST})")


def _document(found: Mapping[str, Any]) -> dict[str, Any]:
    host = host_fingerprint()
    return {
        "command": "python benchmarks/bitwidth.py",
        "input": list(TASK.input),
        "threads": 1,
        "host": {"processor": host["processor"], "python": platform.python_version()},
        "versions": {n: version(n) for n in ("onnxruntime", "onnx", "torch", "numpy")},
        "networks": {name: found[name] for name in NETWORKS if name in found},
    }


if __name__ == "__main__":
    main()
