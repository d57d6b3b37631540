"""Learning from a teacher: timm's `LogitDistillationTask`, and the teachers that a recipe may name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm import create_model, is_model, list_models
from timm.task import LogitDistillationTask
from timm.task.distillation import DistillationTeacher
from torch import nn

from starsearch.data import DataSet
from starsearch.errors import EvaluationError, did_you_mean, first_line
from starsearch.families.network import Network
from starsearch.recipe import Recipe
from starsearch.training.weight_file import load_weights

_FORMS = (
    "A teacher is a timm name, 'local-dir:FOLDER' or 'hf-hub:…' as timm takes them, NAME@FILE, or a .safetensors file "
    "that starsearch wrote."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A network that teaches, and mean and deviation of the images it is shown, which timm changes to its own."""

    network: DistillationTeacher
    pupil_cfg: dict[str, tuple[float, ...]]


def check_teacher(text: str) -> None:
    """Refuse a teacher that does not exist, as far as can be told without loading it."""
    name, at, _ = text.partition("@")
    is_file = text.endswith(".safetensors") and not at
    if is_file and not Path(text).is_file():
        raise EvaluationError(f"There is no file {text!r} of a teacher. {_FORMS}")
    if not is_file and ":" not in name and not is_model(name.partition(".")[0]):
        raise EvaluationError(f"timm has no model {name!r} to teach.{did_you_mean(name, list_models())} {_FORMS}")


def open_teacher(text: str, data: DataSet, *, device: str) -> Teacher:
    """Return the teacher that a recipe names, in eval mode on the device, without drawing from the random states."""
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, to be overwritten
        model, mean, std = _find(text, data)
    known = getattr(model, "num_classes", None)
    if known != len(data.classes):
        raise EvaluationError(f"The teacher {text} knows {known} classes; {data.name!r} has {len(data.classes)}.")
    model.pretrained_cfg = {"mean": mean, "std": std}  # where timm's task looks for them
    network = DistillationTeacher(model.to(device), device=torch.device(device)).requires_grad_(False)
    return Teacher(network=network, pupil_cfg={"mean": data.mean, "std": data.std})


def _find(text: str, data: DataSet) -> tuple[Any, Any, Any]:
    """Return the network, and the mean and standard deviation by which it wants images normalised."""
    if text.endswith(".safetensors") and "@" not in text:
        try:
            return load_weights(Path(text)), data.mean, data.std
        except Exception as error:  # safetensors' own are no OSError
            raise EvaluationError(f"The teacher {text} cannot be read: {error}. {_FORMS}") from error
    name, _, file = text.partition("@")
    try:
        # Of a name's file the number of outputs is the data's, or timm would not take it in place of the name's own.
        of_file: dict[str, Any] = (
            {"pretrained_cfg_overlay": {"file": file}, "num_classes": len(data.classes)} if file else {}
        )
        model: Any = create_model(name, pretrained=True, **of_file)
    except Exception as error:  # timm's, the hub's and torch's, as they come
        raise EvaluationError(f"timm cannot load the teacher {text!r}: {first_line(error)} {_FORMS}") from error
    known = model.pretrained_cfg
    return model, known["mean"], known["std"]


def distillation_task(
    recipe: Recipe,
    forward: Callable[[torch.Tensor], torch.Tensor],
    model: Network,
    teacher: Teacher,
    loss: nn.Module,
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return what computes the loss of images and targets: `loss` of the labels and the teacher's, weighted."""
    task = LogitDistillationTask(
        _Pupil(forward, model, teacher.pupil_cfg),
        teacher.network,
        criterion=loss,
        task_loss_weight=recipe.task_loss_weight,
        distill_loss_weight=recipe.distill_loss_weight,
        temperature=recipe.distill_temperature,
        device=next(model.parameters()).device,
        verbose=False,
    )
    return lambda images, targets: task(images, targets)["loss"]


class _Pupil(nn.Module):
    """The forward pass of the network that learns, with what timm's task asks of it."""

    def __init__(
        self, forward: Callable[[torch.Tensor], torch.Tensor], model: Network, cfg: dict[str, tuple[float, ...]]
    ) -> None:
        super().__init__()
        self._forward_pass = (forward,)  # in a tuple: the network is no part of the task
        self.num_classes, self.in_chans, self.pretrained_cfg = model.num_classes, model.in_chans, cfg

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self._forward_pass[0](images)
