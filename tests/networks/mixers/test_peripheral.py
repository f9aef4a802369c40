"""Peripheral convolution against a definition by loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nas.networks.mixers.peripheral import PeripheralMixer, PositionalTable, cells
from nas.networks.parts.log import Log


@pytest.mark.parametrize(
    ("kernel", "core", "side"),
    # kernel, single cells beside the centre -> weights a side
    [(13, 2, 9), (31, 2, 11), (47, 2, 13), (49, 2, 13), (51, 2, 13), (69, 3, 17), (101, 3, 17)],
)
def test_the_number_of_cells_is_the_published_one(kernel: int, core: int, side: int) -> None:
    index = cells(kernel, core)
    assert len(index) == kernel
    assert sorted(set(index)) == list(range(side))
    assert index == [side - 1 - i for i in reversed(index)]


def test_the_widths_of_the_cells() -> None:
    index = cells(51, 2)
    assert [index.count(i) for i in range(13)] == [9, 8, 4, 2, 1, 1, 1, 1, 1, 2, 4, 8, 9]
    assert [cells(101, 3).count(i) for i in range(9)] == [17, 16, 8, 4, 2, 1, 1, 1, 1]
    assert cells(3, 1) == [0, 1, 2]


def test_each_tap_sees_the_input_plus_its_offset_padding_included() -> None:
    torch.manual_seed(0)
    table = PositionalTable(2, 7).double()
    mixer = PeripheralMixer(2, 7, 1, table).double()
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64)
    index, padded = cells(7, 1), F.pad(x, (3, 3, 3, 3))
    wanted = torch.zeros_like(x)
    for i in range(7):
        for j in range(7):
            tap = mixer.weight[:, 0, index[i], index[j]][:, None, None]
            window = padded[:, :, i : i + 5, j : j + 4]
            wanted += tap * (window + table.offset[:, i, j][:, None, None])
    assert torch.allclose(mixer.eval()(x), wanted, rtol=1e-10)
    assert torch.allclose(mixer.train()(x), wanted, rtol=1e-10)
    assert torch.allclose(mixer.deployed("", (5, 4), Log())(x), wanted, rtol=1e-10)


def test_the_table_belongs_to_the_stage_alone() -> None:
    mixer = PeripheralMixer(2, 7, 1, PositionalTable(2, 7))
    assert [name for name, _ in mixer.named_parameters()] == ["weight"]
    assert list(mixer.state_dict()) == ["weight"]
