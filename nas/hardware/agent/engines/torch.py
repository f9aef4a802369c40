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

Run = Callable[[], Any]


class Torch:
    """A program on its device, and its input, which lies there already."""

    def __init__(self, path: str, job: dict[str, Any]) -> None:
        prepare(job["options"], job["threads"])
        forward, spec = program(path, job["kind"])
        value = random_input(spec, job, np.random.default_rng(INPUTS))
        last = "channels_last" in job["options"]
        layout = torch.channels_last if last else torch.contiguous_format
        given = torch.from_numpy(value).to(job["kind"], memory_format=layout)
        if "compiled" in job["options"]:
            # A second process that compiles would outlive the limits of this one.
            os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
            forward = torch.compile(forward, dynamic=False)
        with torch.inference_mode():
            forward(given)  # compiles, and picks the algorithms of convolutions
        self.call = clock(lambda: forward(given), job)


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
    _refuse_pickles(path)
    exported = torch.export.load(path)
    if kind != "cpu":
        exported = move_to_device_pass(exported, kind)
    module = exported.module(check_guards=False)
    # Without the wrapping of inputs and outputs in trees: ten microseconds of every call.
    module.graph.set_codegen(torch.fx.graph.CodeGen())
    module.recompile()
    forward = module.forward
    (name,) = exported.graph_signature.user_inputs
    (value,) = (n.meta["val"] for n in exported.graph.nodes if n.name == name)
    shape = [size if isinstance(size, int) else str(size) for size in value.shape]
    kinds = {torch.float32: "float", torch.float16: "float16", torch.float64: "double"}
    spec = SimpleNamespace(
        name=name, shape=shape, type=f"tensor({kinds.get(value.dtype, value.dtype)})"
    )
    return lambda given: forward(given)[0], spec


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
