"""Whether latencies are true: ours against torch.utils.benchmark and onnxruntime's own profiler.

    python benchmarks/truth.py --networks FOLDER

The twelve networks of `repeatability.py` and four published ones of more than 20 ms are timed
twice. Each in a fresh process: the agent's own passes beside the anchors, and then
`torch.utils.benchmark` around the same session: `blocked_autorange`, its median. This is whether
what we time is timed truly. And by the whole protocol, all together and in three other processes:
this is how far a stated number is from what such a session shows, and holds all that differs
between one process and the next.

A block counts where it was quiet: the reference kernel around it took, at the median, no more than
the protocol's gate allows of what it takes when nothing disturbs it (the fastest tenth of all runs
of this benchmark), and other processes had the core for no more than 2 % of the Timer's block.
Until then the block is repeated, six times at most; a network that never met a quiet block is
listed and says nothing. The profiler's `model_run` is compared above 20 ms only: below, its own
cost, which is printed, is part of what it reports.

It takes about six minutes once the networks are exported (three more the first time). What was
measured is kept in FOLDER, and the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from kept import Parts, keep
from repeatability import SAMPLE, spread
from sampled import published
from timers import JOB, TIMER_S, blocked

from nas.catalog import DEVICES, find
from nas.hardware.agent.inputs import INPUTS, random_input
from nas.hardware.agent.passes import Network, run_passes, warmed
from nas.hardware.agent.reference import Reference
from nas.hardware.agent.watch import Watch
from nas.hardware.agent.workplace import workplace
from nas.hardware.anchors import write_anchors
from nas.hardware.device import load
from nas.hardware.lease import Lease, default_folder
from nas.hardware.protocol import Protocol
from nas.hardware.timing import measure

SLOW = ("convnext_p", "convnextv2_n", "inceptionnext_t", "unireplknet_n")
RESOLUTION, SLOW_MS = 224, 20.0
BOUND = 0.05  # of agreement
RULES = Protocol()
GATE, AWAY, ATTEMPTS, RUNS = RULES.gate, 0.02, 6, 200
Row = dict[str, Any]
Array = np.ndarray[Any, np.dtype[Any]]


# --- in a process of its own -------------------------------------------------------------------


def block(path: str, base: float) -> Row:
    """Both ways until a block is quiet, then the profiler's. `base` 0: whatever it is now."""
    import torch

    torch.set_num_threads(1)
    reference = Reference()
    attempts = []
    wide = Path(path).stat().st_size / 1e6 > RULES.small_mb  # as the protocol has it
    with workplace("anchors") as folder, redirect_stdout(io.StringIO()):  # the agent's own lines
        anchors = map(str, write_anchors(folder, wide=wide))
        job = {
            **JOB, "runtime": "onnxruntime", "files": [path], "anchors": [*anchors],
            "protocol": asdict(RULES), "seed": 0,
        }  # fmt: skip
        networks = warmed(job, Watch(RULES.call_cap_s))
        engine = networks[0].engine
        for _ in range(ATTEMPTS):
            reference.series.clear()
            ours_ms = _by_passes(networks, job, base or None)
            _references(reference)
            wall, busy = time.perf_counter(), time.process_time()
            ms = blocked(lambda: engine.session.run(engine.names, engine.feeds), TIMER_S)
            away = 1 - (time.process_time() - busy) / (time.perf_counter() - wall)
            _references(reference)
            base = min(base or np.inf, reference.base)
            middle = float(np.median(reference.series))
            found = {"same_ms": ours_ms, "ms": ms, "reference": middle, "away": round(away, 4)}
            attempts.append(found)
            if _quiet(attempts[-1], base):
                break
    return {"attempts": attempts, "base": base, "profiler": _profiled(path, attempts[-1]["ms"])}


def _by_passes(networks: list[Network], job: dict[str, Any], base: float | None) -> float:
    """Milliseconds of the first network, by the agent's passes over all of them."""
    for network in networks:
        for kept in (network.samples, network.refs, network.away, network.passes):
            kept.clear()
        network.done = False
    reference = Reference(base)
    run_passes(networks, job, reference)
    return float(networks[0].estimate(reference.base, job["protocol"])["value"]) / 1e3


def _quiet(attempt: Row, base: float) -> bool:
    return bool(attempt["reference"] <= GATE * base and attempt["away"] <= AWAY)


def _references(reference: Reference) -> None:
    for _ in range(RUNS):
        reference.run()


def _profiled(path: str, typical_ms: float) -> dict[str, float]:
    """Medians in milliseconds: the profiler's whole run, and its kernels added up."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        runner = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(INPUTS)
        feeds = {i.name: random_input(i, JOB, rng) for i in runner.get_inputs()}
        for _ in range(int(np.clip(300 / typical_ms, 8, 60))):
            runner.run(None, feeds)
        events = json.loads(Path(runner.end_profiling()).read_text())
    return {name: float(np.median(us)) / 1e3 for name, us in _runs(events).items()}


def _runs(events: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Microseconds of each run but the first three, and of its kernels together."""
    runs = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: e["ts"])
    kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    starts = np.array([e["ts"] for e in kernels])
    took = np.array([e["dur"] for e in kernels], dtype=float)
    inside = [took[(starts >= r["ts"]) & (starts < r["ts"] + r["dur"])].sum() for r in runs]
    return {"run": [r["dur"] for r in runs][3:], "kernels": inside[3:]}


# --- the comparison ----------------------------------------------------------------------------


def _block(path: Path, base: float) -> Row:
    command = [sys.executable, __file__, "--block", str(path), "--base", str(base)]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    row: Row = json.loads(found.stdout)
    return row


