"""The posterior of accuracy: what it says of published networks, and what other tasks are worth to it."""

import numpy as np
import pytest

from starsearch.accuracy.evidence import IMAGENET, Observation, published_observations
from starsearch.accuracy.posterior import fit_posterior
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
