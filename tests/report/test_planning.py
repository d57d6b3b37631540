import math

import numpy as np
import pytest

from starsearch.recipe import Fidelity
from starsearch.report.agreement import Agreement, Tau
from starsearch.report.planning import ProxyOption, StepCost, choose_proxy, count_work, predict_seconds


def option(seconds, tau):
    known = Tau(value=tau, low=tau - 0.2, high=tau + 0.1, pairs=10)
    agreement = Agreement(
        lower="a", upper="b", quantity="top1_percent", candidates=5, overall=known, in_bands=known, best_tenth=known,
        best_count=3, num_params=known, better_than_params=0.5, anchors={}, inverted={},
    )  # fmt: skip
    return ProxyOption(fidelity=Fidelity(), seconds=seconds, agreement=agreement)


def test_the_cheapest_that_agrees_well_enough_is_chosen_not_the_best():
    options = [option(10, 0.4), option(20, 0.75), option(40, 0.9)]
    assert choose_proxy(options, 0.7) is options[1]
    assert choose_proxy(options, 0.8) is options[2]
    assert choose_proxy(options, 0.95) is None
    assert choose_proxy([option(1, math.nan), *options], 0.3) is options[0]


def test_a_training_time_of_a_fixed_part_and_one_by_work_is_found_again():
    rng = np.random.default_rng(0)
    work = [count_work(epochs=e, images=n, resolution=r) for e in (1, 3) for n in (1000, 4000) for r in (32, 64)]
    seconds = [4 + 2e-7 * one * rng.normal(1, 0.02) for one in work]
    wanted = count_work(epochs=30, images=50_000, resolution=64)
    assert predict_seconds(work, seconds, wanted) == pytest.approx(4 + 2e-7 * wanted, rel=0.05)


def test_one_training_tells_by_its_work_alone():
    assert predict_seconds([100.0], [5.0], 1000.0) == pytest.approx(50)


def test_hours_are_those_of_one_worker():
    assert StepCost(name="full", candidates=12, trainings=9, seconds=7200, is_measured=True).hours == 18
