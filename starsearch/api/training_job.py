"""`TrainingJob`: a full training as the user asks for it, decided before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from starsearch.api.architectures import find_architecture
from starsearch.architecture import ANCHORS, Architecture, architecture_hash
from starsearch.data.source import DataSource
from starsearch.errors import ArchitectureError
from starsearch.recipe import Fidelity, Recipe, with_batch_size

_SMALL = 128  # pixels; images of ImageNet are cropped for validation as timm does, small ones are not
_TIMM_CROP_PCT = 0.875


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """A training, decided in full; it travels to the workers of a cluster.

    Attributes:
        architecture: of the network.
        data: what `open_data` takes, with a whole path.
        recipe: how it is trained, all changes included.
        fidelity: resolution, stem and validation crop.
        seed: of everything random.
        folder: of its files, with a whole path.
        weights: file of the weights it begins with; None draws new ones.
        hardware: what it runs on, by the names of `Hardware`'s attributes.
        keep_every_s: seconds after which it is kept within an epoch.
    """

    architecture: Architecture
    data: str
    recipe: Recipe
    fidelity: Fidelity
    seed: int
    folder: Path
    weights: Path | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    keep_every_s: float = 120.0


def plan_training(
    text: str,
    *,
    data: str,
    recipe: str = "starnet-imagenet",
    epochs: int | None = None,
    batch_size: int | None = None,
    resolution: int = 224,
    crop_pct: float | None = None,
    stem_stride: int = 2,
    seed: int = 0,
    out: Path | None = None,
    weights: Path | None = None,
    keep_every_s: float = 120.0,
    hardware: Mapping[str, Any] | None = None,
) -> TrainingJob:
    """The training that the user asks for; nothing is read but small files.

    Args:
        text: an architecture, as `find_architecture` takes it.
        data: as `open_data` takes it.
        recipe: a recipe file or a shipped one's name.
        epochs: in place of the recipe's.
        batch_size: in place of the recipe's; its learning rates follow by the linear rule.
        resolution: of training and validation, in pixels.
        crop_pct: of validation; None is timm's 0.875, and the whole image below 128 px.
        stem_stride: of the network; 1 for small images.
        seed: of everything random.
        out: folder of its files; None is trainings/NAME.
        weights: file of the weights it begins with.
        keep_every_s: seconds after which it is kept within an epoch.
        hardware: by the names of `Hardware`'s attributes.

    Raises:
        ArchitectureError, SpecError, StudyError: the architecture or the recipe is not found or breaks a rule.
    """
    from starsearch.study.recipe_file import load_recipe

    architecture = find_architecture(text)
    chosen = load_recipe(recipe)
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    if batch_size is not None:
        chosen = with_batch_size(chosen, batch_size)
    if stem_stride not in (1, 2):
        raise ArchitectureError(f"The stem's stride is 1 or 2; got {stem_stride}.")
    if crop_pct is None:
        crop_pct = _TIMM_CROP_PCT if resolution >= _SMALL else 1.0
    folder = out or Path("trainings") / _name_of(text, architecture)
    return TrainingJob(
        architecture=architecture,
        # A worker of a cluster has another working folder.
        data=DataSource.parse(data).absolute(),
        recipe=chosen,
        fidelity=Fidelity(
            name="full",
            resolution=resolution,
            crop_pct=crop_pct,
            stem_stride=1 if stem_stride == 1 else 2,
            recipe=recipe,
        ),
        seed=seed,
        folder=folder.resolve(),
        weights=None if weights is None else weights.expanduser().resolve(),
        hardware=dict(hardware or {}),
        keep_every_s=keep_every_s,
    )


def _name_of(text: str, architecture: Architecture) -> str:
    """Of a training's folder: an anchor's name, STUDY-TRIAL, a file's stem, or the architecture's hash."""
    if text in ANCHORS:
        return text
    if Path(text).is_file():
        return Path(text).stem
    trial = re.fullmatch(r"(.+):(\d+)", text)
    if trial and "=" not in trial[1]:
        return f"{Path(trial[1].partition('@')[0]).name}-{trial[2]}"
    return architecture_hash(architecture)
