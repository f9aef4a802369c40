"""Optimizers by their formulas, and what each is for."""

import torch

from nas.training.optimizers import AdaBelief, Lamb


def test_adabelief_by_its_formula() -> None:
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(4, dtype=torch.float64))
    lr, (b1, b2), eps, decay = 0.1, (0.9, 0.99), 1e-8, 0.05
    optimizer = AdaBelief([p], lr=lr, betas=(b1, b2), eps=eps, weight_decay=decay)
    x, m, s = p.detach().clone(), torch.zeros(4).double(), torch.zeros(4).double()
    for t in range(1, 6):
        g = torch.randn(4, dtype=torch.float64)
        p.grad = g.clone()
        optimizer.step()
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps
        x = x - lr * decay * x
        x = x - lr * (m / (1 - b1**t)) / ((s / (1 - b2**t)).sqrt() + eps)
        torch.testing.assert_close(p.detach(), x)


def test_steps_of_adabelief_are_longer_where_gradients_agree() -> None:
    steady, wild = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    for parameter, signs in ((steady, (1.0, 1.0)), (wild, (3.0, -1.0))):
        optimizer = AdaBelief([parameter], lr=0.01, weight_decay=0.0)
        for i in range(20):
            parameter.grad = torch.tensor([signs[i % 2]])
            optimizer.step()
    assert abs(float(steady.detach())) > 2 * abs(float(wild.detach()))


def test_lamb_by_its_formula() -> None:
    torch.manual_seed(0)
    weight, bias = (torch.nn.Parameter(torch.randn(n, dtype=torch.float64)) for n in (6, 3))
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    rate, first, second, eps = 0.05, 0.9, 0.99, 1e-6
    optimizer = Lamb(groups, lr=rate, betas=(first, second), eps=eps)
    for parameter, decay in ((weight, 0.1), (bias, 0.0)):
        wanted = parameter.detach().clone()
        mean, square = torch.zeros_like(wanted), torch.zeros_like(wanted)
        weight.grad = bias.grad = None
        for t in range(1, 6):
            gradient = torch.randn_like(wanted)
            parameter.grad = gradient.clone()
            optimizer.step()
            mean = first * mean + (1 - first) * gradient
            square = second * square + (1 - second) * gradient**2
            step = mean / (1 - first**t) / ((square / (1 - second**t)).sqrt() + eps)
            step = step + decay * wanted
            if decay:
                step = step * wanted.norm() / step.norm()
            wanted = wanted - rate * step
            torch.testing.assert_close(parameter.detach(), wanted)


def test_a_step_of_lamb_is_a_share_of_the_weights_whatever_the_gradient() -> None:
    moves = []
    for size in (1e-3, 1e3):
        weight = torch.nn.Parameter(torch.ones(4))
        weight.grad = size * torch.ones(4)
        Lamb([weight], lr=0.1, weight_decay=1e-9).step()
        moves.append(float((1 - weight.detach()).norm()))
    assert all(abs(move - 0.2) < 1e-4 for move in moves)  # a tenth of the norm, which is 2
