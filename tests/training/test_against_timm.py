"""The paper's recipe against timm's own train.py: the same factories, called with that script's arguments."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import Mixup, create_loader
from timm.data.dataset import ImageDataset
from timm.loss import SoftTargetCrossEntropy
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import random_seed

from starsearch.data import open_data
from starsearch.data.augmentation import image_augmentation
from starsearch.data.batches import order_of_images
from starsearch.families.family import presets
from starsearch.families.network import build_model
from starsearch.recipe import Recipe, with_batch_size
from starsearch.study.recipe_file import load_recipe
from starsearch.training.checkpoint import random_states
from starsearch.training.optimisation import Optimisation, make_optimizer, make_scheduler

PAPER = load_recipe("starnet-imagenet")
STEPS = 625  # an epoch of ImageNet: 1,281,167 images in whole batches of 2,048

# train.py's arguments for the paper's recipe, by its names.
SCHEDULE = {"sched": "cosine", "num_epochs": 300, "warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5}
TRANSFORM = {
    "is_training": True,
    "scale": (0.08, 1.0),
    "ratio": (3 / 4, 4 / 3),
    "hflip": 0.5,
    "vflip": 0.0,
    "color_jitter": 0.0,
    "auto_augment": "rand-m1-mstd0.5-inc1",
    "interpolation": "random",
}


def rates(scheduler, optimizer, *, step):
    found = []
    for epoch in range(300):
        step(scheduler, epoch)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("on_updates", [False, True])
def test_the_learning_rate_at_every_epoch_is_that_of_timms_script(on_updates):
    """Ours is set each step, as timm's is with --sched-on-updates; at epochs both ways of timm's agree with it."""
    model = torch.nn.Linear(2, 2)
    ours, theirs = make_optimizer(model, PAPER), create_optimizer_v2(model, opt="adamw", lr=3e-3, weight_decay=0.025)
    mine = make_scheduler(ours, PAPER, steps_per_epoch=STEPS)
    other, epochs = create_scheduler_v2(theirs, **SCHEDULE, step_on_epochs=not on_updates, updates_per_epoch=STEPS)
    assert epochs == PAPER.epochs + PAPER.cooldown_epochs == 300
    expected = rates(other, theirs, step=lambda s, epoch: s.step_update(epoch * STEPS) if on_updates else s.step(epoch))
    got = rates(mine, ours, step=lambda s, epoch: s.step_update(epoch * STEPS))
    assert got == (expected if on_updates else pytest.approx(expected, rel=1e-12))
    assert got[0] == 1e-6
    assert got[5] == pytest.approx(3e-3, rel=1e-3)


@pytest.mark.parametrize("name", ["starnet_s1", "starnet_s4"])
def test_what_is_decayed_is_what_timms_script_decays_by_name(name):
    ours, theirs = build_model(presets()[name]), create_model(name)

    def decayed(model, optimizer):
        names = {id(parameter): key for key, parameter in model.named_parameters()}
        return {group["weight_decay"]: [names[id(p)] for p in group["params"]] for group in optimizer.param_groups}

    expected = decayed(theirs, create_optimizer_v2(theirs, opt="adamw", lr=3e-3, weight_decay=0.025, momentum=0.9))
    assert decayed(ours, make_optimizer(ours, PAPER)) == expected
    assert set(expected) == {0.0, 0.025}
    adamw = make_optimizer(ours, PAPER).param_groups[0]
    assert (adamw["betas"], adamw["eps"]) == ((0.9, 0.999), 1e-8)


@pytest.fixture
def data(tmp_path):
    for split in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(0, 255, (300 - 20 * number, 280, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.JPEG", quality=90)
    return open_data(str(tmp_path))


def test_images_are_transformed_by_the_transforms_of_timms_loader(data, tmp_path):
    loader = create_loader(
        ImageDataset(str(tmp_path / "train")),
        (3, 224, 224),
        4,
        mean=data.mean,
        std=data.std,
        num_workers=0,
        persistent_workers=False,
        device=torch.device("cpu"),
        re_prob=0.25,
        re_mode="pixel",
        **TRANSFORM,
    )
    recipe = dataclasses.replace(PAPER, random_erasing=0.25)
    ours, theirs = image_augmentation(recipe, data, 224), loader.dataset.transform
    assert [type(one) for one in ours.transforms] == [type(one) for one in theirs.transforms]
    assert repr(ours) == repr(theirs)
    image = data.train.read(0)
    for seed in range(8):
        random_seed(seed)
        mine = ours(image)
        random_seed(seed)
        assert torch.equal(mine, torch.as_tensor(theirs(image)))


def test_the_loss_of_the_first_batch_is_timms_by_seed_and_weights():
    images, targets = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 10
    ours = build_model(presets()["starnet_s1"], num_classes=10)
    theirs = create_model("starnet_s1", num_classes=10)
    theirs.load_state_dict(ours.state_dict())
    recipe = dataclasses.replace(PAPER, batch_size=16)
    random_seed(7)
    loss = Optimisation(ours, recipe, steps_per_epoch=1).step(images.clone(), targets)
    random_seed(7)
    mixed, soft = Mixup(
        mixup_alpha=0.8, cutmix_alpha=0.2, prob=1.0, switch_prob=0.5, mode="batch", label_smoothing=0.1, num_classes=10
    )(images.clone(), targets)
    expected = SoftTargetCrossEntropy()(theirs.train()(mixed), soft)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_order_of_images_leaves_the_random_states_of_the_recipe_alone(data):
    """Mixup draws from NumPy and erasing from Python: a shuffle that drew from them would couple the three."""
    random_seed(0)
    before = repr(random_states())
    orders = [order_of_images(50, seed=0, epoch=epoch).tolist() for epoch in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] != orders[1]
    assert repr(random_states()) == before


def test_the_linear_rule_scales_the_schedule_and_not_where_the_warm_up_begins():
    smaller = with_batch_size(Recipe(batch_size=2048, lr=3e-3, min_lr=1e-5, warmup_lr=1e-6), 512)
    assert (smaller.batch_size, smaller.lr, smaller.min_lr, smaller.warmup_lr) == (512, 7.5e-4, 2.5e-6, 1e-6)
