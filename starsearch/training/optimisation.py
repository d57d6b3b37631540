"""One training step: loss, gradient, clipping, optimiser, learning rate and moving average, as a recipe says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn

from starsearch.errors import EvaluationError, did_you_mean
from starsearch.models import StarNet
from starsearch.models.fast import FastForward
from starsearch.recipe import Recipe

# Their fused CPU kernel takes a sixth of the time of timm's default (StarNet-S1: 4 instead of 25 ms a step).
_FUSED = frozenset({"adam", "adamw", "sgd", "momentum"})


class Optimisation:
    """A network on its way through a recipe.

    Args:
        model: trained in place.
        recipe: how.
        steps_per_epoch: optimiser steps in a pass over the training images.

    Attributes:
        num_epochs: to be trained, cool-down included.
        ema: the weights' moving average, or None.

    Raises:
        EvaluationError: the recipe cannot be carried out: an unknown optimiser, an odd batch with mixup.
    """

    def __init__(self, model: StarNet, recipe: Recipe, *, steps_per_epoch: int) -> None:
        self.model = model
        self.num_epochs = recipe.epochs + recipe.cooldown_epochs
        self.optimizer = make_optimizer(model, recipe)
        self.ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        self._scheduler = make_scheduler(self.optimizer, recipe, steps_per_epoch=steps_per_epoch)
        self._mixup = make_mixup(recipe, model.num_classes)
        self._loss = make_loss(recipe)
        self._forward = FastForward(model)
        self._clip_grad = recipe.clip_grad
        self._steps_per_epoch = steps_per_epoch
        self._steps = 0

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def judged_model(self) -> StarNet:
        """What is validated and kept: the moving average where there is one, else the model."""
        judged: StarNet = self.model if self.ema is None else self.ema.module
        return judged

    def state(self) -> dict[str, Any]:
        """Weights, optimiser and moving average, for a checkpoint; the tensors themselves, not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
        }

    def restore(self, state: Mapping[str, Any], *, epochs: int) -> None:
        """Go on from `state`, which was taken after so many epochs, of however many steps each."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self._steps = epochs * self._steps_per_epoch
        self._scheduler.step_update(self._steps)

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Train on a batch, (batch, channels, height, width) and (batch,); return its loss, detached."""
        if self._mixup is not None:
            images, targets = self._mixup(images, targets)
        loss: torch.Tensor = self._loss(self._forward(images), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip_grad is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_grad)
        self.optimizer.step()
        self._steps += 1
        self._scheduler.step_update(self._steps)
        if self.ema is not None:
            self.ema.update(self.model, step=self._steps)
        return loss.detach()


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """timm's optimiser of that name; biases and norms are not decayed.

    Raises:
        EvaluationError: timm has no optimiser of that name, or it refuses the recipe's values.
    """
    if recipe.optimizer not in (known := [str(name) for name in list_optimizers()]):
        raise EvaluationError(
            f"timm has no optimizer {recipe.optimizer!r}.{did_you_mean(recipe.optimizer, known)} "
            "timm.optim.list_optimizers() names all."
        )
    options: dict[str, Any] = {"fused": True} if recipe.optimizer in _FUSED else {}
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model,
            opt=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            **options,
        )
    except ValueError as error:  # timm's "sgd", for one, is Nesterov's and needs a momentum
        raise EvaluationError(f"The optimizer {recipe.optimizer!r} does not take this recipe: {error}.") from error
    return optimizer


def make_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, *, steps_per_epoch: int) -> Any:
    """timm's scheduler, updated each step, so that a warm-up may be a fraction of an epoch."""
    names = {"cosine": "cosine", "linear": "poly", "step": "step", "none": "constant"}
    create: Any = create_scheduler_v2  # its annotations say int where fractions of epochs work too
    scheduler, _ = create(
        optimizer,
        sched=names[recipe.schedule],
        num_epochs=recipe.epochs,
        warmup_epochs=min(recipe.warmup_epochs, recipe.epochs / 2),
        warmup_lr=recipe.warmup_lr,
        min_lr=recipe.min_lr,
        cooldown_epochs=recipe.cooldown_epochs,
        decay_epochs=recipe.epochs / 3,  # "step": a tenth after each third
        decay_rate=0.1 if recipe.schedule == "step" else 1.0,  # "linear": the power of the polynomial
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    return scheduler


def make_mixup(recipe: Recipe, num_classes: int) -> Mixup | None:
    """timm's mixup and cutmix of batches, or None where both are off.

    Raises:
        EvaluationError: the batch is odd; images are mixed in pairs.
    """
    if not (recipe.mixup or recipe.cutmix):
        return None
    if recipe.batch_size % 2:
        raise EvaluationError(f"mixup and cutmix mix images in pairs: batch_size is even; got {recipe.batch_size}.")
    return Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=recipe.mixup_prob,
        switch_prob=recipe.mixup_switch_prob,
        label_smoothing=recipe.smoothing,
        num_classes=num_classes,
    )


def make_loss(recipe: Recipe) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Cross entropy with label smoothing; with mixup the smoothing is in the targets already."""
    if recipe.mixup or recipe.cutmix:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(recipe.smoothing)
