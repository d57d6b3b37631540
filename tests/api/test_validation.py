"""`validate` against timm's own loader and a plain loop, in all forms a network may be named."""

import argparse
import dataclasses
import shutil
import warnings

import pytest
import timm
import torch
from safetensors.torch import save_file

from starsearch.api import plan_training, run_training, validate_network
from starsearch.api.classifiers import find_classifier
from starsearch.api.weight_files import infer_architecture, load_starnet
from starsearch.architecture import ANCHORS, parse_architecture
from starsearch.data import open_validation
from starsearch.data.synsets import imagenet_descriptions, imagenet_indices, imagenet_synsets
from starsearch.data.validation_images import Preparation, ValidationImages
from starsearch.errors import ArchitectureError, BackendError, DataError, EvaluationError, StudyError
from starsearch.export import Preprocessing, export_onnx, export_timm
from starsearch.models import build_model
from starsearch.training.weight_file import Validated, load_weights, save_weights
from tests.data.imagenet_like import INDICES, SYNSETS, images, write_folders, write_original_tars, write_shards

TINY = "starnet:embed_dim=8,depths=1-1-1-1,mlp_ratio=2"
HERE = {"workers": 0, "device": "cpu"}


@pytest.fixture(autouse=True, scope="module")
def _offline_and_on_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """36 validation images of three synsets, mixed sizes, grey and CMYK."""
    return write_folders(tmp_path_factory.mktemp("data") / "imagenet", train=(2, 2, 2), validation=(12, 12, 12))


def _settled(model):
    """The model after a few batches in training mode: random star networks are chaotic."""
    torch.manual_seed(1)
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(8, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="module")
def starnet():
    torch.manual_seed(0)
    return _settled(build_model(parse_architecture(TINY), num_classes=3))


def _timms_logits(model, folder, *, resolution=64, crop_pct=0.875):
    """Logits and classes by timm's own data set, loader and a plain loop."""
    dataset = timm.data.create_dataset("", root=str(folder / "val"))
    loader = timm.data.create_loader(
        dataset,
        input_size=(3, resolution, resolution),
        batch_size=7,
        interpolation="bicubic",
        crop_pct=crop_pct,
        num_workers=0,
        use_prefetcher=False,
    )
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # timm's data set leaves the closing of files to Python
        batches = [(model(pixels), targets) for pixels, targets in loader]
    return torch.cat([logits for logits, _ in batches]), torch.cat([targets for _, targets in batches])


def _percent(logits, targets, most):
    hits = logits.argsort(descending=True)[:, :most] == targets.unsqueeze(1)
    return 100 * hits.any(1).double().mean().item()


@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_a_timm_model_is_judged_as_timms_own_loop_judges_it(folder, tmp_path, crop_pct):
    torch.manual_seed(0)
    model = _settled(timm.create_model("mobilenetv3_small_050", num_classes=3))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    expected, targets = _timms_logits(model, folder, crop_pct=crop_pct)

    name, options = "timm:mobilenetv3_small_050", {"resolution": 64, "crop_pct": crop_pct}
    found = validate_network(name, str(folder), weights=tmp_path / "weights.pth", **options, **HERE, batch_size=5)
    assert found.top1_percent == pytest.approx(_percent(expected, targets, 1), abs=1e-9)
    assert found.top5_percent == 100.0  # of three classes
    assert (found.num_images, found.unreadable) == (36, ())

    classifier = find_classifier(name, weights=tmp_path / "weights.pth", device="cpu")
    logits = torch.cat([classifier.logits(pixels) for pixels, _ in _passes(folder, classifier, crop_pct)])
    assert (logits - expected).abs().max() < 2e-5 * expected.std()


def _passes(folder, classifier, crop_pct=0.875):
    preparation = Preparation(
        resolution=64, crop_pct=crop_pct, mean=classifier.config["mean"], std=classifier.config["std"]
    )
    return ValidationImages(split=open_validation(str(folder)).split, preparation=preparation, batch_size=8)


