"""What kernels a device has under its runtime, beyond dense ones of fp32.

A number format without a kernel still saves bytes, but no time: whoever uses one says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nas.core.target import Target
from nas.hardware.device import Device, engine_of

# Of the CPU runtimes, by their own sources and timings here: onnxruntime has 8-bit kernels for
# everything, and for products of matrices weights of 8 or 4 bits (`MatMulNBits`).
FORMATS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("int8", "int8-dynamic", "int8-weights", "int4-weights"),
    "openvino": ("int8",),
    "tensorrt": ("int8",),
    "torch": (),
}
# What a GPU's datasheet says it multiplies in, and where TensorRT then has kernels for it.
FACTS: Mapping[str, str] = {"fp16_tflops": "fp16", "bf16_tflops": "bf16", "fp8_tflops": "fp8"}


def kernels(device: Device) -> tuple[str, ...]:
    """The formats and patterns with kernels: `int8`, `int4-weights`, `fp8`, `2:4`, ...

    NVIDIA's 2:4 pattern came with bf16, in the same generation of GPUs, so the one fact tells both;
    TensorRT looks for its kernels where it is asked to.

    >>> from nas.hardware.device import named
    >>> kernels(named("cpu"))
    ('int8', 'int8-dynamic', 'int8-weights', 'int4-weights')
    >>> kernels(named("h100").under("tensorrt:sparse"))
    ('int8', 'fp16', 'bf16', 'fp8', '2:4')
    >>> kernels(named("t4").under("tensorrt:sparse"))
    ('int8', 'fp16')
    """
    found = FORMATS[device.runtime]
    if device.runtime == "tensorrt":
        found += tuple(name for fact, name in FACTS.items() if fact in device.facts)
    sparse = "sparse" in device.options and "bf16_tflops" in device.facts
    return found + (("2:4",) if sparse else ())


def target(
    device: Device, wanted: Iterable[str], network: str | None, weights: str | Path | None
) -> Target:
    """What choices are held against in a study on a device for objectives and limits, by name.

    A network of the user's own may bring weights along, one that a space builds has none.
    """
    pretrained = True if weights is not None else False if network is None else None
    return Target(engine_of(device).name, kernels(device), tuple(dict.fromkeys(wanted)), pretrained)
