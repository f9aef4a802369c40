"""One training step of a large depthwise convolution, against `nn.Conv2d`.

    python benchmarks/largekernel.py [--minutes 7] [--device cuda] [--only 31@56x64x16] [--fresh]

Forward and both gradients of K x K kernels on square maps, in one run and in turn: `nn.Conv2d` on
planes, `nn.Conv2d` channels last, and this project's layer channels last, as its training has it;
all of them keep the memory of one step for the next, as its training does.
The least of several steps is taken of each; on one thread of a processor it is that thread's own
processor time, which neighbours disturb less. What takes seconds is run once or twice. Each ratio
is of the *better* `nn.Conv2d` to the layer, bias-free, float32 (`--dtype bfloat16` on a GPU).

Cases already in the result are not run again, so that `--minutes` at a time it is completed; those
whose `nn.Conv2d` would take more than six seconds a step (by what fewer maps took) are left out
and listed. On a GPU each case also has its floor: the time that its bytes take at the datasheet's
bandwidth or its multiplications at the datasheet's peak, whichever is longer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.catalog import DEVICES, names
from nas.hardware.device import named
from nas.networks.largekernel.choice import choose
from nas.networks.largekernel.convolution import convolve, convolve_quickly
from nas.networks.largekernel.geometry import Geometry
from nas.networks.largekernel.kept import of_device
from nas.training.allocator import kept_memory

KERNELS = (7, 13, 31, 51, 101)
SIZES = (8, 16, 32, 56)
MAPS = ((64, 16), (256, 16), (64, 128), (256, 128))  # channels, batch
ENOUGH_S = 4.0  # spent on a case, unless three rounds take longer
LONGEST_S = 6.0  # a step of either `nn.Conv2d`, by estimate: longer ones are left out
ALWAYS = (64, 16)  # but for these, which every kernel is measured on
RESULT = Path(__file__).parent / "results" / "largekernel.json"


@dataclass(frozen=True)
class Case:
    """A kernel on square maps."""

    kernel: int
    size: int
    channels: int
    batch: int

    @property
    def name(self) -> str:
        """How the result calls it."""
        return f"{self.kernel}@{self.size}x{self.channels}x{self.batch}"

    @property
    def geometry(self) -> Geometry:
        """Its shapes."""
        return Geometry(
            self.batch, self.channels, (self.size, self.size), (self.kernel, self.kernel)
        )


def cases() -> list[Case]:
    """Every case, the ones that others are estimated from first."""
    return [Case(k, s, *maps) for maps in MAPS for k in KERNELS for s in SIZES]


def steps(case: Case, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """The training steps that are compared, by name."""
    g, made = case.geometry, {}
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    planes = numbers(g.batch, g.channels, *g.size), numbers(g.batch, g.channels, *g.size)
    weight = numbers(g.channels, 1, *g.kernel).requires_grad_()

    def step(way: Callable[..., Tensor], x: Tensor, grad: Tensor) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(way(x, weight, None), (x, weight), grad)

    for name, layout, way in (
        ("conv2d planes", torch.contiguous_format, convolve),
        ("conv2d channels last", torch.channels_last, convolve),
        ("nas", torch.channels_last, convolve_quickly),
    ):
        x, grad = (part.contiguous(memory_format=layout) for part in planes)
        made[name] = step(way, x.requires_grad_(), grad)
    return made


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """How long a step takes: the thread's own time on a processor, between events on a GPU."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3
    started = time.thread_time()
    run()
    return time.thread_time() - started


