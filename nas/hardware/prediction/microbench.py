"""A network's kernels one at a time: each becomes a file of its own, timed like any network.

For onnxruntime the file of a kernel holds the very operator that the runtime left after its own
optimisation, blocked layouts included, so what is timed is the routine that will run. For torch it
is a program of that one operator (`nas.hardware.prediction.programs`), timed eager. The way is the
same on a processor and on a GPU, but for the session: what was tried is torch and onnxruntime on
a processor; that the programs run on a CUDA device too is unproven.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from onnx import NodeProto, TensorProto, helper

from nas.core.job import Workload
from nas.hardware.agent.workplace import workplace
from nas.hardware.device import Device
from nas.hardware.lease import Lease
from nas.hardware.prediction.kernels import Lowered
from nas.hardware.prediction.lowering import Graph, Value
from nas.hardware.protocol import Protocol
from nas.hardware.timing import measure

# An operator repeats better than a network and there are many: a shorter visit each.
RULES = Protocol(
    warm_s=0.01, warm_cap_s=0.1, visit_s=0.004, settle_s=0.004, max_passes=12, width=0.03,
    seconds=0.1,
)  # fmt: skip
BLOCK = 120  # kernels in one process
_TYPES = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int8": TensorProto.INT8,
          "uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
          "double": TensorProto.DOUBLE}  # fmt: skip


def write(graph: Graph, nodes: Sequence[NodeProto], batch: int, path: Path) -> bool:
    """Writes one kernel's operators as a file; False where they have no input to be run with.

    Inputs are random numbers given by whoever times the file; a value without the batch in front
    becomes a constant of ones.
    """
    written = {name for node in nodes for name in node.output}
    names = dict.fromkeys(n for node in nodes for n in node.input if n and n not in written)
    inputs, constants = [], []
    for name in names:
        value = graph.values.get(name)
        if value is None or value.type not in _TYPES:
            return False
        if value.constant:
            constants.append(graph.constants[name])
        elif value.dims and value.dims[0] == batch:
            inputs.append(helper.make_tensor_value_info(name, _TYPES[value.type], value.dims))
        else:
            constants.append(_ones(name, value))
    if not inputs:
        return False
    outputs = [helper.make_empty_tensor_value_info(n) for n in nodes[-1].output if n]
    kernel = helper.make_graph(nodes, "kernel", inputs, outputs, constants)
    versions = [helper.make_opsetid(domain, version) for domain, version in graph.opsets]
    proto = helper.make_model(kernel, opset_imports=versions, ir_version=graph.ir_version)
    path.write_bytes(proto.SerializeToString())
    return True


def _ones(name: str, value: Value) -> TensorProto:
    return helper.make_tensor(name, _TYPES[value.type], value.dims, [1] * value.size)


def distinct(networks: Sequence[Lowered]) -> dict[str, tuple[Lowered, int]]:
    """Every kernel of the networks once, by signature: a network it is in, and its place there."""
    found: dict[str, tuple[Lowered, int]] = {}
    for network in networks:
        for place, kernel in enumerate(network.kernels):
            found.setdefault(kernel.signature, (network, place))
    return found


def time_kernels(
    chosen: Mapping[str, tuple[Lowered, int]],
    device: Device,
    lease: Lease,
    workload: Workload | None = None,
    rules: Protocol = RULES,
) -> tuple[dict[str, float], dict[str, str]]:
    """Microseconds of each kernel by signature, and why the others have none.

    A kernel's time includes one call of the runtime; the fit on whole networks takes it out.
    """
    times: dict[str, float] = {}
    failed: dict[str, str] = {}
    batch = (workload or Workload()).batch
    for block in _blocks(list(chosen)):
        with workplace("kernels") as folder:
            files: dict[str, Path] = {}
            for signature in block:
                network, place = chosen[signature]
                path = folder / f"{signature}{device.engine.suffix}"
                if _write(network.graph, network.nodes[place], batch, path, device):
                    files[signature] = path
                else:
                    failed[signature] = "it cannot be run alone"
            found = measure(
                list(files.values()), device, lease, workload, basis="table", protocol=rules
            )
        for signature, result in zip(files, found, strict=True):
            if isinstance(result, str):
                failed[signature] = result
            elif result.record.get("noisy"):
                failed[signature] = "the machine was hardly ever quiet"
            else:
                times[signature] = 1e3 * result.value
    return times, failed


def _write(
    graph: Graph, nodes: Sequence[NodeProto], batch: int, path: Path, device: Device
) -> bool:
    """One kernel as the file that the device's runtime takes."""
    if path.suffix == ".onnx":
        return write(graph, nodes, batch, path)
    from nas.hardware.prediction import programs

    return programs.write(graph, nodes, batch, path, device.engine)


def _blocks(signatures: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(signatures), BLOCK):
        yield signatures[start : start + BLOCK]
