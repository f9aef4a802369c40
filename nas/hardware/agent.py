"""The measuring process: times ONNX files on this machine and prints what it saw.

One self-contained file, so that it can be sent to any host with Python, numpy and onnxruntime:

    python -I agent.py < job.json > lines.jsonl

The job names the files, the anchors (small fixed networks timed beside them, so that two sessions
can be compared), the batch, the threads, a seed of the order, and the rules
(`nas.hardware.protocol.Protocol`).
Each line written is one JSON object with an `event`:

- `start`, `end`: versions, processor, governor, clock and load, before and after;
- `loading`, `loaded`: which file is being loaded and warmed up (so a crash has a name);
- `failed`: a file that could not be loaded or run, with the reason; the others go on;
- `hung`: a file whose single call outlasted the cap; the process ends;
- `result`: the raw samples of one network, in microseconds, with the pass each belongs to and the
  slower of the two reference runs around it.

The statistics (`estimate`) live here because the process stops by them; the host side imports the
same functions, so there is one code path. Shuffled, interleaved passes, a one-thread reference
kernel as a gate and a low quantile repeat best on shared hosts; a median of one block does not.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    # The reference kernel must use one thread: a slow core would be hidden by a second one.
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_name] = "1"

import contextlib
import ctypes
import gc
import json
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1
INPUTS = 20261121  # seed of every input: the same numbers in every process
Array = np.ndarray[Any, np.dtype[Any]]


# --- statistics: shared with the host side ---------------------------------------------------


def gate(refs: Array, base: float, bound: float, quietest: float) -> tuple[Array, bool]:
    """Which samples were taken while the machine was quiet, and whether it hardly ever was.

    A sample is kept when the slower of its two neighbouring reference runs is within `bound` times
    `base` (what it takes when quiet). Where fewer than the share `quietest` survive, that share
    with the fastest references is kept instead, and the second value is True.

    >>> keep, noisy = gate(np.array([1.0, 1.1, 2.0, 1.0]), 1.0, 1.25, 0.2)
    >>> keep.tolist(), noisy
    ([True, True, False, True], False)
    """
    keep = refs <= bound * base
    if keep.mean() >= quietest:
        return keep, False
    return refs <= np.quantile(refs, quietest), True


def bootstrap(
    samples: Array, passes: Array, quantile: float, seed: int, rounds: int = 200
) -> Array:
    """The quantile of the samples when whole passes are drawn again, `rounds` times.

    Samples of one pass share the state of the machine, so passes are the independent unit.
    """
    order = np.argsort(samples, kind="stable")
    _, group = np.unique(passes[order], return_inverse=True)
    count = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=rounds)
    weight = np.cumsum(drawn[:, group], axis=1)
    at = np.argmax(weight >= quantile * weight[:, -1:], axis=1)
    return np.asarray(samples[order][at])


def estimate(
    samples: Array, refs: Array, passes: Array, base: float, rules: dict[str, Any]
) -> dict[str, Any]:
    """The estimate of one network in one process: p25 of the gated samples and its standard error.

    All times in microseconds. `se` is the within-process term alone (bootstrap over passes); the
    difference between processes is added by the host side. `width` is the relative half-width of
    its 90 % interval; `p50`, `p90` and `p99` are of the gated samples.
    """
    # After a network that empties the caches the reference is slower by itself, to some extent.
    beside = min(max(base, float(np.quantile(refs, 0.1))), rules["cold"] * base)
    keep, noisy = gate(refs, beside, rules["gate"], rules["quietest"])
    kept = samples[keep]
    draws = bootstrap(kept, passes[keep], rules["quantile"], seed=0)
    low, high = np.quantile(draws, [0.05, 0.95])
    p50, p90, p99 = np.quantile(kept, [0.5, 0.9, 0.99])
    value = float(np.quantile(kept, rules["quantile"]))
    return {
        "value": value,
        "se": float(draws.std()),
        "width": float((high - low) / 2 / value),
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "kept": int(keep.sum()),
        "n": int(samples.size),
        "passes": int(np.unique(passes).size),
        "noisy": noisy,
    }


# --- the machine -----------------------------------------------------------------------------


def read(path: str) -> str | None:
    """The text of a small file of the kernel's, or None where there is none."""
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return None


def state() -> dict[str, Any]:
    """What may change under a measurement: clock, governor, temperature, load."""
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/"
    lines = (read("/proc/cpuinfo") or "").splitlines()
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    heat = read("/sys/class/thermal/thermal_zone0/temp")
    return {
        "load": [round(v, 2) for v in os.getloadavg()],
        "mhz": [round(v) for v in clocks] or None,
        "governor": read(cpu + "scaling_governor"),
        "celsius": float(heat) / 1000 if heat else None,
    }


