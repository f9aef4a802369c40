"""Lists for people: spaces, devices, studies, what a network costs, what was exported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nas.core.measurement import Measurement
from nas.hardware.protocol import Protocol
from nas.report.networks import grouped
from nas.report.numbers import interval, percent, plain, with_unit
from nas.report.tables import cell, listing, origin, pair_table

Row = Mapping[str, Any]
BAR = 24  # columns of the longest bar
LEAST = 0.01  # lower shares are only counted
KINDS = ("size", "proxy", "rung")


def importance_table(document: Row) -> RenderableType:
    """Each decision that has any share in reaching the front, with a bar; then how many have none.

    A decision that only some networks have says how many.
    """
    head = Text.assemble((document["study"], "bold"), f"  {document['networks']} networks")
    rows = [r for r in document["rows"] if r["share"] >= LEAST]
    if not rows:
        return Group(head, Text("too few networks, or none better than another, to tell"))
    most = max(r["share"] for r in rows)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("decides", no_wrap=True)
    table.add_column("share", justify="right")
    table.add_column("")
    for row in rows:
        some = row["active"] < document["networks"]
        bar = Text("█" * max(1, round(BAR * row["share"] / most)))
        if some:
            bar.append(f"  in {row['active']}", style="dim")
        table.add_row(row["decision"], percent(row["share"]), bar)
    rest = len(document["rows"]) - len(rows)
    notes = ["how much the networks of the front differ from all, one decision at a time"]
    notes += [f"{rest} more with less than {percent(LEAST)}"] if rest else []
    return Group(head, Text(), table, Text(), *(Text(note, style="dim") for note in notes))


def correlations_table(document: Row) -> RenderableType:
    """Each size, proxy and rung: its rank correlation with the final score, raw and beyond size."""
    head = Text.assemble((document["study"], "bold"),
                         f"  {document['trained']} networks trained to the end")  # fmt: skip
    if document["trained"] == 0:
        return Group(head, Text("no network has a final score yet"))
    rows = [
        {
            "tells": r["name"],
            "kind": r["kind"],
            "of": r["n"],
            f"tau with {document['score']}": _tau(r),
            "beyond size": _tau(r["beyond_size"]),
        }
        for r in sorted(document["rows"], key=lambda r: (KINDS.index(r["kind"]),))
    ]
    notes = (
        "Kendall's tau: 1 the same order, 0 none; [low, high]: the true one, with 90 %",
        "beyond size: after parameters and MACs are taken off both",
    )
    dim = [Text(note, style="dim") for note in notes]
    return Group(head, Text(), listing(rows, "nothing recorded"), Text(), *dim)


def _tau(found: Row | None) -> str:
    """A correlation in a cell; a dash where too few networks have the value."""
    if found is None or found["tau"] is None:
        return "-"
    return f"{found['tau']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def spaces_table(rows: Sequence[Row]) -> RenderableType:
    """Each space: its size and what it is about, then its presets."""
    parts: list[RenderableType] = []
    for row in rows:
        if "error" in row:
            parts.append(Text.assemble((row["name"], "bold"), f"  cannot be used: {row['error']}"))
            continue
        size = "endless" if not math.isfinite(row["size"]) else f"{row['size']:.3g}"
        joined, what = ("+", "ways") if row.get("kind") == "axis" else ("", "networks")
        parts.append(Text.assemble(
            (joined + row["name"], "bold"), f"  {row['decisions']} decisions, {size} {what}"
        ))  # fmt: skip
        about = [row["about"], row.get("shadows")]
        if row["presets"]:
            about.append("presets: " + ", ".join(row["presets"]))
        parts += [Padding(Text(text), (0, 0, 0, 2)) for text in about if text]
    return Group(*parts) if parts else Text("no search space found")


def devices_table(rows: Sequence[Row]) -> RenderableType:
    """Each device profile, and whether its latencies are measured or predicted."""
    shown = [
        {"device": r["name"], "latency": _latency(r), "runtime": r["runtime"], "what": r["title"]}
        for r in rows
        if "error" not in r
    ]
    notes = [f"{r['name']} cannot be used: {r['error']}" for r in rows if "error" in r]
    notes += [r["shadows"] for r in rows if r.get("shadows")] + _runtimes(rows)
    dim = [Text(note, style="dim") for note in notes]
    return Group(listing(shown, "no device profile found"), *dim)


def _runtimes(rows: Sequence[Row]) -> list[str]:
    """Which runtimes are installed, and what adds the others to the devices that are here."""
    every = {name: version for r in rows for name, version in r.get("runtimes", {}).items()}
    wanted = {name for r in rows if r.get("attached") for name in r.get("runtimes", {})}
    here = [f"{name} {version}" for name, version in sorted(every.items()) if version]
    missing = sorted(name for name in wanted if not every[name])
    notes = [f"runtimes here: {', '.join(here)}"] if here else []
    return notes + [f"not here: {name} (pip install {name})" for name in missing]


def _latency(row: Row) -> str:
    """Where a device's latencies come from."""
    if row["attached"]:
        return "measured here"
    if row.get("nodes"):
        return f"measured on {row['nodes']} node{'s' if row['nodes'] > 1 else ''}"
    return f"predicted, {row['predicted']}" if row.get("predicted") else "unknown"


