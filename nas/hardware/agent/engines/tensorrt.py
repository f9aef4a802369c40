"""TensorRT on a CUDA device: an engine built here from an ONNX file.

Engines are built where they run, by timing alternatives, so two builds may differ: every process
builds its own, and the spread between processes contains that of the builds. Memory, stream and
events are torch's. tensorrt is imported where it is used: this module can be read without it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ..inputs import INPUTS, random_input
from .torch import clock

_FLAGS = {"sparse": "SPARSE_WEIGHTS"}  # where TensorRT's word is another than the option's
_TYPES = {"FLOAT": "float", "HALF": "float16", "INT64": "int64", "INT32": "int32"}


class Tensorrt:
    """An engine with its input and outputs on the device."""

    def __init__(self, path: str, job: dict[str, Any]) -> None:
        import tensorrt

        self.engine = built(path, job)
        self.context = self.engine.create_execution_context()
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        rng = np.random.default_rng(INPUTS)
        for name in map(self.engine.get_tensor_name, range(self.engine.num_io_tensors)):
            if self.engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT:
                value = torch.from_numpy(random_input(_spec(self.engine, name), job, rng)).cuda()
                self.context.set_input_shape(name, tuple(value.shape))
                self.inputs.append(value)
            else:
                empty = np.empty(0, tensorrt.nptype(self.engine.get_tensor_dtype(name)))
                shape = tuple(self.context.get_tensor_shape(name))
                value = torch.empty(shape, dtype=torch.from_numpy(empty).dtype, device="cuda")
                self.outputs.append(value)
            self.context.set_tensor_address(name, value.data_ptr())
        self.call = clock(self.run, job)

    def run(self) -> None:
        """Puts one inference on torch's current stream."""
        if not self.context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError("TensorRT refused to run the engine")

    def answer(self, rows: Any) -> Any:
        """The first output for rows of the engine's batch."""
        self.inputs[0].copy_(rows)
        self.run()
        return self.outputs[0]


def built(path: str, job: dict[str, Any]) -> Any:
    """The engine of an ONNX file, in the precision asked for, for batches of one to the job's.

    One that was built before and written (`.engine`) is loaded.
    """
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    if path.endswith(".engine"):
        with open(path, "rb") as file:
            return tensorrt.Runtime(logger).deserialize_cuda_engine(file.read())
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        raise ValueError("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    rules = builder.create_builder_config()
    flags = tensorrt.BuilderFlag
    rules.clear_flag(flags.TF32)
    for option in (o for o in job["options"] if o != "graphs"):
        flag = getattr(flags, _FLAGS.get(option, option.upper()), None)
        if flag is None:
            raise ValueError(f"TensorRT {tensorrt.__version__} does not choose {option} by itself")
        rules.set_flag(flag)
    given = [network.get_input(place) for place in range(network.num_inputs)]
    if any(-1 in tuple(each.shape) for each in given):
        profile = builder.create_optimization_profile()
        for each in given:
            one, most = (_fixed(each.shape, batch, job) for batch in (1, job["batch"]))
            profile.set_shape(each.name, one, most, most)
        rules.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, rules)
    if plan is None:
        raise ValueError("TensorRT could not build an engine of this file in this precision")
    return tensorrt.Runtime(logger).deserialize_cuda_engine(plan)


def _fixed(shape: Any, batch: int, job: dict[str, Any]) -> tuple[int, ...]:
    """A shape with its free dimensions filled: the first is the batch, others the side."""
    free = [batch if place == 0 else job["resolution"] for place in range(len(shape))]
    return tuple(free[place] if size == -1 else size for place, size in enumerate(shape))


def _spec(engine: Any, name: str) -> SimpleNamespace:
    """An input as `random_input` takes it."""
    sizes = [size if size >= 0 else "free" for size in engine.get_tensor_shape(name)]
    kind = engine.get_tensor_dtype(name).name
    return SimpleNamespace(name=name, shape=sizes, type=f"tensor({_TYPES.get(kind, kind)})")


def load(path: str, job: dict[str, Any]) -> Tensorrt:
    """An ONNX file as an engine for the job's batch and options."""
    return Tensorrt(path, job)


def versions() -> dict[str, str]:
    """TensorRT's own, and torch's, whose events time it."""
    import tensorrt

    return {"tensorrt": tensorrt.__version__, "torch": torch.__version__}
