import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize, prune, rnn
from torch.utils.flop_counter import FlopCounterMode

from nas.catalog import load_space
from nas.core.task import TaskSpec
from nas.hardware.counting import count, einsum_macs, macs
from nas.transforms.fold import fold


class Call(nn.Module):
    """A module that is one function of its input and a weight."""

    def __init__(self, function, *weight):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*weight)) if weight else None
        self.function = function

    def forward(self, x):
        return self.function(x, self.weight)


def independent(module, shape):
    """torch's own counter, on meta (on the CPU it silently returns 0 for attention)."""
    hollow = module.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hollow(torch.empty(1, *shape, device="meta"))
    return counter.get_total_flops() / 2


def attend(x, _):
    return F.scaled_dot_product_attention(x, x, x[..., :4])


def product(x, weight):
    return x @ weight


BY_HAND = {
    "conv": (nn.Conv2d(3, 8, 3, padding=1), (3, 8, 8), 64 * 8 * 27),
    "strided": (nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=2), (4, 9, 9), 16 * 8 * 36),
    "same": (nn.Conv2d(4, 8, (3, 5), padding="same"), (4, 8, 8), 64 * 8 * 60),
    "valid": (nn.Conv2d(4, 8, 3, padding="valid"), (4, 8, 8), 36 * 8 * 36),
    "grouped": (nn.Conv2d(8, 12, 3, groups=4), (8, 6, 6), 16 * 12 * 18),
    "depthwise": (nn.Conv2d(8, 8, 31, padding=15, groups=8), (8, 7, 7), 49 * 8 * 961),
    "conv1d": (nn.Conv1d(4, 6, 5), (4, 20), 16 * 6 * 20),
    "conv3d": (nn.Conv3d(2, 4, 3), (2, 5, 5, 5), 27 * 4 * 54),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 5, 5), 25 * 4 * 6 * 4),
    "transposed, groups": (
        nn.ConvTranspose2d(4, 8, 3, 2, 1, 1, groups=2), (4, 5, 5), 25 * 4 * 4 * 9,
    ),
    "functional conv": (Call(lambda x, w: F.conv2d(x, w, padding=1), 8, 3, 3, 3), (3, 4, 4), 3456),
    "linear": (nn.Linear(16, 10), (7, 16), 7 * 160),
    "matmul": (Call(product, 16, 5), (7, 16), 7 * 80),
    "bmm": (Call(lambda x, _: torch.bmm(x[0], x[0].transpose(1, 2))), (3, 5, 4), 3 * 25 * 4),
    "addmm": (Call(lambda x, w: torch.addmm(x[0], x[0], w), 5, 5), (5, 5), 125),
    "attention": (Call(attend), (2, 6, 8), 2 * 36 * (8 + 4)),
    "einsum": (Call(lambda x, w: torch.einsum("bchw,dc->bdhw", x, w), 16, 8), (8, 4, 4), 2048),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_equal_to_a_count_by_hand_and_to_torchs_counter(name):
    module, shape, macs = BY_HAND[name]
    counts = count(module, shape)
    assert counts.macs == macs == independent(module, shape)
    assert counts.uncounted == {}


def test_same_padding_of_even_kernels():
    assert count(nn.Conv2d(4, 8, (2, 4), padding="same"), (4, 8, 8)).macs == 64 * 8 * 32


def test_an_attention_layer_is_its_projections_and_its_two_products():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x):
            return self.inner(x, x, x, need_weights=False)[0]

    counts = count(Layer(), (9, 16))
    assert counts.macs == 4 * 9 * 16 * 16 + 2 * 9 * 9 * 16
    assert counts.uncounted == {}
    assert torch.backends.mha.get_fastpath_enabled()


