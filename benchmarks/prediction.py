"""How well latency is predicted without measuring: on published tables, and on this host.

    python benchmarks/prediction.py --tables FOLDER [--ship]    operators and networks on GPUs
    python benchmarks/prediction.py --networks FOLDER [--int8] [--seed N]   networks on this host

FOLDER of the tables holds `gpu_ops/` and `ofa_latency/`; FOLDER of the networks is where the
sampled networks are exported to, and kept. `--ship` writes the laws fitted on the table's training
rows to `hardware_profiles/calibrations/`: the figures printed here are of these very laws, on rows
they have not seen. Figures go to `benchmarks/results/prediction.json` too, part by part.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import gpu_tables
import numpy as np
from scores import HEAD, Roofline, Score, flops_line, mean, score, totals

from nas.hardware.device import Device
from nas.hardware.prediction.calibrate import UNLIKE, choose_networks, fit_laws, fit_networks
from nas.hardware.prediction.calibration import Calibration, peaks_of, write
from nas.hardware.prediction.kernels import Kernel
from nas.hardware.prediction.predict import forecast, points_of, terms_of

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "hardware_profiles"
RESULTS = ROOT / "benchmarks" / "results" / "prediction.json"
SOURCE = (
    "single operators, fp32, torch 2.1 eager, cu121, of sitar-lab/NeuSight (MIT licence); "
    "four fifths of the rows, the others kept for benchmarks/prediction.py"
)
HELD_OUT = 0.2
BATCHES = (1, 32, 64)
MEASURED = 80  # networks of this host
POOL, TRIED, DRAWS = 150, 80, 3  # networks, those predicted, sets of calibration networks


# --- single operators --------------------------------------------------------------------------


def operators(folder: Path) -> tuple[list[Score], dict[str, Calibration]]:
    """Laws fitted on four fifths of the rows of each device, tried on the rest."""
    train: dict[str, list[tuple[Kernel, float]]] = {name: [] for name in gpu_tables.DEVICES}
    tests: dict[tuple[str, str], list[tuple[Kernel, float]]] = {}
    for op in gpu_tables.OPERATORS:
        for name, rows in gpu_tables.operators(folder, op).items():
            order = np.random.default_rng(20261121).permutation(len(rows))
            cut = int(len(rows) * HELD_OUT)
            tests[name, op] = [rows[i] for i in order[:cut]]
            train[name] += [rows[i] for i in order[cut:]]
    calibrations, scores = {}, []
    for name, rows in train.items():
        device = gpu_tables.device(folder, name)
        peaks = peaks_of(device, None)
        laws = fit_laws([kernel for kernel, _ in rows], [us for _, us in rows], peaks)
        calibrations[name] = Calibration(_profiles(name), "torch eager", SOURCE, peaks, laws)
        for op in gpu_tables.OPERATORS:
            known = [row for row in rows if row[0].kind == tests[name, op][0][0].kind]
            scores += list(_operator(device, op, calibrations[name], known, tests[name, op]))
    return scores, calibrations


def _profiles(name: str) -> tuple[str, ...]:
    """The shipped profiles that a card of the tables stands for."""
    found = [p.stem for p in PROFILES.glob("*.toml") if p.stem.split("_")[0] == name]
    return tuple(sorted(found)) or (name,)


def _operator(
    device: Device,
    op: str,
    calibration: Calibration,
    known: list[tuple[Kernel, float]],
    test: list[tuple[Kernel, float]],
) -> Iterator[Score]:
    where = ("operators", device.name, op)
    kernels, true = [k for k, _ in test], np.array([us for _, us in test])
    us = np.array([us for _, us in known])
    flops = [np.array([k.flops for k in part]) for part in ([k for k, _ in known], kernels)]
    yield score(where, "FLOPs line", "fitted", true, flops_line(flops[0], us, flops[1]))
    columns = points_of(kernels)
    law = calibration.laws[kernels[0].kind]
    plain = law.overhead_us + calibration.peaks.roofline(
        columns.flops, columns.moved, law.compute, law.memory
    )
    yield score(where, "FLOPs+bytes roofline", "fitted", true, plain)
    yield from _terms(where, "ours", kernels, true, device, calibration)
    yield from _terms(where, "ours, uncalibrated", kernels, true, device, None)


def _terms(
    where: tuple[str, str, str],
    method: str,
    kernels: list[Kernel],
    true: Any,
    device: Device,
    calibration: Calibration | None,
) -> Iterator[Score]:
    """A line for each basis: what lies outside the calibrated shapes is kept apart."""
    terms = terms_of(kernels, device, calibration, "torch eager")
    named = np.array(
        [t.basis if t.inside or calibration is None else "extrapolated" for t in terms]
    )
    us = np.array([t.us for t in terms])
    factor = np.exp([t.spread for t in terms])
    for basis in sorted(set(named)):
        part = named == basis
        if part.sum() >= 10:
            yield score(where, method, basis, true[part], us[part], factor[part])


# --- whole networks on named GPUs --------------------------------------------------------------


def networks(folder: Path, calibrations: dict[str, Calibration]) -> Iterator[Score]:
    """OFA-MobileNetV3: nothing, 3, 12 and 20 networks measured, the others predicted."""
    rows = gpu_tables.networks(folder)
    part = np.random.default_rng(20261121).permutation(len(rows))[:POOL]
    rows = [rows[i] for i in part]
    for batch in BATCHES:
        kernels = [gpu_tables.ofa(row, batch) for row in rows]
        for name in ("v100", *gpu_tables.CARDS):
            device = gpu_tables.device(folder, name) if name == "v100" else gpu_tables.card(name)
            us = 1e3 * np.array([row.ms[f"{name}_{batch}"] for row in rows])
            known = calibrations.get(name)
            yield from _networks(
                ("networks", name, f"OFA batch {batch}"), device, known, kernels, us
            )


def _networks(
    where: tuple[str, str, str],
    device: Device,
    known: Calibration | None,
    kernels: list[list[Kernel]],
    us: Any,
) -> Iterator[Score]:
    everything = np.arange(len(kernels))
    yield _whole(where, "ours", device, known, kernels, us, everything)
    start = known or Calibration((device.name,), "torch eager", "", peaks_of(device, None))
    flops, roof = totals(kernels), Roofline.of(kernels)
    rows: dict[str, list[Score]] = {}
    for draw in range(DRAWS):
        order = np.array(choose_networks(kernels, device, known, 20, seed=draw))
        rest = np.random.default_rng(draw).permutation(np.setdiff1d(everything, order))[:TRIED]
        for count in (3, 12, 20):
            chosen, label = order[:count], f", {count} networks"
            line = flops_line(flops[chosen], us[chosen], flops[rest])
            bound = roof.take(chosen).fitted(us[chosen], roof.take(rest))
            part = [kernels[i] for i in chosen]
            fitted = fit_networks(start, device, part, us[chosen] / 1e3, UNLIKE)
            for found in (
                score(where, "FLOPs line" + label, "fitted", us[rest], line),
                score(where, "FLOPs+bytes roofline" + label, "fitted", us[rest], bound),
                _whole(where, "ours" + label, device, fitted, kernels, us, rest),
            ):
                rows.setdefault(found.method, []).append(found)
    yield from (mean(found) for found in rows.values())


def _whole(
    where: tuple[str, str, str],
    method: str,
    device: Device,
    calibration: Calibration | None,
    kernels: list[list[Kernel]],
    us: Any,
    index: Any,
) -> Score:
    found = [forecast(kernels[i], device, calibration, "torch eager") for i in index]
    bases = sorted({f.basis for f in found})
    factor = np.array([f.factor for f in found])
    predicted = np.array([f.us for f in found])
    return score(
        where, method, bases[0] if len(bases) == 1 else "mixed", us[index], predicted, factor
    )


# --- keeping the figures -----------------------------------------------------------------------


def keep(part: str, scores: list[Score], path: Path = RESULTS, **facts: Any) -> None:
    """Writes a part's figures beside those of the other parts."""
    document = json.loads(path.read_text()) if path.exists() else {}
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    document[part] = {
        "date": date.today().isoformat(),
        "versions": versions | facts.pop("versions", {}),
        **facts,
        "scores": [s.to_json() for s in scores],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def show(scores: list[Score]) -> None:
    """Prints the figures as a table."""
    print(HEAD, flush=True)
    print("\n".join(s.line() for s in scores), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, help="folder of gpu_ops/ and ofa_latency/")
    parser.add_argument("--ship", action="store_true", help="write the calibrations")
    parser.add_argument("--networks", type=Path, help="folder of exported networks, made if absent")
    parser.add_argument("--int8", action="store_true", help="the networks quantized, not in fp32")
    parser.add_argument("--seed", type=int, help="another sample than the one tuned on")
    parser.add_argument(
        "--minutes", type=float, default=11.0, help="after which a run stops, to be gone on with"
    )
    parser.add_argument("--sample", type=int, default=MEASURED, help="networks in all")
    given = parser.parse_args()
    if given.tables:
        scores, calibrations = operators(given.tables)
        show(scores)
        keep("operators", scores, held_out=HELD_OUT, source=SOURCE)
        for name, calibration in calibrations.items():
            if given.ship and (PROFILES / f"{name}.toml").exists():
                write(calibration, PROFILES / "calibrations" / f"{name}.json")
        scores = list(networks(given.tables, calibrations))
        show(scores)
        keep("networks", scores, draws=DRAWS, source="OFA-MobileNetV3, of HELP (MIT licence)")
    if given.networks:
        from prediction_host import TUNED_SEED, Later, host

        try:
            seed = given.seed or TUNED_SEED
            scores, facts = host(given.networks, given.int8, seed, given.minutes, given.sample)
        except Later as later:
            print(later)
            return
        show(scores)
        part = "host int8" if given.int8 else "host"
        if given.sample != MEASURED:
            part += f", {given.sample} networks"
        if facts["fresh"]:
            part += f", fresh sample {given.seed}"
            print(f"{facts['networks']} networks never met before, a factor of {facts['factor']}")
        keep(part, scores, **facts)


if __name__ == "__main__":
    main()
