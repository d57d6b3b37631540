import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from starsearch.data import open_data
from starsearch.errors import EvaluationError
from starsearch.evaluators.int8 import calibration_images, evaluate_int8, measure_onnx_top1
from starsearch.export.onnx import build_onnx
from starsearch.export.verification import onnx_logits
from starsearch.export.weights import state_dict_arrays
from starsearch.families.family import lower
from starsearch.families.text import parse_architecture
from starsearch.latency.device import device_fingerprint
from starsearch.latency.reference import Reference
from starsearch.progress import follow
from starsearch.recipe import Fidelity, Recipe
from starsearch.training import train

FIDELITY = Fidelity(resolution=16, stem_stride=1, validation_samples=200)
ARCHITECTURE = parse_architecture("starnet:embed_dim=8,depths=1-1")


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture(scope="module")
def model(digits):
    recipe = Recipe(epochs=4, batch_size=64, hflip=0.0, crop="none")
    return follow(train(ARCHITECTURE, data=digits, recipe=recipe, fidelity=FIDELITY, seed=0)).model


def by_hand(image, data, resolution):
    """One image normalised without any of the package's own code."""
    pixels = np.asarray(image.resize((resolution, resolution), Image.Resampling.BICUBIC), np.float32) / 255
    return ((pixels - np.array(data.mean, np.float32)) / np.array(data.std, np.float32)).transpose(2, 0, 1)


def test_calibration_images_are_training_images_normalised_and_not_augmented(digits):
    images = follow(calibration_images(digits, resolution=16, seed=3, samples=70))
    found = list(images)
    assert len(found) == 70
    assert {image.shape for image in found} == {(1, 3, 16, 16)}
    assert all(np.array_equal(one, again) for one, again in zip(found, images, strict=True))
    training = np.stack([by_hand(digits.train.read(i), digits, 16) for i in range(digits.num_train)])
    nearest = [int(np.abs(training - image).reshape(len(training), -1).max(1).argmin()) for image in found]
    assert len(set(nearest)) > 60  # a few digits look alike at this size
    assert max(float(np.abs(training[i] - image).max()) for i, image in zip(nearest, found, strict=True)) < 0.02
    assert np.bincount(digits.train.targets[nearest]).max() <= 8  # of ten classes, seven of each drawn


def test_top1_through_onnx_runtime_is_torchs_for_the_float_network(digits, model):
    layers = lower(ARCHITECTURE, resolution=16, num_classes=10, stem_stride=1)
    graph = build_onnx(layers, state_dict_arrays(model))
    progress = []
    found = follow(measure_onnx_top1(graph, data=digits, fidelity=FIDELITY, seed=0), progress.append)
    everything = dataclasses.replace(FIDELITY, validation_samples=None)
    of_all = follow(measure_onnx_top1(graph, data=digits, fidelity=everything, seed=0))
    images = np.stack([by_hand(digits.validation.read(i), digits, 16) for i in range(digits.num_validation)])
    with torch.inference_mode():
        answers = model(torch.from_numpy(images)).argmax(1).numpy()
    assert of_all.value == pytest.approx(100 * np.mean(answers == digits.validation.targets), abs=0.4)
    assert found.value == pytest.approx(of_all.value, abs=5)
    assert progress[-1].fraction == 1
    assert np.array_equal(onnx_logits(graph, images[:8]).argmax(1), answers[:8])


def test_an_int8_network_is_judged_by_its_own_top1_and_timed_at_the_deployed_resolution(digits, model):
    reference = Reference(ms=10.0, spread=0.1, runs=20, device=device_fingerprint())
    evaluation = evaluate_int8(
        model, data=digits, fidelity=FIDELITY, resolution=64, reference=reference, seed=0, samples=64
    )
    progress = []
    measured = follow(evaluation, progress.append)
    assert [one.name for one in measured] == ["int8_top1_percent", "int8_file_size_mb", "int8_latency_ms"]
    top1, size, latency = measured
    weights = sum(one.numel() for one in model.parameters())
    assert 1e-6 * weights < size.value < 4e-6 * weights + 0.1  # a byte each, and the graph around them
    layers = lower(ARCHITECTURE, resolution=16, num_classes=10, stem_stride=1)
    graph = build_onnx(layers, state_dict_arrays(model))
    float_top1 = follow(measure_onnx_top1(graph, data=digits, fidelity=FIDELITY, seed=0))
    assert top1.value == pytest.approx(float_top1.value, abs=3)
    assert float_top1.value > 60  # it has learned something that int8 could have lost
    assert 0 < latency.value < 10  # of the reference's scale, which is StarNet-S1 at 224 pixels
    assert latency.device == reference.device.text
    assert latency.runs >= 6
    fractions = [one.fraction for one in progress]
    assert fractions == sorted(fractions)
    assert {one.stage for one in progress} >= {"int8 validation", "int8 latency"}


def test_without_a_reference_nothing_is_timed_and_the_result_repeats(digits, model):
    options = {"data": digits, "fidelity": FIDELITY, "resolution": 64, "reference": None, "seed": 0, "samples": 32}
    first, second = (follow(evaluate_int8(model, **options)) for _ in range(2))
    assert first == second
    assert [one.name for one in first] == ["int8_top1_percent", "int8_file_size_mb"]


def test_a_network_that_cannot_be_quantised_fails_as_a_candidate(digits, model):
    empty = dataclasses.replace(digits, train=dataclasses.replace(digits.train, targets=digits.train.targets[:0]))
    with pytest.raises(EvaluationError, match="calibrated on images; none were given"):
        follow(evaluate_int8(model, data=empty, fidelity=FIDELITY, resolution=64, reference=None, seed=0))
