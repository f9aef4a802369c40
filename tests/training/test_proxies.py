"""Each proxy against its own definition, computed another way, and against its known traps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.core.task import Task
from nas.training import proxies as px
from nas.training.watching import blocks, prepared


def net(norm: bool = True, act: Callable[[], nn.Module] = nn.ReLU, seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3) if norm else nn.Identity(), act(),
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4) if norm else nn.Identity(),
        act(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    return made.double()


def images(count: int = 6, side: int = 6, seed: int = 2) -> Tensor:
    return torch.randn(
        count, 2, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def task(count: int = 6) -> Task:
    def batches(split: str, seed: int):
        yield images(count, seed=seed + 7).float(), torch.arange(count) % 3

    return Task((2, 6, 6), 3, batches, nn.functional.cross_entropy, lambda o, t: (o, t))


def loss(output: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output, torch.arange(len(output)) % 3)


def test_gradients_are_those_of_finite_differences() -> None:
    module, x, step = net(), images(), 1e-6
    moved = prepared(module)
    norms, saliency = 0.0, 0.0
    with torch.no_grad():
        for weight in [p for p in moved.parameters() if p.ndim >= 2]:
            flat, squares = weight.view(-1), 0.0
            for i in range(len(flat)):
                kept = float(flat[i])
                flat[i] = kept + step
                up = float(loss(moved(x)))
                flat[i] = kept - step
                down = float(loss(moved(x)))
                flat[i] = kept
                gradient = (up - down) / (2 * step)
                squares += gradient**2
                saliency += abs(kept * gradient)
            norms += math.sqrt(squares)
    assert px.gradients(module, x, loss) == pytest.approx((norms, saliency), rel=1e-6)


def test_snip_of_a_network_is_the_gradient_of_masks_of_ones() -> None:
    module, x = net(), images()
    masked = prepared(module)
    masks = {n: torch.ones_like(p, requires_grad=True)
             for n, p in masked.named_parameters() if p.ndim >= 2}  # fmt: skip
    given = {n: p * masks[n] if n in masks else p for n, p in masked.named_parameters()}
    output = torch.func.functional_call(masked, given, (x,))
    found = torch.autograd.grad(loss(output), list(masks.values()))
    assert px.gradients(module, x, loss)[1] == pytest.approx(sum(float(g.abs().sum())
                                                                 for g in found))  # fmt: skip


def chain(
    depth: int, width: int = 8, seed: int = 0, act: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(depth):
        layers += [nn.Linear(72 if i == 0 else width, width, bias=False), nn.LayerNorm(width)]
        layers += [act()]
    return nn.Sequential(*layers)


def flows(module: nn.Module) -> list[float]:
    """What absolute weights alone make of an input of ones, summed after each of the layers."""
    flow, sums = np.ones(72), []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            flow = np.abs(layer.weight.detach().double().numpy()) @ flow
            sums.append(flow.sum())
    return sums


@pytest.mark.parametrize("depth", [1, 3])
def test_synflow_conserves_the_flow_through_every_layer(depth: int) -> None:
    """Without biases each layer's sum of w * dR/dw is R itself: the product of absolute weights."""
    module = chain(depth)
    total = depth * flows(module)[-1]
    assert px.synflow(module, (2, 6, 6)) == pytest.approx(math.log10(total), rel=1e-9)