def test_recurrent_layers_are_their_matrices_at_every_step():
    class Layer(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.inner = kind(6, 10, num_layers=2, batch_first=True)

        def forward(self, x):
            return self.inner(x)[0]

    for kind, gates in ((nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)):
        macs = 5 * gates * 10 * ((6 + 10) + (10 + 10))
        assert count(Layer(kind), (5, 6)).macs == macs


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_packed_sequences_cost_what_plain_ones_do(kind, gates):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = kind(6, 10, num_layers=2, batch_first=True)

        def forward(self, x):
            packed = rnn.pack_padded_sequence(x, torch.tensor([x.shape[1]]), batch_first=True)
            return rnn.pad_packed_sequence(self.inner(packed)[0], batch_first=True)[0]

    counts = count(Packed(), (5, 6))
    assert counts.macs == 5 * gates * 10 * ((6 + 10) + (10 + 10))
    assert counts.uncounted == {}


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("ij,jk->ik", [[2, 3], [3, 4]], 24),
        ("ij,jk", [[2, 3], [3, 4]], 24),
        ("bhqd,bhkd->bhqk", [[1, 2, 5, 4], [1, 2, 6, 4]], 240),
        ("...c,cd->...d", [[1, 7, 7, 8], [8, 3]], 49 * 24),
        ("...ij,...jk->...ik", [[5, 2, 3], [5, 3, 4]], 120),
        ("ab,bc,cd->ad", [[2, 3], [3, 4], [4, 5]], 24 + 40),
        ("ii->", [[4, 4]], 0),
    ],
)
def test_einsum_by_hand(equation, shapes, macs):
    assert einsum_macs(equation, shapes) == macs
    assert torch.einsum(equation, *(torch.ones(s) for s in shapes)) is not None


def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.GELU(),
        nn.Sequential(nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.Conv2d(8, 16, 1)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def test_the_breakdown_adds_up():
    counts = count(convnet(), (3, 8, 8))
    rows = counts.by_module
    assert rows[""] == {"params": counts.params, "macs": counts.macs, "activations": 64 * 32}
    for name in ("", "3"):
        depth = name.count(".") + bool(name)
        inside = [
            rows[n]
            for n in rows
            if n.startswith(name) and n and n.count(".") == depth and n != name
        ]
        for key in ("params", "macs", "activations"):
            assert sum(row[key] for row in inside) == rows[name][key]
    assert counts.params == sum(p.numel() for p in convnet().parameters())


def test_norms_activations_and_pooling_have_no_macs_but_are_seen():
    counts = count(nn.Sequential(nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2)), (4, 8, 8))
    assert (counts.macs, counts.uncounted) == (0, {})
    assert counts.vector_elements == 256 + 256 + 64


def test_what_no_table_knows_is_reported_by_name_and_number():
    def spectral(x, _):
        return torch.fft.irfft2(torch.fft.rfft2(torch.fft.irfft2(torch.fft.rfft2(x))))

    counts = count(Call(spectral), (4, 8, 8))
    assert counts.macs == 0
    assert counts.uncounted == {"aten::fft_irfft2": 2, "aten::fft_rfft2": 2}


def test_an_autograd_function_is_reported():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    assert count(Call(lambda x, _: Twice.apply(x)), (4,)).uncounted == {"prim::PythonOp.Twice": 1}


def test_a_custom_operator_is_reported_by_its_name():
    @torch.library.custom_op("nas_test::mix", mutates_args=())
    def mix(x: torch.Tensor) -> torch.Tensor:
        return x.roll(1, -1) * 2

    mix.register_fake(torch.empty_like)
    counts = count(Call(lambda x, _: mix(x)), (4, 8))
    assert counts.uncounted == {"nas_test::mix": 1}
    assert counts.macs == 0


def test_elementwise_products_are_no_macs_but_are_seen():
    counts = count(Call(lambda x, w: x * torch.sigmoid(x * w), 8), (4, 8))
    assert (counts.macs, counts.vector_elements, counts.uncounted) == (0, 3 * 32, {})


def test_shared_weights_count_once_and_their_use_each_time():
    layer = nn.Linear(8, 8)
    counts = count(nn.Sequential(layer, layer), (8,))
    assert (counts.params, counts.macs) == (72, 128)


def test_frozen_parameters_are_not_trainable():
    module = convnet()
    module[0].requires_grad_(False)
    counts = count(module, (3, 8, 8))
    assert counts.params - counts.trainable_params == 216


def test_the_module_is_left_as_it_was():
    module = convnet().train()
    module[3].eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    count(module, (3, 8, 8))
    assert module.training and not module[3].training and module[0].training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", ["largekernel", "resnet", "mixer", "hiervit"])
