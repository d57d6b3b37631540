"""`starsearch ship` on a study that the real command line has run: digits, two seeds, one model of timm's."""

import errno
import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml
from safetensors.torch import save_file

from starsearch.api import shipping
from starsearch.api.networks import open_trial
from starsearch.api.run import run
from starsearch.api.shipping import ship
from starsearch.errors import EvaluationError, ExportError, StudyError, TrainingStoppedError
from starsearch.families.family import count_macs, presets
from starsearch.families.network import build_model
from starsearch.families.timm import TimmArchitecture
from starsearch.measurement import Measurement
from tests.command_line import fresh_starsearch

SHIP = {"trial": 0, "seeds": 2, "against": ["lcnet_035"], "formats": ["timm", "onnx"], "epochs": 1, "stem_stride": 1}
_STEPS = ("Validating", "Timing")


@pytest.fixture(scope="module")
def shipped(finished):
    """The folder that holds the study, shipped to `product`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(finished)
        ship("studies/few", out=Path("product"), **SHIP)
    return finished


def test_the_folder_holds_the_network_its_verdict_and_checksums_of_everything(shipped, monkeypatch):
    monkeypatch.chdir(shipped)
    product = shipped / "product"
    names = {path.relative_to(product).as_posix() for path in product.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "model.onnx", "run_onnx.py", "README.md", "verdict.csv"} <= names
    sums = dict(reversed(line.split("  ")) for line in (product / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == names - {"SHA256SUMS"}
    assert all(hashlib.sha256((product / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    table = pd.read_csv(product / "verdict.csv")
    assert table["network"].tolist() == ["starnet_s050 (trial 0)", "timm:lcnet_035"]
    logs = [pd.read_csv(shipped / f"product.trainings/trial-0/seed-{seed}/log.csv") for seed in (0, 1)]
    assert table["top1_percent"][0] == pytest.approx(np.mean([log["top1"].max() for log in logs]))
    assert table["latency_ms"].gt(0).all()
    card = (product / "README.md").read_text()
    assert "| timm:lcnet_035 |" in card
    assert "trial 0 of study few, trained in full" in card
    assert "Trained at 32 px, timed at 64 px (the space's resolution)" in card
    assert "With fewer than three seeds, little can be told apart." in card
    macs = count_macs(open_trial("studies/few", 0).architecture, resolution=64, num_classes=10, stem_stride=1)
    assert table["macs"][0] == macs
    assert f"| {macs / 1e6:,.1f} M (" in card
    session = onnxruntime.InferenceSession(product / "model.onnx")
    assert session.run(None, {"input": np.zeros((1, 3, 32, 32), np.float32)})[0].shape == (1, 10)


def test_the_same_command_trains_nothing_again_and_a_full_disk_leaves_the_folder_as_it_was(shipped, monkeypatch):
    product, kept = shipped / "product", shipped / "product.trainings" / "trial-0" / "seed-0" / "last.pt"
    before, written = kept.stat().st_mtime_ns, (product / "SHA256SUMS").stat().st_ino
    monkeypatch.setattr("starsearch.api.shipping.write_network", _full_disk)
    monkeypatch.chdir(shipped)
    with pytest.raises(ExportError, match=r"Cannot write the export to product: No space left on device\. Free some"):
        ship("studies/few", out=Path("product"), **SHIP)
    assert kept.stat().st_mtime_ns == before
    assert (product / "SHA256SUMS").stat().st_ino == written
    assert not list(shipped.glob(".partial*"))


def test_asked_to_stop_after_the_trainings_it_says_where_it_is_and_leaves_the_folder_as_it_was(shipped, monkeypatch):
    monkeypatch.chdir(shipped)
    written, said = (shipped / "product" / "SHA256SUMS").stat().st_ino, []
    stop = {"say": said.append, "is_asked_to_stop": lambda: "Writing timm …" in said}
    with pytest.raises(TrainingStoppedError, match=r"^Stopped before writing onnx\.$"):
        ship("studies/few", out=Path("product"), **stop, **SHIP)
    steps = [f"{verb} {name} …" for name in ("starnet_s050 (trial 0)", "timm:lcnet_035") for verb in _STEPS]
    assert [line for line in said if line.endswith("…")][1:] == [*steps, "Writing timm …"]
    assert (shipped / "product" / "SHA256SUMS").stat().st_ino == written
    assert not list(shipped.glob(".partial*"))


def _full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"against": ["mobilenetv4_conv_smal"]}, EvaluationError, "has no model 'mobilenetv4_conv_smal'. Did you mean"),
        ({"against": ["vit_tiny_patch16_224"]}, EvaluationError, "timm:vit_tiny_patch16_224 does not take .* 32 px"),
        ({"max_latency_ms": 1e-6}, StudyError, "No feasible trial takes at most 1e-06 ms; the fastest, trial"),
        ({"trial": 0, "knee": True}, StudyError, "Choose one of --trial, --knee"),
        ({"trial": 99}, StudyError, "has no trial 99"),
        ({"out": Path("studies")}, ExportError, "studies was not written by starsearch ship"),
        ({"trial": 0, "weights": "pruned.safetensors"}, EvaluationError, "damaged, or pruned to something that is no"),
        ({"trial": 0, "max_latency_ms": 1.0}, StudyError, "Choose one of --trial, --max-latency"),
    ],
)
def test_what_cannot_be_shipped_is_refused_before_anything_is_trained(finished, monkeypatch, options, error, says):
    monkeypatch.chdir(finished)
    state = build_model(presets()["starnet_s050"], num_classes=7).state_dict()
    cut = {"stages.0.0.conv.weight": state["stages.0.0.conv.weight"][:-3].clone()}
    save_file(state | cut, "pruned.safetensors")
    with pytest.raises(error, match=says):
        ship("studies/few", **{"out": Path("other"), **options})
    assert not list(finished.glob("other*"))


@pytest.mark.parametrize(
    ("top1", "says"), [(50.0, "The one complete trial breaks the study's constraints"), (None, "has no front yet")]
)
def test_a_study_of_one_trial_that_is_infeasible_or_has_failed_ships_nothing(tmp_path, monkeypatch, top1, says):
    monkeypatch.chdir(tmp_path)

    def judge(candidate, **_):
        yield from ()
        if top1 is None:
            raise EvaluationError("no")
        return Measurement(name="top1_percent", value=top1), Measurement(name="macs", value=1e8)

    (tmp_path / "one.yaml").write_text("dimensions: {embed_dim: [8]}\nanchors: []\n")
    study = {
        "space": "one.yaml",
        "objectives": {"top1_percent": "maximize", "macs": "minimize"},
        "constraints": {"top1_percent": {"min": 60}},
    }
    run(study, name="bad", trials=1, evaluator=judge)
    for choice in ({}, {"knee": True}, {"top": 3}, {"max_latency_ms": 5.0}):
        with pytest.raises(StudyError, match=says):
            ship("studies/bad", out=Path("out"), **choice)
    assert not list(tmp_path.glob("out*"))


def test_weights_of_other_classes_begin_it_and_a_model_of_timms_that_fails_is_left_out(shipped, monkeypatch):
    monkeypatch.chdir(shipped)
    save_file(build_model(presets()["starnet_s1"], num_classes=7).state_dict(), "given.safetensors")
    train, said, out = shipping.run_training, [], Path("begun")

    def failing(job, **options):
        if isinstance(job.architecture, TimmArchitecture):
            raise RuntimeError("<b>no</b> | memory")
        train(job, **options)

    monkeypatch.setattr(shipping, "run_training", failing)
    (found,) = ship(
        "studies/few", out=out, **SHIP | {"seeds": 1, "top": 1, "trial": None, "formats": ["timm"]},
        weights="given.safetensors", say=said.append,
    )  # fmt: skip
    assert any(
        "begins with the weights of given.safetensors; its layers: " in line and "1 new" in line for line in said
    )
    assert "timm:lcnet_035 failed and is left out of the comparison: RuntimeError: <b>no</b> | memory" in said
    assert found.table["failure"].tolist() == ["", "RuntimeError: <b>no</b> | memory"]
    card = (found.folder / "README.md").read_text()
    assert "| failed: RuntimeError: &lt;b&gt;no&lt;/b&gt; \\| memory |" in card
    assert "(seed 0, from the weights of given.safetensors)" in card
    assert "It began with the weights of given.safetensors, timm's models with new ones: not like for like." in card


@pytest.mark.slow
@pytest.mark.usefixtures("ray_environment")
def test_on_ray_a_model_of_timms_that_fails_is_left_out_too(finished, monkeypatch):
    monkeypatch.chdir(finished)
    Path("ray.yaml").write_text("executor: ray\naddress: local\nresources: {cpu: 1}\nworkers: 1\n")
    recipe = yaml.safe_dump(asdict(open_trial("studies/few", 0).recipe) | {"drop_path": 0.1})
    Path("dropping.yaml").write_text(recipe)
    options = (
        "--trial 0 --seeds 1 --against dla46_c --format timm --recipe dropping.yaml --runner ray.yaml --out on-ray"
    )
    done = fresh_starsearch("ship", "studies/few", *options.split(), cwd=finished)
    assert done.returncode == 0, done.stderr
    ours, theirs = pd.read_csv("on-ray/verdict.csv")["failure"].fillna("")
    assert not ours
    assert theirs.startswith("timm cannot build 'dla46_c' for this training")
    assert f"timm:dla46_c failed and is left out of the comparison: {theirs}" in " ".join(done.stdout.split())
