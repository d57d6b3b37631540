"""A training's checkpoint handed over to another recipe, as Population Based Training does between two epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from starsearch.errors import StudyError
from starsearch.recipe import Recipe


def hand_over(file: Path, *, old: Recipe, new: Recipe) -> None:
    """Make the checkpoint of a training by `old` one from which `train` goes on by `new`.

    The schedule's learning rate follows the new recipe by itself; the optimiser's weight decay lies in its state and is
    changed there.

    Raises:
        StudyError: the checkpoint is of another training, or cannot be read.
    """
    import torch

    from starsearch.training.checkpoint import describe_training, load_checkpoint, save_checkpoint

    if old == new:
        return
    of: dict[str, str] = torch.load(file, map_location="cpu", weights_only=True)["of"]
    checkpoint = load_checkpoint(file, of={**of, **describe_training(recipe=old)})
    if checkpoint is None:
        raise StudyError(f"The checkpoint {file.name} is not of a training by {old}, so none can go on from it.")
    _set_weight_decay(checkpoint.optimisation, new.weight_decay)
    save_checkpoint(replace(checkpoint, of={**of, **describe_training(recipe=new)}), file)


def _set_weight_decay(optimisation: Any, weight_decay: float) -> None:
    """Of the parameters that are decayed; timm keeps the others in a group of their own, before them."""
    groups = optimisation["optimizer"]["param_groups"]
    decayed = [group for group in groups if group["weight_decay"]] or groups[-1:]
    for group in decayed:
        group["weight_decay"] = weight_decay
