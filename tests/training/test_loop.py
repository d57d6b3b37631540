import dataclasses

import pytest
import torch
import yaml
from pydantic import TypeAdapter

from starsearch.data import open_data
from starsearch.errors import TimeLimitError
from starsearch.families.family import Architecture
from starsearch.families.network import build_model
from starsearch.progress import follow
from starsearch.recipe import Fidelity, Recipe
from starsearch.resources import shipped_folder
from starsearch.training import train
from starsearch.training.evaluate import validate
from tests.data.pictures import write_pictures

TINY = Architecture.of(embed_dim=8, depths=(1, 1, 1), mlp_ratio=2, kernel_size=3)
RECIPE = Recipe(batch_size=32, epochs=1, hflip=0)
SHORT = Fidelity(resolution=16, samples=128, validation_samples=100)


def training(*, data=None, **options):
    arguments = {"recipe": RECIPE, "fidelity": SHORT, "seed": 0, **options}
    return train(TINY, data=data or open_data("digits"), **arguments)


def run(**options):
    """Progress and result."""
    progress = []
    return progress, follow(training(**options), progress.append)


@pytest.fixture
def pictures(tmp_path):
    for split, count in (("train", 16), ("val", 4)):
        write_pictures(tmp_path / "pets" / split, {"cat": count, "dog": count})
    return open_data(str(tmp_path / "pets"))


def test_a_tiny_network_learns_the_digits_in_a_few_epochs():
    recipe = Recipe(batch_size=64, epochs=6, hflip=0, lr=5e-3)
    _, result = run(recipe=recipe, fidelity=Fidelity(resolution=16))
    assert result.top1_percent > 80
    assert result.top5_percent > 97
    assert result.epochs == 6
    assert result.images_per_second > 0
    assert not result.model.training


def test_every_epoch_reports_its_accuracy_and_progress_only_rises():
    progress, result = run(recipe=dataclasses.replace(RECIPE, epochs=3, cooldown_epochs=1))
    epochs = [p for p in progress if p.epoch is not None]
    assert [p.epoch for p in epochs] == [1, 2, 3, 4]
    for p in epochs:
        assert set(p.values) == {"top1_percent", "top5_percent", "train_loss", "learning_rate", "images_per_second"}
    fractions = [p.fraction for p in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert epochs[-1].values["top1_percent"] == result.top1_percent


def test_the_fidelity_overrides_the_epochs_and_the_stem():
    fidelity = dataclasses.replace(SHORT, epochs=2, stem_stride=1)
    _, result = run(fidelity=fidelity)
    assert result.epochs == 2
    assert result.model.stem[0].conv.stride == (1, 1)


def test_top_5_of_two_classes_is_top_2(pictures):
    _, result = run(data=pictures, recipe=dataclasses.replace(RECIPE, batch_size=8), fidelity=Fidelity(resolution=16))
    assert result.top5_percent == 100


def test_validation_counts_like_brute_force():
    torch.manual_seed(0)
    model = build_model(TINY, num_classes=7)
    images, targets = torch.randn(20, 3, 16, 16), torch.randint(0, 7, (20,))

    accuracy = follow(validate(model, [(images[:12], targets[:12]), (images[12:], targets[12:])]))
    ranking = model.eval()(images).argsort(1, descending=True)
    top1 = sum(int(row[0] == target) for row, target in zip(ranking, targets, strict=True))
    top5 = sum(int(target in row[:5]) for row, target in zip(ranking, targets, strict=True))
    assert (accuracy.top1_percent, accuracy.top5_percent) == (100 * top1 / 20, 100 * top5 / 20)


def test_a_training_beyond_its_time_limit_is_given_up():
    with pytest.raises(TimeLimitError, match=r"time limit of 0\.001 s"):
        run(fidelity=dataclasses.replace(SHORT, time_limit_s=0.001))


def test_the_papers_recipe_is_the_supplements():
    path = shipped_folder("recipes") / "starnet-imagenet.yaml"
    recipe = TypeAdapter(Recipe).validate_python(yaml.safe_load(path.read_text()))
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (300, 2048, 3e-3, 0.025)
    assert (recipe.mixup, recipe.cutmix, recipe.smoothing) == (0.8, 0.2, 0.1)
