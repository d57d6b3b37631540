"""A space that searches the resolution: each part of the program knows a candidate's own."""

import onnxruntime
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from starsearch import build_model
from starsearch import run as run_file
from starsearch.api.exporting import export_networks
from starsearch.api.networks import resolve
from starsearch.api.training_job import plan_training
from starsearch.errors import SpecError
from starsearch.families.family import count_macs
from starsearch.families.text import parse_architecture
from starsearch.measurement import Measurement, Prediction
from starsearch.objective import Constraint, Objective
from starsearch.progress import Progress
from starsearch.records.record import StudyRecord
from starsearch.study.spec import StudySpec
from starsearch.study.study_file import load_specs
from tests.search.studies import make_spec, run, url_of

SEARCHED = "dimensions: {embed_dim: [16, 24], resolution: {low: 128, high: 224, step: 32}}\nanchors: [starnet_s1]\n"
NAME = "latency_ms@phone"
OBJECTIVES = (
    Objective(name="top1_percent", direction="maximize"),
    Objective(name=NAME, direction="minimize", device="phone"),
)


def ms(architecture, resolution=224):
    return count_macs(architecture, resolution=resolution) / 1e8


def evaluate(candidate, *, seed, weights, part=None):
    yield Progress(fraction=0.5, stage="training")
    found = ms(candidate.architecture, candidate.resolution or 224)
    return (
        Measurement(name="top1_percent", value=10 * found),
        Prediction(name=NAME, value=found, low=0.9 * found, high=1.1 * found, device="a phone"),
    )


def meter(architecture, resolution=224):
    yield Progress(fraction=0.5, stage="latency")
    return Measurement(name=NAME, value=1.5 * ms(architecture, resolution), device="this phone")


def test_all_candidates_are_found_once_measured_at_their_own_resolution_and_read_back(tmp_path):
    constraints = (Constraint(name=NAME, high=4.0),)
    spec = make_spec(SEARCHED, objectives=OBJECTIVES, constraints=constraints, trials=4, sampler="random")
    assert StudySpec.from_json(spec.to_json()) == spec
    run(tmp_path, spec, evaluate, meters={NAME: meter})
    run(tmp_path, make_spec(SEARCHED, **{**vars_of(spec), "trials": 20}), evaluate, meters={NAME: meter})  # resumed
    record = StudyRecord.open(url_of(tmp_path), make_spec(SEARCHED, **{**vars_of(spec), "trials": 20}))
    trials, measured = record.trials(), record.measured()
    record.close()
    assert len({trial.key for trial in trials}) == len(trials) == 8  # two widths at four resolutions, S1 among them
    (anchor,) = (trial for trial in trials if trial.is_anchor)
    assert (anchor.candidate.resolution, anchor.params["resolution"]) == (None, 224)
    for trial in trials:
        pixels = trial.params["resolution"]
        assert (trial.candidate.resolution or 224) == pixels
        latest = measured.latest(trial).reading(NAME)
        if isinstance(latest, Measurement):
            assert latest.value == pytest.approx(1.5 * ms(trial.candidate.architecture, pixels))
    assert len(measured) >= 3


def vars_of(spec):
    names = ("objectives", "constraints", "sampler")
    return {name: getattr(spec, name) for name in names}


def test_a_trial_is_trained_counted_exported_and_trained_in_full_at_its_own(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "dimensions: {embed_dim: [8], depths: [1, 1, 1, 1], mlp_ratio: [2], resolution: [32, 32x64, 64]}\n"
        "constraints: {macs: {max: 2.0e+6}}\n"  # 64 pixels are too many with 1000 classes
    )
    (tmp_path / "seen.yaml").write_text(
        "space: space.yaml\nobjectives: {top1_percent: maximize, macs: minimize}\n"
        "search: {trials: 3, sampler: random, seed: 0, keep_weights: all}\n"
        "fidelities: [{resolution: 32, epochs: 1, samples: 64, validation_samples: 50, recipe: digits}]"
    )
    study = run_file(tmp_path / "seen.yaml", out=tmp_path)
    trials = study.trials
    assert set(trials["params_resolution"]) == {32, "32x64"}
    model = build_model(parse_architecture(trials["architecture_text"][0]), num_classes=10).eval()
    for number, pixels, macs in zip(trials["number"], trials["params_resolution"], trials["macs"], strict=True):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            height, width = {32: (32, 32), "32x64": (32, 64)}[pixels]
            model(torch.zeros(1, 3, height, width))
        assert macs == counter.get_total_flops() / 2
        named = f"{tmp_path}/seen:{number}"
        assert resolve(named).for_timing().resolution == pixels
        trained, image = {32: (16, [16, 16]), "32x64": ("16x32", [16, 32])}[pixels]  # of the fidelity's 32 for 64
        assert plan_training(named, data="digits").fidelity.resolution == trained
        out = tmp_path / f"out-{number}"
        export_networks(named, out=out, formats=["onnx"], pad=False)
        session = onnxruntime.InferenceSession(str(out / "model.onnx"))
        assert session.get_inputs()[0].shape == [1, 3, *image]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("resolution: 200\ndimensions: {resolution: [160, 224]}", "one of the searched ones .160, 224.; got 200"),
        ("dimensions: {resolution: [160, tall]}", "whole number of pixels from 32 to 1024, or .*; got 'tall'"),
        ("dimensions: {resolution: [16, 224]}", "from 32 to 1024, or .*; got 16"),
        ("dimensions: {resolution: [224, 96x]}", "got '96x'"),
        ("dimensions: {resolution: {low: 16, high: 224}}", "got 16"),
        ("dimensions: {resolution: 224}", "a range or a list"),
        ("dimensions: {embed_dim: [16, 24], resolution: [160, 224]}", r"not recipes or resolutions.* resolution: say"),
        ("dimensions: {resolutoin: [160, 224]}", "Did you mean 'resolution'"),
    ],
)
def test_mistakes_are_said(tmp_path, space, words):
    (tmp_path / "space.yaml").write_text(space)
    with pytest.raises(SpecError, match=words):
        load_specs(str(tmp_path / "space.yaml"), settings=["search.sampler=auto"])
