"""The network of a training: built, begun with given weights, and taken out of it again."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from starsearch.data import DataSet
from starsearch.families.family import Architecture
from starsearch.families.network import Network, build_model
from starsearch.recipe import Fidelity, Recipe
from starsearch.training.hardware import Hardware
from starsearch.training.transfer import transfer


def build_network(
    architecture: Architecture,
    data: DataSet,
    recipe: Recipe,
    fidelity: Fidelity,
    hardware: Hardware,
    initial: Mapping[str, torch.Tensor] | None,
) -> Network:
    """Return the network on its device in `channels_last`, with the initial weights as far as they go (`transfer`).

    New weights are drawn from torch's global random state; so are, beside initial ones, a head of other classes and
    further blocks, which begin as the identity.
    """
    num_classes = len(data.classes)
    model = build_model(
        architecture,
        num_classes=num_classes,
        drop_rate=recipe.drop_rate,
        drop_path_rate=recipe.drop_path,
        stem_stride=fidelity.stem_stride,
        initialization=recipe.initialization if initial is None else "identity",
    )
    if initial is not None:
        is_own = architecture.family == "timm"  # the fidelity below has trained it
        ours = model.state_dict()
        model.load_state_dict(initial if is_own else transfer(architecture, initial, ours, num_classes=num_classes))
    if hardware.sync_batch_norm and hardware.world_size > 1:
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, below the model itself
    return model.to(hardware.device).to(memory_format=torch.channels_last)


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