def compare(paths: Sequence[Path], parts: Parts) -> list[Row]:
    """Each network's latency by every method."""
    device = load(find(DEVICES, "cpu"))

    def ours() -> list[Row]:
        lease = Lease(default_folder(), device.seat)
        numbers = measure(paths, device, lease, processes=3, basis="untrained form")
        for path, number in zip(paths, numbers, strict=True):
            if isinstance(number, str):
                raise RuntimeError(f"{path.name}: {number}")
        return [
            {"ours_ms": n.value, "low": n.low, "high": n.high, "converged": n.record["converged"]}
            for n in numbers
            if not isinstance(n, str)
        ]

    numbers, rows, base = parts.get("ours", ours), [], 0.0
    for path in paths:
        rows.append(parts.get(path.name, partial(_block, path, base)))
        base = rows[-1]["base"]
        print(f"{path.name}: {len(rows[-1]['attempts'])} blocks", file=sys.stderr, flush=True)
    base = min(row["base"] for row in rows)
    found = []
    for path, number, row in zip(paths, numbers, rows, strict=True):
        best = min(row["attempts"], key=lambda a: (not _quiet(a, base), a["away"]))
        found.append({
            "file": path.name, **number, "same_ms": best["same_ms"], "timer_ms": best["ms"],
            "reference": round(best["reference"] / base, 3),
            "away": best["away"], "quiet": _quiet(best, base), "attempts": len(row["attempts"]),
            "profiler_ms": row["profiler"]["run"], "kernels_ms": row["profiler"]["kernels"],
        })  # fmt: skip
    return found


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The largest and the median disagreement, and what the profiler costs by itself."""
    quiet = [r for r in rows if r["quiet"]]
    if not quiet:
        return {"networks": len(rows), "quiet": 0}
    gaps = {
        name: np.array([abs(r[name] / r["timer_ms"] - 1) for r in quiet])
        for name in ("same_ms", "ours_ms")
    }
    slow = [r for r in quiet if r["ours_ms"] > SLOW_MS]
    profiler = np.array([r["ours_ms"] / r["profiler_ms"] - 1 for r in slow])
    cost = {
        name: [r["profiler_ms"] / r["timer_ms"] - 1 for r in quiet if low <= r["timer_ms"] < high]
        for name, low, high in (("below 1 ms", 0, 1), ("1 to 5 ms", 1, 5), ("5 to 20 ms", 5, 20),
                                ("above 20 ms", 20, np.inf))
    }  # fmt: skip
    return {
        "networks": len(rows), "quiet": len(quiet), "above_20_ms": len(slow),
        "same_session": _agreement(gaps["same_ms"]), "three_processes": _agreement(gaps["ours_ms"]),
        "profiler_most": float(abs(profiler).max()) if slow else None,
        "profilers_own_cost": {k: float(np.median(v)) for k, v in cost.items() if v},
    }  # fmt: skip


def _agreement(gaps: Array) -> dict[str, float]:
    """How far from the Timer: the middle one, the most, and the share within the bound."""
    return {
        "median": float(np.median(gaps)), "most": float(gaps.max()),
        "within": float((gaps <= BOUND).mean()),
    }  # fmt: skip


def show(rows: Sequence[Row], found: dict[str, Any]) -> None:
    """The comparison as text."""
    print(
        f"{'':18}{'Timer':>9}{'same':>9}{'':>8}{'stated':>9}{'':>8}{'profiler':>10}{'kernels':>9}"
        "  reference"
    )
    for r in sorted(rows, key=lambda r: float(r["ours_ms"])):
        print(
            f"{r['file'][:17]:18}{r['timer_ms']:9.3f}{r['same_ms']:9.3f}"
            f"{r['same_ms'] / r['timer_ms'] - 1:+8.1%}{r['ours_ms']:9.3f}"
            f"{r['ours_ms'] / r['timer_ms'] - 1:+8.1%}{r['profiler_ms']:10.3f}"
            f"{r['kernels_ms']:9.3f}"
            f"  x{r['reference']:.2f}{'' if r['quiet'] else ', never quiet'}"
        )
    if not found["quiet"]:
        print("no network met a quiet block: run it again when nothing else runs")
        return
    print(f"{found['quiet']} of {found['networks']} on a quiet block; from torch's Timer:")
    for name in ("same_session", "three_processes"):
        gaps = found[name]
        print(
            f"  {name.replace('_', ' ')}: within {BOUND:.0%} {gaps['within']:.0%}, most "
            f"{gaps['most']:.1%}, median {gaps['median']:.1%}"
        )
    if found["profiler_most"] is not None:
        print(
            f"{found['above_20_ms']} above {SLOW_MS:g} ms: from the profiler's run at most "
            f"{found['profiler_most']:.1%}"
        )
    costs = ", ".join(f"{k} {v:+.1%}" for k, v in found["profilers_own_cost"].items())
    print(f"the profiler's own cost (its run over the Timer's): {costs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--networks", type=Path, default=Path("networks"), help="folder of exported networks"
    )
    parser.add_argument("--out", type=Path, help="instead of benchmarks/results/truth.json")
    parser.add_argument("--block", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.block:
        print(json.dumps(block(given.block, given.base)))
        return
    device = load(find(DEVICES, "cpu"))
    chosen = [path for path, _ in spread(given.networks, device)]
    parts = Parts(given.networks / "truth.part.json")
    rows = compare([*chosen, *published(given.networks, SLOW, RESOLUTION)], parts)
    found = figures(rows)
    show(rows, found)
    parts.done()
    keep("truth", {"sample": SAMPLE, "figures": found, "rows": rows}, given.out)


if __name__ == "__main__":
    main()
