"""The posterior of accuracy: what it says of published networks, and what other tasks are worth to it."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import Matern

from starsearch.accuracy.evidence import IMAGENET, Observation, published_observations
from starsearch.accuracy.features import LINEAR, SHAPE, encode
from starsearch.accuracy.posterior import fit_posterior
from starsearch.errors import AccuracyError
from starsearch.families.family import Architecture, count_macs, presets


def draw_networks(count):
    rng = np.random.default_rng(0)
    return [
        Architecture.of(
            embed_dim=int(rng.choice([16, 24, 32, 40])),
            depths=tuple(int(rng.integers(1, high)) for high in (4, 4, 10, 5)),
            ops=tuple(str(one) for one in rng.choice(["star", "sum"], 4)),
        ).canonical()
        for _ in range(count)
    ]


def error_of(posterior, networks, truth):
    estimates = posterior.estimate(networks)
    return np.mean([abs(one.mean - truth(network)) for one, network in zip(estimates, networks, strict=True)])


def truth(network):
    """A scaling law in which stars save an eighth of the error."""
    stars = sum(op == "star" for op in network.ops)
    return 100 - 30 * (count_macs(network) / 4e8) ** -0.25 * 0.97**stars


def test_published_networks_are_estimated_as_published():
    published = published_observations()
    networks = [one.canonical() for one in presets().values() if one.family == "starnet"]
    assert set(networks) <= {one.architecture for one in published}
    for estimate, network in zip(fit_posterior(published).estimate(networks), networks, strict=True):
        values = [one.value for one in published if one.architecture == network]
        assert estimate.mean == pytest.approx(np.mean(values), abs=0.7)
        assert estimate.low < np.mean(values) < estimate.high


@pytest.mark.parametrize("kind", ["a cheaper training", "random values"])
def test_a_task_that_ranks_moves_much_and_one_of_random_values_little(kind):
    networks, rng = draw_networks(40), np.random.default_rng(1)
    own = [Observation(architecture=one, task="full", value=truth(one)) for one in networks[:6]]
    values = [truth(one) / 2 if kind == "a cheaper training" else rng.uniform(20, 40) for one in networks]
    others = [
        Observation(architecture=one, task="proxy", value=value) for one, value in zip(networks, values, strict=True)
    ]
    alone = error_of(fit_posterior(own, target="full"), networks[6:], truth)
    both = error_of(fit_posterior([*own, *others], target="full"), networks[6:], truth)
    assert both < (0.75 if kind == "a cheaper training" else 1.25) * alone


def test_the_joint_posterior_agrees_with_the_estimates_and_both_are_deterministic():
    networks = draw_networks(12)
    first, again = fit_posterior(published_observations()), fit_posterior(published_observations())
    mean, covariance = (found.numpy() for found in first.joint(networks))
    estimates = first.estimate(networks)
    assert estimates == again.estimate(networks)
    assert 100 - np.exp(mean) == pytest.approx([one.mean for one in estimates])
    noisy = np.log([(100 - one.low) / (100 - one.mean) for one in estimates]) / 1.6449
    assert (noisy**2 >= covariance.diagonal()).all()


def test_hyperparameters_are_taken_over_and_the_new_observation_is_heeded():
    networks = draw_networks(21)
    told = [Observation(architecture=one, task=IMAGENET, value=truth(one)) for one in networks]
    first = fit_posterior(told[:20])
    second = fit_posterior(told, like=first)
    before, after = (one.estimate(networks[20:])[0] for one in (first, second))
    assert after.high - after.low < before.high - before.low
    assert abs(after.mean - told[20].value) <= abs(before.mean - told[20].value)


def test_without_evidence_on_kernels_the_lower_bound_keeps_the_published_ones():
    posterior = fit_posterior(published_observations())
    for network in (presets()[f"starnet_s{size}"] for size in (1, 2, 3, 4)):
        kernels = [replace(network, kernel_size=(size,) * 4) for size in (3, 5, 7)]
        three, five, seven = posterior.estimate(kernels)
        assert three.low < five.low < seven.low - 1
        assert three.high - three.low > five.high - five.low > seven.high - seven.low
    # Nor does it pay to go to a larger network whose smaller kernels save its latency.
    small, large = presets()["starnet_s2"], presets()["starnet_s3"]
    published, bought = posterior.estimate([small, replace(large, kernel_size=(3, 3, 3, 3))])
    assert bought.low < published.low


def test_fixed_hyperparameters_give_the_closed_form():
    """The posterior mean and covariance of scikit-learn's Gaussian process with the same kernel."""
    networks = draw_networks(9)
    told = [Observation(architecture=one, task="a", value=truth(one), standard_error=0.5) for one in networks[:3]]
    posterior = fit_posterior(told, target="a")
    assert posterior.kind == "scaling law"
    x = np.array([encode(one) for one in networks])
    linear, everything, shape = 0.05, 0.1, 0.1
    kernel = linear * x[:, LINEAR] @ x[:, LINEAR].T + 4.0
    kernel = kernel + everything * Matern(10.0, nu=2.5)(x) + shape * Matern(3.0, nu=2.5)(x[:, SHAPE])
    error = np.array([100 - one.value for one in told])
    residual = np.log(error) + 0.18 * x[:3, 0]
    noise = 0.003 + (0.5 / error / 0.25) ** 2
    gain = kernel[3:, :3] @ np.linalg.inv(kernel[:3, :3] + np.diag(noise))
    mean, covariance = posterior.joint(networks[3:])
    expected = residual.mean() - 0.18 * x[3:, 0] + gain @ (residual - residual.mean())
    assert mean.numpy() == pytest.approx(expected, abs=1e-3)
    assert covariance.numpy() == pytest.approx(0.25**2 * (kernel[3:, 3:] - gain @ kernel[:3, 3:]), abs=1e-3)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_observations_give_a_wide_estimate(count):
    networks = draw_networks(6)
    told = [Observation(architecture=one, task=IMAGENET, value=truth(one)) for one in networks[:count]]
    estimate = fit_posterior(told).estimate(networks[5:])[0]
    assert 0 <= estimate.low < truth(networks[5]) < estimate.high <= 100


