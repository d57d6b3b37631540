"""One training step in the stock way and one in ours, of the same network on the same batch."""

import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2

from starsearch.families.family import presets
from starsearch.families.network import build_model
from starsearch.recipe import Recipe
from starsearch.training.optimisation import Optimisation


def make_stock_step(network, images, targets, *, num_classes):
    """timm's network, optimiser and loss as its train.py has them without options: NCHW, eager."""
    recipe = Recipe()
    model = timm.create_model(network, num_classes=num_classes).to(images.device)
    optimizer = create_optimizer_v2(model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay)
    loss = LabelSmoothingCrossEntropy(recipe.smoothing)

    def step():
        optimizer.zero_grad()
        loss(model(images), targets).backward()
        optimizer.step()

    return step


def make_our_step(network, images, targets, *, num_classes, hardware=None):
    """What `starsearch.training` does in each step."""
    model = build_model(presets()[network], num_classes=num_classes, initialization="timm")
    model = model.to(images.device).to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)  # as our batches come
    optimisation = Optimisation(model, Recipe(epochs=1000), steps_per_epoch=1000, hardware=hardware)
    return lambda: optimisation.step(images, targets)