class Function(nn.Module):
    """An activation written as a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


CLIPPED = [
    nn.ReLU6, lambda: nn.ReLU6(inplace=True), lambda: nn.Hardtanh(-1, 6),
    lambda: Function(nn.functional.relu6), lambda: Function(lambda x: x.clamp(0, 6)),
    lambda: Function(lambda x: torch.clamp(x, max=6)), lambda: Function(lambda x: x.clip_(0, 6)),
]  # fmt: skip


@pytest.mark.parametrize("act", CLIPPED)
def test_synflow_of_clipped_activations_is_the_flow_as_long_as_none_is_clipped(
    act: Callable[[], nn.Module],
) -> None:
    module = chain(3, act=act)
    assert max(flows(module)) > 8 * 6  # somewhere more than 6 of a unit
    with pytest.raises(px.Undefined, match="ReLU6 conserve no flow, and it has"):
        px.synflow(module, (2, 6, 6))
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(0.05)
    assert max(flows(module)) < 6
    total = 3 * flows(module)[-1]
    assert px.synflow(module, (2, 6, 6)) == pytest.approx(math.log10(total), rel=1e-9)


def test_synflow_is_defined_where_what_is_clipped_carries_no_flow() -> None:
    """A lower bound, and places of a map."""

    def act(x: Tensor) -> Tensor:
        places = torch.arange(-1, x.shape[1] + 1).clamp(0, x.shape[1] - 1)[1:-1]
        return x.clamp(min=1e-9)[:, places]

    module = chain(2, act=lambda: Function(act))
    total = 2 * flows(module)[-1]
    assert px.synflow(module, (2, 6, 6)) == pytest.approx(math.log10(total), rel=1e-6)


def test_synflow_of_biases_and_convolutions_by_finite_differences() -> None:
    module = net()
    plain = net(norm=False)
    for one, other in zip(plain, module, strict=True):
        if not isinstance(one, nn.Identity):
            one.load_state_dict(other.state_dict())
    with torch.no_grad():
        for p in plain.parameters():
            p.abs_()
        ones, flow, step = torch.ones(1, 2, 6, 6, dtype=torch.float64), 0.0, 1e-6
        for weight in [p for p in plain.parameters() if p.ndim >= 2]:
            flat = weight.view(-1)
            for i in range(len(flat)):
                kept = float(flat[i])
                flat[i] = kept + step
                up = float(plain(ones).sum())
                flat[i] = kept - step
                down = float(plain(ones).sum())
                flat[i] = kept
                flow += abs(kept * (up - down) / (2 * step))
    assert px.synflow(module, (2, 6, 6)) == pytest.approx(math.log10(flow), rel=1e-7)


def test_synflow_grows_with_depth_and_stays_a_number() -> None:
    scores = [px.synflow(chain(depth, width=64), (2, 6, 6)) for depth in (2, 20, 200)]
    assert scores == sorted(scores) and math.isfinite(scores[-1])
    assert scores[-1] > 38  # beyond what single precision holds


def test_jacob_cov_of_a_linear_network_is_that_of_equal_gradients() -> None:
    """Every input has the same gradient: one eigenvalue is their number, the others zero."""
    torch.manual_seed(0)
    module, n, k = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double(), 6, 1e-5
    eigenvalues = np.array([n] + [0] * (n - 1)) + k
    expected = -float((np.log(eigenvalues) + 1 / eigenvalues).sum())
    assert px.jacob_cov(module, images(n)) == pytest.approx(expected, rel=1e-6)


def test_jacob_cov_by_finite_differences() -> None:
    module, x, step = net(act=nn.GELU), images(4), 1e-5
    moved, jacobian = prepared(module), np.zeros((4, 72))
    with torch.no_grad():
        for n in range(4):
            for i in range(72):
                for sign in (1, -1):
                    y = x.clone()
                    y[n].view(-1)[i] += sign * step
                    jacobian[n, i] += sign * float(moved(y).sum()) / (2 * step)
    values = np.linalg.eigvals(np.corrcoef(jacobian)).real + 1e-5
    expected = -float((np.log(values) + 1 / values).sum())
    assert px.jacob_cov(module, x) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "act",
    [nn.ReLU, lambda: nn.ReLU(inplace=True), nn.GELU, nn.Hardswish, nn.ReLU6, nn.Hardtanh,
     lambda: nn.ReLU6(inplace=True), lambda: nn.Threshold(0.0, 0.0), nn.RReLU],
)  # fmt: skip
def test_naswot_counts_the_units_on_which_examples_agree(act: Callable[[], nn.Module]) -> None:
    module, x = net(act=act), images(5)
    plain, codes = prepared(module), []
    with torch.no_grad():
        first = plain[:2](x.clone())
        second = plain[3:5](plain[2](first.clone()))
    codes = np.concatenate([(m.flatten(1) > 0).numpy() for m in (first, second)], 1)
    agreed = np.array([[int((a == b).sum()) for b in codes] for a in codes], dtype=float)
    assert px.naswot(module, x) == pytest.approx(math.log(np.linalg.det(agreed)), rel=1e-9)


def test_naswot_sees_functions_as_it_sees_modules() -> None:
    class Written(nn.Module):
        def __init__(self, of: nn.Sequential) -> None:
            super().__init__()
            self.of = of

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.of[1](self.of[0](x)))
            x = self.of[4](self.of[3](x)).relu_()
            return self.of[6:](x)

    module = net()
    assert px.naswot(Written(copy.deepcopy(module)), images()) == px.naswot(module, images())


def test_naswot_of_two_equal_examples_is_undefined() -> None:
    x = images(4)
    x[1] = x[0]
    assert math.isnan(px.naswot(net(norm=False), x))


def test_naswot_without_activations_says_that_it_saw_none() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(108, 3))
    found = px.proxies(module, task())
    why = "it counts units that ReLU or the like switches on and off, and saw none"
    assert found.undefined["naswot"] == why


def least_eigenvalues(module: nn.Sequential, x: Tensor) -> float:
    total, before = 0.0, None
    with torch.no_grad():
        for layer in prepared(module):
            x = layer(x)
            if x.ndim != 4 or isinstance(layer, nn.Identity):
                continue
            channels = x[0].flatten(1).numpy()
            if 1 < channels.shape[0] < channels.shape[1] and before is not channels:
                total += np.linalg.eigvals(np.corrcoef(channels)).real.min()
    return total


def test_meco_is_the_sum_of_least_eigenvalues() -> None:
    module = net(act=nn.GELU)
    assert px.meco(module, images()) == pytest.approx(least_eigenvalues(module, images()))


def test_meco_sees_maps_before_they_are_changed_in_place() -> None:
    changed = net(act=lambda: nn.ReLU(inplace=True))
    assert px.meco(changed, images()) == px.meco(net(), images())


def test_meco_counts_no_map_twice_for_the_containers_around_it() -> None:
    module, x = net(act=nn.GELU), images()
    nested = nn.Sequential(nn.Sequential(nn.Sequential(module[:3]), nn.Identity()), module[3:])
    assert px.meco(nested, x) == px.meco(module, x)


def test_meco_leaves_out_maps_with_fewer_pixels_than_channels() -> None:
    torch.manual_seed(0)
    first, wide = nn.Conv2d(2, 3, 3, padding=1).double(), nn.Conv2d(3, 64, 1).double()
    assert px.meco(nn.Sequential(first, wide), images()) == px.meco(nn.Sequential(first), images())
    assert math.isnan(px.meco(nn.Sequential(nn.Flatten(), nn.Linear(72, 2).double()), images()))


def test_meco_of_a_map_with_a_constant_channel_is_a_number() -> None:
    conv = nn.Conv2d(2, 3, 1).double()
    nn.init.zeros_(conv.weight[0].detach())
    assert px.meco(nn.Sequential(conv), images()) == pytest.approx(0, abs=1e-9)


def test_zen_by_hand() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 2))
    with torch.random.fork_rng():
        torch.manual_seed(11)
        w = torch.randn(3, 2, 1, 1)  # drawn first, as the first of the parameters
        torch.randn(2, 108)
        x = torch.randn(4, 2, 6, 6)
        e = torch.randn(4, 2, 6, 6)
    w, x, e = (t.double().numpy() for t in (w[:, :, 0, 0], x, e))
    y, z = (np.einsum("oc,bchw->obhw", w, v).reshape(3, -1) for v in (x, x + 0.01 * e))
    normed = [(v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-5)
              for v in (y, z)]  # fmt: skip
    moved = np.abs(normed[0] - normed[1]).sum() / 4
    expected = math.log(moved) + math.log(math.sqrt(y.var(1, ddof=1).mean()))
    assert px.zen(module, (4, 2, 6, 6), seed=11, repeats=1) == pytest.approx(expected, abs=1e-4)


class Times(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 8.0 * x


@pytest.mark.parametrize("norm", [lambda: nn.BatchNorm2d(5), lambda: nn.GroupNorm(1, 5),
                                  lambda: nn.InstanceNorm2d(5)])  # fmt: skip
def test_zen_adds_back_what_norms_divide_out(norm: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    conv, last = nn.Conv2d(2, 5, 3), norm()
    shape = (4, 2, 8, 8)
    difference = px.zen(nn.Sequential(conv, Times(), last), shape) - px.zen(
        nn.Sequential(conv, last), shape
    )
    assert difference == pytest.approx(math.log(8), abs=1e-3)


def test_zen_without_norms_is_undefined() -> None:
    assert math.isnan(px.zen(net(norm=False).float(), (4, 2, 6, 6)))


def test_zen_does_not_count_norms_after_the_last_map() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    shape = (4, 2, 8, 8)
    bare = px.zen(nn.Sequential(*body, *head), shape)
    assert px.zen(nn.Sequential(*body, *head, nn.LayerNorm(5)), shape) == bare


def test_entropy_is_that_of_the_shares_of_principal_components() -> None:
    x = images(7)
    rows = x.permute(0, 2, 3, 1).reshape(-1, 2).numpy()
    spread = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    shares = spread / spread.sum()
    assert px._entropy(x) == pytest.approx(-float((shares * np.log(shares + 1e-8)).sum()))


@pytest.mark.parametrize("stride", [1, 2])
def test_the_largest_singular_value_is_that_of_a_linear_block(stride: int) -> None:
    """Of a linear block the Jacobian is its weights, each pixel answering to its own square."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, stride, stride=stride, bias=False).double()
    x = torch.randn(64, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    expected = np.linalg.norm(conv.weight.detach().flatten(1).numpy(), 2)
    assert px._largest(x, conv(x)) == pytest.approx(expected, rel=0.02)


def test_az_nas_is_made_of_its_blocks() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.relu(self.norm(self.conv(x)))

    body = nn.Sequential(Block(), Block(), Block())
    module = nn.Sequential(nn.Conv2d(2, 4, 3), body, nn.AdaptiveAvgPool2d(1))
    assert blocks(module) == list(body)
    shape = (4, 2, 8, 8)
    expressivity, progressivity, trainability = px.az_nas(module, shape, seed=5)
    seen: list[Tensor] = []
    handles = [b.register_forward_hook(lambda m, i, o: seen.append(o)) for b in body]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for p in module.parameters():
            nn.init.kaiming_normal_(p) if p.ndim > 1 else None
        for m in module.modules():
            nn.init.zeros_(m.bias) if isinstance(m, nn.Conv2d) else None
        module(torch.randn(shape))
    for handle in handles:
        handle.remove()
    entropies = [px._entropy(o.detach()) for o in seen]
    assert expressivity == pytest.approx(sum(entropies), abs=1e-5)
    assert progressivity == pytest.approx(
        min(entropies[1] - entropies[0], entropies[2] - entropies[1]), abs=1e-5
    )
    assert trainability < 1e-6  # at most 0, where gradients pass unchanged


def test_a_network_without_sequences_of_blocks_is_a_chain_of_convolutions() -> None:
    module = net()
    assert blocks(module) == [module[0], module[3]]


NAMES = set(px.NAMES)


def test_all_proxies_of_a_network_repeat_and_leave_it_as_it_was() -> None:
    module = net().float().train()
    before = copy.deepcopy(module.state_dict())
    random = torch.get_rng_state()
    one, two = px.proxies(module, task(), seed=4), px.proxies(module, task(), seed=4)
    assert one == two and set(one.values) == NAMES and not one.undefined
    assert px.proxies(module, task(), seed=5).values["zen"] != one.values["zen"]
    assert torch.equal(random, torch.get_rng_state())
    assert module.training and all(p.grad is None for p in module.parameters())
    assert all(torch.equal(before[n], v) for n, v in module.state_dict().items())


def test_what_cannot_be_computed_is_left_out_with_its_reason() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(72, 3)

        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                raise TypeError("single precision only")
            return self.linear(x.flatten(1))

    found = px.proxies(Single(), task())
    assert set(found.values) == {"grad_norm", "snip", "jacob_cov"}
    assert found.undefined["synflow"] == "TypeError: single precision only"
    assert set(found.undefined) | set(found.values) == NAMES


class Attending(nn.Module):
    def __init__(self, written: bool) -> None:
        super().__init__()
        self.written = written
        self.inner = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)
        if self.written:
            return self.head(((x @ x.mT).softmax(-1) @ x).mean(1))
        return self.head(self.inner(x, x, x, need_weights=False)[0].mean(1))


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.Sequential(nn.Conv2d(2, 3, 1), nn.Sigmoid(), nn.Flatten(), nn.Linear(108, 3)),
         "sigmoid"),
        (nn.Sequential(nn.Conv2d(2, 3, 1), nn.Tanh(), nn.Flatten(), nn.Linear(108, 3)), "tanh"),
        (Attending(written=True), "softmax"),
        (Attending(written=False), "multi_head_attention_forward"),
    ],
)  # fmt: skip
def test_synflow_is_undefined_where_functions_are_bounded(module: nn.Module, named: str) -> None:
    found = px.proxies(module, task())
    why = f"softmax, sigmoid, tanh and ReLU6 conserve no flow, and it has {named}"
    assert found.undefined["synflow"] == why
    assert {"grad_norm", "snip", "jacob_cov"} <= set(found.values)


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish])
def test_synflow_is_defined_where_they_are_not(act: Callable[[], nn.Module]) -> None:
    assert math.isfinite(px.synflow(net(act=act), (2, 6, 6)))


def test_dropout_is_off() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 3)).double().train()
    assert px.gradients(module, images(), loss) == px.gradients(module, images(), loss)


def test_outputs_may_be_of_several_parts() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(72, 3)

        def forward(self, x: Tensor) -> dict[str, object]:
            y = self.linear(x.flatten(1))
            return {"one": y, "rest": [y[:, :1], (2 * y,)]}

    torch.manual_seed(0)
    module = Parts().double()
    assert math.isfinite(px.jacob_cov(module, images()))
    weight = module.linear.weight.detach().abs().sum(1) * torch.tensor([4.0, 3.0, 3.0])
    assert px.synflow(module, (2, 6, 6)) == pytest.approx(math.log10(float(weight.sum())), rel=1e-6)
