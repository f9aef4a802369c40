"""The layer's function: gradients, gradients of gradients, compiling, lower precision, repeats."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nas.networks.largekernel.choice import forced
from nas.networks.largekernel.convolution import convolve, convolve_quickly
from nas.networks.largekernel.passes import METHODS
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.peripheral import PeripheralMixer, PositionalTable, cells

EVERYWHERE = [name for name in METHODS if name != "triton"]


def given(size: int, kernel: int, channels: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    double = {"dtype": torch.float64, "requires_grad": True}
    return (
        torch.randn(2, channels, size, size, **double),  # type: ignore[call-overload]
        torch.randn(channels, 1, kernel, kernel, **double),  # type: ignore[call-overload]
        torch.randn(channels, **double),  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("stride_dilation", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_gradients_by_differences(name: str, stride_dilation: tuple[int, int]) -> None:
    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convolve_quickly(x, weight, bias, *stride_dilation)

    with forced(name):
        assert torch.autograd.gradcheck(function, given(4, 5))
        assert torch.autograd.gradgradcheck(function, given(3, 3))


def test_gradients_of_shared_cells_by_differences() -> None:
    shared = tuple(cells(9, 1))
    x, weight, bias = given(4, max(shared) + 1)
    for name in ("pooled", "fft"):
        with forced(name):
            assert torch.autograd.gradcheck(
                lambda *a: convolve_quickly(*a, cells=shared), (x, weight, bias)
            )
            assert torch.autograd.gradgradcheck(
                lambda *a: convolve_quickly(*a, cells=shared), (x, weight, bias)
            )


@pytest.mark.parametrize("name", EVERYWHERE)
def test_dead_taps_get_no_gradient(name: str) -> None:
    layer = Depthwise(3, 31)
    with forced(name):
        layer(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert layer.weight.grad is not None
    inside = torch.zeros_like(layer.weight, dtype=torch.bool)
    inside[:, :, 8:23, 8:23] = True
    assert layer.weight.grad[~inside].abs().max() == 0
    assert layer.weight.grad[inside].abs().min() > 0


@pytest.mark.parametrize("name", EVERYWHERE)
def test_the_same_bits_each_time(name: str) -> None:
    layer, x = Depthwise(6, 13), torch.randn(4, 6, 10, 10)
    seen = []
    with forced(name):
        for _ in range(2):
            layer.zero_grad()
            y = layer(x)
            y.square().sum().backward()
            assert layer.weight.grad is not None
            seen.append((y.detach(), layer.weight.grad.clone()))
    for first, second in zip(*seen, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["fft", "direct"])
def test_compiled_in_one_graph(name: str) -> None:
    layer, x = Depthwise(4, 9).double(), torch.randn(2, 4, 7, 7, dtype=torch.float64)
    results = []
    with forced(name):
        for run in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
            layer.zero_grad()
            seen = x.clone().requires_grad_()
            y = run(seen)
            y.square().sum().backward()
            assert layer.weight.grad is not None and layer.bias is not None
            assert seen.grad is not None and layer.bias.grad is not None
            results.append(
                (y.detach(), seen.grad, layer.weight.grad.clone(), layer.bias.grad.clone())
            )
    for plain, compiled in zip(*results, strict=True):
        assert torch.allclose(plain, compiled, rtol=1e-12, atol=1e-12)


def test_the_operators_keep_their_promises() -> None:
    x, weight, _ = given(6, 5)
    for layout in (torch.contiguous_format, torch.channels_last):
        seen = x.detach().contiguous(memory_format=layout).requires_grad_()
        torch.library.opcheck(torch.ops.nas.depthwise.default, (seen, weight, 1, 1, []))


def test_autocast_rounds_as_a_convolution_does() -> None:
    layer, x = Depthwise(4, 9), torch.randn(2, 4, 8, 8)
    exact = layer.eval()(x)
    layer.train()
    for name in ("fft", "native"):
        with forced(name), torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
            assert y.dtype == torch.bfloat16
            y.float().square().sum().backward()
        assert (y - exact).abs().max() < 2e-2 * exact.abs().max()
        assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_the_layout_of_the_input_is_kept(name: str, layout: torch.memory_format) -> None:
    x = torch.randn(2, 4, 6, 6).contiguous(memory_format=layout)
    with forced(name):
        y = convolve_quickly(x, torch.randn(4, 1, 5, 5), None)
    assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shared", [None, tuple(cells(9, 1))])
def test_an_empty_batch_is_one(shared: tuple[int, ...] | None) -> None:
    x, weight, bias = given(8, 9 if shared is None else max(shared) + 1)
    y = convolve_quickly(x[:0], weight, bias, cells=shared)
    y.sum().backward()
    assert y.shape == (0, 2, 8, 8) and not weight.grad.any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("side", [14, 16])
def test_gradients_of_one_tall_channel(side: int, training: bool) -> None:
    """The framework's own write outside of their memory for such a shape (torch 2.13, oneDNN)."""
    x, weight = torch.randn(8, 1, side, side), torch.randn(1, 1, 31, 1)
    x.requires_grad_()
    weight.requires_grad_()
    (convolve_quickly if training else convolve)(x, weight, None).square().sum().backward()
    exact, taps = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    columns = exact.permute(0, 3, 1, 2).reshape(8 * side, 1, side)
    torch.conv1d(columns, taps[..., 0], padding=15).square().sum().backward()
    assert torch.allclose(x.grad.double(), exact.grad, rtol=1e-4, atol=1e-3)
    assert torch.allclose(weight.grad.double(), taps.grad, rtol=1e-4, atol=1e-2)


