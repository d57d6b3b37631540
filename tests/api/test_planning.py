"""`starsearch plan` by the real command line: a pilot of proxies against a longer training."""

import pandas as pd
import pytest

from tests.api.conftest import TINY_SPACE
from tests.command_line import starsearch

pytestmark = pytest.mark.slow  # a pilot of ten trainings, by the command line

STUDY = """\
space: tiny.yaml
fidelities:
  - {name: proxy, resolution: 32, epochs: 1, samples: 128, validation_samples: 100, recipe: digits}
  - {name: full, resolution: 32, epochs: 2, samples: 300, validation_samples: 100, recipe: digits, promote: 2}
search: {trials: 6}
"""
PLAN = ("plan", "tried.yaml", "--pilot", "4", "--epochs", "1", "--samples", "256", "--recipes", "digits,proxy")
PLAN += ("--tau", "-1", "--workers", "4")


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    (folder / "tried.yaml").write_text(STUDY)
    done = starsearch(*PLAN, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_every_proxy_of_the_grid_is_compared_on_the_same_candidates(planned):
    plan = pd.read_csv(planned / "studies/tried-plan/plan.csv")
    rows = plan.set_index(["samples", "recipe"])["own"].to_dict()
    assert rows == {(128, "digits"): True, (256, "digits"): False, (256, "proxy"): False}, "its own beside the grid's"
    assert (plan["candidates"] == 5).all()
    assert plan["seconds"].is_monotonic_increasing
    assert plan["chosen"].tolist() == [True, False, False], "any will do, so the cheapest"


def test_what_to_write_and_what_it_costs_is_said(planned):
    printed = (planned / "stdout.txt").read_text()
    assert "- {name: proxy, resolution: 32, epochs: 1, samples: " in printed
    assert "proxy 7 × " in printed
    assert "full 3 × " in printed
    assert "days with 4 at a time" in printed


def test_the_same_command_has_nothing_left_to_train(planned):
    again = starsearch(*PLAN, cwd=planned)
    assert again.returncode == 0, again.stderr
    assert "trial 5" not in again.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--top", "ful"], "no fidelity 'ful'; it has proxy, full"),
        (["--epochs", "1,x"], "whole numbers"),
        (["--resolutions", "32x48,4"], "from 8 to 1024"),
        (["--samples", "16"], "batch_size"),
        (["--recipes", "digit"], "Did you mean 'digits'"),
        (["--epochs", "9"], "No proxy of the grid is cheaper"),
        (["--pilot", "2", "--out", "elsewhere"], "at least 5 candidates"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused(planned, options, words):
    done = starsearch(*PLAN, *options, cwd=planned)  # of an option that is given twice the last counts
    assert done.returncode == 2, done.stdout
    assert words in " ".join(done.stderr.split())
    assert not (planned / "elsewhere").exists()
