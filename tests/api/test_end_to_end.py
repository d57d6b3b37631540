"""The main job through the real command line: training, ONNX Runtime, SQLite, files."""

import json
import math
import os
import re
import signal

import optuna
import pandas as pd
import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.api.conftest import UNTIMED, write_tiny_files
from tests.command_line import begun, fresh_starsearch, python, starsearch


def test_a_run_leaves_every_artefact_and_prints_what_to_do_next(finished):
    printed = (finished / "stdout.txt").read_text()
    assert "Done: 4 of 4 trials" in printed
    assert "starsearch export studies/few --knee" in printed
    study = finished / "studies" / "few"
    for name in ("study.db", "trials.csv", "front.csv", "front.png", "report.html"):
        assert (study / name).stat().st_size > 0, name
    trials = pd.read_csv(study / "trials.csv")
    assert list(trials["state"]) == ["COMPLETE"] * 4
    assert trials["architecture"].nunique() == 4
    assert list(trials["anchor"].dropna()) == ["starnet_s050"]
    assert (trials["latency_ms"] > 0).all()
    assert (trials["latency_ms_runs"] >= 6).all()
    assert trials["top1_percent"].between(0, 100).all()


def test_costs_are_those_of_the_deployed_network_and_the_published_ones_stand_beside(finished):
    (anchor, *_) = optuna.load_study(study_name="few", storage=f"sqlite:///{finished}/studies/few/study.db").trials
    rows = {name: pd.read_csv(finished / f"studies/few/{name}.csv").set_index("number") for name in ("trials", "front")}
    for num_classes, prefix in ((10, ""), (1000, "published_")):
        model = timm.create_model("starnet_s050", num_classes=num_classes).eval()
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 64, 64))
        macs, num_params = counter.get_total_flops() / 2, sum(weight.numel() for weight in model.parameters())
        for row in (rows["trials"].loc[0], rows["front"].loc[0]):
            assert (row[f"{prefix}macs"], row[f"{prefix}num_params"]) == (macs, num_params)
        if not prefix:
            assert (anchor.user_attrs["macs"], anchor.user_attrs["num_params"]) == (macs, num_params)
    printed = (finished / "stdout.txt").read_text()
    assert f"with 1000 classes: {macs / 1e6:.1f} MMACs, {num_params / 1e6:.2f} M parameters" in printed


def test_accuracies_carry_the_standard_error_of_their_images(finished):
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{finished}/studies/few/study.db")
    trials = pd.read_csv(finished / "studies/few/trials.csv")
    printed = (finished / "stdout.txt").read_text()
    page = (finished / "studies/few/report.html").read_text()
    for trial, row in zip(study.trials, trials.to_dict("records"), strict=True):
        for name in ("top1_percent", "top5_percent"):
            (reading,) = (one for one in trial.user_attrs["readings"] if one["name"] == name)
            share, spread = reading["value"] / 100, reading["spread"]
            assert spread == pytest.approx(100 * math.sqrt(share * (1 - share) / 200), rel=0.1, abs=0.2)
            assert (row[f"{name}_spread"], row[f"{name}_runs"]) == (pytest.approx(spread), 200)
        assert f"top-1 {row['top1_percent']:.2f} ± {row['top1_percent_spread']:.2f} %" in printed
    status = json.loads(starsearch("status", "studies/few", "--json", cwd=finished).stdout)
    best = status["best"]["top1_percent"]
    assert best["spread"] == pytest.approx(trials.set_index("number")["top1_percent_spread"][best["number"]])
    assert f"<b>{best['value']:.2f} ± {best['spread']:.2f} %</b>" in page


