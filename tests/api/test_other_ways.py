"""The less trodden ways of the command line, each through the real thing."""

import html
import json
import shutil
import socket
import urllib.request
from contextlib import contextmanager

import optuna
import pandas as pd
import pytest

from starsearch.api.networks import resolve
from starsearch.api.run import parse_duration
from starsearch.errors import SpecError, StudyError
from starsearch.records.table import load_study
from tests.api.conftest import TINY_STUDY, UNTIMED, write_tiny_files
from tests.command_line import begun, starsearch
from tests.data.pictures import write_pictures


def test_a_study_kept_in_another_storage_is_found_by_its_folder(tmp_path):
    write_tiny_files(tmp_path, UNTIMED)
    done = starsearch(
        "run", "few.yaml", "--trials", "1", "--storage", "sqlite:///elsewhere.db", "--name", "kept", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "studies/kept/study.db").exists()
    assert starsearch("front", "studies/kept", cwd=tmp_path).returncode == 0
    assert starsearch("front", "kept@sqlite:///elsewhere.db", cwd=tmp_path).returncode == 0
    done = starsearch("run", "few.yaml", "--name", "kept", cwd=tmp_path)
    assert "holds the study 'kept', kept in sqlite:///elsewhere.db. Run with --storage" in done.stderr
    exported = starsearch("export", "studies/kept", "--trial", "0", "--out", "best", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr


def test_trials_of_other_programs_are_counted_and_left_as_they_are(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{tmp_path}/studies/few/study.db")
    study.tell(study.ask(), [100.0, 0.001])  # better than any network
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    study.ask()
    study.enqueue_trial(study.trials[1].params)
    study.enqueue_trial(study.trials[1].params, user_attrs=study.trials[1].user_attrs)  # "run again"
    done = starsearch("run", "few.yaml", "--trials", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5 trials were made or ended by another program" in done.stdout
    assert [trial.state.name for trial in study.trials] == [
        *["COMPLETE"] * 5, "FAIL", "RUNNING", "WAITING", "WAITING", "COMPLETE"
    ]  # fmt: skip
    trials = pd.read_csv(tmp_path / "studies/few/trials.csv").set_index("number")
    assert trials["state"].tolist() == [*["COMPLETE"] * 4, *["FOREIGN"] * 5, "COMPLETE"]
    assert trials["architecture"].dropna().is_unique
    assert set(pd.read_csv(tmp_path / "studies/few/front.csv")["number"]) <= {0, 1, 2, 3, 9}
    status = json.loads(starsearch("status", "studies/few", "--json", cwd=tmp_path).stdout)
    assert (status["complete"], status["foreign"], status["running"]) == (5, 5, [])
    assert starsearch("report", "studies/few", cwd=tmp_path).returncode == 0
    number = trials.index[trials["state"] == "FOREIGN"][0]
    refused = starsearch("train", f"studies/few:{number}", "--data", "d", cwd=tmp_path)
    assert refused.returncode == 2
    assert "was made by another program" in refused.stderr
    exported = starsearch("export", "studies/few", "--knee", "--out", "best", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr


@pytest.fixture(scope="module")
def infeasible(tmp_path_factory):
    """A folder in which every trial of studies/none has broken a constraint."""
    folder = tmp_path_factory.mktemp("infeasible")
    write_tiny_files(folder, UNTIMED + "constraints: {macs: {max: 1.0e+5}, num_params: {min: 5, max: 2.0e+5}}\n")
    done = starsearch("run", "few.yaml", "--name", "none", "--trials", "2", cwd=folder)
    assert done.returncode == 2
    assert "No network keeps the study's constraints: 1 complete, 0 failed, 1 break a constraint, 50 not" in done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_where_all_break_constraints_it_is_said_how_many_which_and_by_how_little(infeasible):
    trials = pd.read_csv(infeasible / "studies/none/trials.csv").set_index("number")
    untrained = trials[trials["state"] == "UNTRAINED"]
    assert (untrained["macs"] > 1e5).all()
    over = untrained[["macs", "num_params"]] / [1e5, 2e5]
    closest = over.max(axis=1).idxmin()
    trials = trials[trials["state"] == "COMPLETE"]
    assert (trials["excess_macs.max"] == trials["macs"] - 1e5).all()
    assert (trials["excess_num_params.min"] < 0).all()
    (nearest,) = trials.index  # the anchor's
    told = "The one complete trial breaks the study's constraints: 1 breaks MACs at most 0.1 M, 1 breaks Params at most"
    ended = (infeasible / "stdout.txt").read_text()
    assert len(untrained) == 50
    assert "Stopped: 1 of 3 trials; one candidate after another broke the study's constraints" in ended
    closest_miss = (
        f"Nearest is trial {closest}: MACs {untrained['macs'][closest] / 1e6:.4g} M where at most 0.1 M is wanted"
    )
    assert "50 trials were not trained, for what is known before breaks the study's constraints: 50 break MACs" in ended
    miss = f"Nearest is trial {nearest}: MACs {trials['macs'][nearest] / 1e6:.4g} M where at most 0.1 M is wanted"
    assert f"starsearch export studies/none --trial {nearest} " in (infeasible / "stdout.txt").read_text()
    refused = starsearch("export", "studies/none", "--knee", "--out", "knee", cwd=infeasible)
    assert refused.returncode == 2
    for text in (
        (infeasible / "stdout.txt").read_text(),
        starsearch("front", "studies/none", cwd=infeasible).stdout,
        " ".join(starsearch("status", "studies/none", cwd=infeasible).stdout.split()),
        html.unescape((infeasible / "studies/none/report.html").read_text()),
        refused.stderr,
    ):
        assert told in text
        assert miss in text
        assert closest_miss in text
        assert "widen the space towards smaller networks" in text
        assert "No trial is complete" not in text
    page = (infeasible / "studies/none/report.html").read_text()
    assert "macs: at most 100000, num_params: at least 5, at most 200000" in page
    assert "starsearch run few.yaml --name none --trials 2" in page
    exported = starsearch("export", "studies/none", "--trial", str(nearest), "--out", "nearest", cwd=infeasible)
    assert exported.returncode == 0, exported.stderr


def test_a_second_study_is_refused_in_a_renamed_folder_which_is_read_and_a_moved_one_goes_on(finished, tmp_path):
    write_tiny_files(tmp_path)
    shutil.copytree(finished / "studies/few", tmp_path / "moved/few")
    shutil.copytree(finished / "studies/few", tmp_path / "moved/copied")
    assert starsearch("front", "moved/copied/", cwd=tmp_path).returncode == 0
    weights = {path: path.read_bytes() for path in (tmp_path / "moved/copied/weights").iterdir()}
    for more, words in (
        (["--name", "copied"], "moved/copied holds the study 'few', whose weights 'copied' would overwrite"),
        (
            ["--storage", "sqlite:///other.db"],
            "moved/few holds the study 'few', kept in study.db. Run with no --storage",
        ),
    ):
        done = starsearch("run", "few.yaml", "--out", "moved", *more, cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
    assert {path: path.read_bytes() for path in weights} == weights
    url = f"sqlite:///{tmp_path}/moved/copied/study.db"
    assert [study.study_name for study in optuna.get_all_study_summaries(url)] == ["few"]
    done = starsearch("run", "few.yaml", "--out", "moved", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Done: 4 of 4 trials" in done.stdout


@pytest.mark.slow
def test_the_most_accurate_networks_are_exported_twice_into_the_same_folder(finished, tmp_path):
    command = ["export", "studies/few", "--top", "2", "--format", "onnx,timm", "--out", str(tmp_path / "top")]
    for _ in range(2):
        done = starsearch(*command, cwd=finished)
        assert done.returncode == 0, done.stderr
    folders = sorted((tmp_path / "top").iterdir())
    assert 1 <= len(folders) <= 2
    for folder in folders:
        assert {"config.json", "model.onnx", "model.safetensors"} <= {path.name for path in folder.iterdir()}


def test_the_report_can_be_written_again(finished, tmp_path):
    shutil.copytree(finished / "studies/few", tmp_path / "few")
    for name in ("front.png", "report.html", "front.csv", "trials.csv"):
        (tmp_path / "few" / name).unlink()
    done = starsearch("report", "few", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "few" / "report.html").read_text()
    assert "starsearch run few.yaml" in page
    assert str(tmp_path) not in page


@contextmanager
def served(*words, cwd):
    """The address of a server that listens until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with begun(*words, "--port", str(port), cwd=cwd) as (server, _, err):
        while not listens():  # it says so before it does
            server.join(0.02)
            assert server.exitcode is None, err.read_text()
        yield f"http://127.0.0.1:{port}/"


def test_the_dashboard_serves_the_study_on_loopback(finished):
    with (
        served("dashboard", "studies/few", cwd=finished) as address,
        urllib.request.urlopen(f"{address}api/studies", timeout=30) as answer,
    ):
        studies = json.load(answer)["study_summaries"]
    assert [study["study_name"] for study in studies] == ["few"]


def test_the_served_report_has_another_version_once_a_trial_has_ended(finished, tmp_path):
    shutil.copytree(finished / "studies/few", tmp_path / "few")
    with served("report", "few", "--serve", cwd=tmp_path) as address:
        with urllib.request.urlopen(address, timeout=60) as answer:
            before = answer.headers["ETag"]
            assert "starsearch run few.yaml" in answer.read().decode()
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/few/study.db")
        study = optuna.load_study(study_name="few", storage=storage)
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=60) as answer:
            assert int(answer.headers["ETag"].strip('"')) == int(before.strip('"')) + 1


def test_the_shipped_name_wins_over_a_folder_that_is_called_so(tmp_path):
    for name in ("starnet", "digits"):
        (tmp_path / name).mkdir()
    assert "is valid" in starsearch("space", "check", "starnet", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("45", 45), ("1.5h", 5400)]
    + [(wrong, None) for wrong in ("", "soon", "1h30", "0", "-5m", "2d")],
)
def test_durations_are_read_or_refused(text, seconds):
    if seconds is None:
        with pytest.raises(StudyError, match="time budget"):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ((TINY_STUDY, f"{TINY_STUDY}recipe: {{batch_size: 301}}"), "batch_size 301", "--set recipe.batch_size=256"),
        (("samples: 300", "samples: 9"), "samples must be at least the number of classes; got 9", None),
        (("validation_samples: 200", "validation_samples: 9"), "validation_samples must be at least the number", None),
    ],
)
def test_what_the_data_cannot_give_is_refused_before_the_study_is_made(tmp_path, change, words, remedy):
    write_tiny_files(tmp_path)
    (tmp_path / "few.yaml").write_text(TINY_STUDY.replace(*change))
    done = starsearch("run", "few.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "studies").exists()
    if remedy:
        assert done.stderr.rstrip().endswith(remedy)
        again = starsearch("run", "few.yaml", *remedy.split(), "--time-budget", "0.01s", cwd=tmp_path)
        assert again.returncode == 0


def test_an_architecture_is_named_in_four_ways(finished, tmp_path):
    name = resolve("starnet_s050").architecture
    (tmp_path / "s050.yaml").write_text("embed_dim: 16\ndepths: [1, 1, 3, 1]\nmlp_ratio: 3\n")
    assert resolve("starnet:embed_dim=16,depths=1-1-3-1,mlp_ratio=3").architecture == name
    assert resolve(str(tmp_path / "s050.yaml")).architecture == name
    assert resolve(f"{finished}/studies/few:0").architecture == name
    with pytest.raises(StudyError, match="no trial 99"):
        resolve(f"{finished}/studies/few:99")
    (tmp_path / "s050.yaml").write_text("embed_dims: 16\n")
    with pytest.raises(SpecError, match=r"s050.yaml, line 1: Unknown field 'embed_dims'. Did you mean 'embed_dim'"):
        resolve(str(tmp_path / "s050.yaml"))


def test_how_the_data_were_read_is_recorded_and_found_again(tmp_path):
    write_pictures(tmp_path / "photos", {"cat": 44, "dog": 44})
    (tmp_path / "photos" / "notes.txt").touch()
    write_tiny_files(tmp_path, UNTIMED)
    run = ("run", "few.yaml", "--data", "photos", "--trials", "1", "--validation-fraction")
    done = starsearch(*run, ".25", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    read = "photos?validation_fraction=0.25"
    assert f"{read}: left out: 1 .txt, which no training uses" in " ".join(done.stderr.split())
    assert load_study(f"sqlite:///{tmp_path}/studies/few/study.db").spec.data == read
    report = html.unescape((tmp_path / "studies/few/report.html").read_text())
    assert f"starsearch run few.yaml --data '{read}'" in report
    refused = starsearch(*run, ".2", cwd=tmp_path)
    assert refused.returncode == 2
    assert f"data: was {read}: 2 classes" in refused.stderr
    more = ("--format", "timm,onnx-int8", "--data", "photos", "--out", "best")
    exported = starsearch("export", "studies/few", "--trial", "0", *more, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert read in (tmp_path / "best" / "README.md").read_text()


def test_a_run_in_which_everything_fails_says_so(tmp_path):
    study = TINY_STUDY.replace("recipe: digits", "recipe: digits, time_limit_s: 0.001")
    (tmp_path / "few.yaml").write_text(study + "objectives: {top1_percent: maximize}\n")
    (tmp_path / "tiny.yaml").write_text("resolution: 64\ndimensions: {embed_dim: [8, 16], depths: [1, 1, 1, 1]}\n")
    done = starsearch("run", "few.yaml", "--name", "failing", cwd=tmp_path)
    assert done.returncode == 2
    assert "every candidate failed" in done.stderr
    assert "TimeLimitError" in done.stdout
