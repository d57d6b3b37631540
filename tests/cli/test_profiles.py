import csv
import json
import sys
from functools import partial

import onnx
import pytest
from onnx import numpy_helper

from starsearch.families.family import count_params
from starsearch.families.text import parse_architecture
from starsearch.latency.prediction.profile import load_profile, save_profile
from tests.latency.devices import draw_networks, make_profile, measure_imagined, run_on_imagined_device

TINY_SPACE = """\
family: starnet
resolution: 64
dimensions:
  embed_dim: {low: 8, high: 16, step: 4}
  depths: [1, 1, {low: 1, high: 2}, 1]
  ops: {each: [star, sum]}
  kernel_size: [3, 5]
anchors: []
"""


@pytest.fixture
def starsearch(starsearch, monkeypatch, tmp_path):
    """Runs a command of `starsearch latency` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return partial(starsearch, "latency")


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return path


@pytest.mark.slow
def test_a_machine_is_calibrated_predicted_and_checked(starsearch, tiny, tmp_path):
    code, out, err = starsearch("fit", "--out", "here.yaml", "--budget", 8, "--space", tiny)
    assert (code, err) == (0, "")
    assert "held-out error" in out
    assert "8 networks at 64 px" in out
    assert not list(tmp_path.glob("*.jsonl")), "the calibration is complete"
    profile = load_profile(tmp_path / "here.yaml")
    assert profile.resolution == 64
    assert profile.reference.ms > 0
    assert all(sample.shares for sample in profile.samples)

    known = profile.samples[0]
    code, out, _ = starsearch("predict", "here.yaml", known.architecture, "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert found["low_ms"] < found["predicted_ms"] < found["high_ms"]
    assert found["predicted_ms"] == pytest.approx(known.ms, rel=0.5)

    code, out, _ = starsearch("check", "here.yaml", "--networks", 5, "--space", tiny, "--json")
    verdict = json.loads(out)
    assert code == (0 if verdict["holds"] else 1)
    assert len(verdict["networks"]) == 5
    assert verdict["differences"] == []


def write_measurements(path, count, **options):
    samples = measure_imagined(draw_networks(count, seed=5), with_shares=False, **options)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "ms"])
        writer.writerows([sample.architecture, sample.ms] for sample in samples)


def test_as_many_pairs_are_timed_as_are_asked_for(starsearch, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "starsearch.api.latency.calibrate_device",
        lambda out, *, spec, **options: (seen.append(spec.limits), (make_profile(12), ()))[1],
    )
    for pairs in ((), ("--pairs", 60), ("--pairs", 4)):
        assert starsearch("fit", "--out", "here.yaml", *pairs, "--json")[0] == 0
    assert [(limits.min_pairs, limits.max_pairs) for limits in seen] == [(10, 20), (10, 60), (4, 4)]


@pytest.fixture
def filled_kit(starsearch, tiny, tmp_path, monkeypatch):
    """A kit of ten networks, all but one of which the imagined device has timed."""
    monkeypatch.setitem(sys.modules, "coremltools", None)  # what Python keeps for a package that is not there
    code, out, err = starsearch("kit", "--space", tiny, "--count", 10, "--out", "kit")
    assert (code, err) == (0, "")
    assert "12 files in kit" in out
    path = tmp_path / "kit/measurements.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:-1]:
        row["ms"] = sum(run_on_imagined_device(parse_architecture(row["architecture"]), resolution=64).values())
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path, rows


def test_a_kit_holds_the_networks_it_names_and_says_how_to_time_them(filled_kit):
    path, rows = filled_kit
    assert list(rows[0]) == ["architecture", "ms", "file", "resolution"]
    assert len({row["architecture"] for row in rows}) == 10
    for row in rows:
        model = onnx.load(path.parent / row["file"])
        assert [one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 64]
        weights = sum(numpy_helper.to_array(one).size for one in model.graph.initializer)
        # Batch norms are folded in the file, so that it holds a few less.
        assert weights == pytest.approx(count_params(parse_architecture(row["architecture"])), rel=0.02)
    words = (path.parent / "README.md").read_text()
    for word in ("batch 1", "one thread", "warm", "median", "64 px", "starsearch latency fit"):
        assert word in words


def test_a_kit_that_was_filled_in_makes_a_profile_at_its_resolution(starsearch, filled_kit, tmp_path):
    path, rows = filled_kit
    fit = ("fit", "--out", "phone.yaml", "--measurements", path, "--device", "Phone")
    code, _, err = starsearch(*fit, "--resolution", 224)
    assert code == 2
    assert "says that it is of 64 px" in err
    code, out, err = starsearch(*fit)
    assert (code, err) == (0, "")
    assert "9 networks at 64 px" in out
    assert "Phone, imported" in out
    assert "holds figures from elsewhere (Phone, imported)" in starsearch("check", "phone.yaml")[2]
    left_out = rows[-1]["architecture"]
    (found,) = json.loads(starsearch("predict", "phone.yaml", left_out, "--json")[1])
    truth = sum(run_on_imagined_device(parse_architecture(left_out), resolution=64).values())
    assert found["predicted_ms"] == pytest.approx(truth, rel=0.15)
    code, _, err = starsearch("kit", "--out", "kit")
    assert code == 2
    assert "kit is not empty" in err


@pytest.mark.slow
def test_a_kit_holds_core_ml_packages_where_they_can_be_written(starsearch, tiny, tmp_path):
    pytest.importorskip("coremltools")
    assert starsearch("kit", "--space", tiny, "--count", 5, "--out", "kit")[0] == 0
    assert len(list((tmp_path / "kit").glob("*.mlpackage"))) == 5


def test_few_figures_adapt_a_profile_of_a_similar_device(starsearch, tmp_path):
    save_profile(make_profile(60), tmp_path / "base.yaml")
    write_measurements(tmp_path / "figures.csv", 6, slowdown=2.0)
    few = ("fit", "--out", "phone.yaml", "--measurements", "figures.csv", "--device", "Pixel 8")
    code, _, err = starsearch(*few)
    assert code == 2
    assert "at least 8 measured networks; there are 6" in err
    code, out, err = starsearch(*few, "--from", "base.yaml")
    assert (code, err) == (0, "")
    assert "Adapted from base (Imagined X1, 1 thread, onnxruntime 1.0) with 6 measured networks." in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("predict nowhere.yaml starnet_s1", "There is no file 'nowhere.yaml'"),
        ("predict iphone starnet_s9", "starnet_s9"),
        ("fit --out p.yaml --measurements no.csv --device x", "no.csv"),
        ("fit --out p.yaml --measurements no.csv", "Say what was measured"),
        ("fit --out p.json", "A profile is a YAML file"),
        ("fit --out p.yaml --budget 4", "A budget of 4 networks is too small to fit: at least 8"),
        ("fit --out kept.yaml", "kept.csv is there already"),
        ("fit --out p.yaml --space nowhere", "nowhere"),
        ("import nowhere no.csv --device phone", "nowhere"),
    ],
)
def test_a_mistake_is_a_message_and_exit_code_2_before_anything_is_written(starsearch, arguments, complaint, tmp_path):
    (tmp_path / "kept.csv").write_text("figures\n")
    code, _, err = starsearch(*arguments.split())
    assert code == 2
    assert complaint in err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept.csv", "figures\n")]
