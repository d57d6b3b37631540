"""The network's classes and the data's are matched by name or number, or the pair is refused."""

import pytest
import timm
import torch

from starsearch.api.validation import validate
from starsearch.data.synsets import imagenet_descriptions, imagenet_indices, imagenet_synsets
from starsearch.errors import EvaluationError
from starsearch.families.network import build_model
from tests.api.validation.judged import HERE, percent, settled, timms_logits
from tests.data.imagenet_like import INDICES, SYNSETS, write_folders, write_shards
from tests.export.networks import write


def test_a_network_of_imagenet_chooses_among_the_synsets_that_are_there(folder, tmp_path):
    torch.manual_seed(0)
    model = settled(timm.create_model("mobilenetv3_small_050"))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    expected, targets = timms_logits(model, folder)
    found = validate("timm:mobilenetv3_small_050", str(folder), weights=tmp_path / "weights.pth", resolution=64, **HERE)
    assert found.top1_percent == pytest.approx(percent(expected[:, list(INDICES)], targets, 1), abs=1e-9)
    assert found.num_classes == 3
    assert "3 of the network's 1,000 classes; only their logits are compared" in found.notes[0]


def test_outputs_in_another_order_are_matched_by_name(folder, starnet, tmp_path):
    turned = build_model(starnet.architecture, num_classes=3)
    turned.load_state_dict(starnet.state_dict())
    with torch.no_grad():
        turned.head.weight.copy_(starnet.head.weight.flip(0))
        turned.head.bias.copy_(starnet.head.bias.flip(0))
    write(turned.eval(), "timm", tmp_path / "turned", class_names=SYNSETS[::-1])
    expected, targets = timms_logits(starnet, folder)
    found = validate(str(tmp_path / "turned"), str(folder), resolution=64, **HERE)
    assert found.top1_percent == pytest.approx(percent(expected, targets, 1), abs=1e-9)
    assert "another order" in found.notes[0]


@pytest.mark.parametrize("trains_too", [True, False])
def test_shards_that_say_but_numbers_validate_what_was_trained_on_them(folder, saved, tmp_path, trains_too):
    shards = write_shards(tmp_path / "shards", train=(2, 2, 2), validation=(12, 12, 12))
    if not trains_too:
        for file in shards.glob("*-train-*"):
            file.unlink()
    expected = validate(str(saved / "exported"), str(folder), resolution=64, **HERE)
    found = validate(str(saved / "exported"), str(shards), resolution=64, **HERE)
    assert found.top1_percent == expected.top1_percent
    assert ("numbers of its classes" in " ".join(found.notes)) is not trains_too


@pytest.mark.parametrize(
    ("network", "classes", "words"),
    [
        ("own.safetensors", (*SYNSETS, "n02084071"), r"has 3 outputs and 'data' 4 classes \(n01440764, .*synset"),
        ("exported", (*SYNSETS, "n02084071"), r"know 1 of the 4 classes of 'data\?orientation=stored' \(n02084071\)"),
        ("exported", None, r"does not know 2 of the 2 classes of 'data\?orientation=stored' \(0, 1\)"),
    ],
)
def test_a_head_of_other_classes_is_refused(saved, tmp_path, network, classes, words):
    if classes:
        root = write_folders(tmp_path / "data", train=(1,) * 4, validation=(1,) * 4, classes=classes)
    else:  # numbers alone
        root = write_shards(tmp_path / "data", train=(2, 2, 0), validation=(3, 3, 0))
        for file in root.glob("*-train-*"):
            file.unlink()
    with pytest.raises(EvaluationError, match=words):
        validate(str(saved / network), str(root), resolution=64, **HERE)


def test_imagenets_classes_are_known_by_synset_or_all_by_their_words():
    assert imagenet_indices(SYNSETS) == INDICES
    assert imagenet_indices(imagenet_synsets()) == tuple(range(1000))
    assert imagenet_indices(imagenet_descriptions()) == tuple(range(1000))
    assert imagenet_indices(imagenet_descriptions()[::-1]) is None
    assert imagenet_indices(("n01440764", "cat")) is None