class Reference:
    """A fixed piece of one-thread work whose duration tells how busy the machine is.

    A matrix product and a copy, about a tenth of a millisecond: short enough to leave the second
    level cache to the network, long enough to meet a neighbour's time slice.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(INPUTS)
        self.a = rng.standard_normal((128, 128)).astype(np.float32)
        self.b = rng.standard_normal((128, 128)).astype(np.float32)
        self.out = np.empty((128, 128), np.float32)
        self.source = rng.standard_normal(32768).astype(np.float32)
        self.target = np.empty_like(self.source)
        self.series: list[float] = []

    def run(self) -> float:
        """Its duration now, in microseconds; kept in `series`."""
        start = time.perf_counter_ns()
        np.matmul(self.a, self.b, out=self.out)
        np.copyto(self.target, self.source)
        took = (time.perf_counter_ns() - start) / 1e3
        self.series.append(took)
        return took

    @property
    def base(self) -> float:
        """The session's quiet duration: p10 of all runs so far."""
        return float(np.quantile(self.series, 0.1))


# --- one network -----------------------------------------------------------------------------


class Network:
    """A file loaded into the runtime, with its fixed random inputs and its samples."""

    def __init__(self, index: int, path: str, job: dict[str, Any], watch: Watch) -> None:
        import onnxruntime

        self.index = index
        self.watch = watch
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # A spinning thread would steal the core from whoever is timed next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        start = time.perf_counter()
        with watch.over(index):
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        self.load_s = time.perf_counter() - start
        self.names = [o.name for o in self.session.get_outputs()]
        rng = np.random.default_rng(INPUTS)
        self.feeds = {i.name: random_input(i, job, rng) for i in self.session.get_inputs()}
        self.samples: list[float] = []
        self.refs: list[float] = []
        self.passes: list[int] = []
        self.done = False
        self.first_ms = self.call() / 1e3

    def call(self) -> float:
        """One call's duration, in microseconds."""
        with self.watch.over(self.index):
            start = time.perf_counter_ns()
            self.session.run(self.names, self.feeds)
            return (time.perf_counter_ns() - start) / 1e3

    def warm_up(self, least: float, most: float) -> None:
        """Calls until two successive windows agree within 5 %, between two durations (seconds).

        A window is six calls, fewer where six would outlast the longer duration.
        """
        start = time.perf_counter()
        before = float("inf")
        calls = int(np.clip(most * 1e3 / self.first_ms, 1, 6))
        while True:
            window = float(np.median([self.call() for _ in range(calls)]))
            spent = time.perf_counter() - start
            if spent >= most or (spent >= least and abs(window / before - 1) < 0.05):
                break
            before = window
        self.typical = window

    def visit(self, number: int, reference: Reference, visit_s: float, group_s: float) -> None:
        """One pass's calls: groups of about `group_s`, a reference run before and after each.

        A call longer than `group_s` is a group of its own. Grouping keeps a short network's
        weights in the caches, as they are when it runs in a loop.
        """
        group = int(np.clip(group_s * 1e6 / self.typical, 1, 16))
        groups = int(np.clip(round(visit_s * 1e6 / self.typical / group), 1, 8))
        before = reference.run()
        for _ in range(groups):
            times = [self.call() for _ in range(group)]
            after = reference.run()
            self.samples += times
            self.refs += [max(before, after)] * group
            self.passes += [number] * group
            before = after

    def estimate(self, base: float, rules: dict[str, Any]) -> dict[str, Any]:
        """What `estimate` says of the samples so far."""
        arrays = np.array(self.samples), np.array(self.refs), np.array(self.passes)
        return estimate(*arrays, base, rules)


TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def random_input(spec: Any, job: dict[str, Any], rng: np.random.Generator) -> Array:
    """Normal random numbers of an input's shape, never zeros (zeros run faster than data).

    The first free dimension is the batch, later ones the resolution. Raises: ValueError where the
    file's fixed shape contradicts the job.
    """
    shape: list[int] = []
    for place, size in enumerate(spec.shape):
        asked = job["batch"] if place == 0 else job["resolution"] if place >= 2 else None
        if isinstance(size, int) and place != 0 and asked not in (None, size):
            raise ValueError(f"input {spec.name!r} is fixed at {spec.shape}, not side {asked}")
        if isinstance(size, int) and place == 0 and size != asked:
            raise ValueError(f"input {spec.name!r} is fixed at batch {size}, not {asked}")
        if not isinstance(size, int) and asked is None:
            raise ValueError(f"input {spec.name!r} has a free dimension {size!r} in {spec.shape}")
        shape.append(size if isinstance(size, int) else int(asked or 1))
    if spec.type in TYPES:
        return rng.standard_normal(shape).astype(TYPES[spec.type])
    if spec.type in ("tensor(int64)", "tensor(int32)", "tensor(uint8)", "tensor(int8)"):
        return rng.integers(1, 100, shape).astype(spec.type[7:-1])
    raise ValueError(f"input {spec.name!r} has type {spec.type}, which no random input is made for")


