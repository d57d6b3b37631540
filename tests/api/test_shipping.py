"""`starsearch ship` on a study that the real command line has run: digits, two seeds, one model of timm's."""

import errno
import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from starsearch.api.networks import open_trial
from starsearch.api.shipping import ship
from starsearch.errors import EvaluationError, ExportError, StudyError, TrainingStoppedError
from starsearch.families.family import count_macs

SHIP = {"trial": 0, "seeds": 2, "against": ["lcnet_035"], "formats": ["timm", "onnx"], "epochs": 1}
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
    macs = count_macs(open_trial("studies/few", 0).architecture, resolution=64, num_classes=10)
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
    ],
)
def test_what_cannot_be_shipped_is_refused_before_anything_is_trained(finished, monkeypatch, options, error, says):
    monkeypatch.chdir(finished)
    with pytest.raises(error, match=says):
        ship("studies/few", **{"out": Path("other"), **options})
    assert not list(finished.glob("other*"))
