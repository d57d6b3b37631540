"""Top-1 and top-5 of `validate` against timm's own loader and a plain loop."""

import pytest
import timm
import torch

from starsearch.api.networks import resolve
from starsearch.api.validation import validate
from starsearch.data import open_validation
from starsearch.data.batches import validation_batches
from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import BackendError, DataError, EvaluationError
from starsearch.families.starnet_module import StarNet
from starsearch.progress import follow
from starsearch.training.weight_file import save_weights
from tests.api.validation.judged import HERE, percent, settled, timms_logits
from tests.data.imagenet_like import SYNSETS, images, write_folders


@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_a_timm_model_is_judged_as_timms_own_loop_judges_it(folder, tmp_path, crop_pct):
    torch.manual_seed(0)
    model = settled(timm.create_model("mobilenetv3_small_050", num_classes=3))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    expected, targets = timms_logits(model, folder, crop_pct=crop_pct)

    name, options = "timm:mobilenetv3_small_050", {"resolution": 64, "crop_pct": crop_pct}
    found = validate(name, str(folder), weights=tmp_path / "weights.pth", **options, **HERE, batch_size=5)
    assert found.top1_percent == pytest.approx(percent(expected, targets, 1), abs=1e-9)
    assert found.top5_percent == 100.0  # of three classes
    assert (found.num_images, found.unreadable) == (36, ())

    classifier = resolve(name).classifier(weights=tmp_path / "weights.pth")
    logits = torch.cat([classifier.logits(pixels) for pixels, _ in _passes(folder, classifier, crop_pct)])
    assert (logits - expected).abs().max() < 2e-5 * expected.std()


def _passes(folder, classifier, crop_pct=0.875):
    preparation = Preprocessing(
        resolution=64, crop_pct=crop_pct, mean=classifier.config["mean"], std=classifier.config["std"]
    )
    return follow(validation_batches(open_validation(str(folder)), preparation, batch_size=8, keep=False))


def test_worker_processes_and_batch_size_change_nothing(folder, starnet, tmp_path):
    save_weights(starnet, tmp_path / "tiny.safetensors")
    name = str(tmp_path / "tiny.safetensors")
    alone = validate(name, str(folder), resolution=64, workers=0, batch_size=36, device="cpu")
    shared = validate(name, str(folder), resolution=64, workers=2, batch_size=5, device="cpu")
    assert (shared.top1_percent, shared.num_images) == (alone.top1_percent, alone.num_images)


@pytest.mark.parametrize("name", ["resnet50.a1_in1k", "vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", "starnet_s3"])
def test_images_are_prepared_as_timms_validation_prepares_them(folder, name, monkeypatch):
    model = timm.create_model(name, num_classes=3)
    monkeypatch.setattr("timm.create_model", lambda *_, **__: model)  # as if its weights had been fetched
    expected = timm.data.resolve_data_config({}, model=model, use_test_size=True)
    monkeypatch.setattr(model, "forward", lambda images: torch.zeros(len(images), 3))
    found = validate(f"timm:{name}", str(folder), **HERE)
    assert (3, found.resolution, found.resolution) == expected["input_size"]
    for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode"):
        assert getattr(found, key) == expected[key]


def test_unreadable_images_are_left_out_and_named(starnet, saved, tmp_path, monkeypatch):
    root = write_folders(tmp_path / "imagenet", train=(1, 1, 1), validation=(40, 40, 40))
    broken = root / "val" / SYNSETS[1] / "ILSVRC2012_val_00000043.JPEG"
    broken.write_bytes(broken.read_bytes()[:100])
    found = validate(str(saved / "own.safetensors"), str(root), resolution=32, **HERE)
    assert found.num_images == 119
    (said,) = found.unreadable
    assert said.startswith(f"{SYNSETS[1]}/ILSVRC2012_val_00000043.JPEG (")
    broken.unlink()
    without = validate(str(saved / "own.safetensors"), str(root), resolution=32, **HERE)
    assert without.top1_percent == found.top1_percent
    for other in (root / "val" / SYNSETS[0]).iterdir():
        other.write_bytes(b"")
    with pytest.raises(DataError, match=r"\d+ of 119 validation images of 'imagenet' cannot be read.*At most 1%"):
        validate(str(saved / "own.safetensors"), str(root), resolution=32, **HERE)


def test_progress_is_told_to_its_end(folder, saved):
    told = []
    validate(str(saved / "own.safetensors"), str(folder), resolution=32, batch_size=10, watch=told.append, **HERE)
    assert [progress.fraction for progress in told] == [0.25, 0.5, 0.75, 1.0]
    assert len(images("validation", (12, 12, 12))) == 36


def test_a_resolution_or_device_that_cannot_be_is_refused(folder, saved):
    with pytest.raises(EvaluationError, match=r"takes images of 64 pixels.*leave out the resolution of 32"):
        validate(str(saved / "model.onnx"), str(folder), resolution=32, **HERE)
    with pytest.raises(BackendError, match="cannot compute on 'abacus'"):
        validate(str(saved / "own.safetensors"), str(folder), device="abacus")


def test_a_batch_that_does_not_fit_the_memory_says_which_may(folder, saved, monkeypatch):

    def refuse(self, images):
        if len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(len(images), 3)

    monkeypatch.setattr(StarNet, "forward", refuse)  # there need not be a GPU
    network = str(saved / "own.safetensors")
    with pytest.raises(EvaluationError, match=r"A batch of 8 images of 32 pixels does not fit .*--batch-size 4\."):
        validate(network, str(folder), resolution=32, batch_size=8, **HERE)
    assert validate(network, str(folder), resolution=32, batch_size=4, **HERE).num_images == 36
