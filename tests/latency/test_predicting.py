import dataclasses

import pytest

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture, lower
from starsearch.latency.checking import compare_with_profile
from starsearch.latency.predicting import known_kinds, layer_costs, predict_latency

from .devices import RESOLUTION, draw_networks, make_profile, measure_imagined, run_on_imagined_device


@pytest.fixture(scope="module")
def profile():
    return make_profile(60)


def test_predictions_are_those_of_the_imagined_device(profile):
    networks = draw_networks(20, seed=7)
    found = predict_latency(profile, networks, resolution=RESOLUTION)
    truth = [sum(run_on_imagined_device(network).values()) for network in networks]
    assert found.ms == pytest.approx(truth, rel=0.03)
    assert (found.low_ms < found.ms).all()
    assert (found.ms < found.high_ms).all()


def test_layers_the_profile_has_not_seen_are_refused_with_the_coverage(profile):
    network = Architecture.of(act_type="gelu")
    with pytest.raises(EvaluationError, match=r"no term for gelu after convolution: it covers \d+ of the network's"):
        predict_latency(profile, [network], resolution=RESOLUTION)


def test_costs_a_layer_add_up_to_the_network(profile):
    network = draw_networks(1, seed=9)[0]
    costs = layer_costs(profile, lower(network, resolution=RESOLUTION))
    total = sum(costs.values()) + profile.coefficients_ms["network.fixed"]
    assert predict_latency(profile, [network], resolution=RESOLUTION).ms[0] == pytest.approx(total)
    assert costs["norm"] == 0
    assert "pointwise" in known_kinds(profile)


def test_fresh_networks_of_the_same_device_find_that_the_profile_holds(profile):
    fresh = measure_imagined(draw_networks(15, seed=11), seed=4)
    check = compare_with_profile(profile, fresh)
    assert check.holds
    assert check.inside >= 11


@pytest.mark.parametrize("factor", [1.3, 0.8])
def test_a_machine_of_another_speed_is_found_out(profile, factor):
    fresh = measure_imagined(draw_networks(8, seed=11))
    moved = [dataclasses.replace(sample, ms=factor * sample.ms) for sample in fresh]
    # As `check` measures: by the reference network, which became as much slower, on the scale of now.
    check = compare_with_profile(profile, moved, scale=factor)
    assert not check.holds
    assert check.is_balanced
    assert check.bias == pytest.approx(factor - 1, abs=0.05)


def test_another_balance_of_the_machine_is_found_out(profile):
    fresh = measure_imagined(draw_networks(15, seed=11), slowdown=2.0)
    assert not compare_with_profile(profile, fresh).is_balanced
