import dataclasses

import pandas as pd
import pytest
import yaml

from starsearch.errors import SpecError
from starsearch.families.text import parse_architecture
from starsearch.latency.device import device_fingerprint
from starsearch.latency.prediction.predict import predict_latency
from starsearch.latency.prediction.profile import load_profile, save_profile
from starsearch.latency.reference import Reference
from starsearch.resources import shipped_folder

from .devices import make_profile


@pytest.fixture(scope="module")
def profile():
    reference = Reference(ms=12.5, spread=0.03, runs=100, device=device_fingerprint())
    return dataclasses.replace(make_profile(12), reference=reference, note="A caveat: with a colon, and “quotes”.")


@pytest.fixture
def file(profile, tmp_path):
    path = tmp_path / "imagined.yaml"
    save_profile(profile, path)
    return path


def test_a_profile_reads_back_as_it_was_written_in_two_files_that_a_person_can_read(profile, file):
    read = load_profile(file)
    for name, value in read.coefficients_ms.items():
        assert value == pytest.approx(profile.coefficients_ms[name], rel=1e-5)
    assert [s.architecture for s in read.samples] == [s.architecture for s in profile.samples]
    assert read.samples[0].shares == pytest.approx(profile.samples[0].shares, rel=1e-4)
    same = ("name", "device", "backend", "reference", "resolution", "vector_width", "note", "date")
    assert [getattr(read, name) for name in same] == [getattr(profile, name) for name in same]
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# Latency profile of a device")
    assert "pointwise.mmacs:" in text
    assert file.with_suffix(".csv").read_text(encoding="utf-8").startswith("architecture,ms,pairs,spread_ms,share.")


def test_a_profile_is_called_as_its_file_and_needs_its_samples(file):
    moved = file.with_name("my-laptop.yaml")
    file.rename(moved)
    assert load_profile(moved).name == "my-laptop"
    file.with_suffix(".csv").unlink()
    with pytest.raises(SpecError, match=r"names its samples imagined\.csv, which is not beside it"):
        load_profile(moved)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"vector_width": "wide"}, "vector_width: damaged profile"),
        ({"coefficients_ms": {"pointwise.mmacs": "fast"}}, r"coefficients_ms\.pointwise\.mmacs: damaged profile"),
        ({"coefficients_ms": {"pointwise.mmacs": -1.0}}, "greater than or equal to 0; got '-1.0'"),
        ({"coefficients_ms": {"pointwise.mmacs": float("inf")}}, "finite number; got 'inf'"),
        ({"coefficients_ms": {}}, "at least 1 item"),
        ({"interval_log": [0.1]}, "interval_log.*damaged profile"),
        ({"interval_log": [float("nan"), 0.1]}, "interval_log.*finite number; got 'nan'"),
        ({"interval_log": [0.2, 0.1]}, "its first end is above its second"),
        ({"vector_width": 0}, "greater than 0; got '0'"),
        ({"device": "a phone"}, "device: damaged profile"),
        ({"device": {"processor": "x", "runtime": "r", "optimization": "o", "threads": 0}}, "device.threads.*got '0'"),
        ({"wings": 2}, "wings: damaged profile: no such key"),
        ("- a list", "is no profile"),
        ("key: [unclosed", "not YAML"),
    ],
)
def test_a_damaged_profile_is_refused_with_the_place(file, values, complaint):
    if not isinstance(values, str):
        values = yaml.safe_dump(yaml.safe_load(file.read_text(encoding="utf-8")) | values)
    file.write_text(values, encoding="utf-8")
    with pytest.raises(SpecError, match=complaint):
        load_profile(file)


@pytest.mark.parametrize("name", ["e5-2680v4", "iphone", "iphone14", "p100"])
def test_shipped_profiles_are_labelled_as_extrapolations_with_their_leave_one_out_error(name):
    profile = load_profile(shipped_folder("profiles") / f"{name}.yaml")
    assert "extrapolation" in profile.note
    assert profile.held_out.method == "leave-one-out"
    assert f"{profile.held_out.mape_percent:.1f} %" in profile.note
    assert profile.held_out.mape_percent < 6


def test_the_shipped_profile_of_demonet_predicts_what_was_measured():
    path = shipped_folder("profiles") / "epyc-demonet.yaml"
    profile, samples = load_profile(path), pd.read_csv(path.with_suffix(".csv"))
    networks = samples["architecture"].map(parse_architecture)
    found = networks.map(lambda one: predict_latency(profile, one, resolution=224).value)
    assert len(samples) == 50
    assert (found / samples["ms"] - 1).abs().mean() < 0.01
