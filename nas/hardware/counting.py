"""What a module costs by its shapes alone: parameters, MACs, activations.

A MAC is one multiply-accumulate of a convolution, a linear layer or a matrix product, for one
example; biases, norms, activations, pooling and element-wise work have none (the convention of
ConvNeXt, RepLKNet and pycls; timm and mmpretrain add norms, some papers double). Print FLOPs only
as 2 x MACs.

A copy on the meta device is traced by fvcore's jit analysis, with the one table of operators below
in place of fvcore's own (which counts norms, lacks attention and recurrent layers, and lists
element-wise work as unknown). An operator in no table is reported by name and number, never taken
as zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from fvcore.nn.jit_analysis import JitModelAnalysis
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from nas.hardware.meta import borrowed, on_meta, plain_attention

Shape = list[int]
Handle = Callable[[list[Any], list[Any]], Counter[str]]


@dataclass(frozen=True)
class Counts:
    """What one example costs.

    Args:
        params: numbers that training could move; a tensor used twice counts once.
        trainable_params: those of them that require a gradient.
        macs: multiply-accumulates of convolutions, linear layers and matrix products.
        activations: numbers written by convolutions (the convention of pycls).
        vector_elements: numbers written by operators without MACs (norms, activations, pooling,
            element-wise products), which take time all the same.
        uncounted: operators that no table knows, and how often each occurs.
        nonzero_params, nonzero_macs: without the zeroed weights of convolutions, linear layers and
            matrix products, whether zero themselves or under a mask that multiplies them.
        by_module: dotted name -> `params`, `macs`, `activations`, each including the modules
            inside; `""` is the whole.
    """

    params: int
    trainable_params: int
    macs: int
    activations: int
    vector_elements: int
    uncounted: dict[str, int]
    nonzero_params: int
    nonzero_macs: int
    by_module: dict[str, dict[str, int]] = field(compare=False)


def count(module: nn.Module, input_shape: Sequence[int]) -> Counts:
    """Counts a module as it stands, in evaluation mode, for one example of `input_shape` (C, H, W).

    The module is left as it was. It may live on the meta device; then nothing is known to be zero,
    and the non-zero counts are the dense ones.

    >>> counts = count(nn.Conv2d(3, 8, 3, padding=1, bias=False), (3, 4, 4))
    >>> counts.params, counts.macs, counts.activations
    (216, 3456, 128)
    """
    try:
        analysis = trace(on_meta(module), "meta", input_shape)
    except (RuntimeError, NotImplementedError):
        # It meets a tensor of its own on the CPU, or values that it needs: run it for real.
        device = next((t.device for t in module.parameters()), torch.device("cpu"))
        analysis = trace(borrowed(module), device, input_shape)
    counters = analysis.by_module_and_operator()
    total = counters[""]
    sparse = nonzero(module, {k for k in total if k.startswith(WEIGHT)})
    owned = owned_params(module)
    by_module = {
        name: {
            "params": owned[name],
            "macs": counter["macs"],
            "activations": counter["activations"],
        }
        for name, counter in counters.items()
    }
    unique = {id(p): p for p in module.parameters()}.values()
    lost = sum(round(total[k] * (1 - share)) for k, (share, _) in sparse.items())
    return Counts(
        params=sum(p.numel() for p in unique),
        trainable_params=sum(p.numel() for p in unique if p.requires_grad),
        macs=total["macs"],
        activations=total["activations"],
        vector_elements=total["vector"],
        uncounted=dict(sorted(analysis.unsupported_ops().items())),
        nonzero_params=sum(p.numel() for p in unique) - sum(zeros for _, zeros in sparse.values()),
        nonzero_macs=total["macs"] - lost,
        by_module=by_module,
    )


def macs(module: nn.Module, input_shape: Sequence[int]) -> int:
    """`Counts.macs` in a third of the time, and nothing else: for choosing among candidates.

    By torch's counter of the operators that reach the dispatcher. The module is in evaluation mode;
    on the meta device nothing is computed.

    Raises: NotImplementedError for recurrent layers, which that counter does not know.
    """
    if any(isinstance(part, nn.RNNBase) for part in module.modules()):
        raise NotImplementedError("recurrent layers are counted by `count`")
    weights = Weights(module)
    counter = FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten.mv: _vector_flops, torch.ops.aten.dot: _vector_flops},
    )
    device = next((t.device for t in weights.tensors.values()), torch.device("cpu"))
    # As products of matrices: of a processor's own kernel of attention the counter knows nothing
    example = torch.zeros(1, *input_shape, device=device, dtype=weights.dtype)
    sums = Einsums(counter)
    with torch.no_grad(), plain_attention(), sdpa_kernel(SDPBackend.MATH), counter, sums:
        module(example)
    return int(counter.get_total_flops()) // 2 + sums.missed


def _vector_flops(left: Sequence[int], *_: Any, **__: Any) -> int:
    """Of the products with a vector, which torch's counter does not know."""
    return 2 * math.prod(left)


