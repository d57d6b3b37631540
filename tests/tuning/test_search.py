"""Recipe searches by a real Ray Tune on a real Ray, over tiny trainings on the embedded digits."""

import json
import signal
from collections import Counter

import pytest

from starsearch.api.study import load_study, study_status
from starsearch.data import open_data
from starsearch.errors import DataError, StudyError
from starsearch.families.text import parse_architecture
from starsearch.recipe import Fidelity
from starsearch.records.storage import open_storage
from starsearch.records.table import load_attributes, load_trials
from starsearch.study.recipe_file import load_recipe
from starsearch.training import train
from starsearch.tuning.search import SCHEDULES
from starsearch.tuning.space import BASE_RECIPE
from tests.command_line import running
from tests.ray_clusters import address_in_environment
from tests.tuning.tuning_process import EPOCHS, NETWORK, tune

# Ray's own: files it leaves open, what a later Ray will change.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # Ray is started, and trains

# Whoever comes after the base recipe with one of the hopeless rates is stopped.
HALF_HOPELESS = "recipe:\n  lr: {low: 1.0e-7, high: 4.0e-3, log: true}\n"


@pytest.fixture(scope="module", autouse=True)
def _cluster(ray_cluster):
    with pytest.MonkeyPatch.context() as patched:
        address_in_environment(ray_cluster, patched)
        yield


def url_of(folder):
    return f"sqlite:///{folder / 'tuned' / 'study.db'}"


def recorded(folder):
    """The study's trials as Optuna has them."""
    storage = open_storage(url_of(folder))
    return storage.get_all_trials(storage.get_study_id_from_name("tuned"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a finished search of eight recipes, and what it returned; some begin after the base."""
    folder = tmp_path_factory.mktemp("asha")
    return folder, tune(folder, trials=8, space=HALF_HOPELESS)


def test_asha_stops_some_and_the_base_recipe_trains_to_its_end(searched):
    folder, outcome = searched
    assert outcome.finished == 8
    trials = load_trials(url_of(folder))
    states = Counter(trials["state"])
    assert states["COMPLETE"] + states["PRUNED"] == 8
    assert states["PRUNED"] >= 1
    assert "RUNNING" not in states
    base = trials[trials["anchor"] == BASE_RECIPE]
    assert base["state"].tolist() == ["COMPLETE"]
    assert base["recipe"].tolist() == ["{}"]
    assert outcome.base.number == base["number"].iloc[0]
    best, base = (one.values["top1_percent"] for one in (outcome.best, outcome.base))
    assert trials["top1_percent"].max() >= best >= base


def test_the_record_is_what_ray_tune_saw(searched):
    folder, _ = searched
    seen = {}
    for file in folder.glob("tuned/tune/run-*/*/result.json"):
        results = [json.loads(line) for line in file.read_text().splitlines()]
        seen[json.dumps(results[0]["schedule"][0]["params"], sort_keys=True)] = {
            one["epoch"]: one["top1_percent"] for one in results
        }
    found = {json.dumps(trial.params, sort_keys=True): trial.intermediate_values for trial in recorded(folder)}
    assert found == seen
    assert len(found) == 8


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
    best = recorded(folder)[outcome.best.number]
    assert curve == best.intermediate_values
    top1 = outcome.best.values["top1_percent"]
    assert f"trial {outcome.best.number}: top-1 {top1:.2f} %" in outcome.recipe_file.read_text()


def test_status_and_front_read_the_search_and_no_checkpoint_is_left(searched):
    folder, outcome = searched
    status = study_status(str(outcome.folder))
    assert status["best"]["top1_percent"]["number"] == outcome.best.number
    assert status["stopped"] >= 1
    ranking = load_study(outcome.folder).front()
    assert ranking["number"].iloc[0] == outcome.best.number
    assert BASE_RECIPE in set(ranking["anchor"].dropna())
    assert {path.name for path in outcome.files} == {"trials.csv", "front.csv", "front.png", "report.html"}
    assert not list(folder.glob("tuned/tune/*/*/checkpoint_*"))


@pytest.mark.slow
def test_the_same_command_with_more_trials_goes_on(searched, tmp_path):
    import shutil

    shutil.copytree(searched[0], tmp_path / "on")
    before = recorded(tmp_path / "on")
    assert tune(tmp_path / "on", trials=9, space=HALF_HOPELESS).finished == 9
    after = recorded(tmp_path / "on")
    assert [trial.params for trial in after[:8]] == [trial.params for trial in before]
    assert len(after) == 9
    assert after[8].params not in [trial.params for trial in before]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_driver_loses_nothing_finished_and_the_same_command_resumes(tmp_path, number):
    with running("-m", "tests.tuning.tuning_process", tmp_path, 3) as process:
        for line in process.stdout:
            if line.startswith("Trial"):
                break
        process.send_signal(number)
        assert ("ended\n" in process.stdout) == (number != signal.SIGKILL)
    before = recorded(tmp_path)
    assert before
    assert {trial.state.name for trial in before} <= {"COMPLETE", "PRUNED"}
    assert tune(tmp_path, trials=3).finished == 3
    after = recorded(tmp_path)
    assert after[: len(before)] == before
    assert [trial.state.name in ("COMPLETE", "PRUNED") for trial in after] == [True] * 3
    assert sum(trial.user_attrs.get("anchor") == BASE_RECIPE for trial in after) == 1


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
def test_a_population_resumes_its_best_and_says_by_which_recipes_it_was_trained(tmp_path):
    space = "recipe:\n  lr: {low: 1.0e-4, high: 1.0e-2, log: true}\n  weight_decay: {low: 0.01, high: 0.3}\n"
    for seed in range(2, 7):  # whether a member goes on from a better one depends on which of them report first
        (folder := tmp_path / str(seed)).mkdir()
        outcome = tune(folder, trials=4, epochs=4, space=space, scheduler="pbt", seed=seed)
        trials = recorded(folder)
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * outcome.finished == ["COMPLETE"] * 4
        schedules = load_attributes(url_of(folder), "tuned").get(SCHEDULES)
        if schedules:
            break
    assert schedules
    for number, schedule in schedules.items():
        trial = trials[int(number)]
        assert schedule[-1]["params"] == trial.params, "its recipe is the one it ended with"
        assert [part["since"] for part in schedule] == sorted({part["since"] for part in schedule})
        assert 1e-4 <= trial.params["recipe.lr"] <= 1e-2
        assert 0.01 <= trial.params["recipe.weight_decay"] <= 0.3
    for trial in trials:
        assert sorted(trial.intermediate_values) == [1, 2, 3, 4]
        assert trial.values == [trial.intermediate_values[4]]


def test_a_batch_that_the_data_cannot_fill_is_refused_before_ray_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(DataError, match="batch_size 512 images, but the fidelity 'tune' has 256 of 'digits'"):
        tune(tmp_path, trials=2, space="recipe: {batch_size: [64, 512]}")


def test_no_cluster_at_the_address_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(StudyError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        tune(tmp_path, trials=2)
