import math

import numpy as np
import pytest
from typer.testing import CliRunner

from starsearch.api import Plan
from starsearch.cli.app import app
from starsearch.recipe import Fidelity
from starsearch.report.agreement import Agreement, Tau
from starsearch.report.planning import ProxyOption, StepCost, choose_proxy, count_work, predict_seconds


def option(seconds, tau, *, high=None, is_own=False):
    known = Tau(value=tau, low=tau - 0.2, high=tau + 0.1 if high is None else high, pairs=10)
    agreement = Agreement(
        lower="a", upper="b", quantity="top1_percent", candidates=5, overall=known, in_bands=known, best_tenth=known,
        best_count=3, num_params=known, better_than_params=0.5, anchors={}, inverted={},
    )  # fmt: skip
    return ProxyOption(fidelity=Fidelity(epochs=1, samples=128), seconds=seconds, agreement=agreement, is_own=is_own)


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


@pytest.mark.parametrize(
    ("candidates", "high", "words"),
    [
        (
            5,
            1.0,
            "5 candidates cannot tell whether a proxy reaches τ 0.7 (95 % intervals). 16 more candidates (--pilot 20)",
        ),
        (5, 0.6, "No proxy of the grid reaches τ 0.7"),
        (21, 0.8, "No proxy of the grid reaches τ 0.7"),
    ],
)
def test_a_pilot_of_few_says_that_it_cannot_tell_and_how_many_could(tmp_path, monkeypatch, candidates, high, words):
    plan = Plan(
        folder=tmp_path, top="full", pilot=candidates,
        options=(option(1, -0.2, high=high, is_own=True), option(2, 0.1)),
        chosen=None, tau=0.7, costs=(), workers=None, is_complete=True,
    )  # fmt: skip
    monkeypatch.setattr("starsearch.api.plan_study", lambda *_args, **_options: plan)
    done = CliRunner().invoke(app, ["plan", "study.yaml", "--pilot", str(candidates - 1)], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert words in done.output
    assert done.output.count("128 *") == 1
    assert "* the study's own proxy" in done.output
