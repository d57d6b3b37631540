"""A study of two fidelities by the real command line, killed in the second, and looked at."""

import json

import pandas as pd
import pytest

from starsearch.api.study_folder import place_of
from tests.api.conftest import TINY_SPACE, UNTIMED
from tests.command_line import fresh_starsearch, starsearch

LADDER = f"""\
space: tiny.yaml
{UNTIMED}fidelities:
  - {{name: proxy, resolution: 32, epochs: 1, samples: 300, validation_samples: 200, recipe: digits}}
  - {{name: full, resolution: 32, epochs: 2, samples: 400, validation_samples: 200, recipe: digits, promote: 2,
     promote_random: 1, start: weights}}
search: {{trials: 5, sampler: random, seed: 1}}
"""


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    (folder / "two.yaml").write_text(LADDER)
    done = starsearch("run", "two.yaml", "--set", "fidelities.full.samples=500", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_the_promoted_and_the_anchor_are_trained_at_the_second_fidelity(climbed):
    trials = pd.read_csv(climbed / "studies/two/trials.csv")
    assert trials.groupby("study")["state"].value_counts().to_dict() == {
        ("two", "COMPLETE"): 6,
        ("two.full", "COMPLETE"): 4,
    }
    full = trials[trials["fidelity"] == "full"]
    assert full["anchor"].dropna().tolist() == ["starnet_s050"]
    weights = climbed / "studies/two/full/weights"
    assert len(list(weights.iterdir())) == 4


def test_the_front_shows_each_candidate_at_its_highest_fidelity_only(climbed):
    front = pd.read_csv(climbed / "studies/two/front.csv")
    assert front["architecture"].is_unique
    full = set(front.loc[front["fidelity"] == "full", "architecture"])
    assert full.isdisjoint(front.loc[front["fidelity"] == "proxy", "architecture"])
    printed = (climbed / "stdout.txt").read_text()
    assert "At full, the highest fidelity" in printed
    assert "proxy → full: 4 candidates judged at both. Kendall τ" in printed
    page = (climbed / "studies/two/report.html").read_text()
    assert "How far the lower fidelities can be trusted" in page


def test_status_counts_every_fidelity_and_the_same_command_has_nothing_left_to_do(climbed):
    status = json.loads(starsearch("status", "studies/two", "--json", cwd=climbed).stdout)
    assert (status["fidelity"], status["complete"]) == ("full", 4)
    assert [(one["fidelity"], one["complete"]) for one in status["fidelities"]] == [("proxy", 6)]
    assert "Kendall" in status["agreement"][0]
    before = (climbed / "studies/two/trials.csv").read_text()
    again = starsearch("run", "two.yaml", "--set", "fidelities.full.samples=500", cwd=climbed)
    assert again.returncode == 0, again.stderr
    assert (climbed / "studies/two/trials.csv").read_text() == before


def test_each_fidelity_can_be_named(climbed):
    lower = json.loads(starsearch("front", "studies/two.proxy", "--json", cwd=climbed).stdout)
    assert lower["summary"]["complete"] == 6
    upper = place_of(str(climbed / "studies/two.full"))
    assert (upper.name, upper.folder) == ("two.full", climbed / "studies/two/full")
    wrong = starsearch("front", "studies/two.fulll", cwd=climbed)
    assert wrong.returncode == 2
    assert "no study folder" in wrong.stderr


def test_a_trial_is_validated_with_the_weights_of_the_highest_fidelity(climbed):
    trials = pd.read_csv(climbed / "studies/two/trials.csv")
    full = trials[trials["fidelity"] == "full"].set_index("number")
    done = fresh_starsearch("validate", "studies/two:1", "--data", "digits", "--json", cwd=climbed)
    assert done.returncode == 0, done.stderr
    assert full["architecture_text"][1] in json.loads(done.stdout)["network"]


def test_a_budget_that_is_spent_between_fidelities_is_no_failure(climbed, tmp_path):
    more = ("--set", "fidelities.full.samples=500", "--set", "fidelities.full.promote=4", "--time-budget", "0.01s")
    done = starsearch("run", "two.yaml", *more, cwd=climbed)
    assert done.returncode == 0, done.stderr
    assert "The time budget is spent" in done.stdout
