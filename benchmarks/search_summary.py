"""What `benchmarks/search.py` makes of its runs: medians over seeds, ratios over tables, a page."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

SHARES = (0.9, 0.95, 0.99)
OURS = "surrogate"
MAIN = "costs known"
ARRIVED = "best peer that got there"
PACKAGES = ("numpy", "scipy", "moocore")
NOTES = Path(__file__).parent / "search_notes.md"
READING = (
    "Evaluations are medians over seeds; a run that did not get so far is later than all that did. "
    "Where half of the runs or more did not, a peer counts as the evaluations it was given, so its "
    "ratio is a lower bound (>=), and so is the best peer's; where that is so of ours, there is no "
    "ratio, and it is missed."
)

Rows = Sequence[Mapping[str, Any]]


def document(rows: Rows, rivals: Mapping[str, str]) -> dict[str, Any]:
    """Everything that is written."""
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {**{name: version(name) for name in PACKAGES}, **rivals},
        "reading": READING,
        "summary": summarise(rows),
        "runs": list(rows),
    }


def summarise(rows: Rows) -> dict[str, Any]:
    """`cells[variant][strategy][table]`, and `ratios[variant][share][strategy]` against ours."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["variant"], row["strategy"], row["table"]), []).append(row)
    cells: dict[str, Any] = {}
    for (variant, strategy, table), group in sorted(groups.items()):
        cells.setdefault(variant, {}).setdefault(strategy, {})[table] = _cell(group)
    ratios: dict[str, Any] = {}
    for variant in ("costs known", "costs hidden", "costs given"):
        ours = cells.get("costs hidden" if variant == "costs hidden" else MAIN, {}).get(OURS, {})
        peers = cells.get("costs given" if variant == "costs given" else MAIN, {})
        peers = {name: found for name, found in peers.items() if name != OURS}
        ratios[variant] = {f"{s:g}": _ratios(ours, peers, f"{s:g}") for s in SHARES}
    return {"cells": cells, "ratios": ratios}


def _cell(group: Rows) -> dict[str, Any]:
    """One strategy on one table."""
    return {
        "seeds": len(group),
        "trials": min(r["trials"] for r in group),
        "final": median(r["final"] for r in group),
        "cost_asks": median(r["cost_asks"] for r in group),
        "to": {f"{s:g}": _median([r["to"][f"{s:g}"] for r in group]) for s in SHARES},
        "epochs_to": {f"{s:g}": _median([r["epochs_to"][f"{s:g}"] for r in group]) for s in SHARES},
        "reached": {
            f"{s:g}": sum(r["to"][f"{s:g}"] is not None for r in group) for s in SHARES
        },
        "seconds": round(median(r["cpu_seconds"] for r in group), 2),
    }  # fmt: skip


def _median(values: Sequence[float | None]) -> float | None:
    middle = median(math.inf if v is None else v for v in values)
    return middle if math.isfinite(middle) else None


def _ratios(ours: Mapping[str, Any], peers: Mapping[str, Any], share: str) -> dict[str, Any]:
    """How many times more evaluations each peer needs: geometric mean over tables, and least."""
    found: dict[str, list[tuple[float, bool]]] = {}
    missed = [table for table, cell in ours.items() if cell["to"][share] is None]
    first: list[str] = []
    best: list[tuple[float, bool]] = []
    there: list[tuple[float, bool]] = []
    for table in sorted(set(ours) - set(missed)):
        here: list[tuple[float, bool]] = []
        for name, cells in peers.items():
            if table in cells:
                needed = cells[table]["to"][share]
                ratio = (needed or cells[table]["trials"]) / ours[table]["to"][share]
                found.setdefault(name, []).append((ratio, needed is None))
                here.append(found[name][-1])
        there += [min(pair for pair in here if not pair[1])] if not all(b for _, b in here) else []
        if here:
            best.append(min(here))
            first += [table] if best[-1][0] > 1 else []
    means = {name: _over(pairs) for name, pairs in sorted(found.items())}
    return {
        "missed": missed, "first": first, "best peer": _over(best) if best else None,
        ARRIVED: _over(there) if there else None, **means,
    }  # fmt: skip


