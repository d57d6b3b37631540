import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import ExportError
from starsearch.export import random_weights, state_dict_arrays
from starsearch.export.coreml import build_coreml, export_coreml
from starsearch.export.coreml_program import plan_program
from starsearch.export.coreml_reading import compare_with_plan, read_package
from starsearch.export.coreml_verification import compare_outputs, largest_activation, normalised, random_pixels
from starsearch.export.verification import deployed_copy
from starsearch.families.family import lower
from starsearch.families.layers import ACTIVATION_FUNCTIONS
from starsearch.families.starnet import ACTIVATION_PLACEMENTS, BRANCH_OPS
from starsearch.families.text import parse_architecture
from tests.export.mil import interpret
from tests.export.networks import settled_model
from tests.strategies import architectures

pytest.importorskip("coremltools", reason="needs the extra coreml")

SMALL = "starnet:embed_dim=8,depths=1-1-1"
GREY = Preprocessing(mean=(0.4,), std=(0.3,))
MIXED = Preprocessing(mean=(0.1, 0.5, 0.9), std=(0.6, 0.2, 0.05))  # a mean of its own scale in each channel


def _exported(model, folder, **options):
    """The check's result and the operations as they lie on the disk."""
    package = folder / "model.mlpackage"
    check = export_coreml(model, package, **{"resolution": 32, **options})
    _, operations, _ = read_package(package)
    return check, operations


def _difference(operations, model, *, resolution=32, preprocessing=None, **options):
    """Of the saved program, interpreted, from torch."""
    images = random_pixels(model, resolution=resolution)
    return compare_outputs(
        lambda image: interpret(operations, image),
        deployed_copy(model),
        images,
        preprocessing or Preprocessing(),
        as_probabilities=options.get("as_probabilities", False),
    )


@pytest.mark.parametrize("act_type", ACTIVATION_FUNCTIONS)
def test_every_activation_function_is_the_modules(act_type, tmp_path):
    model = settled_model(f"{SMALL},act_type={act_type},activation=one-both-post", num_classes=20)
    _, operations = _exported(model, tmp_path, precision="fp32")
    assert _difference(operations, model) < 1e-4


@pytest.mark.parametrize("op", BRANCH_OPS)
def test_every_operation_and_placement_is_the_modules(op, tmp_path):
    placements = "-".join(ACTIVATION_PLACEMENTS)  # a stage each
    model = settled_model(f"starnet:embed_dim=8,depths=1-1-1-1,ops={op},activation={placements}", num_classes=20)
    _, operations = _exported(model, tmp_path, precision="fp32")
    assert _difference(operations, model) < 1e-4


@given(architectures(), st.sampled_from((0, 2, 10)), st.sampled_from((1, 2)), st.sampled_from((1, 3)))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_architectures_compute_what_the_module_computes(tmp_path, architecture, classes, stem_stride, in_chans):
    torch.manual_seed(0)
    model = build(architecture, classes, stem_stride, in_chans)
    preprocessing = GREY if in_chans == 1 else MIXED
    _, operations = _exported(model, tmp_path, precision="fp32", preprocessing=preprocessing)
    # Networks of a few channels on maps of one pixel have hardly any spread to compare with: hence not 1e-4.
    assert _difference(operations, model, preprocessing=preprocessing) < 1e-2


def build(architecture, classes, stem_stride, in_chans):
    from starsearch.families.network import build_model

    model = build_model(architecture, num_classes=classes, stem_stride=stem_stride, in_chans=in_chans).train()
    with torch.no_grad():
        for _ in range(6):
            model(torch.randn(8, in_chans, 32, 32))
    return model.eval()


