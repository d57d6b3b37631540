import numpy as np
import pytest
from scipy import stats

from starsearch.report.verdict import (
    Contender,
    accuracy_difference,
    latency_difference,
    mean_interval,
    verdict,
    verdict_cells,
    verdict_table,
)

RNG = np.random.default_rng(0)


def hits_of(percents, images=50):
    """Trainings that know all images or none of them: between images nothing varies."""
    return np.repeat(np.array(percents, bool)[:, None], images, axis=1)


def hits_of_shares(shares, images=1000):
    """Trainings that know so many of the images, the same ones first."""
    return np.array([np.arange(images) < round(share * images) for share in shares])


def test_of_one_training_each_the_interval_is_that_of_the_differences_image_by_image():
    one, other = RNG.random((1, 400)) < 0.8, RNG.random((1, 400)) < 0.7
    found = accuracy_difference(one, other)
    expected = stats.ttest_rel(one[0].astype(float), other[0].astype(float)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_of_two_seeds_the_interval_has_one_degree_of_freedom_and_is_no_narrower_than_of_either_network():
    one, other = hits_of_shares([0.60, 0.62]), hits_of_shares([0.50, 0.51])
    found = accuracy_difference(one, other)
    welch = stats.ttest_ind([60, 62], [50, 51], equal_var=False)
    images = 100 * stats.sem(one.mean(axis=0) - other.mean(axis=0))
    one_freedom, many = (stats.t.ppf(0.975, free) for free in (1, one.shape[1] - 1))
    error = 10.5 / welch.statistic  # of the seeds' part
    half = np.hypot(one_freedom * error, many * images)
    assert (found.low, found.high) == pytest.approx((10.5 - half, 10.5 + half))
    alone = mean_interval([60, 62])
    assert found.high - found.low > alone.high - alone.low


def test_intervals_stay_within_what_an_accuracy_can_be():
    assert (mean_interval([18.4, 22.2]).low, mean_interval([97.0, 99.0]).high) == (0, 100)
    one = Contender(name="one", hits=hits_of([1, 1, 0, 1]), ms=1.0, ms_spread=0.01)
    table = verdict_table(one, [Contender(name="other", hits=hits_of([0, 1]), ms=1.0, ms_spread=0.01)])
    found = table.loc[1, ["top1_difference", "top1_difference_low", "top1_difference_high"]]
    assert found.tolist() == pytest.approx([25, -100, 100])
    assert verdict_cells(table)[1]["top-1 %"] == "50.00 (0.00 to 100.00)"


def test_equal_networks_are_told_apart_in_at_most_one_comparison_of_twenty():
    def trained(easiness):
        luck = RNG.normal(0, 0.01, (3, 1))
        return RNG.random((3, len(easiness))) < np.clip(easiness + luck, 0, 1)

    easiness = RNG.choice([0.2, 0.9], 300)
    told_apart = [verdict(accuracy_difference(trained(easiness), trained(easiness))) for _ in range(300)]
    assert np.mean([one != "not told apart" for one in told_apart]) <= 0.05


def test_the_table_says_how_the_chosen_network_does_against_each_and_why_one_has_no_figures():
    known = RNG.random((3, 2000))
    ours = Contender(name="trial 7", hits=known < 0.9, ms=2.0, ms_spread=0.01, num_params=400_000)
    slower = Contender(name="timm:a", hits=known < 0.5, ms=3.0, ms_spread=0.01, num_params=900_000)
    broken = Contender(name="timm:b", failure="the loss became nan")
    table = verdict_table(ours, [slower, broken])
    assert table["network"].tolist() == ["trial 7", "timm:a", "timm:b"]
    assert table.loc[1, ["top1", "latency"]].tolist() == ["better", "better"]
    expected = stats.t.interval(0.95, 2, *(f(100 * ours.hits.mean(axis=1)) for f in (np.mean, stats.sem)))
    assert table.loc[0, ["top1_percent_low", "top1_percent_high"]].tolist() == pytest.approx(list(expected))
    cells = verdict_cells(table)
    assert cells[0]["latency ms"] == "2.00 ± 0.02"
    assert "latency better (−1.04 to −0.96 ms)" in cells[1]["ours against it"]
    assert cells[2]["top-1 %"] == "failed: the loss became nan"


def test_a_single_seed_has_no_interval_and_latencies_within_repeatability_are_not_told_apart():
    assert np.isnan(mean_interval([90.0]).low)
    one, other = (Contender(name="", ms=ms, ms_spread=0.0) for ms in (2.0, 2.02))
    assert verdict(latency_difference(one, other), less_is_better=True) == "not told apart"