def studies_table(rows: Sequence[Row]) -> RenderableType:
    """Each study: what it searched, how far it is, when it last changed."""
    shown = []
    for row in rows:
        counts = row["counts"]
        over = sum(n for state, n in counts.items() if state != "running")
        shown.append({
            "study": row["name"],
            "searched": f"{row['space']}, {row['data']}, {row['device']}",
            "trials": f"{over}/{row['trials']}",
            "state": "running" if row["running"] else "done" if over >= row["trials"] else "open",
            "changed": str(row["updated"])[:16].replace("T", " "),
        })  # fmt: skip
    return listing(shown, "no study in this database yet")


def profile_table(target: str, found: Row) -> RenderableType:
    """What a network costs: training form and deployed form side by side, then the rest."""
    deployed = found["deploy"]
    rows = [
        ("input", " x ".join(map(str, found["input"]))),
        ("params", _both(found["params"], deployed["params"])),
        ("MACs", _both(found["macs"], deployed["macs"])),
        ("FLOPs", _both(2 * found["macs"], 2 * deployed["macs"]) + "  (2 x MACs)"),
        ("activations", plain(found["activations"])),
    ]
    if "nonzero" in found:
        sparse = found["nonzero"]
        rows.append(("non-zero", f"{plain(sparse['params'])} params, {plain(sparse['macs'])} MACs"))
    rows.append(("peak memory", _memory(found)))
    size = f"{plain(found['size_mb'])} MB"
    rows.append(("size", f"{size}  {found['size_basis']}" if "size_basis" in found else size))
    if "runtime" in found:
        slow = found["latency_ms"]["record"].get("emulated")
        how = "  emulated: this processor has no instructions for it" if slow else ""
        rows.append(("runtime", found["runtime"] + how))
    if "latency_ms" in found:
        timing = Measurement.from_json(found["latency_ms"])
        rows.append(("latency", f"{interval(timing)}  {origin(timing)}{_of_a_call(found)}"))
        rows += [("meanwhile", why) for why in _meanwhile(timing.record)]
        if timing.record.get("unverified"):
            names = ", ".join(timing.record["unverified"])
            rows.append(("no page named", f"for {names} of {timing.record['device']}"))
    if "energy_mj" in found:
        energy = Measurement.from_json(found["energy_mj"])
        counter = energy.record["counter"]
        rows.append(("energy", f"{interval(energy)} an image  {origin(energy)}, {counter}"))
    rows += [(f"no {name}", why) for name, why in found.get("not_measured", {}).items()]
    missing = found["uncounted_ops"]
    rows.append(("not counted", cell(missing) if missing else "nothing"))
    rows += list(grouped(found.get("choices", {})).items())
    parts: list[RenderableType] = [Text(target, style="bold"), pair_table(rows)]
    if "layers" in found:
        parts += [Text(), _layers(found["layers"], found.get("by_layer"))]
    return Group(*parts)


