import itertools
import math

import numpy as np
import pytest

from starsearch.latency.statistics import summarize


def coverage_by_counting(rank, n):
    """Share of the 2^n ways to lie below or above the median in which the rank-th values enclose it."""
    enclosing = sum(rank <= sum(signs) <= n - rank for signs in itertools.product((0, 1), repeat=n))
    return enclosing / 2**n


@pytest.mark.parametrize("n", range(6, 15))
def test_the_interval_is_the_narrowest_with_95_percent_by_counting_all_cases(n):
    interval = summarize(range(1, n + 1)).interval
    rank = int(interval.low)
    assert interval.high == n + 1 - rank
    assert interval.coverage == pytest.approx(coverage_by_counting(rank, n))
    assert interval.coverage >= 0.95 > coverage_by_counting(rank + 1, n)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_readings_give_their_range_and_its_true_coverage(n):
    interval = summarize(range(n)).interval
    assert (interval.low, interval.high) == (0, n - 1)
    assert interval.coverage == pytest.approx(1 - 2 / 2**n)


def test_the_interval_of_very_many_readings_is_the_normal_approximation():
    n = 2_001
    assert summarize(range(n)).interval.low == pytest.approx(n / 2 - 1.96 * math.sqrt(n) / 2, abs=1.5)


@pytest.mark.parametrize("n", [20, 101])
@pytest.mark.parametrize("noise", ["normal", "skewed", "outliers"])
def test_interval_and_standard_error_are_what_simulation_shows(n, noise):
    rng = np.random.default_rng(n)
    draws = rng.normal(size=(1500, n))
    readings = {
        "normal": 1 + 0.02 * draws,
        "skewed": np.exp(0.2 * draws),
        "outliers": 1 + 0.02 * draws * np.where(rng.random(draws.shape) < 0.1, 50, 1),
    }[noise]
    summaries = [summarize(row.tolist()) for row in readings]
    held = np.mean([s.interval.low <= 1 <= s.interval.high for s in summaries])
    assert 0.935 <= held <= 0.985
    true_error = np.std(np.median(readings, axis=1))
    assert np.mean([s.spread for s in summaries]) == pytest.approx(true_error, rel=0.12)


def test_outliers_are_counted_and_do_not_move_the_median():
    readings = np.random.default_rng(0).normal(10, 0.1, size=50).tolist()
    assert summarize(readings).outliers == 0
    summary = summarize([*readings, 20.0, 1.0, 30.0])
    assert summary.outliers == 3
    assert summary.median == pytest.approx(10, abs=0.1)
    summary = summarize([3.0] * 20)
    assert (summary.median, summary.spread, summary.outliers, summary.relative_half_width) == (3.0, 0.0, 0, 0.0)