def test_transformed_functions_have_their_gradients() -> None:
    """By example as DP-SGD and influence functions want them, of a layer in training."""
    layer, x = Depthwise(2, 9).double().train(), torch.randn(3, 2, 6, 6, dtype=torch.float64)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        called: Tensor = torch.func.functional_call(layer, parameters, (one[None],))
        return called.square().sum()

    by_example = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    layer(x).square().sum().backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert torch.allclose(by_example[name].sum(0), parameter.grad)


def test_shapes_without_data_are_answered() -> None:
    layer = Depthwise(4, 31).train().to("meta")
    assert layer(torch.empty(2, 4, 8, 8, device="meta")).shape == (2, 4, 8, 8)


def test_peripheral_sharing_is_the_same_pooled_and_expanded() -> None:
    table = PositionalTable(3, 31).double()
    mixer = PeripheralMixer(3, 31, 2, table).double()
    x = torch.randn(2, 3, 12, 11, dtype=torch.float64)
    plain = mixer.eval()(x)
    mixer.train()
    grads = []
    for name in ("pooled", "fft", "native"):
        with forced(name):
            mixer.zero_grad()
            y = mixer(x)
            assert torch.allclose(y, plain, rtol=1e-10, atol=1e-12)
            y.square().sum().backward()
            assert mixer.weight.grad is not None
            grads.append(mixer.weight.grad.clone())
    assert torch.allclose(grads[0], grads[1], rtol=1e-9)
    assert torch.allclose(grads[0], grads[2], rtol=1e-9)


def test_what_is_exported_is_one_plain_convolution() -> None:
    layer = Depthwise(4, 31).eval()
    program = torch.export.export(layer, (torch.randn(1, 4, 8, 8),))
    called = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert called == ["aten.conv2d.default"]
    x, weight, bias = torch.randn(2, 4, 8, 8), layer.weight, layer.bias
    assert torch.equal(layer(x), convolve(x, weight, bias))


@pytest.mark.parametrize("shape", [(4, 7, 7), (1, 7, 7), (1, 4, 7, 7)])
def test_one_image_is_taken_as_in_evaluation(shape):
    layer, x = Depthwise(shape[-3], 9), torch.randn(shape)
    trained, evaluated = layer.train()(x), layer.eval()(x)
    assert trained.shape == evaluated.shape == shape
    torch.testing.assert_close(trained, evaluated)


def test_autocast_leaves_float64_alone_as_it_does_in_evaluation():
    layer, x = Depthwise(4, 9).double(), torch.randn(2, 4, 7, 7, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        trained, evaluated = layer.train()(x), layer.eval()(x)
    assert trained.dtype == evaluated.dtype == torch.float64
    torch.testing.assert_close(trained, evaluated)
