"""What goes wrong under a measurement: load, a killed process, full memory, a candidate that hangs.

    python benchmarks/faults.py --networks FOLDER [--load-only | --search-only]

Load: six of the networks of `repeatability.py` are measured at rest, then again and again while the
load generator keeps all cores busy, for the whole measurement or for parts of it. Each record must
show it, and each value must stay within its own interval of the value at rest, or say that it did
not converge. It takes about eight minutes; what was measured is kept in FOLDER, and the same
command goes on where it was interrupted.

Search: `nas search` on a space (`faults_space/`) in which candidates hang or ask for more memory
than there is, while this benchmark kills one of the processes that measure. Each fault may cost one
trial; the search must reach its number of trials and a front, and leave the device free. Then the
process that measures a sound file is killed, and a file that fills its process's memory step by
step is measured between two sound ones.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from kept import Parts, keep
from load import Load, bursts
from onnx import TensorProto, helper, numpy_helper
from repeatability import spread
from scores import wilson

from nas.catalog import DEVICES, find
from nas.core.measurement import Measurement
from nas.hardware.device import Device, load
from nas.hardware.lease import Lease, default_folder
from nas.hardware.protocol import Protocol
from nas.hardware.timing import measure
from nas.store.store import Store

HERE = Path(__file__).resolve().parent
REPEATS, SHARES = 10, {"throughout": 1.0, "half of the time": 0.5}
STUDY, TRIALS, PRESETS = "faults", 10, ("hanging", "greedy", "sound")
KILLED = 4  # which of the measuring processes, in order of appearance
Row = dict[str, Any]


# --- load --------------------------------------------------------------------------------------


def under_load(
    paths: Sequence[Path], device: Device, seed: int, parts: Parts, repeats: int = REPEATS
) -> dict[str, Any]:
    """The networks at rest and under load."""
    lease = Lease(default_folder(), device.seat)

    def at_rest() -> list[Any]:
        return [
            m.to_json()
            for m in _numbers(measure(paths, device, lease, processes=3, basis="untrained form"))
        ]

    rest = [Measurement.from_json(row) for row in parts.get("rest", at_rest)]
    rows: list[Row] = []
    for what, share in SHARES.items():
        for repeat in range(repeats):

            def loaded(what: str = what, share: float = share, repeat: int = repeat) -> list[Row]:
                when = bursts(3600, share, seed + repeat) if share < 1 else [(0.0, 3600.0)]
                with Load(when) as generator:
                    start = time.monotonic()
                    found = _numbers(
                        measure(paths, device, lease, basis="untrained form", seed=repeat)
                    )
                    busy = generator.share(start, time.monotonic())
                return [
                    {"load": what, "repeat": repeat, "busy": round(busy, 3), "file": path.name,
                     **_row(number, quiet)}
                    for path, number, quiet in zip(paths, found, rest, strict=True)
                ]  # fmt: skip

            rows += parts.get(f"{what} {repeat}", loaded)
            print(f"{what}: {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
    again = [Measurement.from_json(row) for row in parts.get("rest again", at_rest)]
    return {
        "rest_ms": [m.value for m in rest], "rest_again_ms": [m.value for m in again],
        "rest_kept": [round(m.record["kept"] / m.record["n"], 3) for m in rest],
        "rows": rows, "figures": {what: _held(rows, what) for what in SHARES},
    }  # fmt: skip


def _numbers(found: Sequence[Measurement | str]) -> list[Measurement]:
    numbers = [m for m in found if isinstance(m, Measurement)]
    if len(numbers) < len(found):
        raise RuntimeError(next(m for m in found if isinstance(m, str)))
    return numbers


def _row(number: Measurement, quiet: Measurement) -> Row:
    record = number.record
    sessions = record["sessions"]
    return {
        "ms": number.value, "low": number.low, "high": number.high,
        "off": round(number.value / quiet.value - 1, 4),
        "inside": number.low <= quiet.value <= number.high,
        "converged": record["converged"], "noisy": record["noisy"],
        "kept": round(record["kept"] / record["n"], 3),
        "p99_over_value": round(record["p99_ms"] / number.value, 2),
        "load_average": sessions[-1]["after"]["load"][0], "repeated": sessions[-1]["repeated"],
    }  # fmt: skip


def _held(rows: Sequence[Row], what: str) -> dict[str, Any]:
    own = [row for row in rows if row["load"] == what]
    said = [row for row in own if not row["converged"]]
    sure = [row for row in own if row["converged"]]
    held = sum(row["inside"] for row in sure)
    return {
        "measurements": len(own), "not_converged": len(said), "converged": len(sure),
        "converged_and_inside": held,
        "inside_95": wilson(held, len(sure)) if sure else None,
        "inside_or_said": (held + len(said)) / len(own),
        "kept_median": float(np.median([row["kept"] for row in own])),
        "noisy": sum(row["noisy"] for row in own) / len(own),
        "load_average_most": max(row["load_average"] for row in own),
        "worst_converged_off": max((abs(row["off"]) for row in sure), default=None),
    }  # fmt: skip


# --- a search with faults ----------------------------------------------------------------------


def faulty_search(folder: Path, killed: int = KILLED) -> dict[str, Any]:
    """`nas search`, one of its measuring processes killed on the way; and what became of it."""
    url = f"sqlite:///{folder / 'faults.db'}"
    command = [
        "nas", "search", "--space", "faulty", "--device", "cpu", "--strategy", "random",
        "--trials", str(TRIALS), "--epochs", "1", "--study", STUDY, "--storage", url, "--json",
        *(word for name in PRESETS for word in ("--preset", name)),
    ]  # fmt: skip
    command[0] = str(Path(sys.executable).with_name("nas"))
    locks = folder / "locks"
    start = time.monotonic()
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        search = subprocess.Popen(
            command, stdout=out, stderr=err, cwd=HERE / "faults_space",
            env={**os.environ, "TMPDIR": str(folder), "NAS_LOCKS": str(locks)},
        )  # fmt: skip
        seen = _kill_one(search, killed)
    took = time.monotonic() - start
    with Store(url, read_only=True) as store:
        trials = store.trials(STUDY)
        failures = [
            {"trial": e.trial, "fault": _fault(trials, e.trial), "error": e.payload["error"]}
            for e in store.events(STUDY) if e.kind == "reported" and "error" in e.payload
        ]  # fmt: skip
    front = json.loads((folder / "out").read_text())["front"] if search.returncode == 0 else []
    outcomes = [{"trial": t.number, "fault": _fault(trials, t.number), "state": t.state,
                 "error": t.error} for t in trials]  # fmt: skip
    return {
        "exit": search.returncode, "seconds": round(took, 1), "trials": outcomes,
        "failures": failures, "front": [m["trial"] for m in front],
        "processes_seen": seen, "killed": killed, "lease_free": _free(locks),
    }  # fmt: skip


def _fault(trials: Sequence[Any], number: int) -> str:
    return next(str(t.architecture.choices["fault"]) for t in trials if t.number == number)


def _kill_one(search: subprocess.Popen[bytes], wanted: int) -> int:
    """Kills the `wanted`-th process that measures for the search; how many there were in all."""
    seen: list[int] = []
    while search.poll() is None:
        for pid in _measuring(search.pid):
            if pid not in seen:
                seen.append(pid)
                if len(seen) == wanted:
                    time.sleep(1.0)  # into its work
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return len(seen)


def _measuring(ancestor: int) -> list[int]:
    """Processes below `ancestor` that run the measuring program."""
    parents, agents = {}, []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path(f"/proc/{name}/stat").read_text()
            line = Path(f"/proc/{name}/cmdline").read_text()
        except OSError:
            continue  # it ended meanwhile
        parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
        if "agent.pyz" in line:
            agents.append(int(name))
    return [pid for pid in agents if _descends(pid, ancestor, parents)]


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != ancestor:
        pid = parents[pid]
    return pid == ancestor


def _free(locks: Path) -> bool:
    """Whether both locks of the device can be had at once, now."""
    for name in ("turnstile", "room"):
        with (locks / f"cpu.{name}").open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


# --- a killed process, and memory that fills up -------------------------------------------------


def killed_alone(sound: Path, device: Device, folder: Path) -> dict[str, Any]:
    """A sound file whose measuring process is killed, and the same file measured again."""
    lease = Lease(folder / "locks", device.name)

    def kill() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for pid in _measuring(os.getpid()):
                time.sleep(0.3)  # into its work
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    (first,) = measure([sound], device, lease, basis="untrained form")
    killer.join()
    free = _free(folder / "locks")
    (again,) = measure([sound], device, lease, basis="untrained form")
    return {
        "error": first if isinstance(first, str) else None, "lease_free": free,
        "measured_again": isinstance(again, Measurement),
    }  # fmt: skip


def filling(path: Path, steps: int = 24) -> Path:
    """A file that doubles a vector of one million numbers `steps` times and sums up the parts."""
    shape = numpy_helper.from_array(np.array([2**20], np.int64), "shape")
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "shape"], ["part0"]),
    ]
    for i in range(steps):
        nodes.append(helper.make_node("Concat", [f"part{i}"] * 2, [f"part{i + 1}"], axis=0))
        nodes.append(helper.make_node("ReduceMean", [f"part{i}", "axes"], [f"sum{i}"]))
    nodes.append(helper.make_node("Sum", [f"sum{i}" for i in range(steps)], ["y"]))
    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "filling", [one], [out], [shape, axes])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path
    )
    return path


def full_memory(sound: Sequence[Path], device: Device, folder: Path) -> dict[str, Any]:
    """A file that fills its process's memory, measured between two sound ones.

    The process may take a tenth of the machine's memory here, so that nobody else is harmed.
    """
    lease = Lease(folder / "locks", device.name)
    files = [sound[0], filling(folder / "filling.onnx"), sound[1]]
    found = measure(
        files, device, lease, basis="untrained form", protocol=Protocol(memory_share=0.1)
    )
    return {
        "sound_measured": sum(isinstance(m, Measurement) for m in (found[0], found[2])),
        "error": found[1] if isinstance(found[1], str) else None,
        "lease_free": _free(folder / "locks"),
    }


# --- the whole ---------------------------------------------------------------------------------


def show_load(found: dict[str, Any]) -> None:
    """What load did."""
    rest = zip(found["rest_ms"], found["rest_again_ms"], strict=True)
    print("at rest before and after, ms:", ", ".join(f"{a:.3f} {b:.3f}" for a, b in rest))
    for what, f in found["figures"].items():
        worst = f["worst_converged_off"]
        print(
            f"all cores busy {what}: {f['measurements']} measurements, {f['not_converged']} said "
            f"that they did not converge; of the others {f['converged_and_inside']} of "
            f"{f['converged']} within their interval"
            + (f" (farthest off {worst:.1%})" if worst is not None else "")
            + f"; held or said {f['inside_or_said']:.1%}; records show: kept "
            f"{f['kept_median']:.0%} of samples, noisy {f['noisy']:.0%}, load average up to "
            f"{f['load_average_most']:.1f}"
        )


def show_search(found: dict[str, Any], killed: dict[str, Any], memory: dict[str, Any]) -> None:
    """What became of the search."""
    states = [t["state"] for t in found["trials"]]
    print(
        f"search: exit {found['exit']}, {len(states)} trials in {found['seconds']:.0f} s "
        f"({', '.join(f'{states.count(s)} {s}' for s in sorted(set(states)))}), front "
        f"{found['front']}; process {found['killed']} of {found['processes_seen']} killed; "
        f"device free afterwards: {found['lease_free']}"
    )
    for failure in found["failures"]:
        print(f"  trial {failure['trial']} ({failure['fault']}): {failure['error'][:110]}")
    print(
        f"killed: {killed['error']}; device free: {killed['lease_free']}, measured again: "
        f"{killed['measured_again']}"
    )
    print(
        f"memory: {memory['sound_measured']} of 2 sound files measured beside the one that failed: "
        f"{str(memory['error'])[:110]}; device free: {memory['lease_free']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--networks", type=Path, default=Path("networks"), help="folder of exported networks"
    )
    parser.add_argument("--load-only", action="store_true")
    parser.add_argument("--search-only", action="store_true")
    parser.add_argument("--seed", type=int, default=1, help="of the load")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="under each kind of load")
    parser.add_argument("--out", type=Path, help="folder, instead of benchmarks/results")
    given = parser.parse_args()
    device = load(find(DEVICES, "cpu"))
    chosen = [path for path, _ in spread(given.networks, device)]
    with tempfile.TemporaryDirectory(prefix="nas-faults-") as name:
        folder = Path(name)
        if not given.search_only:
            parts = Parts(given.networks / "faults.part.json", seed=given.seed)
            loaded = under_load(chosen[::2], device, given.seed, parts, given.repeats)
            show_load(loaded)
            parts.done()
            keep("faults_load", loaded, given.out and given.out / "faults_load.json")
        if not given.load_only:
            search = faulty_search(folder)
            killed = killed_alone(chosen[0], device, folder)
            memory = full_memory(chosen[:2], device, folder)
            show_search(search, killed, memory)
            found = {"search": search, "killed": killed, "memory": memory}
            keep("faults_search", found, given.out and given.out / "faults_search.json")


if __name__ == "__main__":
    main()