def test_worker_processes_and_batch_size_change_nothing(folder, starnet, tmp_path):
    save_weights(starnet, tmp_path / "tiny.safetensors")
    name = str(tmp_path / "tiny.safetensors")
    alone = validate_network(name, str(folder), resolution=64, workers=0, batch_size=36, device="cpu")
    shared = validate_network(name, str(folder), resolution=64, workers=2, batch_size=5, device="cpu")
    assert (shared.top1_percent, shared.num_images) == (alone.top1_percent, alone.num_images)


@pytest.fixture(scope="module")
def saved(starnet, tmp_path_factory):
    """The same network in every form that lies in a file."""
    place = tmp_path_factory.mktemp("networks")
    save_weights(starnet, place / "own.safetensors")
    wrapped = {f"module.{key}": value for key, value in starnet.state_dict().items()}
    torch.save({"state_dict": wrapped, "args": argparse.Namespace(lr=1.0)}, place / "published.pth.tar")
    torch.save({"model": starnet.state_dict()}, place / "nested.pth")
    save_file(starnet.state_dict(), place / "plain.safetensors")
    export_timm(starnet, place / "exported", class_names=SYNSETS)
    export_onnx(starnet, place / "model.onnx", resolution=64)
    return place


@pytest.mark.parametrize(
    "form", ["own.safetensors", "published.pth.tar", "nested.pth", "plain.safetensors", "exported", "model.onnx"]
)
def test_a_network_is_as_good_in_every_form_as_timms_loop_finds_it(folder, starnet, saved, form):
    expected, targets = _timms_logits(starnet, folder)
    resolution = None if form == "model.onnx" else 64
    found = validate_network(str(saved / form), str(folder), resolution=resolution, batch_size=10, **HERE)
    assert found.top1_percent == pytest.approx(_percent(expected, targets, 1), abs=1e-9)
    assert (found.num_images, found.resolution, found.crop_pct) == (36, 64, 0.875)


def test_an_architecture_takes_the_weights_of_a_file(folder, starnet, saved):
    expected, targets = _timms_logits(starnet, folder)
    found = validate_network(TINY, str(folder), weights=saved / "nested.pth", resolution=64, **HERE)
    assert found.top1_percent == pytest.approx(_percent(expected, targets, 1), abs=1e-9)


# torch's own exporter, not ours; the TorchScript one needs no further package, and says that it is old.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("batch", [1, 4, None])
def test_onnx_answers_as_torch_whatever_its_batch(folder, starnet, tmp_path, batch):
    path = tmp_path / "model.onnx"
    dynamic = {} if batch else {"input": {0: "batch"}}
    example = torch.randn(batch or 2, 3, 64, 64)
    torch.onnx.export(starnet, example, path, input_names=["input"], dynamic_axes=dynamic, dynamo=False)
    classifier = find_classifier(str(path), weights=None, device="cpu")
    assert (classifier.num_outputs, classifier.fixed_resolution) == (3, 64)
    pixels = torch.randn(6, 3, 64, 64)
    with torch.inference_mode():
        expected = starnet(pixels)
    assert (classifier.logits(pixels) - expected).abs().max() < 1e-4 * expected.std()


def test_a_network_of_imagenet_chooses_among_the_synsets_that_are_there(folder, tmp_path):
    torch.manual_seed(0)
    model = _settled(timm.create_model("mobilenetv3_small_050"))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    expected, targets = _timms_logits(model, folder)
    found = validate_network(
        "timm:mobilenetv3_small_050", str(folder), weights=tmp_path / "weights.pth", resolution=64, **HERE
    )
    assert found.top1_percent == pytest.approx(_percent(expected[:, list(INDICES)], targets, 1), abs=1e-9)
    assert found.num_classes == 3
    assert "3 of the network's 1,000 classes; only their logits are compared" in found.notes[0]