def export_table(found: Row) -> RenderableType:
    """What was written and what was proven about it."""
    rows = []
    for name, value in found.items():
        if isinstance(value, Mapping) and {"value", "low", "high", "source"} <= set(value):
            measurement = Measurement.from_json(value)
            rows.append((name, f"{interval(measurement)}  {origin(measurement)}"))
        else:
            rows.append((name, cell(value)))
    return pair_table(rows)


def doctor_table(rows: Sequence[Row]) -> RenderableType:
    """What is here, then what is not: what it would enable, and the command that adds it."""
    here = [(row["name"], row["found"]) for row in rows if row["found"]]
    parts: list[RenderableType] = [pair_table(here)]
    for row in (row for row in rows if not row["found"]):
        name = (row["name"], "bold red" if row["needed"] else "bold")
        parts += [Text(), Text.assemble(name, f"  not here: {row['enables']}")]
        parts += [Padding(Text(row["add"]), (0, 0, 0, 2))] if row["add"] else []
    return Group(*parts)


def report_table(found: Row) -> RenderableType:
    """Where a page was written, how large it is, and what it does not show."""
    points = f"{found['front']} point{'s' if found['front'] != 1 else ''}"
    rows = [("page", f"{found['output']}  {found['bytes'] / 1e6:.2f} MB"), ("front", points)]
    return pair_table([*rows, *(("missing", text) for text in found["missing"])])


def train_table(found: Row) -> RenderableType:
    """What was trained to its end: the test score with its interval, and what it was before."""
    rows = []
    for row in found["trained"]:
        test = None if row["test"] is None else Measurement.from_json(row["test"])
        rows.append({
            "trial": row["trial"],
            "test": "no test images" if test is None else f"{interval(test)} on {test.n}",
            "validation": f"{row['confirmed']['score']:.4g} on {row['confirmed']['n']}",
            "before": row["searched"],
            "epochs": row["epochs"],
            "precision": row["precision"],
            "teacher": row["teacher"] or "none",
            "seconds": row["seconds"],
        })  # fmt: skip
    failed = [Text(f"trial {number} failed: {why}") for number, why in found["failed"].items()]
    said = "[low, high]: 90 % confidence, of these test images"
    return Group(listing(rows, "nothing was trained"), Text(said, style="dim"), *failed)


def verify_table(found: Row) -> RenderableType:
    """What was checked of a package, and what came of it."""
    words = {True: "passed", False: "FAILED", None: "not checked"}
    rows = [(c["name"], f"{words[c['passed']]}: {c['said']}") for c in found["checks"]]
    head = "what could be checked is what the card says" if found["passed"] else "not what it says"
    return Group(Text.assemble((found["title"], "bold"), f": {head}"), Text(), pair_table(rows))


def record_table(found: Row) -> RenderableType:
    """Any record, one line for each entry."""
    return pair_table([(name, cell(value)) for name, value in found.items()])


def replay_table(found: Row) -> RenderableType:
    """What a strategy reached on a table, over its runs."""
    runs, summary = len(found["runs"]), found["summary"]
    head = Text.assemble((found["strategy"], "bold"), f" on {found['table']}, runs: {runs}")
    final = summary["final"]
    rows = [
        (
            "at the end",
            f"{final['median']:.3f} [{final['low']:.3f}, {final['high']:.3f}] "
            "of the true front's hypervolume",
        )
    ]
    for share, reached in summary["evaluations"].items():
        rows.append((f"{100 * float(share):.0f} % of it", _reached(reached, runs)))
    return Group(head, Text(), pair_table(rows))


