"""LAMB by its formula: a step as long as the tensor, where the tensor decays."""

import torch

from nas.training.lamb import Lamb


def test_by_the_formula() -> None:
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


def test_a_step_is_a_share_of_the_weights_whatever_the_gradient() -> None:
    moves = []
    for size in (1e-3, 1e3):
        weight = torch.nn.Parameter(torch.ones(4))
        weight.grad = size * torch.ones(4)
        Lamb([weight], lr=0.1, weight_decay=1e-9).step()
        moves.append(float((1 - weight.detach()).norm()))
    assert all(abs(move - 0.2) < 1e-4 for move in moves)  # a tenth of the norm, which is 2