def test_outputs_in_another_order_are_matched_by_name(folder, starnet, tmp_path):
    turned = build_model(starnet.architecture, num_classes=3)
    turned.load_state_dict(starnet.state_dict())
    with torch.no_grad():
        turned.head.weight.copy_(starnet.head.weight.flip(0))
        turned.head.bias.copy_(starnet.head.bias.flip(0))
    export_timm(_evaluated(turned), tmp_path / "turned", class_names=SYNSETS[::-1])
    expected, targets = _timms_logits(starnet, folder)
    found = validate_network(str(tmp_path / "turned"), str(folder), resolution=64, **HERE)
    assert found.top1_percent == pytest.approx(_percent(expected, targets, 1), abs=1e-9)
    assert "another order" in found.notes[0]


@pytest.mark.parametrize("trains_too", [True, False])
def test_shards_that_say_but_numbers_validate_what_was_trained_on_them(folder, saved, tmp_path, trains_too):
    shards = write_shards(tmp_path / "shards", train=(2, 2, 2), validation=(12, 12, 12))
    if not trains_too:
        for file in shards.glob("*-train-*"):
            file.unlink()
    expected = validate_network(str(saved / "exported"), str(folder), resolution=64, **HERE)
    found = validate_network(str(saved / "exported"), str(shards), resolution=64, **HERE)
    assert found.top1_percent == expected.top1_percent
    assert ("numbers of its classes" in " ".join(found.notes)) is not trains_too


def test_numbers_of_another_many_classes_are_refused(saved, tmp_path):
    shards = write_shards(tmp_path / "shards", train=(2, 2, 0), validation=(3, 3, 0))
    for file in shards.glob("*-train-*"):
        file.unlink()
    with pytest.raises(EvaluationError, match=r"does not know 2 of the 2 classes of 'shards' \(0, 1\)"):
        validate_network(str(saved / "exported"), str(shards), resolution=64, **HERE)


def test_a_file_of_weights_is_validated_as_its_training_did(folder, starnet, tmp_path):
    prepared = Preprocessing(resolution=48, crop_pct=0.95, mean=(0.4,) * 3, std=(0.3,) * 3, interpolation="bilinear")
    reverse = SYNSETS[::-1]  # by name, not by place
    export_timm(starnet, tmp_path / "timm", preprocessing=prepared, class_names=reverse)
    file = tmp_path / "best.safetensors"
    save_weights(starnet, file, validated=Validated(preprocessing=prepared, classes=reverse))
    expected = validate_network(str(tmp_path / "timm"), str(folder), **HERE)
    found = validate_network(str(file), str(folder), **HERE)
    by_architecture = validate_network(TINY, str(folder), weights=file, **HERE)
    alike = {"network": expected.network, "images_per_second": expected.images_per_second}
    assert dataclasses.replace(found, **alike) == expected
    assert dataclasses.replace(by_architecture, **alike) == expected
    assert (found.resolution, found.crop_pct, found.interpolation) == (48, 0.95, "bilinear")
    assert "by name" in found.notes[0]
    assert validate_network(str(file), str(folder), resolution=64, crop_pct=1.0, **HERE).resolution == 64
    assert load_weights(file).num_classes == 3


@pytest.mark.parametrize("ended", [True, False])
def test_a_trainings_folder_is_as_good_as_its_log_says(tmp_path, ended):
    recipe = tmp_path / "short.yaml"
    recipe.write_text("{epochs: 2, batch_size: 64, lr: 2.0e-3, hflip: 0}")
    job = plan_training(TINY, data="digits", recipe=str(recipe), resolution=16, out=tmp_path / "out")
    trained = run_training(job)
    if not ended:
        shutil.rmtree(tmp_path / "out" / "timm")
    assert trained.best_top1_percent > 20, "or the figures say nothing"
    for network in (tmp_path / "out", tmp_path / "out" / "best.safetensors"):
        found = validate_network(str(network), "digits", **HERE)
        assert found.resolution == 16
        assert found.top1_percent == pytest.approx(trained.best_top1_percent, abs=0.3)  # one image of 360
        assert found.notes == ()


