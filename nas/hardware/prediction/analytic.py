"""Kernels from sizes alone, without a graph: for tables of operators and networks known as numbers.

They carry the classes, operations and bytes that `nas.hardware.prediction.kernels` gives the same
operators in a file, in fp32 and plain NCHW.
"""

from __future__ import annotations

from nas.core.architecture import digest
from nas.hardware.prediction.kernels import ELEMENTWISE, Kernel, conv_family

WIDTH = 4  # bytes of a number


def conv(
    batch: int, inputs: int, outputs: int, kernel: int, side: int, stride: int = 1, groups: int = 1
) -> Kernel:
    """A square convolution with bias and half padding; `side` is that of the input's maps."""
    after = -(-side // stride)
    per_group, m = inputs // groups, batch * after * after
    family = conv_family(groups, per_group, outputs // groups, (kernel, kernel), (stride, stride))
    sizes = {"m": m, "k": per_group * kernel * kernel, "side": after}
    if not family.startswith("depthwise"):
        sizes["n"] = outputs // groups
    if not family.startswith(("conv", "pointwise")):
        sizes["b"] = groups
    weights = outputs * per_group * kernel * kernel + outputs
    return _kernel(
        "Conv", family, sizes, 2.0 * m * outputs * per_group * kernel * kernel,
        batch * inputs * side * side, m * outputs, weights,
    )  # fmt: skip


def linear(m: int, n: int, k: int) -> Kernel:
    """`m` rows of `k` numbers by a matrix of `n` columns, with bias."""
    sizes = {"m": m, "n": n, "k": k}
    return _kernel("Gemm", "gemm", sizes, 2.0 * m * n * k, m * k, m * n, n * k + n)


def bmm(b: int, m: int, n: int, k: int) -> Kernel:
    """`b` products of (m, k) and (k, n)."""
    sizes = {"b": b, "m": m, "n": n, "k": k}
    return _kernel("MatMul", "bmm", sizes, 2.0 * b * m * n * k, b * (m * k + k * n), b * m * n, 0)


def elementwise(op: str, count: int, inputs: int = 1) -> Kernel:
    """An ONNX operator on `count` numbers of each of `inputs` tensors."""
    flops = float(ELEMENTWISE[op] * count)
    sizes = {"count": count}
    return _kernel(op, f"elementwise.{op.lower()}", sizes, flops, inputs * count, count, 0)


def norm(rows: int, width: int) -> Kernel:
    """Layer normalisation over `width`, with scale and shift."""
    sizes, count = {"rows": rows, "width": width}, rows * width
    return _kernel("LayerNormalization", "norm", sizes, 10.0 * count, count, count, 2 * width)


def softmax(rows: int, width: int) -> Kernel:
    """Softmax over `width`."""
    sizes, count = {"rows": rows, "width": width}, rows * width
    return _kernel("Softmax", "softmax", sizes, 10.0 * count, count, count, 0)


def mean(rows: int, width: int) -> Kernel:
    """The mean over `width`: global average pooling."""
    sizes, count = {"rows": rows, "width": width}, rows * width
    return _kernel("ReduceMean", "reduce.reducemean", sizes, float(count), count, rows, 0)


def _kernel(
    op: str, family: str, sizes: dict[str, int], flops: float, read: int, written: int, weights: int
) -> Kernel:
    return Kernel(
        name=op.lower(), op=op, family=family, dtype="fp32", layout="nchw", sizes=sizes,
        flops=flops, bytes_read=WIDTH * read, bytes_written=WIDTH * written,
        bytes_weights=WIDTH * weights, signature=digest([family, sizes, read, written])[:16],
    )  # fmt: skip
