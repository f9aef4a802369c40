"""The Gaussian process against textbook formulas, finite differences and a known truth."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from nas.strategies.kernel import squared
from nas.strategies.regression import (
    CONSTANT,
    JITTER,
    Parameters,
    Posterior,
    _Objective,
    fit,
)

GROUPS = np.array([0, 0, 1, 2])


def kernel(one, other, weights, signal, slope):
    scaled = np.sqrt(weights[GROUPS])
    distance = np.sqrt(3 * squared(one * scaled, other * scaled))
    return signal * (1 + distance) * np.exp(-distance) + slope * one @ other.T / 4 + CONSTANT


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    return rng.random((25, 4)), rng.normal(size=25), rng.random(25)


def objective(features, values, doubt):
    distances = [squared(features[:, g == GROUPS], features[:, g == GROUPS]) for g in range(3)]
    return _Objective(np.stack(distances).reshape(3, -1), features @ features.T / 4, values, doubt)


def test_the_likelihood_is_that_of_a_normal_vector(points):
    features, values, doubt = points
    logs = np.array([0.1, -0.5, 0.3, 0.2, -0.4, -2.0])
    found, _ = objective(features, values, doubt)(logs)
    off = (logs - objective(features, values, doubt)._mean) / np.array([0.75] * 3 + [1.0, 1.5, 2.0])
    covariance = kernel(features, features, np.exp(logs[:3]), np.exp(0.2), np.exp(-0.4))
    covariance += np.diag(np.exp(-2.0) + doubt + JITTER)
    log_density = multivariate_normal(cov=covariance).logpdf(values)
    constant = 12.5 * np.log(2 * np.pi)
    assert found == pytest.approx(-log_density - constant + 0.5 * off @ off, rel=1e-9)


def test_the_gradient_is_the_one_of_finite_differences(points):
    target = objective(*points)
    logs = np.array([0.1, -0.5, 0.3, 0.2, -0.4, -2.0])
    numeric = approx_fprime(logs, lambda x: target(x)[0], 1e-6)
    assert np.allclose(target(logs)[1], numeric, rtol=1e-3, atol=1e-4)


def test_predictions_are_those_of_the_textbook(points):
    features, values, doubt = points
    parameters = Parameters(np.array([0.5, 1.0, 2.0]), 1.3, 0.7, 0.1)
    new = np.random.default_rng(1).random((7, 4))
    inner = kernel(features, features, parameters.weights, 1.3, 0.7)
    inner += np.diag(0.1 + doubt + JITTER)
    cross = kernel(features, new, parameters.weights, 1.3, 0.7)
    mean, variance = Posterior(parameters, GROUPS, features, values, doubt).predict(new)
    assert np.allclose(mean, cross.T @ np.linalg.solve(inner, values))
    own = 0.7 * (new**2).sum(axis=1) / 4
    expected = 1.3 + own + CONSTANT - np.einsum("nm,nm->m", cross, np.linalg.solve(inner, cross))
    assert np.allclose(variance, expected)


def test_what_is_left_out_is_predicted_from_the_rest(points):
    features, values, doubt = points
    parameters = Parameters(np.array([0.5, 1.0, 2.0]), 1.3, 0.7, 0.1)
    residual = Posterior(parameters, GROUPS, features, values, doubt).left_out()
    rest = np.arange(25) != 4
    mean, variance = Posterior(
        parameters, GROUPS, features[rest], values[rest], doubt[rest]
    ).predict(features[4:5])
    spread = np.sqrt(variance[0] + 0.1 + doubt[4] + JITTER)
    assert residual[4] == pytest.approx((values[4] - mean[0]) / spread, rel=1e-6)


def test_a_fit_finds_which_group_matters():
    rng = np.random.default_rng(2)
    features = rng.random((80, 4))
    values = np.sin(6 * features[:, 2]) + 0.05 * rng.normal(size=80)
    values = (values - values.mean()) / values.std()
    found = fit(features, GROUPS, values, np.zeros(80))
    assert found.weights[1] > 5 * max(found.weights[0], found.weights[2])
    assert found.noise < 0.05
