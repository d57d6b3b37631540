"""One training step: loss, gradient, clipping, optimiser, learning rate and moving average, as a recipe says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from starsearch.errors import EvaluationError, did_you_mean, first_line
from starsearch.families.network import Network
from starsearch.recipe import Recipe
from starsearch.training.cuda_step import CapturedStep
from starsearch.training.distillation import Teacher, distillation_task
from starsearch.training.hardware import Hardware

# Their fused CPU kernel takes a sixth of the time of timm's default (StarNet-S1: 4 instead of 25 ms a step).
_FUSED = frozenset({"adam", "adamw", "sgd", "momentum"})


class Optimisation:
    """A network, trained in place by a recipe; `ema` is the weights' moving average, or None.

    Args:
        model: on the hardware's device.
        recipe: how it is trained.
        steps_per_epoch: optimiser steps in a pass over the training images.
        hardware: precision, micro-batches and ranks.
        teacher: whose answers are learned too.
    """

    def __init__(
        self,
        model: Network,
        recipe: Recipe,
        *,
        steps_per_epoch: int,
        hardware: Hardware | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        hardware = hardware or Hardware()
        self.model, self.device = model, hardware.device
        self.num_epochs = recipe.epochs + recipe.cooldown_epochs
        self.steps_per_epoch = steps_per_epoch
        self.optimizer = make_optimizer(model, recipe)
        self.ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        self._scheduler = make_scheduler(self.optimizer, recipe, steps_per_epoch=steps_per_epoch)
        self._mixup = make_mixup(recipe, model.num_classes, batch_size=recipe.batch_size // hardware.world_size)
        self._hardware = hardware
        self._forward = make_forward(model, hardware)
        self._task = make_task(recipe, self._answer, model, teacher)
        # Where gradients do not underflow, it passes everything through.
        self._scaler = torch.amp.GradScaler(hardware.device_type, enabled=hardware.precision == "float16")
        self._clip_grad = recipe.clip_grad
        self._steps = 0
        captured = hardware.captures and recipe.optimizer in _FUSED  # others would keep the first learning rate
        self._captured = CapturedStep(self.optimizer, model, self.ema) if captured else None

    @property
    def learning_rate(self) -> float:
        """The next step's."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def judged_model(self) -> Network:
        """What is validated and kept: the moving average if there is one, else the model."""
        judged: Network = self.model if self.ema is None else self.ema.module
        return judged

    def state(self) -> dict[str, Any]:
        """Return weights, optimiser, gradient scale and moving average; the tensors, not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
        }

    def restore(self, state: Mapping[str, Any], *, epochs: int, step: int = 0) -> None:
        """Resume from a `state` that was taken after so many epochs, of however many steps each, and steps."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            if "capturable" in group:  # the state may be of another device
                group["capturable"] = self.optimizer.defaults["capturable"]
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self._steps = epochs * self.steps_per_epoch + step
        self._scheduler.step_update(self._steps)

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Train on a batch, (batch, channels, height, width) and (batch,); return its loss, detached.

        Micro-batches are cut from the batch after it is mixed, so that a step sees the same images however many
        there are; only batch norms take their statistics over each.
        """
        if self._mixup is not None:
            images, targets = self._mixup(images, targets)
        weight = 0.0 if self.ema is None else 1 - self.ema.get_decay(self._steps + 1)
        if self._captured is not None:
            loss = self._captured(self._update, images, targets, average=weight)
        else:
            loss = self._update(images, targets)
            if self.ema is not None:
                self.ema.update(self.model, step=self._steps + 1)
        self._steps += 1
        self._scheduler.step_update(self._steps)
        return loss

    def compile(self) -> None:
        """Let `torch.compile` make the forward pass from the next step on, which is captured anew."""
        self._forward = compiled(self.model)
        if self._captured is not None:
            self._captured.end()

    def end(self) -> None:
        """Give the memory of captured steps back; the optimisation itself may outlive its training in a cycle."""
        self.optimizer.zero_grad(set_to_none=True)
        if self._captured is not None:
            self._captured.end()

    def _update(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Move the weights by the gradient of a batch; return its loss, detached."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(*(all_.chunk(self._hardware.accumulate) for all_ in (images, targets)), strict=True))
        losses = [
            self._accumulate(*part, among=len(parts), is_last=number == len(parts))
            for number, part in enumerate(parts, start=1)
        ]
        if self._clip_grad is not None:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_grad)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        return sum(losses[1:], start=losses[0])

    def _accumulate(self, images: torch.Tensor, targets: torch.Tensor, *, among: int, is_last: bool) -> torch.Tensor:
        """Add a micro-batch's gradients; return its part of the batch's loss, detached."""
        forward = self._forward
        with forward.no_sync() if isinstance(forward, DistributedDataParallel) and not is_last else nullcontext():
            loss = self._task(images, targets) / among
            self._scaler.scale(loss).backward()
        return loss.detach()

    def _answer(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits in float32, whatever the forward pass is computed in."""
        with self._hardware.autocast():
            logits: torch.Tensor = self._forward(images)
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


