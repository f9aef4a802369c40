"""torch on the processor or a CUDA device: eager, compiled, or a captured graph.

It runs programs that `torch.export` wrote (`.pt2`), operator by operator as they were traced. Such
a file may hold pickles; one that does is refused, so a file can compute but not act.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.export.passes import move_to_device_pass

from ..inputs import INPUTS, random_input
from ..watch import Watch

Run = Callable[[], Any]


class Torch:
    """A program on its device, and its input, which lies there already."""

    def __init__(self, path: str, job: dict[str, Any]) -> None:
        prepare(job["options"], job["threads"])
        forward, spec = program(path, job["kind"])
        given = _given(spec, job)
        if "compiled" in job["options"]:
            # A second process that compiles would outlive the limits of this one.
            os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
            forward = torch.compile(forward, dynamic=False)
        with torch.inference_mode():
            forward(given)  # compiles, and picks the algorithms of convolutions
        self.call = clock(lambda: forward(given), job)


def _given(spec: SimpleNamespace, job: dict[str, Any]) -> torch.Tensor:
    """The fixed random input, in its layout on its device."""
    value = random_input(spec, job, np.random.default_rng(INPUTS))
    last = "channels_last" in job["options"]
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.from_numpy(value).to(job["kind"], memory_format=layout)


def load(path: str, job: dict[str, Any]) -> Torch:
    """A program on the job's device, with the job's threads and options."""
    return Torch(path, job)


def versions() -> dict[str, str]:
    """torch's own and those of the CUDA libraries it carries."""
    found = {"torch": str(torch.__version__)}
    if torch.version.cuda:
        cudnn: Any = torch.backends.cudnn
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn.version())}
    return found


def prepare(options: list[str], threads: int) -> None:
    """Threads, and precision as written: float32 is not tf32 unless that is asked for."""
    torch.set_num_threads(threads)
    allow_tf32("tf32" in options)
    torch.backends.cudnn.benchmark = True  # shapes are fixed: the fastest algorithm is what ships


def allow_tf32(allowed: bool) -> tuple[bool, bool]:
    """Whether products and convolutions of float32 may be rounded to tf32; what was before."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    return before


def program(path: str, kind: str) -> tuple[Callable[[Any], Any], SimpleNamespace]:
    """What computes the output of a program's input, and that input's name, shape and type.

    Raises: ValueError for what is no such file, and for one that holds a pickle.
    """
    module, spec = _module(path, kind)
    return _forward(module), spec


def _forward(module: Any) -> Callable[[Any], Any]:
    """The module's one output, computed by the code of its graph as it now is."""
    # Without the wrapping of inputs and outputs in trees: ten microseconds of every call.
    module.graph.set_codegen(torch.fx.graph.CodeGen())
    module.recompile()
    forward = module.forward
    return lambda given: forward(given)[0]


def _module(path: str, kind: str) -> tuple[Any, SimpleNamespace]:
    """A program's graph with its weights on a device, and its input as `random_input` takes it."""
    _refuse_pickles(path)
    exported = torch.export.load(path)
    if kind != "cpu":
        exported = move_to_device_pass(exported, kind)
    (name,) = exported.graph_signature.user_inputs
    (value,) = (n.meta["val"] for n in exported.graph.nodes if n.name == name)
    shape = [size if isinstance(size, int) else str(size) for size in value.shape]
    kinds = {torch.float32: "float", torch.float16: "float16", torch.float64: "double"}
    spec = SimpleNamespace(
        name=name, shape=shape, type=f"tensor({kinds.get(value.dtype, value.dtype)})"
    )
    return exported.module(check_guards=False), spec


def _refuse_pickles(path: str) -> None:
    if not zipfile.is_zipfile(path):
        raise ValueError("torch runs programs that torch.export wrote (.pt2), and this is none")
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename
            tables = name.endswith(("weights_config.json", "constants_config.json"))
            rows = json.loads(archive.read(member)).get("config", {}) if tables else {}
            samples = "/sample_inputs/" in name and member.file_size > 0
            if samples or any(row.get("use_pickle", True) for row in rows.values()):
                raise ValueError(f"{name} in it is a pickle, which could do anything when loaded")


# --- timing ------------------------------------------------------------------------------------


def clock(run: Run, job: dict[str, Any]) -> Callable[[], float]:
    """What calls `run` once and says how long it took, in microseconds.

    On a CUDA device the time is between two events on its stream, and the call ends when the second
    has happened; with `graphs` the launches of a call are recorded once and replayed.
    """
    if job["kind"] == "cpu":
        return lambda: _by_clock(run)
    if "graphs" in job["options"]:
        run = captured(run)
    cuda: Any = torch.cuda
    start, end = (cuda.Event(enable_timing=True) for _ in range(2))
    return lambda: _by_events(run, start, end)