def test_weights_whose_metadata_say_nonsense_are_refused(starnet, tmp_path):
    save_file(starnet.state_dict(), tmp_path / "w.safetensors", {"preprocessing": "[1]", "class_names": "["})
    with pytest.raises(EvaluationError, match=r"w\.safetensors says in its metadata how it was validated, but not as"):
        validate_network(TINY, "digits", weights=tmp_path / "w.safetensors", **HERE)


def _evaluated(model):
    return model.eval()


def test_unreadable_images_are_left_out_and_named(starnet, saved, tmp_path, monkeypatch):
    root = write_folders(tmp_path / "imagenet", train=(1, 1, 1), validation=(40, 40, 40))
    broken = root / "val" / SYNSETS[1] / "ILSVRC2012_val_00000043.JPEG"
    broken.write_bytes(broken.read_bytes()[:100])
    found = validate_network(str(saved / "own.safetensors"), str(root), resolution=32, **HERE)
    assert found.num_images == 119
    (said,) = found.unreadable
    assert said.startswith(f"{SYNSETS[1]}/ILSVRC2012_val_00000043.JPEG (")
    broken.unlink()
    without = validate_network(str(saved / "own.safetensors"), str(root), resolution=32, **HERE)
    assert without.top1_percent == found.top1_percent
    for other in (root / "val" / SYNSETS[0]).iterdir():
        other.write_bytes(b"")
    with pytest.raises(DataError, match=r"40 of 119 validation images of 'imagenet' cannot be read.*At most 1%"):
        validate_network(str(saved / "own.safetensors"), str(root), resolution=32, **HERE)


def test_original_tars_validate_as_their_folders(folder, saved, tmp_path):
    root = write_original_tars(tmp_path / "imagenet", train=(2, 2, 2), validation=(12, 12, 12))
    name = str(saved / "own.safetensors")
    of_tars = validate_network(name, str(root), resolution=64, **HERE)
    assert of_tars.top1_percent == validate_network(name, str(folder), resolution=64, **HERE).top1_percent


@pytest.mark.parametrize("name", ANCHORS)
def test_the_published_architectures_are_told_from_timms_weights(name):
    assert infer_architecture(timm.create_model(name).state_dict()) == ANCHORS[name].canonical()


@pytest.mark.parametrize(
    "text",
    [
        "starnet:embed_dim=12,depths=1-0-2-1,mlp_ratio=2-4-3-5,kernel_size=3-7-5-7",
        "starnet:embed_dim=16,widths=16-24-40-64,depths=1-1-1-1,stem_width=16",
    ],
)
def test_other_widths_ratios_and_kernels_are_told_from_the_weights(text):
    architecture = parse_architecture(text)
    assert infer_architecture(build_model(architecture).state_dict()) == architecture.canonical()


def test_timms_weights_of_a_published_network_load_by_file(tmp_path):
    model = timm.create_model("starnet_s050")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded, pixels = load_starnet(tmp_path / "model.safetensors"), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(pixels), _evaluated(model)(pixels))


def test_imagenets_classes_are_known_by_synset_or_all_by_their_words():
    assert imagenet_indices(SYNSETS) == INDICES
    assert imagenet_indices(imagenet_synsets()) == tuple(range(1000))
    assert imagenet_indices(imagenet_descriptions()) == tuple(range(1000))
    assert imagenet_indices(imagenet_descriptions()[::-1]) is None
    assert imagenet_indices(("n01440764", "cat")) is None


