from __future__ import annotations

import pytest
import torch

from nas.transforms.sparsify.patterns import largest, n_of_m, obeys


def test_exactly_so_many_are_kept_even_where_all_are_equal() -> None:
    assert largest(torch.zeros(3, 5), 7).sum() == 7
    scores = torch.tensor([[0.0, 3.0], [2.0, 1.0]])
    assert largest(scores, 2).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3, 3), (6, 8, 5)])
@pytest.mark.parametrize("n, m", [(2, 4), (1, 4), (4, 8)])
def test_of_each_m_inputs_the_n_largest(shape: tuple[int, ...], n: int, m: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    mask = n_of_m(weight.abs(), n, m)
    assert mask.shape == weight.shape and obeys(weight * mask, n, m)
    rows = weight.flatten(2) if weight.ndim > 2 else weight[:, :, None]
    masks = mask.flatten(2) if mask.ndim > 2 else mask[:, :, None]
    for out in range(shape[0]):
        for place in range(rows.shape[2]):
            for start in range(0, shape[1], m):
                group = rows[out, start : start + m, place].abs()
                kept = masks[out, start : start + m, place]
                assert kept.sum() == n
                assert group[kept].min() >= group[~kept].max()


def test_groups_lie_along_the_inputs_not_the_outputs() -> None:
    weight = torch.zeros(4, 4)
    weight[:, 0] = 1.0  # one input, all outputs: fine along inputs, four of four along outputs
    assert obeys(weight, 2, 4) and not obeys(weight.T, 2, 4)


def test_inputs_must_be_a_multiple() -> None:
    with pytest.raises(ValueError, match="6 inputs"):
        n_of_m(torch.zeros(2, 6), 2, 4)
    assert not obeys(torch.zeros(2, 6), 2, 4)


def test_what_is_merged_into_masked_weights_destroys_the_pattern() -> None:
    """Why an adapter may not be merged into 2:4 weights unless it is masked as they are."""
    torch.manual_seed(0)
    weight = torch.randn(32, 64)
    mask = n_of_m(weight.abs(), 2, 4)
    low_rank = torch.randn(32, 4) @ torch.randn(4, 64) / 8
    assert not obeys(weight * mask + low_rank, 2, 4)
    assert obeys((weight + low_rank) * mask, 2, 4)