@pytest.mark.parametrize("preprocessing", [Preprocessing(), MIXED], ids=["ImageNet", "of its own a channel"])
def test_the_normalisation_is_exact_at_the_border_too(preprocessing, tmp_path):
    """A stem of one block shows its border in the logits: zero padding stands for the mean, not for black."""
    model = settled_model("starnet:embed_dim=8,depths=1", num_classes=6)
    _, operations = _exported(model, tmp_path, precision="fp32", resolution=8, preprocessing=preprocessing)
    assert _difference(operations, model, resolution=8, preprocessing=preprocessing) < 1e-4
    black = [np.zeros((3, 8, 8), np.uint8), np.full((3, 8, 8), 255, np.uint8)]
    difference = compare_outputs(
        lambda image: interpret(operations, image), model, black, preprocessing, as_probabilities=False
    )
    assert difference < 1e-4


def test_half_precision_computes_every_step_in_it_and_stays_near_the_model(tmp_path):
    model = settled_model(f"{SMALL},act_type=leaky_relu,activation=one-none-both", num_classes=20)
    _, operations = _exported(model, tmp_path)  # the default
    precisions = [operation.precision for operation in operations]
    assert precisions == ["fp16"] * (len(operations) - 1) + ["fp32"]  # what an app reads is float32
    weights = [value for op in operations for value in op.constants.values() if getattr(value, "size", 0) > 4]
    assert {array.dtype for array in weights} == {np.dtype(np.float16)}
    assert 1e-5 < _difference(operations, model) < 1e-2


def test_half_precision_halves_the_package(tmp_path):
    model = settled_model("starnet_s050")
    half, full = (export_coreml(model, tmp_path / f"{p}.mlpackage", precision=p) for p in ("fp16", "fp32"))
    assert half.weights == full.weights
    assert half.size_bytes / full.size_bytes == pytest.approx(0.5, abs=0.08)
    assert full.size_bytes == pytest.approx(4 * full.weights, rel=0.15)


def test_no_batch_norm_is_left_and_the_branches_stay_two_convolutions(tmp_path):
    _, operations = _exported(settled_model("starnet:embed_dim=8,depths=2-1"), tmp_path)
    types = [operation.type for operation in operations]
    assert types.count("conv") == 1 + 2 + 3 * 5
    assert types.count("mul") == 3 + 1  # the stars, and the std
    assert set(types) == {"cast", "sub", "mul", "conv", "relu6", "add", "reduce_mean", "linear"}


def test_a_classifier_has_the_names_in_order_and_ends_with_probabilities(tmp_path):
    names = ["crane", "Möwe", "3", "a b", "é"]
    model = settled_model(SMALL, num_classes=5)
    _exported(model, tmp_path, class_names=names, precision="fp32", metadata={"trial": "7"})
    description, operations, found = read_package(tmp_path / "model.mlpackage")
    assert list(found) == names
    assert [output.name for output in description.output] == ["classLabel", "classLabel_probs"]
    assert description.predictedFeatureName == "classLabel"
    assert description.metadata.userDefined["trial"] == "7"
    assert _difference(operations, model, as_probabilities=True) < 1e-4


def test_class_names_that_are_not_one_a_class_are_refused():
    layers = lower(parse_architecture(SMALL), num_classes=3)
    weights = random_weights(layers, np.random.default_rng(0))
    with pytest.raises(ExportError, match="has 3 classes; 2 class names"):
        build_coreml(layers, weights, class_names=["a", "b"])
    with pytest.raises(ExportError, match="Two classes are named 'crane'"):
        build_coreml(layers, weights, class_names=["crane", "b", "crane"])
    headless = lower(parse_architecture(SMALL), num_classes=0)
    with pytest.raises(ExportError, match="has 0 classes; 3 class names"):
        build_coreml(headless, weights, class_names=["a", "b", "c"])


def test_an_image_that_core_ml_does_not_know_and_a_wrong_precision_are_refused():
    layers = lower(parse_architecture(SMALL), in_chans=4)
    weights = random_weights(layers, np.random.default_rng(0))
    with pytest.raises(ExportError, match="this network reads 4 channels"):
        build_coreml(layers, weights)
    grey = lower(parse_architecture(SMALL), in_chans=1)
    with pytest.raises(ExportError, match="reads 1 channels; the preprocessing has 3"):
        build_coreml(grey, random_weights(grey, np.random.default_rng(0)))
    with pytest.raises(ExportError, match="precision is one of fp16, fp32; got 'int8'"):
        build_coreml(grey, weights, precision="int8")


