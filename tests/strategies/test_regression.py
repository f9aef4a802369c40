"""The Gaussian process against textbook formulas, finite differences and a known truth."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from nas.strategies.kernel import Part, squared
from nas.strategies.regression import (
    CONSTANT,
    JITTER,
    Matern,
    Parameters,
    Posterior,
    _Objective,
    fit,
)

# Four features; three groups, and what the first two features share with the third.
DESIGN = np.array([[1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]], dtype=float)
# The last of them and two more have a kernel of their own, and a weight each.
PARTS = [Part(slice(0, 4), DESIGN, 3), Part(slice(3, 6), np.eye(3), 3)]
LOGS = np.array([0.1, -0.5, 0.3, -0.2, 0.4, -0.1, 0.3, 0.2, -0.7, -0.4, -2.0])
WEIGHTS, OTHERS = np.array([0.5, 0.7, 1.0, 2.0]), np.array([1.5, 0.2, 0.9])


def matern(one, other, weights, signal):
    scaled = np.sqrt(weights)
    distance = np.sqrt(3 * squared(one * scaled, other * scaled))
    return signal * (1 + distance) * np.exp(-distance)


def kernel(one, other, weights, others, signals, slope):
    found = matern(one[:, :4], other[:, :4], weights, signals[0])
    found += matern(one[:, 3:], other[:, 3:], others, signals[1])
    return found + slope * one[:, :4] @ other[:, :4].T / 4 + CONSTANT


def parameters(noise=0.1):
    kernels = Matern(slice(0, 4), WEIGHTS, 1.3), Matern(slice(3, 6), OTHERS, 0.6)
    return Parameters(kernels, 0.7, noise)


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    return rng.random((25, 6)), rng.normal(size=25), rng.random(25)


def objective(features, values, doubt):
    return _Objective(features, PARTS, values, doubt)


def test_the_likelihood_is_that_of_a_normal_vector(points):
    features, values, doubt = points
    found, _ = objective(features, values, doubt)(LOGS)
    spread = np.array([0.75] * 7 + [1.0] * 2 + [1.5, 2.0])
    off = (LOGS - objective(features, values, doubt)._mean) / spread
    weights, others = np.exp(DESIGN @ LOGS[:4]), np.exp(LOGS[4:7])
    covariance = kernel(features, features, weights, others, np.exp(LOGS[7:9]), np.exp(-0.4))
    covariance += np.diag(np.exp(-2.0) + doubt + JITTER)
    log_density = multivariate_normal(cov=covariance).logpdf(values)
    constant = 12.5 * np.log(2 * np.pi)
    assert found == pytest.approx(-log_density - constant + 0.5 * off @ off, rel=1e-9)


def test_the_gradient_is_the_one_of_finite_differences(points):
    target = objective(*points)
    numeric = approx_fprime(LOGS, lambda x: target(x)[0], 1e-6)
    assert np.allclose(target(LOGS)[1], numeric, rtol=1e-3, atol=1e-4)


def test_predictions_are_those_of_the_textbook(points):
    features, values, doubt = points
    new = np.random.default_rng(1).random((7, 6))
    inner = kernel(features, features, WEIGHTS, OTHERS, (1.3, 0.6), 0.7)
    inner += np.diag(0.1 + doubt + JITTER)
    cross = kernel(features, new, WEIGHTS, OTHERS, (1.3, 0.6), 0.7)
    mean, variance = Posterior(parameters(), features, values, doubt).predict(new)
    assert np.allclose(mean, cross.T @ np.linalg.solve(inner, values))
    own = 0.7 * (new[:, :4] ** 2).sum(axis=1) / 4
    expected = (
        1.3 + 0.6 + own + CONSTANT - np.einsum("nm,nm->m", cross, np.linalg.solve(inner, cross))
    )
    assert np.allclose(variance, expected)


def test_other_doubt_of_the_same_values(points):
    features, values, doubt = points
    before = Posterior(parameters(), features, values, doubt)
    expected, other = before.predict(features), doubt + np.linspace(0.0, 2.0, 25)
    found = before.doubting(other).predict(features)
    assert np.array_equal(found, Posterior(parameters(), features, values, other).predict(features))
    assert not np.allclose(found[0], expected[0])
    assert np.array_equal(before.predict(features), expected)  # left as it was


def test_what_is_left_out_is_predicted_from_the_rest(points):
    features, values, doubt = points
    residual = Posterior(parameters(), features, values, doubt).left_out()
    rest = np.arange(25) != 4
    mean, variance = Posterior(parameters(), features[rest], values[rest], doubt[rest]).predict(
        features[4:5]
    )
    spread = np.sqrt(variance[0] + 0.1 + doubt[4] + JITTER)
    assert residual[4] == pytest.approx((values[4] - mean[0]) / spread, rel=1e-6)


def test_a_fit_finds_which_group_matters():
    rng = np.random.default_rng(2)
    features = rng.random((80, 4))
    values = np.sin(6 * features[:, 2]) + 0.05 * rng.normal(size=80)
    values = (values - values.mean()) / values.std()
    found = fit(features, [Part(slice(0, 4), np.eye(4), 4)], values, np.zeros(80))
    weights = found.kernels[0].weights
    assert weights[2] > 5 * max(weights[[0, 1, 3]])
    assert found.noise < 0.05


def test_a_fit_finds_which_part_matters():
    rng = np.random.default_rng(2)
    features = rng.random((80, 6))
    values = np.sin(8 * features[:, 4] * features[:, 5]) + 0.05 * rng.normal(size=80)
    first, second = fit(
        features, PARTS, (values - values.mean()) / values.std(), np.zeros(80)
    ).kernels
    assert second.signal > 5 * first.signal
    assert min(second.weights[1:]) > 5 * second.weights[0]


def test_the_search_for_parameters_begins_at_the_prior_and_at_weaker_relevances(points):
    plain, shifted = (objective(*points).start(shift) for shift in (0.0, -1.5))
    third = [np.log(1 / 3)] * 3
    assert np.allclose(plain, [*third, 0.0, *third, 0.0, 0.0, 0.0, np.log(0.01)])
    assert np.allclose(shifted - plain, [*[-1.5] * 3, 0.0, *[-1.5] * 3, 0.0, 0.0, 0.0, 0.0])
    bounds = np.array(objective(*points).bounds())
    assert ((bounds[:, 0] < shifted) & (plain < bounds[:, 1])).all()


def test_equal_points_without_noise_are_no_trouble(points):
    features, values, _ = points
    twice, both = np.repeat(features[:4], 2, axis=0), np.repeat(values[:4], 2)
    certain = Posterior(parameters(0.0), twice, both, np.zeros(8))
    mean, variance = certain.predict(features[:4])
    assert np.allclose(mean, values[:4], atol=1e-4) and (variance < 1e-6).all()