def test_gains_within_twice_their_error_are_marked_and_one_anchor_makes_no_headline(finished):
    front = pd.read_csv(finished / "studies/few/front.csv").set_index("number")
    anchor = front[front["anchor"].notna()].iloc[0]
    for name in ("top1_percent", "latency_ms"):
        error = (front[f"{name}_spread"] ** 2 + anchor[f"{name}_spread"] ** 2) ** 0.5
        searched = front["anchor"].isna()
        apart = front[f"gain_{name}"].abs() >= 2 * error
        assert front[f"told_apart_{name}"][searched].astype(bool).tolist() == apart[searched].tolist()
    page = (finished / "studies/few/report.html").read_text()
    marks = front[["told_apart_top1_percent", "told_apart_latency_ms"]].eq(False).sum().sum()
    own, _ = page.split("<h2>In estimated ImageNet top-1</h2>")  # where the same networks stand again
    assert own.count(", not told apart") == marks
    assert "hypervolume over the published" not in page
    assert "over the published" not in starsearch("status", "studies/few", cwd=finished).stdout


def test_front_and_status_speak_json(finished):
    front = json.loads(fresh_starsearch("front", "studies/few", "--json", cwd=finished).stdout)
    assert front["front"]
    status = json.loads(starsearch("status", "studies/few", "--json", cwd=finished).stdout)
    assert status["failures"] == []
    assert status["running"] == []


def test_exports_load_in_onnx_runtime_and_in_timm_an_anchors_without_starsearch(finished, tmp_path):
    done = starsearch("export", "studies/few", "--trial", "0", "--out", str(tmp_path / "anchor"), cwd=finished)
    assert done.returncode == 0, done.stderr
    done = fresh_starsearch(
        "export", "studies/few", "--knee", "--format", "timm,onnx", "--out", str(tmp_path / "best"), cwd=finished
    )
    assert done.returncode == 0, done.stderr
    code = (
        "import sys, timm, torch, numpy as np, onnxruntime\n"
        "anchor = timm.create_model('local-dir:anchor', pretrained=True)\n"
        "assert type(anchor).__module__ == 'timm.models.starnet' and 'starsearch' not in sys.modules\n"
        "import starsearch.timm_models\n"
        "model = timm.create_model('local-dir:best', pretrained=True).eval()\n"
        "session = onnxruntime.InferenceSession('best/model.onnx')\n"
        "images = torch.randn(1, 3, 32, 32)\n"
        "ours, = session.run(None, {'input': images.numpy()})\n"
        "with torch.no_grad(): theirs = model(images).numpy()\n"
        "assert ours.shape == (1, 10) and np.allclose(ours, theirs, atol=1e-3 * theirs.std()), (ours, theirs)\n"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "top-1" in (tmp_path / "best" / "README.md").read_text().lower()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_killed_or_interrupted_run_goes_on_and_loses_nothing(tmp_path, how, code):
    write_tiny_files(tmp_path, UNTIMED)
    with begun("run", "few.yaml", cwd=tmp_path) as (running, out, err):
        # A line a finished trial, since stdout is no terminal.
        while not (out.exists() and re.search(r"trial 0 .*top-1", out.read_text())):
            running.join(0.02)
            assert running.exitcode is None, err.read_text()
        os.kill(running.pid, how)
        running.join(120)
        said = out.read_text() + err.read_text()
    assert running.exitcode == code, said
    assert re.match(r"Data: .*classes.*training and .*\nFidelity: .*, 1 epoch on .* px\nSampler: ", said), said
    assert ("The same command goes on: starsearch run few.yaml" in said) == (how != signal.SIGKILL)
    url = f"sqlite:///{tmp_path}/studies/few/study.db"
    before = [t for t in optuna.load_study(study_name="few", storage=url).trials if t.state.name == "COMPLETE"]
    assert before
    done = starsearch("run", "few.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "starsearch ship studies/few --knee --out product\n" in done.stdout
    trials = optuna.load_study(study_name="few", storage=url).trials
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(complete) == 4
    assert not [trial for trial in trials if trial.state.name == "RUNNING"]
    assert len({trial.user_attrs["architecture"] for trial in complete}) == 4
    assert [trial.values for trial in complete[: len(before)]] == [trial.values for trial in before]


def test_a_pipe_that_is_closed_silences_a_run_and_never_ends_it(tmp_path):
    write_tiny_files(tmp_path, UNTIMED)
    reader, writer = os.pipe()
    os.close(reader)
    done = python("-m", "starsearch", "run", "few.yaml", "--trials", "1", cwd=tmp_path, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{tmp_path}/studies/few/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
