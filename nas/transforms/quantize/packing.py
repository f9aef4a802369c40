"""Codes of fewer than 8 bits, in fewer bytes of an ONNX file.

The file holds one string of bits; plain operators take it apart into 8-bit codes, from constants
alone, so that a runtime does it once when it loads the file, and computes with its 8-bit kernels.
Neither operators nor shapes depend on how many bits a layer has: two files of one budget have one
graph, however the budget is divided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from nas.transforms.quantize.codes import Codes, largest

BLOB = "packed"


@dataclass(frozen=True)
class Packed:
    """A tensor's codes, any shape, and the bits of each."""

    codes: Codes
    bits: int


def pack(proto: ModelProto, tensors: Mapping[str, Packed], length: int | None = None) -> None:
    """Puts the codes of these int8 initializers into one string of bits, in place.

    Args:
        length: bytes of the string, zeros behind the last code; as many as needed where None.

    Raises: ValueError where the codes do not fit.
    """
    if not tensors:
        return
    strings = [_bits(packed) for packed in tensors.values()]
    string = np.packbits(np.concatenate(strings), bitorder="little")
    if length is not None:
        if len(string) > length:
            raise ValueError(f"{len(string)} bytes of codes in a string of {length}")
        string = np.pad(string, (0, length - len(string)))
    kept = [t for t in proto.graph.initializer if t.name not in tensors]
    nodes, constants = _apart(string)
    start = 0
    for number, (name, packed) in enumerate(tensors.items()):
        more, values = _codes(f"{BLOB}.{number}", name, packed, start)
        nodes, constants, start = nodes + more, constants | values, start + strings[number].size
    kept += [numpy_helper.from_array(value, name) for name, value in constants.items()]
    operators = [*nodes, *proto.graph.node]
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(kept)
    proto.graph.node.extend(operators)


def _bits(packed: Packed) -> npt.NDArray[np.uint8]:
    """The codes, from their smallest value up, as zeros and ones, the lowest bit first."""
    above = (packed.codes.astype(np.int16) + largest(packed.bits)).astype(np.uint8).ravel()
    bits = (above[:, None] >> np.arange(packed.bits, dtype=np.uint8)) & np.uint8(1)
    return bits.ravel().astype(np.uint8)


def _apart(string: npt.NDArray[np.uint8]) -> tuple[list[NodeProto], dict[str, Any]]:
    """Operators from the string to its bits, one in a byte each."""
    constants = {
        BLOB: string[:, None],
        f"{BLOB}.places": np.arange(8, dtype=np.uint8),
        f"{BLOB}.one": np.ones((), np.uint8),
        f"{BLOB}.flat": np.array([-1]),
    }
    shifted, table = f"{BLOB}.shifted", f"{BLOB}.table"
    nodes = [
        helper.make_node("BitShift", [BLOB, f"{BLOB}.places"], [shifted], direction="RIGHT"),
        helper.make_node("BitwiseAnd", [shifted, f"{BLOB}.one"], [table]),
        helper.make_node("Reshape", [table, f"{BLOB}.flat"], [f"{BLOB}.bits"]),
    ]
    return nodes, constants


def _codes(
    at: str, name: str, packed: Packed, start: int
) -> tuple[list[NodeProto], dict[str, Any]]:
    """Operators from a stretch of the bits to a tensor of codes under its old name."""
    count, bits = packed.codes.size, packed.bits
    constants = {
        f"{at}.start": np.array([start]),
        f"{at}.end": np.array([start + count * bits]),
        f"{at}.axis": np.array([0]),
        f"{at}.rows": np.array([count, bits]),
        f"{at}.wider": np.array([0, 0, 0, 8 - bits]),
        f"{at}.powers": (2 ** np.arange(8)).astype(np.int32),
        f"{at}.across": np.array([1]),
        f"{at}.middle": np.array(largest(bits), np.int32),
        f"{at}.shape": np.array(packed.codes.shape, np.int64),
    }
    steps = [
        ("Slice", [f"{BLOB}.bits", f"{at}.start", f"{at}.end", f"{at}.axis"], {}),
        ("Reshape", [f"{at}.rows"], {}),
        ("Cast", [], {"to": TensorProto.INT32}),
        ("Pad", [f"{at}.wider"], {}),
        ("Mul", [f"{at}.powers"], {}),
        ("ReduceSum", [f"{at}.across"], {"keepdims": 0}),
        ("Sub", [f"{at}.middle"], {}),
        ("Cast", [], {"to": TensorProto.INT8}),
        ("Reshape", [f"{at}.shape"], {}),
    ]
    nodes, value = [], ""
    for place, (kind, others, attributes) in enumerate(steps):
        inputs = others if kind == "Slice" else [value, *others]
        value = name if place == len(steps) - 1 else f"{at}.{place}"
        nodes.append(helper.make_node(kind, inputs, [value], **attributes))
    return nodes, constants


def bytes_of(tensors: Mapping[str, Packed]) -> int:
    """Bytes of the string that holds these codes."""
    return -(-sum(p.codes.size * p.bits for p in tensors.values()) // 8)
