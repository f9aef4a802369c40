"""A joint study against studies of one axis each, at equal budget: hypervolume over seeds.

    python benchmarks/joint.py                       all of it: 6 arms, 3 seeds, 24 trials each
    python benchmarks/joint.py --arms joint --seeds 0 --trials 3 --results /tmp/joint   a try

Every arm and seed is a study of its own in a database of this benchmark; what is done already is
not done again, so that the command may be interrupted and typed again. Arms take turns within a
seed, and the arms of a seed are compared with each other alone, since another seed may have been
run on another machine: hypervolumes are of accuracy and latency up to a reference a tenth beyond
the worst of the seed's fronts, as a share of the box between it and the best of all of them.

`sparsity`, `bitwidth` and `dilation` compress one and the same residual network; `network` searches
large-kernel networks alone; `joint` these with sparsity and number formats; `axes` puts the three
axes on the residual network together.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas.core.pareto import hypervolume
from nas.networks.largekernel.kept import of_device

NAS = (sys.executable, "-m", "nas")
RESIDUAL = ("--network", "studies.residual:small")
ARMS: dict[str, tuple[str, ...]] = {
    "joint": ("--space", "largekernel+sparsity+bitwidth"),
    "axes": ("--space", "dilation+sparsity+bitwidth", *RESIDUAL),
    "network": ("--space", "largekernel"),
    "sparsity": ("--space", "sparsity", *RESIDUAL),
    "bitwidth": ("--space", "bitwidth", *RESIDUAL),
    "dilation": ("--space", "dilation", *RESIDUAL),
}
SINGLE = ("network", "sparsity", "bitwidth", "dilation")
PACKAGES = ("torch", "onnxruntime", "numpy")
Front = list[list[float]]


def front(arm: str, seed: int, trials: int, epochs: int, storage: str) -> Front:
    """The front of an arm's study, searched as far as it is not yet: `[error, latency_ms]` each."""
    name = f"{arm}-{seed}"
    where = ("--storage", storage)
    begun = subprocess.run([*NAS, "show", name, *where], capture_output=True, check=False)
    words = ["--study", name, "--resume"]
    if begun.returncode:
        words = ["--study", name, *ARMS[arm], "--data", "digits", "--seed", str(seed),
                 "--epochs", str(epochs), "--no-proxies", "--fresh"]  # fmt: skip
    words += ["--trials", str(trials), "--json", *where]
    done = subprocess.run([*NAS, "search", *words], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    members = json.loads(done.stdout)["front"]
    rows = [member["measurements"] for member in members]
    return [[100 - row["accuracy"]["value"], row["latency_ms"]["value"]] for row in rows]


def shares(fronts: Mapping[str, Front]) -> dict[str, float]:
    """The hypervolume of each front, as a share of the box that holds those of its seed.

    >>> found = shares({"a-0": [[1.0, 2.0]], "b-0": [[2.0, 1.0], [1.0, 3.0]], "a-1": [[9.0, 9.0]]})
    >>> found["a-0"] < 1, found["a-1"]
    (True, 1.0)
    """
    seeds = sorted({_seed(name) for name in fronts})
    each = [_shares({n: f for n, f in fronts.items() if _seed(n) == seed}) for seed in seeds]
    return {name: share for found in each for name, share in found.items()}


def _seed(name: str) -> int:
    return int(name.rpartition("-")[2])


def _shares(fronts: Mapping[str, Front]) -> dict[str, float]:
    points = np.array([point for found in fronts.values() for point in found])
    low, high = points.min(0), points.max(0)
    reference = high + 0.1 * np.maximum(high - low, 1e-9)
    box = float(np.prod(reference - low))
    return {
        name: hypervolume(np.array(found), reference) / box if found else 0.0
        for name, found in fronts.items()
    }


def report(kept: Mapping[str, dict[str, Any]], given: argparse.Namespace) -> str:
    """The figures as Markdown: each arm's share by seed, and who of the joint ones wins."""
    found = shares({name: entry["front"] for name, entry in kept.items()})
    seeds = sorted({_seed(name) for name in found})
    arms = [arm for arm in ARMS if any(f"{arm}-{seed}" in found for seed in seeds)]
    versions = ", ".join(f"{p} {version(p)}" for p in PACKAGES)
    lines = [
        "# Joint studies against studies of one axis",
        "",
        f"`python benchmarks/joint.py --trials {given.trials} --epochs {given.epochs}`, "
        f"{datetime.now(UTC).date().isoformat()}, {versions}, Python {platform.python_version()}. "
        "Digits, accuracy and latency; hypervolume as a share of the box of a seed's fronts. "
        f"Run on {'; '.join(_places(kept, seed) for seed in seeds)}.",
        "",
        "| arm | " + " | ".join(f"seed {seed}" for seed in seeds) + " | median |",
        "|---|" + "---|" * (len(seeds) + 1),
    ]
    for arm in arms:
        row = [found[f"{arm}-{seed}"] for seed in seeds if f"{arm}-{seed}" in found]
        cells = [f"{found[n]:.3f}" if (n := f"{arm}-{s}") in found else "-" for s in seeds]
        lines.append(f"| {arm} | " + " | ".join(cells) + f" | {statistics.median(row):.3f} |")
    lines += ["", *verdicts(found, seeds), ""]
    return "\n".join(lines)


def _places(kept: Mapping[str, dict[str, Any]], seed: int) -> str:
    hosts = sorted({entry["host"] for name, entry in kept.items() if _seed(name) == seed})
    return f"{' and '.join(hosts)} (seed {seed})"


def verdicts(found: Mapping[str, float], seeds: Sequence[int]) -> list[str]:
    """For each joint arm, in how many seeds it has more than the best study of one axis."""
    lines = []
    for arm in ("joint", "axes"):
        ratios = []
        for seed in seeds:
            single = [found[f"{one}-{seed}"] for one in SINGLE if f"{one}-{seed}" in found]
            if f"{arm}-{seed}" in found and len(single) == len(SINGLE):
                ratios.append(found[f"{arm}-{seed}"] / max(single))
        if ratios:
            won = sum(ratio > 1 for ratio in ratios)
            listed = ", ".join(f"{ratio:.3f}" for ratio in ratios)
            lines.append(
                f"`{arm}` has more than the best single axis in {won} of {len(ratios)} seeds "
                f"(ratios {listed})."
            )
    return lines or ["Not every arm of a seed is there yet."]


def main() -> None:
    """Searches what is missing, and writes the figures after every study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--storage", default="sqlite:///studies/joint.db")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/joint"))
    given = parser.parse_args()
    file, host = given.results.with_suffix(".json"), of_device(torch.device("cpu"))
    kept: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    for seed, arm in itertools.product(given.seeds, given.arms):
        name = f"{arm}-{seed}"
        if name not in kept:
            elsewhere = {e["host"] for n, e in kept.items() if _seed(n) == seed} - {host}
            if elsewhere:
                raise SystemExit(
                    f"arms of seed {seed} were run on {', '.join(elsewhere)}, not {host}\n"
                    f"run them all again here: remove them from {file}"
                )
            found = front(arm, seed, given.trials, given.epochs, given.storage)
            kept[name] = {"host": host, "front": found}
            file.write_text(json.dumps(kept, indent=1) + "\n")
        given.results.with_suffix(".md").write_text(report(kept, given))
        print(f"{arm}, seed {seed}: {len(kept[name]['front'])} points", flush=True)
    print(given.results.with_suffix(".md"))


if __name__ == "__main__":
    main()