Forward = Callable[[torch.Tensor], torch.Tensor]


def make_forward(model: Network, hardware: Hardware) -> Forward:
    """The forward pass that trains `model`: of a process alone on a CPU the fast form, else the module's own.

    Between ranks every parameter has a gradient to be averaged; the fast form has none for biases in front of a batch
    norm, so the module's own is taken there.
    """
    if hardware.world_size > 1:
        module: Any = torch.compile(model) if hardware.compile else model
        on = [torch.device(hardware.device)] if hardware.device_type == "cuda" else None
        # The running statistics are averaged after an epoch, which uses those of all ranks.
        return DistributedDataParallel(module, device_ids=on, broadcast_buffers=False, gradient_as_bucket_view=True)
    return model.quick_forward()


def compiled(model: Network) -> Forward:
    """The forward pass by `torch.compile`, or where that fails, which a warning says, the module's own."""
    torch.compiler.reset()  # else the ninth network of a process is past its limit of recompilations
    forward: Any = torch.compile(model)

    def compiled_or_not(images: torch.Tensor) -> torch.Tensor:
        nonlocal forward
        try:
            logits: torch.Tensor = forward(images)
        except RuntimeError as error:  # every kind of failure that torch.compile has, and out of memory
            if forward is model or isinstance(error, torch.OutOfMemoryError):
                raise
            warnings.warn(f"The forward pass cannot be compiled ({first_line(error)}): it is not.", stacklevel=2)
            forward = model
            logits = model(images)
        return logits

    return compiled_or_not


def make_task(
    recipe: Recipe, forward: Forward, model: Network, teacher: Teacher | None
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return what computes the loss of images and targets: the recipe's own, and the teacher's if there is one."""
    loss = make_loss(recipe)
    if teacher is None:
        return lambda images, targets: loss(forward(images), targets)
    return distillation_task(recipe, forward, model, teacher, loss)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return timm's optimiser of that name; biases and norms are not decayed."""
    if recipe.optimizer not in (known := [str(name) for name in list_optimizers()]):
        raise EvaluationError(
            f"timm has no optimizer {recipe.optimizer!r}.{did_you_mean(recipe.optimizer, known)} "
            "timm.optim.list_optimizers() names all."
        )
    options: dict[str, Any] = {"fused": True} if recipe.optimizer in _FUSED else {}
    if recipe.optimizer in ("adam", "adamw") and next(model.parameters()).is_cuda:
        options["capturable"] = True  # torch's other fused ones are so as they are
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model,
            opt=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            **options,
        )
    except Exception as error:  # timm's "sgd", for one, is Nesterov's and needs a momentum; others need a package
        raise EvaluationError(f"The optimizer {recipe.optimizer!r} does not take this recipe: {error}.") from error
    # Adam warns of steps that are not captured, as the first ones are.
    optimizer._warned_capturable_if_run_uncaptured = True
    if getattr(optimizer, "is_second_order", False):
        raise EvaluationError(f"The optimizer {recipe.optimizer!r} needs second derivatives: none are computed.")
    return optimizer


def make_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, *, steps_per_epoch: int) -> Any:
    """Return timm's scheduler, updated each step, so that a warm-up may be a fraction of an epoch."""
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


def make_mixup(recipe: Recipe, num_classes: int, *, batch_size: int | None = None) -> Mixup | None:
    """Return timm's mixup and cutmix of a rank's batches, or None if both are off."""
    if not (recipe.mixup or recipe.cutmix):
        return None
    batch_size = recipe.batch_size if batch_size is None else batch_size
    if batch_size % 2:
        of_rank = "" if batch_size == recipe.batch_size else f" a rank (of {recipe.batch_size} in all)"
        raise EvaluationError(f"mixup and cutmix mix images in pairs: batch_size is even; got {batch_size}{of_rank}.")
    return Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=recipe.mixup_prob,
        switch_prob=recipe.mixup_switch_prob,
        label_smoothing=recipe.smoothing,
        num_classes=num_classes,
    )


def make_loss(recipe: Recipe) -> nn.Module:
    """Return cross entropy with label smoothing; with mixup the smoothing is in the targets already."""
    if recipe.mixup or recipe.cutmix:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(recipe.smoothing)
