"""File size and peak memory, against the exported file and the sizes of PyTorch's tensors."""

import pytest
import torch

from starsearch import Architecture, build_model, run
from starsearch.api.exporting import export_networks
from starsearch.evaluators.footprint import FILE_SIZE, FOOTPRINT, measure_footprint
from starsearch.families.family import presets

S050 = presets()["starnet_s050"]


def largest_pair(resolution):
    """Megabytes of the weights, and of the input and output of the layer for which these take most."""
    model, sizes = build_model(S050).eval(), []
    for layer in model.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda _, given, made: sizes.append(4e-6 * (given[0].numel() + made.numel())))
    with torch.inference_mode():
        model(torch.zeros(1, 3, resolution, resolution))
    return 4e-6 * sum(weight.numel() for weight in model.parameters()), max(sizes)


def test_the_file_has_the_size_of_the_exported_one(tmp_path):
    export_networks("starnet_s050", out=tmp_path / "out", formats=["onnx"], pad=False, resolution=64)
    (found,) = measure_footprint(S050, [FILE_SIZE], resolution=64, num_classes=1000)
    metadata = 0.01
    assert found.value == pytest.approx((tmp_path / "out" / "model.onnx").stat().st_size / 1e6, abs=metadata)


def test_peak_memory_holds_the_weights_and_the_largest_activations_and_grows_with_the_image():
    taken = {}
    for resolution in (64, 512):
        memory, size = sorted(
            measure_footprint(S050, FOOTPRINT, resolution=resolution, num_classes=1000), key=lambda one: -one.value
        )
        weights, activations = largest_pair(resolution)
        assert size.value == pytest.approx(weights, rel=0.02)
        assert weights + activations < memory.value < 3 * weights + 4 * activations + 40  # the runtime's own: some 20
        assert memory.spread < 0.1 * memory.value
        taken[resolution] = memory.value, activations
    assert taken[512][0] - taken[64][0] > taken[512][1] - taken[64][1]


def test_a_file_is_as_large_as_its_weights_whatever_the_classes():
    small, large = (
        measure_footprint(Architecture.of(), [FILE_SIZE], resolution=32, num_classes=classes)[0].value
        for classes in (10, 1000)
    )
    assert large - small == pytest.approx(4e-6 * 990 * 193, rel=0.01)  # 192 features and a bias


def test_a_study_minimises_and_bounds_them(tmp_path):
    (tmp_path / "space.yaml").write_text("resolution: 32\ndimensions: {embed_dim: [8, 64], depths: [1, 1, 1, 1]}")
    (tmp_path / "study.yaml").write_text(
        "space: space.yaml\nobjectives: {top1_percent: maximize, peak_memory_mb: minimize}\n"
        "constraints: {file_size_mb: {max: 1.0}}\nsearch: {trials: 2, sampler: random, seed: 0}\n"
        "fidelities: [{resolution: 32, epochs: 1, samples: 64, validation_samples: 50, recipe: digits}]"
    )
    trials = run(tmp_path / "study.yaml", out=tmp_path).trials
    small, large = (
        trials[trials["architecture_text"].str.contains(f"embed_dim={width},")].iloc[0] for width in (8, 64)
    )
    assert small["file_size_mb"] < 1 < large["file_size_mb"]
    assert small["peak_memory_mb"] < large["peak_memory_mb"] - (large["file_size_mb"] - small["file_size_mb"])
    assert (small["feasible"], large["feasible"]) == (True, False)
