"""Two small fixed networks, timed in every session, so that sessions can be compared; a wide one.

One is dense 3x3 convolutions, one is depthwise 7x7 and pointwise convolutions: what moves one kind
of kernel (clock, caches, a new runtime) shows in the other by another factor. Both fit into a
core's own caches. `wide` is timed beside files that do not: its 9 MB lie in the cache that all
cores of a processor share, for as long as neighbours leave them there, and so tell what these take
from a network. Weights are made from a fixed seed, so they are the same on every host.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas.hardware.agent.workplace import workplace
from nas.hardware.runtimes import Runtime

SIDE = 32
ANCHORS, WIDE = ("dense", "depthwise"), "wide"
# of each: channels, blocks, stride of the first convolution
SIZES = {"dense": (24, 3, 2), "depthwise": (32, 3, 2), WIDE: (256, 8, 8)}
ONNXRUNTIME = Runtime("onnxruntime")


@dataclass(frozen=True)
class Layer:
    """A convolution with a ReLU behind it; `weight` is (outputs, inputs / groups, k, k)."""

    weight: Any
    stride: int = 1
    groups: int = 1


@functools.cache
def layers(name: str) -> tuple[Layer, ...]:
    """The layers of an anchor by its name; the mean over each map follows them."""
    dense = name == "dense"
    width, blocks, stride = SIZES[name]
    rng = np.random.RandomState(20261121)

    def conv(inputs: int, outputs: int, kernel: int, groups: int = 1, stride: int = 1) -> Layer:
        fan = inputs // groups * kernel * kernel
        values = rng.standard_normal((outputs, inputs // groups, kernel, kernel)) / fan**0.5
        return Layer(values.astype(np.float32), stride, groups)

    found = [conv(3, width, 3, stride=stride)]
    for _ in range(blocks):
        found.append(conv(width, width, 3 if dense else 7, groups=1 if dense else width))
        if not dense:
            found += [conv(width, 2 * width, 1), conv(2 * width, width, 1)]
    return tuple(found)


@functools.cache
def _onnx(name: str) -> bytes:
    nodes: list[Any] = []
    at = "input"
    for place, layer in enumerate(layers(name)):
        kernel = layer.weight.shape[-1]
        look = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4,
                "strides": [layer.stride] * 2, "group": layer.groups}  # fmt: skip
        names = [at, f"weight{place}"]
        nodes.append(helper.make_node("Conv", names, [f"conv{place}"], **look))
        nodes.append(helper.make_node("Relu", [f"conv{place}"], [f"relu{place}"]))
        at = f"relu{place}"
    nodes.append(helper.make_node("GlobalAveragePool", [at], ["output"]))
    width = layers(name)[-1].weight.shape[0]
    shape = ["batch", 3, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        f"anchor_{name}",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", width, 1, 1])],
        [numpy_helper.from_array(x.weight, f"weight{i}") for i, x in enumerate(layers(name))],
    )
    # Versions are fixed so that a newer onnx writes the same network.
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(network)
    return bytes(network.SerializeToString())


@functools.cache
def _program(name: str, runtime: Runtime) -> bytes:
    """The same layers as a program of torch's."""
    import torch
    from torch import nn

    from nas.hardware.runtimes.torch import write

    parts: list[nn.Module] = []
    for layer in layers(name):
        outputs, each, kernel, _ = layer.weight.shape
        conv = nn.Conv2d(
            each * layer.groups, outputs, kernel, layer.stride, kernel // 2,
            groups=layer.groups, bias=False,
        )  # fmt: skip
        conv.weight.data = torch.from_numpy(layer.weight.copy())
        parts += [conv, nn.ReLU()]
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1)).eval()
    with workplace("anchors") as folder:
        path = folder / f"{name}.pt2"
        write(module, (3, SIDE, SIDE), path, runtime)
        return path.read_bytes()


def write_anchors(
    folder: Path, runtime: Runtime = ONNXRUNTIME, wide: bool = False
) -> tuple[Path, ...]:
    """Writes the anchors as a runtime takes them; returns their paths: their stems are their names.

    They are the same functions for every runtime. The wide one comes last, where it is asked for.
    """
    paths = []
    for name in (*ANCHORS, *([WIDE] if wide else [])):
        path = folder / f"{name}{runtime.suffix}"
        path.write_bytes(_program(name, runtime) if runtime.suffix == ".pt2" else _onnx(name))
        paths.append(path)
    return tuple(paths)
