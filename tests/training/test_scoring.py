import math

import numpy as np
import pytest
import torch

from nas.core.task import Task
from nas.training.scoring import rows, score, summary


def _task(answers, batch, score_of=None, scale=100.0):
    """Inputs are positions; the network's output is looked up by them."""
    count = len(answers)

    def batches(split, seed):
        for start in range(0, count, batch):
            places = torch.arange(start, min(count, start + batch))
            yield places.unsqueeze(1).float(), torch.as_tensor(answers)[places]

    return Task((1,), 2, batches, lambda o, t: o.sum(),
                score_of or (lambda o, t: (o[:, 0] == t).float()), score_scale=scale)  # fmt: skip


@pytest.mark.parametrize("batch", [1, 4, 7, 100])
def test_parts(batch):
    answers = torch.arange(30).float()
    answers[[0, 1, 2, 3]] = -1.0  # positions 0 and 3 are kept, 1 and 2 the search's
    found = score(lambda x: x, _task(answers, batch), ("search", "confirm", "all"))
    assert [found[p].n for p in ("search", "confirm", "all")] == [20, 10, 30]
    assert found["search"].score == pytest.approx(90)
    assert found["confirm"].score == pytest.approx(80)
    assert found["all"].score == pytest.approx(100 * 26 / 30)


def test_only_what_is_asked_for_is_predicted():
    seen = []
    score(lambda x: seen.append(len(x)) or x, _task(torch.zeros(30), 10), ("search",))
    assert sum(seen) == 20


def test_a_batch_of_which_nothing_is_asked_for_is_not_predicted():
    seen = []
    found = score(lambda x: seen.append(len(x)) or x, _task(torch.zeros(30), 1), ("search",))
    assert seen == [1] * 20 and found["search"].n == 20


def test_the_lease_is_entered_around_each_batch():
    entered = []

    class Step:
        def __enter__(self):
            entered.append(1)

        def __exit__(self, *_):
            pass

    score(lambda x: x, _task(torch.zeros(30), 10), step=Step)
    assert len(entered) == 4  # three batches and the end


def test_all_right_is_not_without_doubt():
    found = summary([(torch.ones(100), 100)], 100.0)
    assert found.score == 100
    assert 1 < found.se < 2.5


def test_the_error_of_a_share_is_binomial():
    values = torch.zeros(10_000)
    values[:3000] = 1
    assert summary([(values, 10_000)], 1.0).se == pytest.approx(math.sqrt(0.21 / 10_000), rel=1e-3)


def test_the_error_of_other_scores_is_that_of_their_mean():
    values = torch.from_numpy(np.random.default_rng(0).normal(5, 2, 400))
    found = summary([(values[:100], 100), (values[100:], 300)], 1.0)
    assert found.score == pytest.approx(float(values.mean()))
    assert found.se == pytest.approx(float(values.std()) / 20)


def test_scores_of_batches_are_weighted_by_their_examples():
    task = _task(torch.zeros(9), 4, score_of=lambda o, t: t.new_tensor(float(len(t))), scale=1.0)
    found = score(lambda x: x, task, ("all",))["all"]
    assert found.score == pytest.approx((4 * 4 + 4 * 4 + 1 * 1) / 9)
    assert found.n == 9
    assert found.se > 0


def test_one_value_is_all_doubt():
    assert summary([(torch.tensor(0.7), 5)], 1.0).se == pytest.approx(0.7)


def test_rows_of_nested_batches():
    mask = torch.tensor([True, False, True])
    batch = {"boxes": [torch.ones(1), torch.ones(2), torch.ones(3)], "label": torch.arange(3)}
    found = rows(batch, mask)
    assert [len(b) for b in found["boxes"]] == [1, 3]
    assert found["label"].tolist() == [0, 2]
    assert [t.tolist() for t in rows((torch.arange(3), torch.arange(3)), mask)] == [[0, 2], [0, 2]]
