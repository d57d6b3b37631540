"""`Recipe`: how a network is trained. Frozen and framework-free; YAML is validated against the annotations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from starsearch.resolution import Between, Resolution, area, of_sides, sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Optimiser, schedule, augmentation and regularisation of one training, in timm's terms.

    The defaults are a short proxy training for small images; the paper's recipe is the file
    `starnet-imagenet.yaml`.

    Attributes:
        epochs: passes over the training samples, warm-up included, cool-down not.
        batch_size: images per step; at least 2, since batch norms take their statistics from them.
        optimizer: a name of `timm.optim.create_optimizer_v2`.
        lr: peak learning rate, for `batch_size` as it is.
        momentum: for SGD and its variants; timm ignores it elsewhere.
        weight_decay: not applied to biases and batch norms.
        schedule: after a linear warm-up: "cosine", "linear" to `min_lr`, "step" (a tenth after each third), or "none".
        warmup_epochs: linear from `warmup_lr` to `lr`; may be a fraction, since the rate is set each step. At most
            half of `epochs` is warm-up, so that a short fidelity serves a long training's recipe.
        warmup_lr: learning rate of the first step.
        min_lr: learning rate at the end of the schedule.
        cooldown_epochs: epochs at `min_lr` after the schedule.
        clip_grad: largest norm of the gradient; None for no clipping.
        smoothing: label smoothing.
        mixup, cutmix: their beta distributions' alpha; 0 is off.
        mixup_prob: share of batches that are mixed.
        mixup_switch_prob: share of mixed batches that take cutmix where both are on.
        auto_augment: a policy text of timm ("rand-m1-mstd0.5-inc1"), or None.
        random_erasing: probability of erasing a rectangle.
        hflip: probability of a horizontal flip; 0 for digits and text.
        crop: "random-resized" with `crop_scale`; "pad" (resize, pad by an eighth, crop) for small images; "none".
        crop_scale: smallest and largest share of the image's area that a crop takes.
        color_jitter: strength; 0 is off. timm ignores it where `auto_augment` is on.
        train_interpolation: of the random-resized crop, a name of timm's ("random" draws bilinear or bicubic for each
            image, the default of timm's train.py); None is the data set's.
        drop_path: stochastic depth of the last block.
        drop_rate: dropout before the head.
        ema_decay: decay of the weights' moving average (with timm's warm-up of it), which is then what is validated
            and kept; None for none.
        teacher: network whose answers are learned beside the labels, by timm's `LogitDistillationTask`: a timm name
            ("regnety_160"), "local-dir:FOLDER" or "hf-hub:…" as timm takes them, NAME@FILE for a name's weights in a
            file, or a .safetensors that starsearch wrote; None for none.
        task_loss_weight, distill_loss_weight: of the labels' and the teacher's loss, where there is a teacher.
        distill_temperature: by which the answers of both are softened.
        initialization: how the network's weights are drawn, as `build_model` has it. "identity" starts every block as
            the identity, for proxies, whose few steps depth slows down otherwise. Full trainings start as published.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    epochs: Annotated[int, Ge(1), Le(10_000)] = 3
    batch_size: Annotated[int, Ge(2), Le(65_536)] = 128
    optimizer: str = "adamw"
    lr: Annotated[float, Gt(0), Le(100)] = 2e-3
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0), Le(10)] = 0.05
    schedule: Literal["cosine", "linear", "step", "none"] = "cosine"
    warmup_epochs: Annotated[float, Ge(0), Le(1_000)] = 1
    warmup_lr: Annotated[float, Ge(0), Le(100)] = 1e-6
    min_lr: Annotated[float, Ge(0), Le(100)] = 1e-5
    cooldown_epochs: Annotated[int, Ge(0), Le(1_000)] = 0
    clip_grad: Annotated[float, Gt(0)] | None = None
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1
    mixup: Annotated[float, Ge(0), Le(10)] = 0.0
    cutmix: Annotated[float, Ge(0), Le(10)] = 0.0
    mixup_prob: Annotated[float, Ge(0), Le(1)] = 1.0
    mixup_switch_prob: Annotated[float, Ge(0), Le(1)] = 0.5
    auto_augment: str | None = None
    random_erasing: Annotated[float, Ge(0), Le(1)] = 0.0
    hflip: Annotated[float, Ge(0), Le(1)] = 0.5
    crop: Literal["random-resized", "pad", "none"] = "pad"
    crop_scale: tuple[Annotated[float, Gt(0), Le(1)], Annotated[float, Gt(0), Le(1)]] = (0.08, 1.0)
    color_jitter: Annotated[float, Ge(0), Le(1)] = 0.0
    train_interpolation: Literal["random", "bilinear", "bicubic"] | None = None
    drop_path: Annotated[float, Ge(0), Lt(1)] = 0.0
    drop_rate: Annotated[float, Ge(0), Lt(1)] = 0.0
    ema_decay: Annotated[float, Gt(0), Lt(1)] | None = None
    teacher: str | None = None
    task_loss_weight: Annotated[float, Ge(0), Le(100)] = 1.0
    distill_loss_weight: Annotated[float, Ge(0), Le(100)] = 1.0
    distill_temperature: Annotated[float, Gt(0), Le(100)] = 1.0
    initialization: Literal["official", "timm", "identity"] = "official"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How much is spent on judging a candidate; what a proxy changes against a full training.

    Attributes:
        name: as in the study file; "proxy" unless said otherwise.
        resolution: of the images of training and validation; latency is measured at the space's.
        epochs: overrides the recipe's; None keeps it.
        samples: training images used, drawn with the study's seed, equally from every class; None for all.
        validation_samples: validation images used, likewise.
        stem_stride: the network's while it is judged; the deployed network's is 2.
        crop_pct: share of the resized validation image's side that its centre crop keeps; timm's protocol for
            ImageNet is 0.875.
        recipe: name of a shipped recipe or path of a recipe file, as written.
        precision: number format of the forward pass; the two of 16 bits are for GPUs, where a study that says none
            takes "bfloat16".
        accumulate: micro-batches per step, where a recipe's batch does not fit a GPU.
        time_limit_s: seconds after which the candidate fails; None for no limit.
        weights: with which every training begins, as `starsearch train --weights` takes them; once they are read, their
            name and digest. None for new ones.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str = "proxy"
    resolution: Annotated[Resolution, Between(8, 1024)] = 32
    epochs: Annotated[int, Ge(1), Le(10_000)] | None = None
    samples: Annotated[int, Ge(1)] | None = None
    validation_samples: Annotated[int, Ge(1)] | None = None
    stem_stride: Literal[1, 2] = 2
    crop_pct: Annotated[float, Gt(0), Le(1)] = 1.0
    recipe: str = "proxy"
    time_limit_s: Annotated[float, Gt(0)] | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    accumulate: Annotated[int, Ge(1), Le(65_536)] = 1
    weights: str | None = field(default=None, repr=False)  # not in the words of older checkpoints

    def scaled(self, resolution: Resolution, of: Resolution) -> Fidelity:
        """Return it for a network deployed at `resolution`, where its own is meant for one that is deployed at `of`.

        A proxy at 32 px of a space of 224 px trains a network of 160 px at 23, each in the shape it is deployed in.
        """
        if resolution == of:
            return self
        length = max(sides(self.shaped(of).resolution)) * max(sides(resolution)) / max(sides(of))
        return replace(self, resolution=_in_shape(resolution, length))

    def shaped(self, like: Resolution) -> Fidelity:
        """Return it at about as many pixels in the shape of `like`."""
        if _in_shape(like, max(sides(self.resolution))) == self.resolution:
            return self
        length = max(sides(like)) * math.sqrt(area(self.resolution) / area(like))
        return replace(self, resolution=_in_shape(like, length))


def _in_shape(resolution: Resolution, length: float) -> Resolution:
    """Return the resolution of this shape whose longer side is `length`, and whose shorter one is at least 8."""
    shorter, longer = sorted(sides(resolution))
    longest = max(round(length), math.ceil(8 * longer / shorter))
    height, width = (round(side * longest / longer) for side in sides(resolution))
    return of_sides(height, width)


def with_batch_size(recipe: Recipe, batch_size: int) -> Recipe:
    """Return the recipe with another batch and its learning rates by the linear rule (Goyal et al. 2017, section 2.1).

    `lr` and `min_lr` grow as the batch does, so the schedule as a whole; `warmup_lr` stays, since the warm-up begins
    at a small rate whatever the batch (their section 2.2).
    """
    scale = batch_size / recipe.batch_size
    return replace(recipe, batch_size=batch_size, lr=recipe.lr * scale, min_lr=recipe.min_lr * scale)


def value_text(value: Any) -> str:
    """Return a value of a recipe in words, no digit lost: 0.9998 is not 1."""
    if value is None:
        return "none"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def changed_fields(recipe: Recipe, base: Recipe) -> Mapping[str, Any]:
    """Return the fields of `recipe` that differ from `base`, by name."""
    return {name: getattr(recipe, name) for name in Recipe.__slots__ if getattr(recipe, name) != getattr(base, name)}
