"""What is stated of luck is what made-up studies really have, and taking it out brings truth."""

from dataclasses import replace

import numpy as np
import pytest

from nas.core.architecture import Architecture
from nas.core.luck import believed, luck
from nas.core.trial import Trained, Trial

SE = 2.5  # standard error of a score on so few images, which all networks share a part of


def trials(rng: np.random.Generator, common: float, seeds: float, repeats: int) -> list[Trial]:
    """Forty networks; `common` is the share of the image noise that is the same for all."""
    both = np.sqrt(common) * SE * rng.standard_normal(2)
    made = []
    for number in range(40):
        worth, stays = rng.uniform(80, 95), rng.standard_normal(2)
        runs = []
        for repeat in range(repeats if number < 8 else 1):
            mine = (stays + rng.standard_normal(2)) / np.sqrt(2)
            lucky = worth + seeds * rng.standard_normal()
            score, confirm = lucky + both + np.sqrt(1 - common) * SE * mine
            runs.append(Trained(repeat, "f", score, SE, 400, confirm, SE, 400))
        made.append(Trial(number, Architecture("toy", {"n": number}), trained=tuple(runs)))
    return made


@pytest.mark.parametrize(("common", "seeds"), [(0.0, 0.0), (0.6, 0.0), (0.6, 1.5), (0.7, 1.0)])
def test_luck_is_what_is_not_shared(common: float, seeds: float) -> None:
    stated = [luck(trials(np.random.default_rng(s), common, seeds, 3)) for s in range(60)]
    own = (1 - common) * SE**2
    once, thrice = own + seeds**2, own / 2 + (own / 2 + seeds**2) / 3
    assert np.mean([v[20] for v in stated]) == pytest.approx(once, rel=0.15)
    assert np.mean([v[0] for v in stated]) == pytest.approx(thrice, rel=0.2)


def test_before_anything_was_repeated_image_noise_is_all_own() -> None:
    [one] = trials(np.random.default_rng(0), 0.5, 1.0, 1)[:1]
    assert luck([one]) == pytest.approx([1.5 * SE**2])


def test_what_is_a_networks_own_is_no_more_than_all_image_noise_and_a_quarter_at_least() -> None:
    def scored(*apart: float) -> list[Trial]:
        runs = [(Trained(0, "f", 80.0 + a, SE, 400, 80.0, SE, 400),) for a in apart]
        return [Trial(n, Architecture("toy", {"n": n}), trained=r) for n, r in enumerate(runs)]

    assert luck(scored(*range(0, 90, 10))) == pytest.approx([1.5 * SE**2] * 9)
    assert luck(scored(*[1.0] * 9)) == pytest.approx([0.25 * 1.5 * SE**2] * 9)
    share = (1 + 2 * 9 / (2 * SE**2)) / 3  # a variance of 9, and once what was expected
    assert luck(scored(0.0, 3.0, 6.0)) == pytest.approx([1.5 * share * SE**2] * 3)
    exact = [replace(t, trained=(replace(t.trained[0], score_se=0.0, confirm_se=0.0),))
             for t in scored(1.0, 2.0)]  # fmt: skip
    assert luck(exact).tolist() == [0.0, 0.0]


def test_where_costs_say_nothing_values_are_drawn_to_their_mean() -> None:
    values = np.array([88.0, 90.0, 91.0, 92.0, 93.0, 95.0, 97.0, 99.0, 90.5, 94.5])
    noise = np.linspace(1.0, 4.0, 10)
    means, left = believed(values, np.ones((10, 1)), noise)
    degrees, mean, typical = 7, values.mean(), noise.mean()
    spread = (typical + ((values - mean) ** 2).sum() - degrees * typical) / (1 + degrees)
    doubt = spread + (spread + typical) / 10
    kept = doubt / (doubt + noise)
    assert means == pytest.approx(mean + kept * (values - mean))
    guess = 2 / degrees * ((1 - kept) * (values - mean)) ** 2
    assert left == pytest.approx(kept * noise + guess)


def test_taking_luck_out_brings_values_nearer_the_truth() -> None:
    raw, better, inside = [], [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        costs = np.exp(rng.uniform(0, 2, (30, 1)))
        truth = 90 + 3 * np.log(costs[:, 0]) + 0.7 * rng.standard_normal(30)
        values = truth + 1.5 * rng.standard_normal(30)
        means, left = believed(values, costs, np.full(30, 1.5**2))
        raw.append(np.mean((values - truth) ** 2))
        better.append(np.mean((means - truth) ** 2))
        inside.append(np.mean(np.abs(means - truth) <= 1.645 * np.sqrt(left)))
    assert np.mean(better) < 0.5 * np.mean(raw)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.04)


def test_few_values_are_left_as_they_are() -> None:
    values, noise = np.array([1.0, 5.0, 2.0]), np.ones(3)
    means, left = believed(values, np.array([[1.0], [2.0], [3.0]]), noise)
    assert means.tolist() == values.tolist() and left.tolist() == noise.tolist()
