"""The audit: what beats parameter count, and what is seen of networks of equal size."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from starsearch.accuracy.audit import audit, flipped, sight
from starsearch.families.family import count_params
from starsearch.families.text import parse_architecture


def networks(count=24):
    rng = np.random.default_rng(0)
    size = np.repeat(2.0 ** np.arange(count // 4), 4)  # four networks of each cost
    return size, np.log2(size) + rng.normal(size=count)


def test_what_knows_more_than_size_beats_parameter_count_and_noise_does_not():
    size, truth = networks()
    knows = audit(truth + 1e-3, truth, num_params=size, cost=size)
    assert knows.beats_params
    assert knows.overall.value == knows.in_bands.value == knows.best_tenth.value == 1
    noise = audit(np.random.default_rng(1).normal(size=24), truth, num_params=size, cost=size)
    assert not noise.beats_params
    assert noise.num_params.value == pytest.approx(kendalltau(size, truth).statistic)


def test_size_itself_says_nothing_among_networks_of_equal_cost_and_does_not_beat_itself():
    size, truth = networks()
    found = audit(size, truth, num_params=size, cost=size)
    assert found.overall.value == pytest.approx(kendalltau(size, truth).statistic)
    assert math.isnan(found.in_bands.value)
    assert (found.better_than_params, found.beats_params) == (0, False)


def test_networks_without_a_value_are_left_out_and_the_intervals_follow_from_the_seed():
    size, truth = networks()
    values = np.where(np.arange(24) % 3 == 0, np.nan, truth + size)
    found = audit(values, truth, num_params=size, cost=size, seed=5)
    known = np.isfinite(values)
    assert found.candidates == 16
    assert found.overall.value == pytest.approx(kendalltau(values[known], truth[known]).statistic)
    assert found == audit(values, truth, num_params=size, cost=size, seed=5)
    assert found.overall.low != audit(values, truth, num_params=size, cost=size, seed=6).overall.low


def test_a_flip_changes_one_field_and_nothing_else():
    pairs = flipped(parse_architecture("starnet:embed_dim=16,depths=1-1-2-1,ops=star-sum-star-sum"))
    assert set(pairs) == {"ops", "activation", "kernel_size"}
    star, total = pairs["ops"]
    assert (set(star.ops), set(total.ops)) == ({"star"}, {"sum"})
    assert count_params(star) == count_params(total)
    assert set(flipped(parse_architecture("demonet_d12_w192_star"))) == {"ops", "activation"}


def test_sight_is_how_steadily_the_first_is_higher():
    assert sight([2, 3, 4], [1, 1, 1]) == 1
    assert sight([1, 1], [1, 1]) == 0
    assert sight([2, 1, math.nan], [1, 2, 0]) == 0
    assert math.isnan(sight([math.nan], [1]))