class Einsums(TorchFunctionMode):
    """Counts by the table's rule what torch's counter does not see of an einsum.

    One that adds nothing up reaches the dispatcher as an element-wise product.
    """

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter, self.missed = counter, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one function of torch's."""
        if func is not torch.einsum or not isinstance(args[0], str):
            return func(*args, **(kwargs or {}))
        before = self.counter.get_total_flops()
        result = func(*args)
        operands = args[1] if isinstance(args[1], list | tuple) else args[1:]
        known = (self.counter.get_total_flops() - before) // 2
        self.missed += einsum_macs(args[0], [list(o.shape) for o in operands]) - known
        return result


def trace(
    module: nn.Module, device: str | torch.device, input_shape: Sequence[int]
) -> JitModelAnalysis:
    """fvcore's analysis of the module with our table, done."""
    weights = Weights(module)
    example = torch.zeros(1, *input_shape, device=device, dtype=weights.dtype)
    analysis = JitModelAnalysis(module, (example,))
    analysis.clear_op_handles().set_op_handle(**table(weights))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    with torch.no_grad(), plain_attention(), Traceable():
        analysis.by_module_and_operator()
    return analysis


def owned_params(module: nn.Module) -> Counter[str]:
    """How many parameters lie in each module; a shared tensor belongs to its first owner alone."""
    owned: Counter[str] = Counter()
    for name, p in module.named_parameters():
        parts = name.split(".")
        for depth in range(len(parts)):
            owned[".".join(parts[:depth])] += p.numel()
    return owned


# --- tracing without numbers -----------------------------------------------------------------


