import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from starsearch.accuracy.audit import kendall
from starsearch.objective import Objective
from starsearch.report.agreement import PUBLISHED_TOP1_PERCENT, agreement_lines, compare_fidelities

OBJECTIVES = (
    Objective(name="top1_percent", direction="maximize"),
    Objective(name="latency_ms", direction="minimize", device="this-machine"),
)


def frames(below, above, *, latency=None, params=None, anchors=None):
    """Trials of two fidelities; the candidates of `above` come from all of `below`, numbered backwards."""
    n = len(below)
    lower = pd.DataFrame(
        {
            "number": np.arange(n),
            "state": "COMPLETE",
            "fidelity": "proxy",
            "anchor": anchors or [None] * n,
            "architecture": [f"network {i}" for i in range(n)],
            "top1_percent": below,
            "latency_ms": latency if latency is not None else np.linspace(1, 20, n),
            "num_params": params if params is not None else np.arange(n) + 1.0,
        }
    )
    upper = lower.assign(fidelity="full", top1_percent=above)
    return lower, upper.iloc[::-1].assign(number=np.arange(n))


def test_tau_is_scipys_also_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 6, 12).astype(float), rng.integers(0, 6, 12).astype(float)
        assert kendall(x, y, rng=rng).value == pytest.approx(kendalltau(x, y).statistic)


def test_the_bootstrap_interval_is_that_of_scipys_tau_over_resamples():
    rng = np.random.default_rng(1)
    x = rng.normal(size=15)
    y = x + rng.normal(size=15)
    found = kendall(x, y, rng=np.random.default_rng(2))
    resampled = [kendalltau(x[rows], y[rows]).statistic for rows in rng.integers(0, 15, (1000, 15))]
    assert [found.low, found.high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.06)


def test_candidates_are_linked_by_what_they_are_not_by_their_numbers():
    values = np.array([3.0, 1, 4, 1.5, 9, 2, 6])
    found = compare_fidelities(*frames(values, 2 * values), OBJECTIVES)
    assert found.candidates == 7
    assert found.overall.value == 1


def test_recipes_of_one_network_are_candidates_of_their_own():
    lower, upper = frames([3.0, 1, 4, 1.5, 9, 2, 6], [3.0, 1, 4, 1.5, 9, 2, 6])
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    lower = lower.assign(architecture="one", **{"params_recipe.lr": rates})
    upper = upper.assign(architecture="one", **{"params_recipe.lr": rates[::-1]})
    found = compare_fidelities(lower, upper, OBJECTIVES)
    assert (found.candidates, found.overall.value) == (7, 1)


def test_a_few_candidates_in_one_order_are_no_certainty():
    few = compare_fidelities(*frames([1.0, 2, 3], [1.0, 2, 3]), OBJECTIVES).overall
    assert (few.value, few.low) == (1, -1)
    more = compare_fidelities(*frames(np.arange(8.0), np.arange(8.0)), OBJECTIVES).overall
    # A τ of .5 between eight gives such an order in one draw of some dozens.
    assert 0.4 < more.low < 0.95
    assert more.high == 1


def test_accuracy_is_what_is_ranked_by_not_an_int8_latency():
    objectives = (
        Objective(name="int8_latency_ms", direction="minimize", device="this-machine"),
        Objective(name="int8_top1_percent", direction="maximize"),
    )
    lower, upper = (
        one.rename(columns={"top1_percent": "int8_top1_percent"}) for one in frames([1.0, 2, 3], [1.0, 2, 3])
    )
    assert compare_fidelities(lower, upper, objectives).quantity == "int8_top1_percent"


def test_where_all_have_as_many_parameters_nothing_is_said_of_counting_them():
    found = compare_fidelities(*frames([1.0, 2, 3, 5], [1.0, 2, 4, 3], params=np.ones(4)), OBJECTIVES)
    assert math.isnan(found.better_than_params)


def test_a_proxy_that_ranks_sizes_but_not_networks_of_equal_latency_is_found_out():
    latency = np.repeat([1.0, 5.0, 25.0], 3) * np.tile([1.0, 1.02, 1.04], 3)
    above = np.repeat([50.0, 60.0, 70.0], 3) + np.tile([0.0, 1.0, 2.0], 3)
    below = np.repeat([50.0, 60.0, 70.0], 3) - np.tile([0.0, 1.0, 2.0], 3)
    found = compare_fidelities(*frames(below, above, latency=latency), OBJECTIVES)
    assert found.overall.value == pytest.approx(0.5)  # 27 of 36 pairs concordant
    assert found.in_bands.value == -1
    assert found.in_bands.pairs == 9


def test_counting_parameters_is_compared_on_the_same_candidates():
    rng = np.random.default_rng(3)
    above = rng.normal(size=30)
    found = compare_fidelities(*frames(rng.normal(size=30), above, params=np.exp(above)), OBJECTIVES)
    assert found.num_params.value == pytest.approx(1)
    assert found.better_than_params == 0


def test_anchors_out_of_their_published_order_are_named_with_a_warning():
    anchors = ["starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4"]
    lower, upper = frames([40.0, 39.0, 41.0, 42.0], [60.0, 61.0, 62.0, 63.0], anchors=anchors)
    found = compare_fidelities(lower, upper, OBJECTIVES)
    assert found.inverted == {"proxy": (("starnet_s2", "starnet_s1"),), "full": ()}
    published = [PUBLISHED_TOP1_PERCENT[name] for name in anchors]
    assert found.anchors["proxy"].value == pytest.approx(kendalltau([40, 39, 41, 42], published).statistic)
    warnings = [line for line in agreement_lines(found) if line.startswith("Warning")]
    assert "starnet_s2 below starnet_s1" in warnings[-1]
    # Each ± 1: a difference of 1 is less than twice its error.
    assert compare_fidelities(lower.assign(top1_percent_spread=1.0), upper, OBJECTIVES).inverted["proxy"] == ()


def test_too_few_candidates_say_nothing():
    assert compare_fidelities(*frames([1.0, 2.0], [2.0, 3.0]), OBJECTIVES) is None
    lower, upper = frames([1.0, 2, 3], [2.0, 3, 4])
    assert compare_fidelities(lower, upper, OBJECTIVES[1:]) is None


def test_equal_values_have_no_order():
    assert math.isnan(kendall(np.ones(5), np.arange(5.0), rng=np.random.default_rng(0)).value)
