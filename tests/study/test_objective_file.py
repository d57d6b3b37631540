"""Devices as a study file names them: this machine, a profile's file, a profile's name, a label."""

from dataclasses import replace

import pytest

from starsearch.errors import SpecError
from starsearch.latency.prediction.profile import save_profile
from starsearch.objective import Constraint, Objective
from starsearch.study.study_file import load_study
from tests.profiles import PHONE, make_profile


@pytest.fixture
def load(tmp_path):
    """Loads a study of the sections it is given; the profile phone.yaml lies beside it."""
    save_profile(make_profile("phone"), tmp_path / "phone.yaml")

    def load(sections):
        (tmp_path / "study.yaml").write_text(f"space: starnet\n{sections}")
        return load_study(str(tmp_path / "study.yaml"))

    return load


def test_a_latency_is_about_this_machine_or_predicted_from_a_profile_beside_the_file(load):
    spec = load(
        "objectives:\n  top1_percent: maximize\n  latency_ms: {device: this-machine}\n"
        "  latency_ms@mobile: {device: phone.yaml}\n"
    )
    assert spec.objectives == (
        Objective(name="top1_percent", direction="maximize"),
        Objective(name="latency_ms", direction="minimize", device="this-machine"),
        Objective(name="latency_ms@mobile", direction="minimize", device="phone"),
    )
    assert set(spec.profiles) == {"latency_ms@mobile"}
    assert spec.profiles["latency_ms@mobile"].device == PHONE


def test_a_label_without_a_device_names_the_profile(load):
    spec = load("objectives: {top1_percent: maximize, latency_ms@phone: minimize}")
    assert spec.objectives[1].device == spec.profiles["latency_ms@phone"].name == "phone"


def test_a_constrained_latency_that_is_no_objective_has_a_profile_of_its_own(load):
    spec = load("constraints: {latency_ms: {max: 9}, latency_ms@mobile: {max: 1.5, device: phone.yaml}}")
    assert spec.constraints == (Constraint(name="latency_ms", high=9), Constraint(name="latency_ms@mobile", high=1.5))
    assert set(spec.profiles) == {"latency_ms@mobile"}


def test_int8_quantities_are_known_with_their_directions(load):
    spec = load("objectives: {int8_top1_percent: maximize, int8_latency_ms: minimize}")
    assert [(o.name, o.direction, o.device) for o in spec.objectives] == [
        ("int8_top1_percent", "maximize", None),
        ("int8_latency_ms", "minimize", "this-machine"),
    ]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ("objectives: {latency_ms: {device: phon.yaml}}", ("line 2", "this-machine", "'phon.yaml'", "latency fit")),
        ("objectives: {latency_ms@nowhere: minimize}", ("line 2", "latency_ms@nowhere", "'nowhere'")),
        ("objectives: {latency_ms@my phone: minimize}", ("line 2", "letters, digits", "'my phone'")),
        ("objectives: {latency_ms@: minimize}", ("line 2", "letters, digits", "''")),
        ("objectives: {macs@phone: minimize}", ("line 2", "unknown objective 'macs@phone'", "latency_ms@LABEL")),
        ("objectives: {latency_ms@mobile: {device: phone.yaml, direction: maximize}}", ("line 2", "minimize")),
        ("objectives: {latency_ms: {device: 3}}", ("line 2", "device", "3")),
        ("objectives: {int8_latency_ms: {device: phone.yaml}}", ("line 2", "int8_latency_ms has no device")),
        ("constraints: {latency_ms@mobile: {device: phone.yaml}}", ("line 2", "min, max or both")),
        ("constraints: {latency_ms@mobile: 3}", ("line 2", "mapping", "3")),
        ("constraints: {latency_ms: {max: 3, device: phone.yaml}}", ("line 2", "is an objective", "leave it out")),
        ("constraints: {latency_ms@mobile: {max: 3, device: [a]}}", ("line 2", "string", "['a']")),
        ("constraints: {macs: {max: 3e9, device: phone.yaml}}", ("line 2", "macs has no device")),
        ("objectives: {latency_ms: {device: study.yaml}}", ("line 2", "the profile cannot be used")),
    ],
)
def test_a_wrong_device_is_refused_with_its_line(load, sections, words):
    with pytest.raises(SpecError) as caught:
        load(sections)
    for word in ("study.yaml", *words):
        assert word in str(caught.value), str(caught.value)


def test_a_study_is_described_with_its_profiles_and_a_changed_coefficient_shows(load):
    spec = load("objectives: {top1_percent: maximize, latency_ms: {device: phone.yaml}}")
    described = spec.describe()
    profile = spec.profiles["latency_ms"]
    assert described["objectives.latency_ms"] == "minimize on phone"
    assert described["profiles.latency_ms"].startswith("phone (")
    assert "A phone, 2 threads, coreml 9" in described["profiles.latency_ms"]
    slower = {name: 1.1 * value for name, value in profile.coefficients_ms.items()}
    for changed, is_same in (
        (replace(profile, note="Handle with care."), True),
        (replace(profile, coefficients_ms=slower), False),
    ):
        assert (replace(spec, profiles={"latency_ms": changed}).describe() == described) is is_same