def measure(case: Case, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The least time of each way, run in turn."""
    x = torch.empty(
        case.batch, case.channels, case.size, case.size, device=device, dtype=dtype
    ).contiguous(memory_format=torch.channels_last)
    chosen = choose(x, case.geometry)
    runs = steps(case, device, dtype)
    least = dict.fromkeys(runs, math.inf)
    rounds, spent = 0, 0.0
    while rounds < 3 or (rounds < 60 and spent < ENOUGH_S):
        for name, run in runs.items():
            if rounds > 0 and least[name] > 1.5:
                continue  # a second step of seconds is no better than the first
            took = seconds(run, device)
            least[name] = min(least[name], took)
            spent += took
        rounds += 1
    better = min(least["conv2d planes"], least["conv2d channels last"])
    return {
        "ms": {name: round(1e3 * value, 3) for name, value in least.items()},
        "ratio": round(better / least["nas"], 3),
        "chosen": asdict(chosen),
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 2),
    }


def floor(case: Case, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """The least milliseconds of a GPU's step: bytes at its bandwidth, multiplications at its peak.

    Bytes: input and output of each of three passes, once. Multiplications: taps that meet data.
    """
    title = torch.cuda.get_device_name(device)
    facts = next((d.facts for d in map(named, names(DEVICES)) if title in d.names), {})
    if not facts:
        return {}
    g, bytes_each = case.geometry.cropped(), dtype.itemsize
    half = g.kernel[0] // 2
    line = sum(min(i, half) + min(g.size[0] - 1 - i, half) + 1 for i in range(g.size[0]))
    maps = g.batch * g.channels
    moved = 3 * 2 * maps * g.size[0] * g.size[1] * bytes_each
    flops = 3 * 2 * maps * line**2
    rate = {torch.float32: "fp32_tflops", torch.float16: "fp16_tflops"}.get(dtype, "bf16_tflops")
    memory = moved / (facts["bandwidth_gbs"].value * 1e9)
    arithmetic = flops / (facts[rate].value * 1e12)
    return {
        "memory_ms": 1e3 * memory,
        "flop_ms": 1e3 * arithmetic,
        "floor_ms": 1e3 * max(memory, arithmetic),
    }


def longest(case: Case, done: dict[str, Any]) -> float:
    """How long a step of `nn.Conv2d` will take, in seconds, by the case with the fewest maps."""
    known = done.get(Case(case.kernel, case.size, *ALWAYS).name)
    if known is None:
        return 0.0
    slowest = max(value for name, value in known["ms"].items() if name != "nas")
    return slowest / 1e3 * case.channels * case.batch / math.prod(ALWAYS)


def summary(done: dict[str, Any]) -> dict[str, Any]:
    """What is asked of the ratios."""
    of = {name: (int(name.split("@")[0]), entry["ratio"]) for name, entry in done.items()}
    large = [ratio for kernel, ratio in of.values() if kernel >= 31]
    thirteen = [ratio for kernel, ratio in of.values() if kernel == 13]
    return {
        "cases": len(of),
        "least ratio (asked: 0.95)": min((r for _, r in of.values()), default=None),
        "least ratio at K=13 (asked: 2)": min(thirteen, default=None),
        "geometric mean for K>=31 (asked: 10)": (
            round(math.exp(sum(map(math.log, large)) / len(large)), 2) if large else None
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--only", help="one case, KERNEL@SIZExCHANNELSxBATCH")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    torch.set_num_threads(1)
    plain = given.device == "cpu" and given.dtype == "float32"
    path = given.output or (
        RESULT if plain else RESULT.with_stem(f"largekernel-{given.device}-{given.dtype}")
    )
    about = {"host": of_device(device), "dtype": given.dtype, "threads": 1}
    result = json.loads(path.read_text()) if path.exists() and not given.fresh else {}
    if {key: result.get(key) for key in about} != about:
        result = {**about, "cases": {}}
    done = result["cases"]
    begun = time.perf_counter()
    for case in cases():
        if (given.only or case.name) != case.name or (case.name in done and not given.only):
            continue
        if longest(case, done) > LONGEST_S:
            continue
        if time.perf_counter() - begun > 60 * given.minutes:
            break
        with kept_memory():
            done[case.name] = measure(case, device, dtype)
        if device.type == "cuda":
            done[case.name] |= floor(case, device, dtype)
        left_out = [c.name for c in cases() if longest(c, done) > LONGEST_S and c.name not in done]
        open_ = [c.name for c in cases() if c.name not in done and c.name not in left_out]
        result |= {"date": date.today().isoformat(), "summary": summary(done)}
        result |= {"left out": left_out, "not yet run": open_}
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(case.name, json.dumps(done[case.name]), flush=True)
    print(json.dumps(result.get("summary"), indent=1))
    print("not yet run:", ", ".join(result.get("not yet run", [])) or "none")


if __name__ == "__main__":
    main()
