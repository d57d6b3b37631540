"""What is said of a study's device profiles before anything is evaluated."""

import warnings
from dataclasses import replace

import pytest

from starsearch.api.workplaces import front_meters, warn_of_other_resolutions
from starsearch.latency.prediction.profile import save_profile
from starsearch.study.study_file import load_study
from tests.profiles import PHONE, make_profile, this_machine

STUDY = """\
space: starnet
objectives: {top1_percent: maximize, latency_ms@PROFILE: minimize}
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a study whose profile lies beside it, not in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()

    def load(profile):
        save_profile(profile, tmp_path / "mine" / f"{profile.name}.yaml")
        (tmp_path / "mine/study.yaml").write_text(STUDY.replace("PROFILE", profile.name))
        return load_study("mine/study.yaml")

    return load


def meters(spec):
    return front_meters(spec, num_classes=10, study="studies/mine")


def test_a_profile_of_this_machine_is_measured_without_a_word(load):
    spec = load(make_profile("here", device=this_machine(), reference_ms=5.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(meters(spec)) == {"latency_ms@here"}


def test_another_devices_profile_is_named_by_its_file_where_a_check_is_offered(load):
    with pytest.warns(UserWarning, match="stays so on the front") as said:
        assert meters(load(make_profile("phone", reference_ms=5.0))) == {}
    (text,) = (str(one.message) for one in said)
    assert "`starsearch latency check mine/phone.yaml`" in text
    assert "`starsearch latency import studies/mine FILE.csv --device phone`" in text


def test_without_a_reference_no_check_is_offered(load):
    with pytest.warns(UserWarning, match=r"stays so on the front.*: .*\. Measure the front's networks there") as said:
        meters(load(make_profile("phone")))
    assert "latency check" not in str(said[0].message)


def test_a_shipped_profile_is_named_as_a_command_takes_it(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("PROFILE", "iphone"))
    spec = load_study(str(tmp_path / "study.yaml"))
    assert spec.profile_files == {"latency_ms@iphone": "iphone"}


def test_a_profile_of_another_resolution_is_used_with_a_warning(load):
    spec = load(make_profile("phone"))  # of networks at 64 px, the space's are deployed at 224
    with pytest.warns(UserWarning, match=r"predicted at 224 px .* at 64 px: its 90 % interval is not calibrated there"):
        warn_of_other_resolutions(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_resolutions(replace(spec, space=replace(spec.space, resolution=64)))


def test_every_latency_has_a_device_for_the_record(load, tmp_path):
    load(make_profile("phone", device=PHONE))
    (tmp_path / "mine/study.yaml").write_text(
        "space: starnet\nobjectives: {top1_percent: maximize}\n"
        "constraints: {latency_ms: {max: 9}, latency_ms@mobile: {max: 2, device: phone.yaml}, macs: {max: 1e9}}\n"
    )
    assert load_study("mine/study.yaml").devices == {"latency_ms": "this-machine", "latency_ms@mobile": "phone"}
