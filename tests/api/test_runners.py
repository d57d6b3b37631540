"""The main job elsewhere than in its own process: worker processes, a Ray cluster of this machine."""

import json

import pandas as pd
import pytest

from tests.api.conftest import TINY_SPACE, TINY_STUDY
from tests.command_line import fresh_starsearch, starsearch

HALVED = """\
space: tiny.yaml
fidelities: [{resolution: 32, epochs: 3, samples: 300, validation_samples: 200, recipe: digits}]
search: {trials: 3, sampler: random, seed: 1, halving: {eta: 3, rungs: [{epochs: 1, resolution: 16, samples: 128}]}}
"""
LOCAL = "executor: local\nworkers: 2\nthreads: 1\n"
RAY = "executor: ray\naddress: local\nresources: {cpu: 1}\nworkers: 2\n"


def write(folder, study, runner):
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    (folder / "few.yaml").write_text(study)
    (folder / "runner.yaml").write_text(runner)


def read(folder):
    return pd.read_csv(folder / "studies/few/trials.csv")


@pytest.fixture(scope="module")
def halved(tmp_path_factory, ray_cluster):
    folder = tmp_path_factory.mktemp("halved")
    write(folder, HALVED, RAY.replace("local", ray_cluster.address))
    done = starsearch("run", "few.yaml", "--runner", "runner.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_two_workers_climb_the_rungs_of_a_real_training(halved):
    trials = read(halved)
    searched = trials[trials["anchor"].isna()]
    assert searched["state"].value_counts().to_dict() == {"PRUNED": 3, "COMPLETE": 1}
    complete = searched[searched["state"] == "COMPLETE"]
    stopped = searched.set_index("number").loc[complete["continues"].astype(int)]
    assert complete["architecture"].tolist() == stopped["architecture"].tolist()
    assert complete["latency_ms"].tolist() == stopped["latency_ms"].tolist(), "measured once"
    assert (halved / "studies/few/weights").is_dir()
    assert "Done: 4 of 4 trials" in (halved / "stdout.txt").read_text()
    assert "stopped after 1 epoch," in (halved / "stdout.txt").read_text()


def test_what_halving_saved_is_told(halved):
    status = json.loads(starsearch("status", "studies/few", "--json", cwd=halved).stdout)
    assert status["stopped"] == 3
    assert status["halving"] == [
        "Successive halving (eta 3): 3 reached 1 epoch, 1 of them went on.",
        "Trained 2.3 of the 9 epochs (26%) that training all of them to the end takes.",
    ]
    assert "3 stopped at a rung" in " ".join(starsearch("status", "studies/few", cwd=halved).stdout.split())


@pytest.mark.slow
@pytest.mark.usefixtures("ray_environment")
def test_several_workers_of_this_machine_find_what_this_process_finds(finished, tmp_path, monkeypatch):
    (long := tmp_path / ("long" * 20)).mkdir()
    monkeypatch.setenv("TMPDIR", str(long))  # in which a socket's path would be longer than it may be
    write(tmp_path, TINY_STUDY.replace("tpe", "random"), LOCAL)
    done = fresh_starsearch("run", "few.yaml", "--runner", "runner.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = read(tmp_path)
    assert list(trials["state"]) == ["COMPLETE"] * 4
    # The anchor's training is the same to the bit, wherever it runs on one thread.
    here = pd.read_csv(finished / "studies/few/trials.csv")
    anchors = [table.dropna(subset="anchor").iloc[0] for table in (here, trials)]
    assert anchors[1]["top1_percent"] == pytest.approx(anchors[0]["top1_percent"], abs=5.0)
    assert anchors[1]["macs"] == anchors[0]["macs"]
    assert (tmp_path / "studies/few").joinpath(anchors[1]["weights"]).is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_latency_is_measured_on_the_device_that_a_runner_names_and_a_misspelt_one_is_told(ray_cluster, tmp_path):
    runner = f"executor: ray\naddress: {ray_cluster.address}\nresources: {{cpu: 1}}\nwait_s: 1\ndevice: "
    write(tmp_path, TINY_STUDY, runner + "phome\n")
    refused = starsearch("run", "few.yaml", "--runner", "runner.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "None carries the custom resource 'phome'" in refused.stderr
    assert "Did you mean 'phone'?" in refused.stderr
    assert not (tmp_path / "studies/few/study.db").exists()

    write(tmp_path, TINY_STUDY, runner + "phone\n")
    done = starsearch("run", "few.yaml", "--runner", "runner.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = read(tmp_path)
    assert list(trials["state"]) == ["COMPLETE"] * 4
    assert (trials["latency_ms"] > 0).all()
    assert len(set(trials["latency_ms_device"])) == 1


@pytest.mark.usefixtures("ray_environment")
@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:1", "There is no Ray cluster at '127.0.0.1:1'"), ("local", "Set RAY_TMPDIR to a short path")],
)
def test_a_cluster_that_cannot_be_is_told_and_nothing_is_written(tmp_path, monkeypatch, address, words):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 20)))
    write(tmp_path, TINY_STUDY, RAY.replace("local", address))
    done = starsearch("run", "few.yaml", "--runner", "runner.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "studies/few/study.db").exists()