def _over(pairs: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    mean = math.exp(sum(math.log(r) for r, _ in pairs) / len(pairs))
    least, bound = min(pairs)
    return {
        "mean": round(mean, 2), "bound": any(b for _, b in pairs), "least": round(least, 2),
        "least_bound": bound, "tables": len(pairs),
    }  # fmt: skip


def markdown(whole: Mapping[str, Any]) -> str:
    """The results for people."""
    cells, ratios = whole["summary"]["cells"], whole["summary"]["ratios"]
    versions = ", ".join(f"{n} {v}" for n, v in whole["versions"].items())
    text = [
        "# Sample efficiency: evaluations to a share of the true front's hypervolume", "",
        f"Written by `benchmarks/search.py` on {whole['date']}, Python {whole['python']}, "
        f"{versions}. All runs are in `search.json`.", "", whole["reading"],
    ]  # fmt: skip
    for variant, title in (
        ("costs known", "Ours may ask for known costs, peers not"),
        ("costs hidden", "Costs hidden from all"),
        ("costs given", "Peers given the costs too (the best of 4 proposals, by known cost)"),
    ):
        if variant in cells:
            text += ["", f"## {title}", "", *_ratio_table(ratios[variant])]
    for share in SHARES:
        for variant in ("costs known", "costs hidden", "costs given"):
            if variant in cells:
                text += ["", f"## Evaluations to {share:.0%}, {variant}", ""]
                text += _cell_table(cells[variant], f"{share:g}", "to")
    if "halving" in cells:
        text += ["", "## Simulated epochs with early stopping, to 90 % and 95 %", ""]
        slow = {n: c for n, c in cells.get(MAIN, {}).items() if n in (OURS, "nsga2", "random")}
        tables = {t for c in cells["halving"].values() for t in c}
        whole_runs = {n: {t: c[t] for t in c if t in tables} for n, c in slow.items()}
        stopped = {f"{n}, halving": c for n, c in cells["halving"].items()}
        for share in ("0.9", "0.95"):
            text += [*_cell_table({**whole_runs, **stopped}, share, "epochs_to"), ""]
    asks = [c["cost_asks"] for c in cells.get(MAIN, {}).get(OURS, {}).values()]
    if asks:
        text += ["", f"Ours asked for the known costs of {min(asks):,.0f} to {max(asks):,.0f} "
                 "architectures in a run (median over seeds, by table)."]  # fmt: skip
    if NOTES.is_file():
        text += ["", NOTES.read_text(encoding="utf-8").strip()]
    return "\n".join(text) + "\n"


def _ratio_table(ratios: Mapping[str, Any]) -> list[str]:
    names = sorted(
        {n for r in ratios.values() for n in r} - {"missed", "first", "best peer", ARRIVED}
    )
    head = "| times more evaluations than ours | " + " | ".join(f"to {s:.0%}" for s in SHARES)
    lines = [head + " |", "|---" * (1 + len(SHARES)) + "|"]
    for name in ["best peer", ARRIVED, *names]:
        entries = [_entry(ratios[f"{s:g}"].get(name)) for s in SHARES]
        lines.append(f"| {name} | " + " | ".join(entries) + " |")
    missed = [", ".join(ratios[f"{s:g}"]["missed"]) or "none" for s in SHARES]
    return [*lines, "| ours missed on | " + " | ".join(missed) + " |"]


def _entry(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    mean, least = (">=" if found["bound"] else ""), (">=" if found["least_bound"] else "")
    tables = f"{found['tables']} table" + ("s" if found["tables"] > 1 else "")
    return f"{mean}{found['mean']} (least {least}{found['least']}, {tables})"


def _cell_table(cells: Mapping[str, Any], share: str, key: str) -> list[str]:
    names = sorted(cells, key=lambda n: (n != OURS, n))
    tables = sorted({t for c in cells.values() for t in c})
    lines = ["| median (reached of seeds) | " + " | ".join(names) + " |",
             "|---" * (1 + len(names)) + "|"]  # fmt: skip
    for table in tables:
        entries = []
        for name in names:
            cell = cells[name].get(table)
            if cell is None:
                entries.append("")
                continue
            value = cell[key][share]
            number = f"> {cell['trials']}" if value is None and key == "to" else "never"
            number = f"{value:,.0f}" if value is not None else number
            entries.append(f"{number} ({cell['reached'][share]}/{cell['seeds']})")
        lines.append(f"| {table} | " + " | ".join(entries) + " |")
    return lines
