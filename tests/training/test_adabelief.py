"""AdaBelief by its formula, and what it is for: long steps where gradients are as expected."""

import torch

from nas.training.adabelief import AdaBelief


def test_by_the_formula() -> None:
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


def test_steps_are_longer_where_gradients_agree() -> None:
    steady, wild = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    for parameter, signs in ((steady, (1.0, 1.0)), (wild, (3.0, -1.0))):
        optimizer = AdaBelief([parameter], lr=0.01, weight_decay=0.0)
        for i in range(20):
            parameter.grad = torch.tensor([signs[i % 2]])
            optimizer.step()
    assert abs(float(steady.detach())) > 2 * abs(float(wild.detach()))