def test_weights_that_cannot_be_fetched_are_named_with_where_they_are():
    with pytest.raises(EvaluationError) as raised:
        find_classifier("starnet_s1", weights=None, device="cpu")
    for words in (
        "published weights of starnet_s1 cannot be fetched",
        "huggingface.co/timm/starnet_s1.in1k/resolve/main/model.safetensors",
        "github.com/ma-xu/Rewrite-the-Stars/releases/download/checkpoints_v1/starnet_s1.pth.tar",
        "--weights",
    ):
        assert words in str(raised.value)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("starnet_s050", r"no published weights of starnet_s050: those of starnet_s1.*--weights"),
        ("timm:starnet_s050", r"published weights of starnet_s050 cannot be fetched: .*--weights"),
        ("timm:resnet18", r"resnet18 cannot be fetched: .*huggingface.co/timm/resnet18.*model\.safetensors.*--weights"),
        ("timm:resnet1", r"no model 'resnet1'\. Did you mean 'resnet"),
        ("nowhere.onnx", r"There is no file 'nowhere\.onnx'"),
        ("nowhere.pth.tar", r"There is no file 'nowhere\.pth\.tar'"),
    ],
)
def test_a_network_without_weights_is_refused(network, words):
    with pytest.raises(EvaluationError, match=words):
        find_classifier(network, weights=None, device="cpu")


