import numpy as np
import pytest

from starsearch.errors import EvaluationError
from starsearch.families.family import count_macs, lower
from starsearch.families.text import parse_architecture
from starsearch.latency.prediction.calibration import check_budget, fit_profile
from starsearch.latency.prediction.fitting import (
    choose_informative,
    describe_errors,
    fit_coefficients,
    log_error,
    prediction_interval,
)
from starsearch.latency.prediction.predict import predict_latency
from starsearch.latency.prediction.terms import NetworkTerms

from .devices import DEVICE, RESOLUTION, draw_networks, make_profile, measure_imagined


@pytest.fixture(scope="module")
def base():
    return make_profile(60)


def adapt(base, samples):
    about = {"device": DEVICE, "backend": "onnxruntime-cpu", "resolution": RESOLUTION, "reference": None}
    return fit_profile(samples, name="other", base=base, **about)


def errors_on_fresh_networks(profile, *, slowdown=1.0, count=60):
    samples = measure_imagined(draw_networks(count, seed=99), noise=0.0, slowdown=slowdown)
    networks = [parse_architecture(sample.architecture) for sample in samples]
    predicted = np.array([predict_latency(profile, network, resolution=RESOLUTION).value for network in networks])
    return describe_errors(predicted, np.array([sample.ms for sample in samples]), method="fresh")


def test_a_fit_recovers_an_additive_device_from_noisy_measurements(base):
    assert base.vector_width == 8
    errors = errors_on_fresh_networks(base)
    assert errors.mape_percent < 1
    assert errors.spearman > 0.999
    assert all(value >= 0 for value in base.coefficients_ms.values())


def test_few_networks_predict_better_with_the_runtimes_own_profile():
    with_shares, without = (errors_on_fresh_networks(make_profile(10, with_shares=s)) for s in (True, False))
    assert with_shares.mape_percent < without.mape_percent
    assert with_shares.mape_percent < 5


def test_too_few_networks_are_refused_with_what_would_be_enough(base):
    samples = measure_imagined(draw_networks(7, seed=1))
    with pytest.raises(EvaluationError, match=r"at least 8 measured networks; there are 7"):
        fit_coefficients(samples, resolution=RESOLUTION)
    with pytest.raises(EvaluationError, match="at least 5 measured networks of the other device; got 4"):
        adapt(base, samples[:4])
    for budget, is_adapted in ((7, False), (4, True)):
        with pytest.raises(EvaluationError, match=rf"A budget of {budget} networks is too small"):
            check_budget(budget, is_adapted=is_adapted)


def test_informative_networks_fit_better_than_as_many_random_ones():
    pool = draw_networks(300, seed=3)
    chosen = choose_informative(pool, 14, resolution=RESOLUTION, vector_width=8)
    assert len({id(network) for network in chosen}) == 14
    random_spread, chosen_spread = (information(networks) for networks in (pool[:14], chosen))
    assert chosen_spread > random_spread + 5
    assert len(choose_informative(pool[:5], 9, resolution=RESOLUTION, vector_width=8)) == 5


def information(networks):
    """Log-determinant of the networks' terms, by brute force: what D-optimality is about."""
    rows = [NetworkTerms.of(lower(a, resolution=RESOLUTION), vector_width=8).total for a in networks]
    names = sorted({name for row in rows for name in row})
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    matrix /= np.array([count_macs(a, resolution=RESOLUTION) for a in networks])[:, None]
    matrix /= np.sqrt((matrix**2).mean(axis=0))
    return np.linalg.slogdet(1e-2 * np.eye(len(names)) + matrix.T @ matrix)[1]


def test_an_interval_of_ninety_percent_holds_ninety_percent_of_further_residuals():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        residuals = np.exp(0.03 * rng.standard_t(4, size=60))
        low, high = prediction_interval(log_error(np.ones(50), residuals[:50]), 50)
        fresh = np.log(residuals[50:])
        held.append(np.mean((fresh >= low) & (fresh <= high)))
    assert np.mean(held) == pytest.approx(0.9, abs=0.03)


def test_errors_are_counted_as_a_reader_would():
    errors = describe_errors(np.array([1.0, 2.0, 3.3]), np.array([1.04, 2.0, 3.0]), method="by hand")
    assert errors.mape_percent == pytest.approx(100 * (0.04 / 1.04 + 0 + 0.1) / 3)
    assert errors.within_5_percent == pytest.approx(200 / 3)
    assert errors.within_10_percent == pytest.approx(100)
    assert errors.spearman == 1


def test_a_profile_is_adapted_to_a_device_whose_depthwise_convolutions_are_slow(base):
    adapted = adapt(base, measure_imagined(draw_networks(10, seed=5), slowdown=3.0))
    before, after = (errors_on_fresh_networks(p, slowdown=3.0).mape_percent for p in (base, adapted))
    assert before > 8
    assert after < 3
    assert "Adapted from imagined" in adapted.note
    assert adapted.interval_log[1] >= base.interval_log[1]
