import dataclasses

import pytest
import torch
from timm import create_model
from timm.data import create_transform
from torch.nn import functional

from starsearch.data import open_data
from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture
from starsearch.families.network import build_model
from starsearch.recipe import Recipe
from starsearch.training.distillation import open_teacher
from starsearch.training.loop import train
from starsearch.training.optimisation import Optimisation
from starsearch.training.weight_file import save_weights
from tests.export.networks import write
from tests.training.test_loop import SHORT, TINY

WISE = Architecture.of(embed_dim=12, depths=(1, 1, 1), mlp_ratio=2, kernel_size=3)
RECIPE = Recipe(batch_size=8, task_loss_weight=0.9, distill_loss_weight=0.1, distill_temperature=3.0, smoothing=0.1)


@pytest.fixture
def wise():
    torch.manual_seed(0)
    return build_model(WISE, num_classes=10).eval()


@pytest.mark.parametrize("form", ["file", "local-dir", "name and file"])
def test_the_loss_is_that_of_deits_soft_distillation_by_hand(wise, form, tmp_path):
    """(1 − λ) CE + λ τ² KL, Touvron et al. 2021, equation 2; the teacher sees images normalised as it wants them."""
    data = open_data("digits")
    mean, std = data.mean, data.std
    if form == "file":
        text = str(tmp_path / "wise.safetensors")
        save_weights(wise, tmp_path / "wise.safetensors")
    elif form == "local-dir":
        mean, std = (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)
        write(wise, "timm", tmp_path / "wise", preprocessing=Preprocessing(mean=mean, std=std, resolution=32))
        text = f"local-dir:{tmp_path / 'wise'}"
    else:
        wise = create_model("starnet_s050", num_classes=10).eval()
        torch.save(wise.state_dict(), tmp_path / "s050.pth")
        mean, std = wise.pretrained_cfg["mean"], wise.pretrained_cfg["std"]
        text = f"starnet_s050@{tmp_path / 's050.pth'}"
    pupil = build_model(TINY, num_classes=10)
    twin = build_model(TINY, num_classes=10)
    twin.load_state_dict(pupil.state_dict())
    teacher = open_teacher(text, data, device="cpu")
    read = [data.train.read(index) for index in range(8)]
    mine, theirs = (
        torch.stack([create_transform(32, mean=m, std=s, crop_pct=1.0)(image) for image in read])
        for m, s in ((data.mean, data.std), (mean, std))
    )
    targets = torch.from_numpy(data.train.targets[:8])
    loss = Optimisation(pupil, RECIPE, steps_per_epoch=1, teacher=teacher).step(mine, targets)
    logits = twin.train()(mine)
    with torch.no_grad():
        answers = wise(theirs)
    soft = functional.kl_div(
        (logits / 3).log_softmax(1), (answers / 3).log_softmax(1), reduction="batchmean", log_target=True
    )
    expected = 0.9 * functional.cross_entropy(logits, targets, label_smoothing=0.1) + 0.1 * 9 * soft
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())


def test_a_recipe_with_a_teacher_trains(wise, tmp_path):
    save_weights(wise, tmp_path / "wise.safetensors")
    recipe = dataclasses.replace(
        RECIPE, batch_size=32, epochs=1, mixup=0.8, ema_decay=0.9, teacher=str(tmp_path / "wise.safetensors")
    )
    steps = train(TINY, data=open_data("digits"), recipe=recipe, fidelity=SHORT, seed=0)
    assert [progress.epoch for progress in steps if progress.epoch] == [1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere.safetensors", "nowhere.safetensors cannot be read"),
        ("resnetty", "timm cannot load the teacher 'resnetty'"),
        ("local-dir:nowhere", "timm cannot load"),
        ("starnet_s1@nowhere.pth", "timm cannot load"),
    ],
)
def test_a_teacher_that_is_not_there_is_refused_with_the_forms_it_may_have(text, words):
    with pytest.raises(EvaluationError, match=words) as refused:
        open_teacher(text, open_data("digits"), device="cpu")
    assert "NAME@FILE" in str(refused.value)


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    save_weights(build_model(WISE, num_classes=7), tmp_path / "seven.safetensors")
    with pytest.raises(EvaluationError, match="knows 7 classes; 'digits' has 10"):
        open_teacher(str(tmp_path / "seven.safetensors"), open_data("digits"), device="cpu")
