import dataclasses

import pytest

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import pad_channels
from starsearch.latency.prediction.check import compare_with_profile
from starsearch.latency.prediction.predict import known_kinds, predict_by_layer, predict_latency, predict_layers

from .devices import RESOLUTION, draw_networks, make_profile, measure_imagined, run_on_imagined_device

ODD = Architecture.of(embed_dim=30, depths=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def profile():
    return make_profile(60)


def test_predictions_are_those_of_the_imagined_device(profile):
    networks = draw_networks(20, seed=7)
    found = [predict_latency(profile, network, resolution=RESOLUTION) for network in networks]
    truth = [sum(run_on_imagined_device(network).values()) for network in networks]
    assert [one.value for one in found] == pytest.approx(truth, rel=0.03)
    assert all(one.low < one.value < one.high for one in found)
    assert [sum(one.parts.values()) for one in found] == pytest.approx([one.value for one in found])
    assert "pointwise" in known_kinds(profile)
    by_layer = [predict_by_layer(profile, network, resolution=RESOLUTION) for network in networks]
    fixed = profile.coefficients_ms.get("network.fixed", 0.0)
    assert [fixed + sum(ms for *_, ms in one) for one in by_layer] == pytest.approx([one.value for one in found])


def test_layers_the_profile_has_not_seen_are_refused_with_the_coverage(profile):
    network = Architecture.of(act_type="gelu")
    with pytest.raises(EvaluationError, match=r"no term for gelu after convolution: it covers \d+ of the network's"):
        predict_latency(profile, network, resolution=RESOLUTION)


def predict_odd(profile):
    return predict_latency(profile, ODD, resolution=64).value


def test_what_leaves_the_blocked_layout_is_predicted_padded_by_a_profile_that_knows_only_that(profile):
    padded = pad_channels(lower(ODD, resolution=64), multiple=profile.vector_width)
    assert predict_odd(profile) == pytest.approx(predict_layers(profile, padded))
    # Core ML and GPUs are given networks as they are, so that what this profile does not know it refuses.
    with pytest.raises(EvaluationError, match="no multiple of 4"):
        predict_odd(dataclasses.replace(profile, backend="coreml"))


@pytest.mark.parametrize(("slowdown", "is_padded"), [(1.0, False), (10.0, True)])
def test_what_leaves_the_blocked_layout_is_predicted_padded_where_that_is_faster(profile, slowdown, is_padded):
    blocked = {name: ms for name, ms in profile.coefficients_ms.items() if name.startswith("pointwise.")}
    unblocked = {
        name.replace("pointwise", kind): slowdown * ms
        for name, ms in blocked.items()
        for kind in ("unblocked1", "unblocked3")
    }
    profile = dataclasses.replace(profile, coefficients_ms={**profile.coefficients_ms, **unblocked})
    layers = lower(ODD, resolution=64)
    plain = predict_layers(profile, layers)
    padded = predict_layers(profile, pad_channels(layers, multiple=profile.vector_width))
    assert (padded < 0.95 * plain) is is_padded
    assert predict_odd(profile) == pytest.approx(padded if is_padded else plain)


def test_fresh_networks_of_the_same_device_find_that_the_profile_holds(profile):
    check = compare_with_profile(profile, measure_imagined(draw_networks(15, seed=11), seed=4))
    assert check.holds
    assert check.inside >= 11
    assert len(check.networks) == 15


@pytest.mark.parametrize("factor", [1.3, 0.8])
def test_a_machine_of_another_speed_is_found_out(profile, factor):
    fresh = measure_imagined(draw_networks(8, seed=11))
    moved = [dataclasses.replace(sample, ms=factor * sample.ms) for sample in fresh]
    # As `check` measures: by the reference network, which became as much slower, on the scale of now.
    check = compare_with_profile(profile, moved, scale=factor)
    assert (check.holds, check.balanced, check.in_scale) == (False, True, False)
    assert check.bias_percent == pytest.approx(100 * (factor - 1), abs=5)


def test_another_balance_of_the_machine_is_found_out(profile):
    fresh = measure_imagined(draw_networks(15, seed=11), slowdown=2.0)
    assert not compare_with_profile(profile, fresh).balanced
