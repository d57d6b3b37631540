"""The network of a training: built, begun with given weights, and taken out of it again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch

from starsearch.data import DataSet
from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture
from starsearch.families.network import Network, build_model
from starsearch.recipe import Fidelity, Recipe
from starsearch.training.hardware import Hardware


def build_network(
    architecture: Architecture,
    data: DataSet,
    recipe: Recipe,
    fidelity: Fidelity,
    hardware: Hardware,
    initial: Mapping[str, torch.Tensor] | None,
) -> Network:
    """Return the network on its device in `channels_last`, with the initial weights if there are any.

    New weights are drawn from torch's global random state; so is the head if the initial weights have another number
    of classes, or none, of which a warning tells.
    """
    model = build_model(
        architecture,
        num_classes=len(data.classes),
        drop_rate=recipe.drop_rate,
        drop_path_rate=recipe.drop_path,
        stem_stride=fidelity.stem_stride,
        initialization=recipe.initialization,
    )
    if initial is not None:
        model.load_state_dict(_fitting(model, initial, data))
    if hardware.sync_batch_norm and hardware.world_size > 1:
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, below the model itself
    return model.to(hardware.device).to(memory_format=torch.channels_last)


def _fitting(model: Network, initial: Mapping[str, torch.Tensor], data: DataSet) -> Mapping[str, torch.Tensor]:
    """Return the initial weights, with the model's own head if they have another or none."""
    ours = model.state_dict()
    differing = [
        name
        for name in dict.fromkeys((*ours, *initial))
        if name not in ours or name not in initial or ours[name].shape != initial[name].shape
    ]
    if not differing:
        return initial
    if set(differing) <= {"head.weight", "head.bias"}:
        theirs = f"{len(initial['head.weight'])} classes" if "head.weight" in initial else "other classes"
        warnings.warn(
            f"The head is made anew for the {len(data.classes)} classes of {data.name!r}: the weights to begin with "
            f"are of {theirs}.",
            stacklevel=2,
        )
        return {**initial, "head.weight": ours["head.weight"], "head.bias": ours["head.bias"]}
    raise EvaluationError(
        f"The weights to begin with are of another network: {len(differing)} tensors are missing, too many or of "
        f"another shape, first {differing[0]!r}."
    )


def plain_network(model: Network) -> Network:
    """Return the network on the CPU in eval mode, with torch's plain batch norms."""
    if not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules()):
        return model.to("cpu").eval()
    with torch.random.fork_rng(devices=[]):
        plain = build_model(
            model.architecture, num_classes=model.num_classes, in_chans=model.in_chans, stem_stride=model.stem_stride
        )
    plain.load_state_dict(model.state_dict())
    return plain.eval()
