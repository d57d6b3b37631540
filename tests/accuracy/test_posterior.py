"""The posterior of accuracy: what it says of published networks, and what other tasks are worth to it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from botorch.exceptions.errors import ModelFittingError
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


@pytest.mark.parametrize("family", ["starnet", "demonet"])
def test_published_networks_are_estimated_as_published(family):
    published = published_observations(family)
    networks = [one.canonical() for one in presets().values() if one.family == family]
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
    first, again = fit_posterior(published_observations("starnet")), fit_posterior(published_observations("starnet"))
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


@pytest.mark.parametrize("task", ["full", "proxy"])
def test_an_observation_moves_the_mean_as_far_as_it_takes_off_the_variance(task):
    networks = draw_networks(12)
    told = [Observation(architecture=one, task="full", value=truth(one)) for one in networks[:6]]
    told += [Observation(architecture=one, task="proxy", value=truth(one) / 2) for one in networks[:8]]
    before = fit_posterior(told, target="full")
    moved = before.moved_by(networks[9:], task, standard_error=0.02)
    new = Observation(architecture=networks[9], task=task, value=50.0, standard_error=1.0)  # 2 % of an error of 50 %
    after = fit_posterior([*told, new], target="full", like=before)
    old, left = (float(one.joint(networks[9:10])[1]) for one in (before, after))
    assert float(moved[0]) ** 2 == pytest.approx(old - left, rel=1e-4)
    assert float(before.moved_by(networks[9:], "no such task", standard_error=0.02).max()) == 0
    assert len(before.moved_by([], task, standard_error=0.02)) == 0


def test_a_target_that_nobody_observed_is_estimated_all_but_blindly():
    told = [Observation(architecture=one, task="proxy", value=truth(one)) for one in draw_networks(6)]
    posterior = fit_posterior(told, target="full")
    assert posterior.kind == "prior"
    assert all(one.high - one.low > 60 for one in posterior.estimate(draw_networks(6)))


def test_without_evidence_on_kernels_the_lower_bound_keeps_the_published_ones():
    posterior = fit_posterior(published_observations("starnet"))
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


def told(values, task="a", networks=None, **more):
    networks = networks or draw_networks(6)
    return [Observation(architecture=one, task=task, value=v, **more) for one, v in zip(networks, values, strict=False)]


NAN, SIX = float("nan"), (60.0, 61.0, 62.0, 63.0, 64.0, 65.0)
BAD_INPUT = {
    "no observation": ([], "prior"),
    "one": (told(SIX[:1]), "scaling law"),
    "two": (told(SIX[:2]), "scaling law"),
    "five": (told(SIX[:5]), "GP"),
    "contradicting ones": ([*told(SIX), *told(SIX[::-1])], "GP"),
    "contradicting ones that are said to be exact": ([*told(SIX), *told(SIX[::-1], standard_error=1e-9)], "GP"),
    "one a hundred times": ([*told(SIX), *told(SIX)[:1] * 100], "GP"),
    "one a hundred times, from different studies": (
        [*told(SIX), *(one for number in range(100) for one in told(SIX[:1], source=f"study {number}"))],
        "GP",
    ),
    "no number": (told((NAN, *SIX[1:])), "GP"),
    "nothing but no numbers": (told((NAN,) * 6), "prior"),
    "infinite": (told((float("inf"), *SIX[1:])), "GP"),
    "accuracies of 0 and 100": (told((0.0, 100.0, *SIX[2:])), "GP"),
    "all 0": (told((0.0,) * 6), "GP"),
    "all 100": (told((100.0,) * 6), "GP"),
    "all equal": (told((50.0,) * 6), "GP"),
    "all of one network": (told(SIX, networks=draw_networks(1) * 6), "GP"),
    "another number of classes": (
        [*told(SIX), *told((93.0, 94.0, 95.0, 96.0, 97.0, 98.0), task="10 classes")],
        "multi-task GP",
    ),
    "another task alone": (told(SIX, task="b"), "prior"),
    "a signal that never changes": ([*told(SIX), *told((1.0,) * 6, task="signal/x")], "multi-task GP"),
    "a signal of whole numbers": ([*told(SIX), *told((1, 2, 3, 5, 8, 13), task="signal/x")], "multi-task GP"),
    "a signal without numbers": ([*told(SIX), *told((NAN,) * 6, task="signal/x")], "GP"),
    "a signal of huge numbers": ([*told(SIX), *told((1e300, -1e300, *SIX[2:]), task="signal/x")], "multi-task GP"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_odd_observations_give_sane_estimates_the_same_each_time(case):
    observations, kind = BAD_INPUT[case]
    posterior = fit_posterior(observations, target="a", seed=1)
    assert posterior.kind == kind
    networks = draw_networks(9)
    estimates = posterior.estimate(networks)
    for one in estimates:
        assert 0 <= one.low <= one.mean <= one.high <= 100
    known = [one.value for one in observations if one.task == "a" and math.isfinite(one.value)]
    if known:  # of new networks it says at least that they may be like the known ones
        assert all(one.low <= max(known) and one.high >= min(known) - 0.1 for one in estimates[6:])
    if kind == "prior":
        assert all(one.high - one.low > 30 for one in estimates)
    assert fit_posterior(observations, target="a", seed=1).estimate(networks) == estimates


def test_an_exact_duplicate_says_nothing_new():
    published = published_observations("starnet")
    network = presets()["starnet_s1"]
    once, often = (fit_posterior(one).estimate([network]) for one in (published, [*published, *published[:1] * 100]))
    assert once == often


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": None}, "a number; got None for starnet"),
        ({"value": 733.0}, r"0..100 %; got 733 for starnet:.* on imagenet \(table 6\)"),
        ({"standard_error": -1.0}, "finite and not negative; got -1"),
        ({"standard_error": None}, "a number, finite and not negative; got None for starnet"),
        ({"standard_error": "1"}, "a number, finite and not negative; got '1' for starnet"),
    ],
)
def test_what_cannot_have_been_observed_is_refused(change, message):
    one = next(one for one in published_observations("starnet") if one.source == "table 6")
    with pytest.raises(AccuracyError, match=message):
        fit_posterior([replace(one, **change)])


def test_a_fit_that_does_not_converge_falls_back_to_the_scaling_law(monkeypatch):
    def fail(_mll, **_options):
        raise ModelFittingError("All attempts to fit the model have failed.")

    monkeypatch.setattr("botorch.fit.fit_gpytorch_mll", fail)
    posterior = fit_posterior(published_observations("starnet"))
    small, large = posterior.estimate([presets()["starnet_s1"], presets()["starnet_s4"]])
    assert posterior.kind == "scaling law"
    assert small.mean < large.mean


def test_a_task_that_ranks_has_weight_and_one_that_does_not_has_none():
    rng, networks = np.random.default_rng(1), draw_networks(30)
    own = told([truth(one) for one in networks], networks=networks, task="full", standard_error=0.5)

    def weigh(values, **more):
        return fit_posterior([*own, *told(values, networks=networks, **more)], target="full").weights

    assert weigh([truth(one) / 2 for one in networks], task="proxy")["proxy"] > 0.9
    assert abs(weigh([rng.normal() for _ in networks], task="signal/x")["signal/x"]) < 0.3
    assert weigh([50 - truth(one) / 2 for one in networks[:3]], task="reversed")["reversed"] == 0


def test_tasks_whose_networks_spread_by_less_are_not_stretched():
    """A training in which all networks do nearly as well: six of it, all of a cheaper one."""
    networks = draw_networks(40)
    own = told([50 + truth(one) / 40 for one in networks[:6]], networks=networks, task="full", standard_error=0.1)
    others = told([truth(one) / 20 for one in networks], networks=networks, task="proxy", standard_error=0.1)
    found = [one.mean for one in fit_posterior([*own, *others], target="full").estimate(networks[6:])]
    assert found == pytest.approx([50 + truth(one) / 40 for one in networks[6:]], abs=0.1)


def test_where_the_blocks_stand_buys_nothing_that_is_not_published():
    """A last stage of twenty blocks has more parameters than S4, and fewer multiply-adds."""
    published = presets()["starnet_s4"]
    moved = replace(published, depths=(1, 1, 1, 20))
    assert count_macs(moved) < count_macs(published)
    known, guessed = fit_posterior(published_observations("starnet")).estimate([published, moved])
    assert guessed.low < known.low + 0.5
    assert guessed.high - guessed.low > 4 * (known.high - known.low)