def test_what_names_no_network_is_refused_with_the_rule(tmp_path):
    with pytest.raises(ArchitectureError, match="starnet_s9"):
        find_classifier("starnet_s9", weights=None, device="cpu")
    with pytest.raises(EvaluationError, match=r"holds no network: neither config\.json, .* nor best\.safetensors"):
        find_classifier(str(tmp_path), weights=None, device="cpu")
    with pytest.raises(StudyError, match="no study folder"):
        find_classifier("nowhere:3", weights=None, device="cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EvaluationError, match="timm cannot load the folder"):
        find_classifier(str(tmp_path), weights=None, device="cpu")


def test_weights_of_another_network_say_what_differs(saved, tmp_path):
    with pytest.raises(EvaluationError, match=r"nested\.pth are of another network: .*\(8, .*in the file and \(24,"):
        find_classifier("starnet_s1", weights=saved / "nested.pth", device="cpu")
    with pytest.raises(EvaluationError, match=r"nested\.pth are of another network: the file lacks .* and \d+ more"):
        find_classifier("timm:resnet18", weights=saved / "nested.pth", device="cpu")
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(EvaluationError, match=r"not of a StarNet that can be told from them.*timm:NAME"):
        find_classifier(str(tmp_path / "resnet.pth"), weights=None, device="cpu")


@pytest.mark.parametrize("content", ["text", "no tensors", "a class"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("nothing of the kind")
    else:
        torch.save({"epoch": 3} if content == "no tensors" else {"x": shutil.Error()}, path)
    with pytest.raises(EvaluationError, match=r"weights\.pth (cannot be read as|holds no) weights"):
        find_classifier("starnet_s1", weights=path, device="cpu")


def test_a_missing_weight_file_and_one_too_many_are_refused(saved, tmp_path):
    with pytest.raises(EvaluationError, match="no weight file"):
        find_classifier("starnet_s1", weights=tmp_path / "nowhere.pth", device="cpu")
    with pytest.raises(EvaluationError, match="has weights of its own; leave out --weights"):
        find_classifier(str(saved / "exported"), weights=saved / "nested.pth", device="cpu")


def test_a_head_of_other_classes_is_refused(starnet, saved, tmp_path):
    four = (*SYNSETS, "n02084071")
    root = write_folders(tmp_path / "four", train=(1, 1, 1, 1), validation=(1, 1, 1, 1), classes=four)
    with pytest.raises(EvaluationError, match=r"has 3 outputs and 'four' 4 classes \(n01440764, .*synset"):
        validate_network(str(saved / "own.safetensors"), str(root), **HERE)
    with pytest.raises(EvaluationError, match=r"does not know 1 of the 4 classes of 'four' \(n02084071\)"):
        validate_network(str(saved / "exported"), str(root), **HERE)


def test_a_resolution_or_device_that_cannot_be_is_refused(folder, saved):
    with pytest.raises(EvaluationError, match=r"takes images of 64 pixels.*leave out the resolution of 32"):
        validate_network(str(saved / "model.onnx"), str(folder), resolution=32, **HERE)
    with pytest.raises(BackendError, match="cannot compute on 'abacus'"):
        validate_network(str(saved / "own.safetensors"), str(folder), device="abacus")


def test_an_onnx_file_that_is_no_classifier_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    for shape, words in (
        ([1, 3, 8], "takes one input of images"),
        ([1, 3, 8, 9], "square images"),
        ([1, 3, 8, 8], "gives"),
    ):
        node = helper.make_node("Relu", ["x"], ["y"])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
        graph = helper.make_graph([node], "g", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "relu.onnx")
        with pytest.raises(EvaluationError, match=words):
            find_classifier(str(tmp_path / "relu.onnx"), weights=None, device="cpu")
    (tmp_path / "text.onnx").write_text("nothing of the kind")
    with pytest.raises(EvaluationError, match="no ONNX file"):
        find_classifier(str(tmp_path / "text.onnx"), weights=None, device="cpu")


@pytest.mark.slow  # runs a study first, on a worker of its own
def test_a_trial_is_as_good_as_its_exported_folder(finished, tmp_path):
    from starsearch.api import export_study, study_front

    study = str(finished / "studies" / "few")
    knee = study_front(study).knee
    export_study(study, out=tmp_path / "best", trial=knee)
    of_trial = validate_network(f"{study}:{knee}", "digits", **HERE)
    of_folder = validate_network(str(tmp_path / "best"), "digits", **HERE)
    assert (of_trial.resolution, of_trial.crop_pct, of_trial.num_images) == (32, 1.0, 540)
    assert of_trial.mean == (0.5, 0.5, 0.5)
    assert of_trial.top1_percent == of_folder.top1_percent > 20
    (file,) = (finished / "studies" / "few").rglob(f"*-{knee}.safetensors")
    of_file = validate_network(str(file), "digits", **HERE)
    assert (of_file.top1_percent, of_file.resolution) == (of_trial.top1_percent, 32)
    with pytest.raises(StudyError, match="has no trial 99"):
        validate_network(f"{study}:99", "digits", **HERE)


def test_progress_is_told_to_its_end(folder, saved):
    told = []
    validate_network(
        str(saved / "own.safetensors"), str(folder), resolution=32, batch_size=10, watch=told.append, **HERE
    )
    assert [progress.fraction for progress in told] == [0.25, 0.5, 0.75, 1.0]
    assert len(images("validation", (12, 12, 12))) == 36


@pytest.mark.parametrize("name", ["resnet50.a1_in1k", "vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", "starnet_s3"])
def test_images_are_prepared_as_timms_validation_prepares_them(folder, name, monkeypatch):
    model = timm.create_model(name, num_classes=3)
    monkeypatch.setattr("timm.create_model", lambda *_, **__: model)  # as if its weights had been fetched
    expected = timm.data.resolve_data_config({}, model=model, use_test_size=True)
    monkeypatch.setattr(model, "forward", lambda images: torch.zeros(len(images), 3))
    found = validate_network(f"timm:{name}", str(folder), **HERE)
    assert (3, found.resolution, found.resolution) == expected["input_size"]
    for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode"):
        assert getattr(found, key) == expected[key]


def test_a_batch_that_does_not_fit_the_memory_says_which_may(folder, saved, monkeypatch):
    from starsearch.models import StarNet

    def refuse(self, images):
        if len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(len(images), 3)

    monkeypatch.setattr(StarNet, "forward", refuse)  # there need not be a GPU
    network = str(saved / "own.safetensors")
    with pytest.raises(EvaluationError, match=r"A batch of 8 images of 32 pixels does not fit .*--batch-size 4\."):
        validate_network(network, str(folder), resolution=32, batch_size=8, **HERE)
    assert validate_network(network, str(folder), resolution=32, batch_size=4, **HERE).num_images == 36
