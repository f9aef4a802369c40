import torch
from torch import nn

from nas.hardware.memory import peak_activation_bytes


class Residual(nn.Module):
    def forward(self, x):
        return x + torch.relu(x * 2)


def test_a_chain_holds_input_and_two_neighbours():
    chain = nn.Sequential(nn.Linear(8, 100), nn.Linear(100, 100), nn.Linear(100, 4))
    # the example, and the input and output of the middle layer, four bytes each
    assert peak_activation_bytes(chain, (8,)) == 4 * (8 + 100 + 100)


def test_in_place_work_and_views_need_nothing():
    def net(inplace):
        return nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(inplace=inplace), nn.Flatten())

    assert peak_activation_bytes(net(True), (2, 4, 4)) == 4 * (32 + 128)
    assert peak_activation_bytes(net(False), (2, 4, 4)) == 4 * (32 + 128 + 128)


def test_a_branch_keeps_what_it_will_add():
    # x (the example), 2x, and relu(2x) while 2x is still held; then x, relu(2x) and the sum
    assert peak_activation_bytes(Residual(), (10,)) == 4 * 30


def test_freed_tensors_do_not_add_up():
    deep = nn.Sequential(*[nn.Linear(16, 16) for _ in range(20)])
    assert peak_activation_bytes(deep, (16,)) == 4 * 48


def test_weights_and_their_size_do_not_count():
    wide = nn.Sequential(nn.Conv2d(1, 4, 31, padding=15), nn.BatchNorm2d(4))
    small = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4))
    assert peak_activation_bytes(wide, (1, 8, 8)) == peak_activation_bytes(small, (1, 8, 8))


def test_equal_for_meta_and_real_modules_and_half_of_it_in_half_precision():
    with torch.device("meta"):
        hollow = nn.Linear(8, 4)
    assert peak_activation_bytes(hollow, (8,)) == peak_activation_bytes(nn.Linear(8, 4), (8,)) == 48
    assert peak_activation_bytes(nn.Linear(8, 4).half(), (8,)) == 24


class Stubborn(nn.Module):
    """Makes a tensor on the CPU, so it cannot run on meta."""

    def __init__(self):
        super().__init__()
        self.scale = torch.ones(8)

    def forward(self, x):
        return x * self.scale


def test_a_module_that_cannot_live_on_meta_is_run_for_real():
    assert peak_activation_bytes(Stubborn(), (8,)) == 4 * 16
