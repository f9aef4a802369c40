from __future__ import annotations

import json
import math

import numpy as np
import pytest
from example_study import spec, study
from scipy.stats import kendalltau, norm, rankdata

from nas.core.trial import Trained
from nas.report.correlations import (
    AZ_NAS,
    az_nas,
    correlation,
    correlations_document,
    residuals,
)


@pytest.mark.parametrize("levels", [3, 1000])
def test_tau_is_kendalls_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    x, y = rng.integers(levels, size=(2, 40)).astype(float)
    found = correlation(x, y + 0.5 * x)
    assert found is not None
    assert found.tau == pytest.approx(kendalltau(x, y + 0.5 * x).statistic)


@pytest.mark.parametrize(("n", "rho"), [(10, 0.0), (10, 0.8), (40, 0.5), (40, 0.9)])
def test_nine_of_ten_intervals_hold_the_true_tau(n: int, rho: float) -> None:
    """Of two normal variables it is known: 2 / pi * arcsin(rho)."""
    rng, true = np.random.default_rng(n), 2 / math.pi * math.asin(rho)
    held = 0
    for _ in range(400):
        x, e = rng.normal(size=(2, n))
        found = correlation(x, rho * x + math.sqrt(1 - rho**2) * e)
        assert found is not None
        held += found.low <= true <= found.high
    assert 0.86 <= held / 400 <= 0.99


def test_what_two_columns_share_through_size_alone_is_gone_beyond_size() -> None:
    rng, raw, beyond = np.random.default_rng(0), [], []
    for _ in range(100):
        sizes = rng.normal(size=(40, 2))
        x, y = sizes.sum(1) + rng.normal(size=40), sizes.sum(1) + rng.normal(size=40)
        raw.append(correlation(x, y).tau)
        found = correlation(np.exp(x), y**3, np.exp(sizes))
        beyond.append((found.tau, found.low <= 0 <= found.high))
    assert np.mean(raw) > 0.4
    assert abs(np.mean([tau for tau, _ in beyond])) < 0.08
    assert np.mean([held for _, held in beyond]) >= 0.85


def test_only_the_order_of_values_counts() -> None:
    rng = np.random.default_rng(1)
    x, y, *sizes = rng.normal(size=(4, 20))
    one = correlation(x, y, np.column_stack(sizes))
    assert one == correlation(np.exp(9 * x), y**3, np.exp(np.column_stack(sizes)))


def test_residuals_are_those_of_a_regression_on_normal_scores() -> None:
    rng = np.random.default_rng(2)
    values, sizes = rng.integers(6, size=30).astype(float), rng.normal(size=(30, 2))
    scores = [norm.ppf(rankdata(v) / 31) for v in (values, *sizes.T)]
    design = np.column_stack([np.ones(30), *scores[1:]])
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    assert residuals(values, sizes) == pytest.approx(scores[0] - hat @ scores[0])


def test_a_size_is_nothing_beyond_itself() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.normal(size=(20, 2))
    assert correlation(sizes[:, 0], rng.normal(size=20), sizes) is None


@pytest.mark.parametrize("sign", [-1, 1])
def test_full_agreement_is_still_doubtful(sign: int) -> None:
    """Seven disjoint pairs that agree by chance p do so with p**7: 0.05 at the interval's end."""
    found = correlation(np.arange(14.0), sign * np.arange(14.0))
    far, near = (found.low, found.high)[::sign]
    assert found.tau == sign and near == sign
    assert ((sign * far + 1) / 2) ** 7 == pytest.approx(0.05)


def test_too_few_or_equal_values_say_nothing() -> None:
    assert correlation(np.arange(4.0), np.arange(4.0)) is None
    assert correlation(np.arange(6.0), np.arange(6.0), np.zeros((6, 2))) is None
    assert correlation(np.ones(9), np.arange(9.0)) is None


def _with_proxies() -> list:
    from dataclasses import replace

    _, trials, _ = study()
    rng = np.random.default_rng(0)
    told = []
    for trial in trials:
        said = {"noise": float(rng.normal())}
        for doubt, name in enumerate(AZ_NAS[:3], 1):
            said[name] = trial.trained[0].confirm + rng.normal(scale=doubt) if trial.trained else 0
        told.append(replace(trial, proxies=said))
    return told


def test_a_document_ranks_sizes_proxies_and_rungs() -> None:
    document = correlations_document(spec(), _with_proxies())
    assert json.loads(json.dumps(document)) == document
    rows = {r["name"]: r for r in document["rows"]}
    assert list(rows) == ["params", "macs", "az_expressivity", "az_progressivity",
                          "az_trainability", "noise", "az_nas", "1 epoch", "9 epochs"]  # fmt: skip
    assert document["trained"] == 36 and document["score"] == "accuracy"
    assert rows["9 epochs"]["tau"] == pytest.approx(1.0)  # the made-up study's last rung
    assert rows["az_expressivity"]["tau"] > 0.6 > rows["noise"]["tau"]
    assert rows["params"]["beyond_size"] is None
    assert rows["az_expressivity"]["beyond_size"]["tau"] > 0.4
    assert [r["kind"] for r in document["rows"]].count("proxy") == 5


def test_repeats_share_one_final_score_and_copies_have_none() -> None:
    from dataclasses import replace

    trials = _with_proxies()
    again = Trained(1, "f", 0.0, 0.9, 119, 10.0, 0.9, 60)
    trials[3] = replace(trials[3], trained=(*trials[3].trained, again))
    copy = replace(trials[0], number=99, reused="trial 0")
    document = correlations_document(spec(), [*trials, copy])
    assert document["trained"] == 36
    last = next(r for r in document["rows"] if r["name"] == "9 epochs")
    assert last["tau"] < 1


def test_az_nas_adds_the_logarithms_of_ranks() -> None:
    trials = [t for t in _with_proxies() if t.trained][:6]
    values = [{**t.proxies, **t.costs} for t in trials]
    expected = {
        t.number: sum(math.log(rankdata([w[n] for w in values])[i] / 6) for n in AZ_NAS)
        for i, t in enumerate(trials)
    }
    assert az_nas(trials) == pytest.approx(expected)


def test_a_study_without_final_scores_has_a_document() -> None:
    document = correlations_document(spec(), [])
    assert document["trained"] == 0
    assert all(row["tau"] is None for row in document["rows"])