def test_weights_beyond_half_precision_or_not_finite_are_refused():
    layers = lower(parse_architecture(SMALL))
    weights = random_weights(layers, np.random.default_rng(0))
    weights["head.bias"][3] = 1e5
    with pytest.raises(ExportError, match=r"bias reaches 1e\+05; half precision ends at 65504"):
        build_coreml(layers, weights)
    plan_program(layers, weights, precision="fp32", preprocessing=Preprocessing())
    weights["head.bias"][3] = np.nan
    with pytest.raises(ExportError, match="not finite: the training diverged"):
        build_coreml(layers, weights)


def test_activations_beyond_half_precision_are_refused_and_single_precision_is_named(tmp_path):
    model = settled_model(f"{SMALL},activation=none", num_classes=4)
    with torch.no_grad():
        for branch in ("f1", "f2"):
            getattr(model.stages[0][1], branch).conv.bias.fill_(300.0)  # the star makes 90,000 of it
    with pytest.raises(ExportError, match=r"half precision ends at 65504.*precision 'fp32'"):
        export_coreml(model, tmp_path / "model.mlpackage", resolution=32)
    assert list(tmp_path.iterdir()) == []
    check = export_coreml(model, tmp_path / "model.mlpackage", resolution=32, precision="fp32")
    assert check.largest_activation > 65504
    assert "half precision" not in check.text  # nothing that concerns this package


def test_activations_near_the_end_of_half_precision_are_told(tmp_path):
    model = settled_model(f"{SMALL},activation=none", num_classes=4)
    block = model.stages[-1][1]
    with torch.no_grad():
        block.f1.conv.bias.fill_(100.0)  # the star makes about 10,000 of it
        block.f2.conv.bias.fill_(100.0)
        block.g.conv.weight.zero_()
    check, _ = _exported(model, tmp_path)
    assert 4096 < check.largest_activation < 65504
    assert "on random images and half precision ends at 65504: compare the package's accuracy" in check.text


def test_activations_are_judged_on_the_datas_images_where_there_are_any(tmp_path):
    model = settled_model(f"{SMALL},activation=none", num_classes=4)
    bright = np.full((1, 3, 32, 32), 1e6, dtype=np.float32)  # far from any noise
    out, images = tmp_path / "model.mlpackage", [np.zeros_like(bright), bright]
    export_coreml(model, out, resolution=32)
    with pytest.raises(ExportError, match=r"on the study's calibration images; half precision ends at 65504"):
        export_coreml(model, out, resolution=32, images=images)
    assert export_coreml(model, out, resolution=32, images=images, precision="fp32").largest_activation > 65504


def test_the_largest_activation_is_that_of_the_stars():
    model = settled_model(f"{SMALL},activation=none", num_classes=4)
    images = normalised(random_pixels(model, resolution=32), Preprocessing())
    stars = []
    for stage in model.stages:
        stage[1].g.register_forward_pre_hook(lambda _, inputs: stars.append(float(inputs[0].abs().max())))
    assert largest_activation(model, images) >= max(stars) > 0
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda model: model.head.bias.data.add_(0.5), "at 'logits': bias is not the model's"),
        (lambda model: model.stages[1][1].f2.conv.weight.data.neg_(), "at 'stages_1_1_f2': weight is not"),
    ],
)
def test_a_package_of_other_weights_is_told_from_the_model(change, match, tmp_path):
    model = settled_model(SMALL, num_classes=5)
    _exported(model, tmp_path, precision="fp32")
    change(model)
    layers = lower(model.architecture, resolution=32, num_classes=5)
    operations = plan_program(layers, state_dict_arrays(model), precision="fp32", preprocessing=Preprocessing())
    with pytest.raises(ExportError, match=match):
        compare_with_plan(tmp_path / "model.mlpackage", operations)


