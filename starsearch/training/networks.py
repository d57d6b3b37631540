"""The network of a training: built, begun with given weights, and taken out of it again."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from starsearch.architecture import Architecture
from starsearch.data import DataSet
from starsearch.errors import EvaluationError
from starsearch.models import StarNet, build_model
from starsearch.recipe import Fidelity, Recipe
from starsearch.training.hardware import Hardware


def build_network(
    architecture: Architecture,
    data: DataSet,
    recipe: Recipe,
    fidelity: Fidelity,
    hardware: Hardware,
    initial: Mapping[str, torch.Tensor] | None,
) -> StarNet:
    """The network on its device in `channels_last`, new (from torch's global random state) or with the initial weights.

    Raises:
        EvaluationError: the initial weights are of another network, or of a head with other classes.
    """
    model = build_model(
        architecture,
        num_classes=len(data.classes),
        in_chans=data.in_chans,
        drop_rate=recipe.drop_rate,
        drop_path_rate=recipe.drop_path,
        stem_stride=fidelity.stem_stride,
        initialization=recipe.initialization,
    )
    if initial is not None:
        _check_fits(model, initial, data)
        model.load_state_dict(initial)
    if hardware.sync_batch_norm and hardware.world_size > 1:
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, below the model itself
    return model.to(hardware.device).to(memory_format=torch.channels_last)


def _check_fits(model: StarNet, initial: Mapping[str, torch.Tensor], data: DataSet) -> None:
    """Refuse weights of another network, or with a head of other classes."""
    ours = model.state_dict()
    differing = [
        name
        for name in dict.fromkeys((*ours, *initial))
        if name not in ours or name not in initial or ours[name].shape != initial[name].shape
    ]
    if not differing:
        return
    if set(differing) <= {"head.weight", "head.bias"} and "head.weight" in initial:
        raise EvaluationError(
            f"The weights to begin with are of a head with {len(initial['head.weight'])} classes; {data.name!r} has "
            f"{len(data.classes)}. Give weights that were trained on these classes, or none."
        )
    raise EvaluationError(
        f"The weights to begin with are of another network: {len(differing)} tensors are missing, too many or of "
        f"another shape, first {differing[0]!r}."
    )


def plain_network(model: StarNet) -> StarNet:
    """The network on the CPU in eval mode, its batch norms torch's plain ones."""
    if not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules()):
        return model.to("cpu").eval()
    with torch.random.fork_rng(devices=[]):
        plain = build_model(
            model.architecture, num_classes=model.num_classes, in_chans=model.in_chans, stem_stride=model.stem_stride
        )
    plain.load_state_dict(model.state_dict())
    return plain.eval()