# --- the session -----------------------------------------------------------------------------


def say(event: str, **fields: Any) -> None:
    """Writes one line."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Watch(threading.Thread):
    """Ends the process when one call outlasts its cap, and says which file it was.

    The runtime releases the interpreter while it computes, so this thread gets its turn; if it
    does not, the process's alarm is the last resort.
    """

    def __init__(self, cap: float) -> None:
        super().__init__(daemon=True)
        self.cap = cap
        self.at: tuple[int, float] | None = None
        self.parent = os.getppid()

    def run(self) -> None:
        """Looks every quarter of a second."""
        while True:
            time.sleep(0.25)
            at = self.at
            if at is not None and time.monotonic() - at[1] > self.cap:
                say("hung", file=at[0], seconds=round(time.monotonic() - at[1], 1))
                os._exit(3)
            if os.getppid() != self.parent:
                os._exit(4)

    @contextlib.contextmanager
    def over(self, index: int) -> Iterator[None]:
        """Watches a piece of work on a file."""
        self.at = (index, time.monotonic())
        try:
            yield
        finally:
            self.at = None


def restrain(seconds: float, memory: int | None) -> None:
    """Limits of the whole process: it dies by itself, with its parent, and within its memory."""
    signal.alarm(int(seconds) + 1)
    if memory:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG: without it an orphan would go on timing while others train.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def load(job: dict[str, Any], watch: Watch) -> list[Network]:
    """Loads and warms every file; one that cannot is reported and left out."""
    networks = []
    rules = job["protocol"]
    for index, path in enumerate([*job["files"], *job["anchors"]]):
        say("loading", file=index)
        try:
            network = Network(index, path, job, watch)
            network.warm_up(rules["warm_s"], rules["warm_cap_s"])
            networks.append(network)
            say("loaded", file=index)
        except Exception as error:
            say("failed", file=index, error=f"{type(error).__name__}: {error}"[:500])
    return networks


def run_passes(networks: list[Network], job: dict[str, Any], reference: Reference) -> list[Network]:
    """Shuffled passes until every network's interval is narrow enough or the time is up.

    A network that converged rests, while the anchors stay until the end. One that fails in the
    middle is reported and left out. Returns those that have samples.
    """
    rules = job["protocol"]
    rng = np.random.default_rng(job["seed"])
    candidates = [n for n in networks if n.index < len(job["files"])]
    deadline = time.perf_counter() + rules["seconds"] * len(networks)
    for number in range(rules["max_passes"]):
        at_work = [n for n in networks if not n.done or n not in candidates]
        for place in rng.permutation(len(at_work)):
            network = at_work[place]
            try:
                network.visit(number, reference, rules["visit_s"], rules["group_s"])
            except Exception as error:
                say("failed", file=network.index, error=f"{type(error).__name__}: {error}"[:500])
                networks = [n for n in networks if n is not network]
                candidates = [n for n in candidates if n is not network]
        if number + 1 >= rules["min_passes"]:
            for network in (n for n in networks if not n.done):
                found = network.estimate(reference.base, rules)
                enough = 2 * rules["min_passes"] if found["noisy"] else 0
                network.done = found["width"] <= rules["width"] and number + 1 >= enough
            if all(n.done for n in networks):
                break
        if number >= 2 and time.perf_counter() > deadline:
            break
    return networks


def main() -> None:
    """Reads the job, measures, writes the lines."""
    import onnxruntime

    job = json.loads(sys.stdin.read())
    rules = job["protocol"]
    restrain(job["seconds"], job.get("memory"))
    watch = Watch(rules["call_cap_s"])
    watch.start()
    gc.disable()
    say(
        "start",
        agent=VERSION,
        runtime={"onnxruntime": onnxruntime.__version__},
        versions={"python": platform.python_version(), "numpy": np.__version__},
        threads=job["threads"],
        affinity=sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        state=state(),
    )
    reference = Reference()
    for _ in range(100):
        reference.run()
    reference.series.clear()
    start = time.perf_counter()
    networks = load(job, watch)
    warmed = time.perf_counter()
    networks = run_passes(networks, job, reference) if networks else []
    for n in networks:
        say(
            "result",
            file=n.index,
            load_s=round(n.load_s, 4),
            first_ms=round(n.first_ms, 3),
            done=n.done,
            samples=[round(v, 1) for v in n.samples],
            refs=[round(v, 1) for v in n.refs],
            passes=n.passes,
        )
    say(
        "end",
        state=state(),
        reference=[round(v, 1) for v in reference.series],
        warm_s=round(warmed - start, 3),
        pass_s=round(time.perf_counter() - warmed, 3),
    )


if __name__ == "__main__":
    main()