@pytest.mark.parametrize(
    "values", [[50.0] * 6, [0.0, 100.0, 50.0, 60.0, 70.0, 40.0], [float("nan"), 60.0, 61.0, 62.0, 63.0, 64.0]]
)
def test_odd_values_give_finite_estimates(values):
    networks = draw_networks(6)
    told = [Observation(architecture=one, task="a", value=v) for one, v in zip(networks, values, strict=True)]
    again = [Observation(architecture=networks[1], task="a", value=20.0)] * 100  # contradicts the first one
    for one in fit_posterior([*told, *again], target="a").estimate(networks):
        assert 0 <= one.low <= one.mean <= one.high <= 100


def test_an_exact_duplicate_says_nothing_new():
    published = published_observations()
    network = presets()["starnet_s1"]
    once, often = (fit_posterior(one).estimate([network]) for one in (published, [*published, *published[:1] * 100]))
    assert once == often


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": 733.0}, r"0..100 %; got 733 for starnet:.* on imagenet \(table 6\)"),
        ({"standard_error": -1.0}, "finite and not negative; got -1"),
    ],
)
def test_what_cannot_have_been_observed_is_refused(change, message):
    one = next(one for one in published_observations() if one.source == "table 6")
    with pytest.raises(AccuracyError, match=message):
        fit_posterior([replace(one, **change)])


def test_a_fit_that_does_not_converge_falls_back_to_the_scaling_law(monkeypatch):
    monkeypatch.setattr("starsearch.accuracy.posterior._fit", lambda model, seed: False)
    posterior = fit_posterior(published_observations())
    small, large = posterior.estimate([presets()["starnet_s1"], presets()["starnet_s4"]])
    assert posterior.kind == "scaling law"
    assert small.mean < large.mean


def test_a_task_that_ranks_has_weight_and_one_of_random_values_none():
    rng = np.random.default_rng(1)
    told = [
        Observation(architecture=one, task=task, value=value)
        for one in draw_networks(30)
        for task, value in (("full", truth(one)), ("proxy", truth(one) / 2), ("signal/x", rng.normal()))
    ]
    weights = fit_posterior(told, target="full").weights
    assert weights["proxy"] > 0.9
    assert abs(weights["signal/x"]) < 0.3