def _reached(found: Row, runs: int) -> str:
    if not found["reached"]:
        return "no run reached it"
    low, median, high = (
        "never" if found[name] is None else f"{found[name]:.0f}"
        for name in ("low", "median", "high")
    )
    return f"median {median} [{low}, {high}] evaluations, {found['reached']} of {runs} runs"


def _both(trained: float, deployed: float) -> str:
    if trained == deployed:
        return with_unit(plain(trained), "")
    return f"{plain(trained)} in training, {plain(deployed)} deployed"


def _memory(found: Row) -> str:
    """Measured where it was, beyond what the runtime itself takes; else what was counted."""
    if "peak_memory" not in found:
        counted = f"{plain(found['peak_memory_mb'])} MB  of {found['peak_memory_basis']}"
        return counted + _of_a_call(found)
    memory = Measurement.from_json(found["peak_memory"])
    beyond = f"beyond the runtime's {memory.record['runtime_mb']:.0f} MB"
    return f"{interval(memory)}  {origin(memory)}, {beyond}{_of_a_call(found)}"


def _of_a_call(found: Row) -> str:
    return f", a call of {found['batch']}" if found["batch"] > 1 else ""


def _meanwhile(record: Mapping[str, Any]) -> list[str]:
    """What a timing's record says against it, in words, each once."""
    found = [why for session in record.get("sessions", []) for why in session.get("throttled", [])]
    slower = record.get("slower_than_usual") or 1.0
    if slower > Protocol().slow:
        found.append(f"this machine was {slower:.2f} times slower than it usually is")
    if record.get("host_changed"):
        found.append("the machine or its driver changed")
    return list(dict.fromkeys(found))


def _layers(layers: Mapping[str, Row], how: Row | None) -> RenderableType:
    """A line for each layer; the whole first, then the slowest where they were timed."""
    listed = sorted(layers.items(), key=lambda row: -row[1].get("share", 0.0))
    rows = []
    for name, row in sorted(listed, key=lambda row: row[0] != ""):
        times = {"ms": f"{row['latency_ms']:.4f}", "%": f"{100 * row['share']:.1f}"} if how else {}
        counts = {"params": row["params"], "MACs": row["macs"], "activations": row["activations"]}
        shown = {"layer": name or "(whole)", **times, **{k: plain(v) for k, v in counts.items()}}
        fused = ", ".join(_beside(name, other) for other in row.get("fused", []))
        rows.append(shown | ({"fused": fused} if how else {}))
    table = listing(rows, "no layers", right=("ms", "%", "params", "MACs", "activations"))
    if how is None:
        return table
    if not how["calls"]:
        said = "Predicted, kernel by kernel: a share is less certain than the whole."
        return Group(table, Text(said, style="dim"))
    note = (
        f"Shares by the runtime's profiler over {how['calls']} calls, whose times add up to "
        f"{how['ratio']:.2f} times the measured latency: {how['overhead_us']:.1f} microseconds "
        f"taken off each kernel, the rest scaled by {how['scale']:.2f}."
    )
    if how.get("resolution_us"):
        note += (
            f" Its clock counts in steps of {how['resolution_us']:g} microsecond: shorter kernels "
            "cannot be told apart."
        )
    parts: list[RenderableType] = [table, Text(note, style="dim")]
    if not how["converged"]:
        parts.append(Text("The machine was busy meanwhile: these shares are rough. Type it again "
                          "when nothing else runs.", style="red"))  # fmt: skip
    return Group(*parts)


def _beside(layer: str, other: str) -> str:
    """Another layer's name as seen from the block that a layer is in.

    >>> _beside("stages.0.blocks.1.expand", "stages.0.blocks.1.activation")
    'activation'
    >>> _beside("stages.0.blocks.1.project", "stages.0.blocks.1")
    'the block'
    """
    if layer.startswith(other + "."):
        return "the block"
    block = layer.rpartition(".")[0] + "."
    return other.removeprefix(block) if layer.count(".") else other
