"""Recipe searches by a real Ray Tune on a real Ray, over tiny trainings on the embedded digits."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from starsearch import api
from starsearch.data import open_data
from starsearch.errors import DataError, StudyError
from starsearch.families.text import parse_architecture
from starsearch.recipe import Fidelity, Recipe
from starsearch.records import load_attributes, load_trials, open_storage, recorded_candidate
from starsearch.search.tuning_log import BASE_RECIPE, PARTED
from starsearch.study.recipe_file import load_recipe
from starsearch.training import train
from tests.search.tuning_process import EPOCHS, NETWORK, tune

# Ray's own: files it leaves open, what a later Ray will change.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # Ray is started, and trains

ROOT = Path(__file__).parents[2]
# Whoever comes after the base recipe with one of the hopeless rates is stopped.
HALF_HOPELESS = "recipe:\n  lr: {low: 1.0e-7, high: 4.0e-3, log: true}\n"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    os.environ |= environment
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    os.environ["RAY_ADDRESS"] = found.address
    yield found
    found.shutdown()
    for name in (*environment, "RAY_ADDRESS"):
        del os.environ[name]


def url_of(folder):
    return f"sqlite:///{folder / 'tuned' / 'study.db'}"


def recorded(folder):
    """The study's trials as Optuna has them."""
    storage = open_storage(url_of(folder))
    return storage.get_all_trials(storage.get_study_id_from_name("tuned"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a finished search of six recipes, and what it returned."""
    folder = tmp_path_factory.mktemp("asha")
    return folder, tune(folder, trials=6, space=HALF_HOPELESS)


def test_asha_stops_some_and_the_base_recipe_trains_to_its_end(searched):
    folder, outcome = searched
    assert outcome.ended.why == "complete"
    trials = load_trials(url_of(folder))
    states = Counter(trials["state"])
    assert states["COMPLETE"] + states["PRUNED"] == 6
    assert states["PRUNED"] >= 1
    assert "RUNNING" not in states
    base = trials[trials["anchor"] == BASE_RECIPE]
    assert base["state"].tolist() == ["COMPLETE"]
    assert base["recipe"].tolist() == ["{}"]
    assert outcome.base.trial == base["number"].iloc[0]
    assert trials["top1_percent"].max() >= outcome.best.top1_percent >= outcome.base.top1_percent


def test_the_record_is_what_ray_tune_saw(searched):
    folder, _ = searched
    seen = {}
    for file in folder.glob("tuned/tune/run-*/*/result.json"):
        results = [json.loads(line) for line in file.read_text().splitlines()]
        seen[json.dumps(results[0]["params"], sort_keys=True)] = {one["epoch"]: one["top1_percent"] for one in results}
    found = {json.dumps(trial.params, sort_keys=True): trial.intermediate_values for trial in recorded(folder)}
    assert found == seen
    assert len(found) == 6


def test_a_stopped_trial_ends_where_its_curve_ends_and_a_complete_one_has_all_of_it(searched):
    for trial in recorded(searched[0]):
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        if trial.state.name == "PRUNED":
            assert len(epochs) == trial.user_attrs["epochs"] < EPOCHS
        else:
            assert len(epochs) == EPOCHS
            assert trial.values == [trial.intermediate_values[EPOCHS]]


def test_the_best_recipes_file_trains_to_what_the_record_says(searched):
    folder, outcome = searched
    recipe = load_recipe(str(outcome.recipe_file))
    fidelity = Fidelity(resolution=32, samples=256, validation_samples=200)
    steps = train(parse_architecture(NETWORK), data=open_data("digits"), recipe=recipe, fidelity=fidelity, seed=0)
    curve = {step.epoch: step.values["top1_percent"] for step in steps if step.epoch is not None}
    best = recorded(folder)[outcome.best.trial]
    assert curve == best.intermediate_values
    assert f"trial {outcome.best.trial}: top-1 {outcome.best.top1_percent:.2f} %" in outcome.recipe_file.read_text()


def test_status_and_front_read_the_search_and_no_checkpoint_is_left(searched):
    folder, outcome = searched
    status = api.study_status(str(outcome.folder))
    assert status["best"]["top1_percent"]["number"] == outcome.best.trial
    assert status["stopped"] >= 1
    ranking = api.load_study(outcome.folder).front()
    assert ranking["number"].iloc[0] == outcome.best.trial
    assert BASE_RECIPE in set(ranking["anchor"].dropna())
    assert {path.name for path in outcome.files} == {"trials.csv", "front.csv", "front.png", "report.html"}
    assert not list(folder.glob("tuned/tune/*/*/checkpoint_*"))


@pytest.mark.slow
def test_the_same_command_with_more_trials_goes_on(searched, tmp_path):
    import shutil

    shutil.copytree(searched[0], tmp_path / "on")
    before = recorded(tmp_path / "on")
    assert tune(tmp_path / "on", trials=7, space=HALF_HOPELESS).ended.finished == 7
    after = recorded(tmp_path / "on")
    assert [trial.params for trial in after[:6]] == [trial.params for trial in before]
    assert len(after) == 7
    assert after[6].params not in [trial.params for trial in before]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_driver_loses_nothing_finished_and_its_recipes_run_again(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.search.tuning_process", str(tmp_path), "3"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        for line in process.stdout:
            if line.startswith("TrialProgressed"):
                break
        process.send_signal(number)
        assert ("ended\n" in process.stdout) == (number != signal.SIGKILL)
    left = "RUNNING" if number == signal.SIGKILL else "FAIL"  # a driver that is asked to stop ends its trials itself
    running = [trial for trial in recorded(tmp_path) if trial.state.name not in ("COMPLETE", "PRUNED")]
    assert {trial.state.name for trial in running} == {left}
    assert tune(tmp_path, trials=3).ended.finished == 3
    trials = recorded(tmp_path)
    assert {trials[one.number].state.name for one in running} == {"FAIL"}
    again = {trial.user_attrs["retry_of"]: trial for trial in trials if "retry_of" in trial.user_attrs}
    assert {number: trial.params for number, trial in again.items()} == {one.number: one.params for one in running}
    assert sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials) == 3
    assert sum(trial.user_attrs.get("anchor") == BASE_RECIPE and trial.state.name != "FAIL" for trial in trials) == 1


@pytest.mark.slow
def test_a_training_that_diverges_is_a_failed_trial_and_all_of_them_are_an_error(tmp_path):
    (tmp_path / "wild.yaml").write_text("{epochs: 1, batch_size: 64, optimizer: sgd, lr: 100, warmup_epochs: 0}")
    space = "recipe: {lr: [90, 100], warmup_epochs: [0]}"
    with pytest.raises(StudyError, match=r"Every training failed, the last with: TrainingDivergedError: The training"):
        tune(tmp_path, trials=1, space=space, recipe=str(tmp_path / "wild.yaml"))
    trials = load_trials(url_of(tmp_path))
    assert trials["state"].tolist() == ["FAIL"]
    assert trials["reason"].str.startswith("TrainingDivergedError").all()


@pytest.mark.slow
def test_a_population_goes_on_with_its_best_and_says_with_whose(tmp_path):
    space = "recipe:\n  lr: {low: 1.0e-4, high: 1.0e-2, log: true}\n  weight_decay: {low: 0.01, high: 0.3}\n"
    outcome = tune(tmp_path, trials=4, epochs=4, space=space, scheduler="pbt", seed=2)
    trials = recorded(tmp_path)
    assert sum(trial.state.name == "COMPLETE" for trial in trials) == outcome.ended.finished == 4
    heirs = [trial for trial in trials if "continues" in trial.user_attrs]
    assert heirs
    parted = load_attributes(url_of(tmp_path), "tuned")[PARTED]
    for heir in heirs:
        origin = parted[str(heir.number)]
        assert origin["from"] == heir.user_attrs["continues"]
        donor = trials[origin["from"]]
        inherited = {epoch: top1 for epoch, top1 in heir.intermediate_values.items() if epoch <= origin["epoch"]}
        assert inherited == {epoch: donor.intermediate_values[epoch] for epoch in inherited}
        assert len(inherited) == origin["epoch"]
        recipe = recorded_candidate(heir, Recipe()).recipe
        assert 1e-4 <= recipe.lr <= 1e-2
        assert 0.01 <= recipe.weight_decay <= 0.3


def test_a_batch_that_the_data_cannot_fill_is_refused_before_ray_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(DataError, match="batch_size 512 images, but there are 256 of 'digits'"):
        tune(tmp_path, trials=2, space="recipe: {batch_size: [64, 512]}")


def test_no_cluster_at_the_address_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(StudyError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        tune(tmp_path, trials=2)
