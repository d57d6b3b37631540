"""What `starsearch plan` says of a pilot, whatever was trained."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from starsearch.api.planning import Plan
from starsearch.cli.app import app


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
    row = {"resolution": 32, "epochs": 1, "samples": 128, "recipe": "proxy", "seconds": 1.0, "chosen": False}
    row |= {f"tau_{name}": 0.1 for name in ("overall", "overall_low", "in_bands", "best_tenth", "num_params")}
    proxies = pd.DataFrame(
        [row | {"own": True, "tau_overall_high": high}, row | {"own": False, "tau_overall_high": 0.2}]
    )
    plan = Plan(
        folder=tmp_path,
        top="full",
        candidates=candidates,
        proxies=proxies,
        chosen=None,
        costs=pd.DataFrame({"fidelity": ["full"], "trainings": [9.0], "seconds": [7200.0], "is_measured": [True]}),
        workers=4,
        is_complete=True,
    )
    assert (plan.hours, plan.days) == (18, 3 * 7200 / 86_400)
    monkeypatch.setattr("starsearch.api.planning.plan_study", lambda *_args, **_options: plan)
    done = CliRunner().invoke(app, ["plan", "study.yaml", "--pilot", str(candidates - 1)], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert words in done.output
    assert done.output.count("128 *") == 1
    assert "* the study's own proxy" in done.output