def _by_clock(run: Run) -> float:
    with torch.inference_mode():
        start = time.perf_counter_ns()
        run()
        return (time.perf_counter_ns() - start) / 1e3


def _by_events(run: Run, start: Any, end: Any) -> float:
    with torch.inference_mode():
        start.record()
        run()
        end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e3


def captured(run: Run) -> Run:
    """`run` as one CUDA graph: warmed on a stream of its own, as capturing demands."""
    cuda: Any = torch.cuda
    stream = cuda.Stream()
    stream.wait_stream(cuda.current_stream())
    with torch.inference_mode(), cuda.stream(stream):
        for _ in range(3):
            run()
    cuda.current_stream().wait_stream(stream)
    graph = cuda.CUDAGraph()
    with torch.inference_mode(), cuda.graph(graph):
        run()
    replay: Run = graph.replay
    return replay


# --- by layer ----------------------------------------------------------------------------------

CALLS = (12, 200)  # fewest and most with a stamp behind every operator
SECONDS = 1.0


def profile(path: str, job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Each operator's mean time over the quieter half of the calls.

    The program's own code runs, with the time noted (on a CUDA device: an event recorded) behind
    each of its operators.
    Raises: ValueError for what is run as something else than its operators.
    """
    if "compiled" in job["options"]:
        raise ValueError(
            "torch compiles operators of several layers into one kernel, which cannot be split; "
            "--runtime torch breaks the same network down, uncompiled"
        )
    if "graphs" in job["options"]:
        raise ValueError(
            "a CUDA graph is one launch, which cannot be split; leave graphs out of --runtime"
        )
    prepare(job["options"], job["threads"])
    with watch.over(0, job.get("load_s")):
        module, spec = _module(path, job["kind"])
        given, stamps = _given(spec, job), _Stamps(job["kind"])
        operators = _stamped(module, stamps)
        forward = _forward(module)
    runs: list[list[float]] = []
    start = time.perf_counter()
    while len(runs) < CALLS[0] or (len(runs) < CALLS[1] and time.perf_counter() - start < SECONDS):
        with watch.over(0), torch.inference_mode():
            runs.append(stamps.around(lambda: forward(given)))
    quiet = sorted(runs[len(runs) // 4 :], key=sum)
    quiet = quiet[: max(1, len(quiet) // 2)]
    spent = np.mean(quiet, axis=0).tolist()  # one more than there are operators: the end
    return {
        "kernels": [
            [n.name, _word(n), [i.name for i in n.all_input_nodes], [n.name], round(spent[at], 3)]
            for at, n in enumerate(operators)
        ],
        "calls": len(quiet),
        "call_us": round(sum(spent), 3),
        "other_us": round(spent[-1], 3),
        "stamp_us": stamps.cost(),
    }


class _Stamps:
    """Moments within a call, and how far they are apart in microseconds."""

    def __init__(self, kind: str) -> None:
        self.seen: list[Any] = []
        self.events = kind != "cpu"

    def note(self) -> None:
        """Notes the moment; on a CUDA device the one that its stream gets here."""
        if self.events:
            cuda: Any = torch.cuda
            event = cuda.Event(enable_timing=True)
            event.record()
            self.seen.append(event)
        else:
            self.seen.append(time.perf_counter_ns())

    def cost(self) -> float | None:
        """Microseconds that a stamp takes; of an event on a device it is not known."""
        if self.events:
            return None
        return round(float(np.median([self.around(lambda: None)[0] for _ in range(1000)])), 3)

    def around(self, run: Run) -> list[float]:
        """Runs once: the time up to each moment noted, and from the last one to the end."""
        self.seen.clear()
        self.note()
        run()
        self.note()
        pairs = [(self.seen[i], self.seen[i + 1]) for i in range(len(self.seen) - 1)]
        if not self.events:
            return [(later - earlier) / 1e3 for earlier, later in pairs]
        self.seen[-1].synchronize()
        return [1e3 * float(earlier.elapsed_time(later)) for earlier, later in pairs]


def _stamped(module: Any, stamps: _Stamps) -> list[Any]:
    """Puts a stamp behind every operator of a graph on tensors; returns them in order.

    Views too: some of them copy. Sizes and assertions are in the time of the next one.
    """
    graph = module.graph

    def stamp() -> None:
        stamps.note()

    found = [n for n in graph.nodes if _computes(n)]
    for node in found:
        with graph.inserting_after(node):
            graph.call_function(stamp)
    return found


def _computes(node: Any) -> bool:
    """Whether a node is an operator that returns tensors."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return any("Tensor" in str(returned.type) for returned in node.target._schema.returns)


def _word(node: Any) -> str:
    """An operator's plain name: `conv2d` for `aten.conv2d.default`."""
    return str(node.target._schema.name).partition("::")[2]