def test_a_package_of_another_network_another_size_or_other_names_is_told_from_the_model(tmp_path):
    model = settled_model(SMALL, num_classes=5)
    _exported(model, tmp_path)

    def plan(text, precision="fp16", resolution=32):
        layers = lower(parse_architecture(text), resolution=resolution, num_classes=5)
        weights = random_weights(layers, np.random.default_rng(0))
        return plan_program(layers, weights, precision=precision, preprocessing=Preprocessing())

    package = tmp_path / "model.mlpackage"
    with pytest.raises(ExportError, match="'stages_0_1_sum': name is 'stages_0_1_star'"):
        compare_with_plan(package, plan(f"{SMALL},ops=sum"))
    with pytest.raises(ExportError, match="has 35 operations; the model has 38"):
        compare_with_plan(package, plan(f"{SMALL},activation=both"))
    with pytest.raises(ExportError, match="shape is"):
        compare_with_plan(package, plan(SMALL, resolution=64))
    _, operations, _ = read_package(package)
    compare_with_plan(package, operations)
    with pytest.raises(ExportError, match="has 0 class names, not the 5"):
        compare_with_plan(package, operations, class_names="abcde")


def test_a_damaged_package_is_refused(tmp_path):
    _, operations = _exported(settled_model(SMALL), tmp_path)
    package = tmp_path / "model.mlpackage"
    (package / "Data/com.apple.CoreML/weights/weight.bin").write_bytes(b"")
    with pytest.raises(ExportError, match=r"cannot read model\.mlpackage back|differs from the model"):
        compare_with_plan(package, operations)


def test_an_export_replaces_the_old_one_and_leaves_the_model_as_it_was(tmp_path):
    model = settled_model(SMALL, num_classes=5).to(memory_format=torch.channels_last)
    model.train()
    out = tmp_path / "deep" / "model.mlpackage"
    first = export_coreml(model, out, resolution=32)
    second = export_coreml(model, out, resolution=32, precision="fp32")
    assert model.training
    assert first.size_bytes < second.size_bytes
    assert [path.name for path in out.parent.iterdir()] == ["model.mlpackage"]
    assert sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) == second.size_bytes
    with pytest.raises(ExportError, match=r"ends in \.mlpackage; got 'model\.mlmodel'"):
        export_coreml(model, tmp_path / "model.mlmodel")


def test_what_was_verified_is_said(tmp_path):
    check, operations = _exported(settled_model(SMALL), tmp_path)
    assert check.operations == len(operations)
    assert check.text.startswith(f"read back: {len(operations)} operations and {check.weights} weights are the")
    if sys.platform != "darwin":
        assert "; not run, which takes macOS; activations reach" in check.text


def test_outputs_that_are_not_finite_or_another_number_are_told():
    model = settled_model(SMALL, num_classes=5)
    images = random_pixels(model, resolution=32)
    options = {"preprocessing": Preprocessing(), "as_probabilities": False}
    assert compare_outputs(lambda image: np.full(5, np.nan), model, images, **options) == float("inf")
    with pytest.raises(ExportError, match="gives 4 outputs, the trained model 5"):
        compare_outputs(lambda image: np.zeros(4), model, images, **options)


def test_a_conversion_prints_nothing(capfd):
    layers = lower(parse_architecture("starnet:embed_dim=4,depths=1"), resolution=16, num_classes=5)
    build_coreml(layers, random_weights(layers, np.random.default_rng(0)), class_names="abcde")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        ("coremltools", r"Core ML needs coremltools: pip install coremltools"),
        ("coremltools.libmilstoragepython", r"without its native library.*Use an environment with a Python that has"),
    ],
)
def test_without_coremltools_or_its_native_library_the_user_is_told_what_to_do(monkeypatch, lacking, says):
    monkeypatch.setitem(sys.modules, lacking, None)
    layers = lower(parse_architecture(SMALL))
    with pytest.raises(ExportError, match=says):
        build_coreml(layers, random_weights(layers, np.random.default_rng(0)))


@pytest.mark.slow
def test_the_first_import_of_coremltools_prints_nothing():
    script = "from starsearch.export.coreml_library import load_coremltools; print(load_coremltools().__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("coremltools\n", "")