def test_the_quick_count_is_that_of_the_table(name, device):
    task = TaskSpec("digits", (3, 32, 32), 10, examples=100, digest="d" * 32)
    space, rng = load_space(name).at(task), np.random.default_rng(1)
    for size in (0.1, 0.5):
        with torch.device(device):
            network = space.build(space.sample_sized(rng, size).choices, task)
            deployed = fold(network, task.input)[0]
        assert macs(deployed, task.input) == count(deployed, task.input).macs > 0


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_quick_count_sees_attention(device):
    with torch.device(device):
        module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(2), Call(attend)).eval()
    assert macs(module, (3, 4, 16)) == count(module, (3, 4, 16)).macs > 3 * 8 * 64


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("function", "weight", "shape", "cost"),
    [
        (lambda x, w: w @ x.flatten(), (32, 32), (32,), 1024),
        (lambda x, w: w @ x.flatten(), (32,), (32,), 32),
        (lambda x, w: torch.einsum("bchw,c->bchw", x, w), (4,), (4, 8, 8), 256),
        (lambda x, w: torch.einsum("bchw,dc->bdhw", [x, w]), (3, 4), (4, 8, 8), 768),
        (lambda x, w: torch.einsum("bc,dc,d->bd", x, w, w[:, 0]), (3, 4), (4,), 15),
    ],
)
def test_the_quick_count_sees_products_with_vectors(device, function, weight, shape, cost):
    with torch.device(device):
        module = Call(function, *weight).eval()
    assert macs(module, shape) == count(module, shape).macs == cost


def test_the_quick_count_leaves_recurrent_layers_to_the_other():
    with pytest.raises(NotImplementedError, match="recurrent"):
        macs(nn.GRU(4, 8), (3, 4))


def test_meta_modules_count_like_real_ones():
    with torch.device("meta"):
        hollow = convnet()
    real = count(convnet(), (3, 8, 8))
    assert count(hollow, (3, 8, 8)) == real
    assert (real.nonzero_params, real.nonzero_macs) == (real.params, real.macs)


def test_half_precision_modules_are_counted():
    assert count(nn.Linear(4, 4).to(torch.bfloat16), (4,)).macs == 16


# --- zeroed weights ------------------------------------------------------------------------------


def test_zeroed_weights_leave_the_nonzero_counts():
    module = convnet()
    with torch.no_grad():
        module[0].weight[:4] = 0  # half of 216
        module[6].weight[:, 4:] = 0  # three quarters of 160
        module[1].weight.zero_()  # a norm's weights are no products'
    counts = count(module, (3, 8, 8))
    assert counts.params - counts.nonzero_params == 108 + 120
    assert counts.macs - counts.nonzero_macs == 64 * 108 + 120


class Masked(nn.Module):
    """A parametrization that multiplies by a mask."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask


class Own(nn.Module):
    """A linear layer that keeps a mask in its own way, and adds a buffer that is none."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 8))
        self.register_buffer("mask", checkerboard((6, 8)))

    def forward(self, x):
        return F.linear(x, self.weight * self.mask)


class Shifted(Own):
    """Adds what looks like a mask."""

    def forward(self, x):
        return F.linear(x, self.weight + self.mask)


def checkerboard(shape):
    return (torch.arange(math.prod(shape)) % 2).float().reshape(shape)


def test_masks_count_as_zeros_however_they_are_kept():
    parametrized = nn.Linear(8, 6)
    parametrize.register_parametrization(parametrized, "weight", Masked(checkerboard((6, 8))))
    pruned = prune.custom_from_mask(nn.Linear(8, 6), "weight", checkerboard((6, 8)))
    for module, bias in ((parametrized, 6), (pruned, 6), (Own(), 0)):
        counts = count(module, (8,))
        assert (counts.params, counts.macs) == (48 + bias, 48)
        assert (counts.nonzero_params, counts.nonzero_macs) == (24 + bias, 24)
        assert counts.uncounted == {}


def test_a_masked_convolution_is_scaled_by_its_own_density_alone():
    module = convnet()
    shape = module[3][0].weight.shape
    mask = torch.zeros(shape)
    mask[..., 1:4, 1:4] = 1  # 9 of 25 taps
    parametrize.register_parametrization(module[3][0], "weight", Masked(mask))
    counts = count(module, (3, 8, 8))
    assert counts.macs - counts.nonzero_macs == 64 * 8 * 16
    assert counts.params - counts.nonzero_params == 8 * 16


def test_a_buffer_that_is_added_is_no_mask():
    counts = count(Shifted(), (8,))
    assert counts.nonzero_macs == counts.macs == 48
    assert counts.nonzero_params == 48


class Stubborn(nn.Module):
    """Keeps a tensor outside of parameters and buffers, and makes another on the CPU."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.scale = torch.ones(8)

    def forward(self, x):
        return self.layer(x * self.scale + torch.arange(8))


def test_a_module_that_cannot_live_on_meta_is_run_for_real():
    counts = count(Stubborn(), (8,))
    assert (counts.macs, counts.params) == (32, 36)


def test_a_module_that_cannot_run_at_all_says_so_itself():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count(nn.Linear(8, 4), (7,))