class Traceable(TorchFunctionMode):
    """Calls `aten::_convolution` for every convolution.

    jit records that operator alone. Left to itself, a convolution on the meta device reaches its
    shape function with sizes that are being traced, and fails there.
    """

    PLAIN: ClassVar = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
    TRANSPOSED: ClassVar = {
        torch.conv_transpose1d: 1, torch.conv_transpose2d: 2, torch.conv_transpose3d: 3,
    }  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one function of torch's."""
        kwargs = kwargs or {}
        if func in self.PLAIN:
            return self.plain(self.PLAIN[func], *args, **kwargs)
        if func in self.TRANSPOSED:
            return self.transposed(self.TRANSPOSED[func], *args, **kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def plain(
        n: int, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Tensor:  # fmt: skip
        """`torch.conv{n}d`."""
        dilations = spread(dilation, n)
        if padding == "valid":
            padding = 0
        if padding == "same":
            total = [d * (int(k) - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
            pads = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
            input, padding = nn.functional.pad(input, pads), 0
        return torch._convolution(
            input, weight, bias, spread(stride, n), spread(padding, n), dilations,
            False, [0] * n, groups, False, False, False, False,
        )  # fmt: skip

    @staticmethod
    def transposed(
        n: int, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
        padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Tensor:  # fmt: skip
        """`torch.conv_transpose{n}d`."""
        return torch._convolution(
            input, weight, bias, spread(stride, n), spread(padding, n), spread(dilation, n),
            True, spread(output_padding, n), groups, False, False, False, False,
        )  # fmt: skip


def spread(value: Any, n: int) -> list[int]:
    """One number for each of `n` axes."""
    values = [int(v) for v in value] if isinstance(value, tuple | list) else [int(value)]
    return values * n if len(values) == 1 else values


# --- weights: which tensor a product used, and how much of it is zero --------------------------

WEIGHT = "weight:"
SAME_VALUES = ("aten::to", "aten::type_as", "aten::detach", "aten::contiguous")


class Weights:
    """Finds the parameter behind an operand of a traced operator.

    fvcore lifts the tensors of the state dict to inputs of the graph, in order, after the example.
    """

    def __init__(self, module: nn.Module) -> None:
        unique: dict[int, str] = {}
        tensors = module.state_dict(keep_vars=True)
        for name, tensor in tensors.items():
            unique.setdefault(id(tensor), name)
        self.names = list(unique.values())
        self.tensors = tensors
        self.places: dict[str, int] = {}
        floats = [t for t in tensors.values() if t.is_floating_point()]
        self.dtype = floats[0].dtype if floats else torch.float32

    def behind(self, value: Any, depth: int = 8, scaling: bool = False) -> set[str] | None:
        """Names of the parameters an operand is made of, and of the buffers that multiply them.

        None where data is among what it is made of.
        """
        node = value.node()
        if node.kind() == "prim::Constant":
            return set()
        if node.kind() == "prim::Param":
            if not self.places:
                self.places = {v.debugName(): i for i, v in enumerate(node.outputs())}
            place = self.places[value.debugName()]
            if not place:
                return None
            name = self.names[place - 1]
            return {name} if scaling or isinstance(self.tensors[name], nn.Parameter) else set()
        if depth == 0:
            return None
        found: set[str] = set()
        scaling = node.kind() == "aten::mul" or (scaling and node.kind() in SAME_VALUES)
        for operand in node.inputs():
            names = self.behind(operand, depth - 1, scaling)
            if names is None:
                return None
            found |= names
        return found

    def charge(self, macs: int, *operands: Any) -> Counter[str]:
        """The MACs of a product, charged to the one parameter among its operands, if there is one.

        The masks that multiply it go into the same key, after the parameter's name.
        """
        counter = Counter({"macs": macs})
        for operand in operands:
            names = self.behind(operand) or set()
            params = [n for n in names if isinstance(self.tensors[n], nn.Parameter)]
            if len(params) == 1:
                shape = self.tensors[params[0]].shape
                masks = sorted(n for n in names - set(params) if self.tensors[n].shape == shape)
                counter[WEIGHT + "|".join([*params, *masks])] = macs
                break
        return counter


def nonzero(module: nn.Module, keys: set[str]) -> dict[str, tuple[float, int]]:
    """For each charged weight: the share that is not zero, and how many of it are zero.

    A module on the meta device has no values: what counts as not zero is the `live` number that a
    mask's owner may state, else everything.
    """
    tensors = module.state_dict()
    shares: dict[str, tuple[float, int]] = {}
    for key in sorted(keys):
        names = key.removeprefix(WEIGHT).split("|")
        param, *masks = (tensors[name] for name in names)
        if param.is_meta:
            owners = [module.get_submodule(name.rpartition(".")[0]) for name in names[1:]]
            stated = [live for o in owners if isinstance(live := getattr(o, "live", None), int)]
            if stated:
                shares[key] = min(stated) / param.numel(), param.numel() - min(stated)
            continue
        alive = param != 0
        for mask in masks:
            alive &= mask != 0
        kept = int(torch.count_nonzero(alive))
        shares[key] = kept / param.numel(), param.numel() - kept
    return shares


# --- the table of operators ------------------------------------------------------------------


def shape_of(value: Any) -> Shape:
    """Sizes of a traced tensor; empty where it has none."""
    sizes = value.type().sizes() if value.isCompleteTensor() else None
    return list(sizes or [])


def table(weights: Weights) -> dict[str, Handle]:
    """Every operator that is counted, and how."""

    def convolution(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        weight, out = shape_of(inputs[1]), shape_of(outputs[0])
        places = shape_of(inputs[0]) if inputs[6].toIValue() else out
        macs = places[0] * math.prod(weight) * math.prod(places[2:])
        return weights.charge(macs, inputs[1]) + Counter({"activations": math.prod(out)})

    def product(left: int) -> Handle:
        def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
            macs = math.prod(shape_of(outputs[0])) * shape_of(inputs[left])[-1]
            return weights.charge(macs, inputs[left + 1], inputs[left])

        return handle

    def einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        operands = list(inputs[1].node().inputs())
        macs = einsum_macs(inputs[0].toIValue(), [shape_of(v) for v in operands])
        return weights.charge(macs, *operands)

    def attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        q, k, v = (shape_of(i) for i in inputs[:3])
        return Counter({"macs": math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])})

    def recurrent(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        steps = math.prod(shape_of(inputs[0])[:-1])
        total: Counter[str] = Counter()
        # Of packed sequences their batch sizes come second, and all else one place later
        packed = inputs[3].node().kind() == "prim::ListConstruct"
        for weight in inputs[3 if packed else 2].node().inputs():
            if len(shape_of(weight)) == 2:
                total += weights.charge(steps * math.prod(shape_of(weight)), weight)
        return total

    def vector(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        written = shape_of(outputs[0])  # empty for arithmetic on sizes
        return Counter({"vector": math.prod(written) if written else 0})

    handles: dict[str, Handle] = {
        "aten::_convolution": convolution,
        "aten::linear": product(0),
        "aten::matmul": product(0),
        "aten::mm": product(0),
        "aten::bmm": product(0),
        "aten::mv": product(0),
        "aten::dot": product(0),
        "aten::addmm": product(1),
        "aten::baddbmm": product(1),
        "aten::einsum": einsum,
        "aten::scaled_dot_product_attention": attention,
        **dict.fromkeys(["aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"], recurrent),
        **{f"aten::{name}": vector for name in VECTOR},
        **{f"aten::{name}_": vector for name in VECTOR},
    }
    handles |= {f"aten::{name}": lambda inputs, outputs: Counter() for name in FREE}
    return handles


def einsum_macs(equation: str, shapes: Sequence[Shape]) -> int:
    """Multiplications of an einsum that contracts its operands pair by pair, left to right.

    >>> einsum_macs("bchw,dc->bdhw", [[1, 8, 4, 4], [16, 8]])
    2048
    """
    equation = equation.replace(" ", "")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    spare = "ABCDEFGH"  # stand for the dimensions of an ellipsis, aligned at the right
    rank = max(len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True))
    sizes: dict[str, int] = {}
    for i, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        hidden = len(shape) - len(term.replace("...", ""))
        terms[i] = term.replace("...", spare[rank - hidden : rank])
        for label, size in zip(terms[i], shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    wanted = right.replace("...", spare[:rank])
    if "->" not in equation:
        wanted = "".join(c for c in sizes if "".join(terms).count(c) == 1)
    macs, held = 0, set(terms[0])
    for i, term in enumerate(terms[1:], start=1):
        pair = held | set(term)
        macs += math.prod(sizes[label] for label in pair)
        held = pair & (set(wanted) | set("".join(terms[i + 1 :])))
    return macs


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Work on each element, no products of matrices: no MACs on purpose, counted as vector elements.
VECTOR = _words(
    """
    abs add addcmul addcdiv atan2 bernoulli ceil celu clamp clamp_max clamp_min cos cosh cumsum div
    elu erf exp expm1 fill floor gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu lerp
    log log1p log2 log_sigmoid log_softmax logical_and logical_not logical_or logsumexp masked_fill
    maximum minimum mish mul neg pow prelu reciprocal relu relu6 remainder round rsqrt rsub selu
    sigmoid sign silu sin softmax softplus softshrink softsign sqrt square sub tan tanh threshold
    true_divide where floor_divide
    batch_norm group_norm instance_norm layer_norm rms_norm native_layer_norm norm
    linalg_vector_norm
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
    amax amin argmax argmin max mean min prod std std_mean sum var var_mean all any
    eq ge gt le lt ne
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d
    upsample_linear1d upsample_trilinear3d grid_sampler
    dropout feature_dropout alpha_dropout
    """
)

# Moves, copies or names memory: costs nothing that a count could state.
FREE = _words(
    """
    Bool Float Int ScalarImplicit alias arange broadcast_tensors cat channel_shuffle chunk clone
    col2im complex constant_pad_nd contiguous copy_ detach diagonal embedding empty empty_like
    expand expand_as flatten flip full full_like gather hstack im2col index index_put_ index_select
    lift_fresh linspace meshgrid movedim narrow native_channel_shuffle new_empty new_full new_ones
    new_zeros numel ones ones_like pad permute pixel_shuffle pixel_unshuffle reflection_pad1d
    reflection_pad2d repeat repeat_interleave replication_pad2d reshape reshape_as resolve_conj
    roll rot90 scalar_tensor scatter select select_scatter size slice slice_scatter split
    split_with_sizes squeeze stack swapaxes t tensor tensor_split tile to transpose tril triu
    type_as unbind unflatten unfold unsqueeze unsqueeze_ view view_as view_as_complex view_as_real
    vstack zeros zeros_like __and__ __or__ bitwise_not is_floating_point item real imag
    _pack_padded_sequence _pad_packed_sequence
    """
)
