"""Networks whose outputs can be compared, as tests of every format need them."""

from pathlib import Path
from typing import Any

import torch

from starsearch.data.preprocessing import Preprocessing
from starsearch.export.format import TrainedNetwork, write_format
from starsearch.export.formats import formats
from starsearch.families.network import Network, build_model
from starsearch.families.text import parse_architecture


def settled_model(text: str, *, resolution: int = 64, batches: int = 4, **options: object) -> Network:
    """A network with random weights and settled batch norms.

    Without a few batches in training mode a star network is chaotic: rounding errors grow to the logits' own size.
    Norms also get weights and biases of their own, so that folding them has something to do.
    """
    torch.manual_seed(0)
    model = build_model(parse_architecture(text), **options)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if name.startswith("norm.") or ".bn." in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.train()
    with torch.no_grad():
        for _ in range(batches):
            model(torch.randn(8, model.in_chans, resolution, resolution))
    return model.eval()


def exportable(model: Network, **facts: Any) -> TrainedNetwork:
    """Return a network as `starsearch export` hands it to a format; images of 32 pixels unless said otherwise."""
    prepared = {"preprocessing": Preprocessing(resolution=32)}
    return TrainedNetwork(**{"model": model, "source": "a test", **prepared, **facts})


def write(model: Network, name: str, folder: Path, **facts: Any) -> list[str]:
    """Export a network in one format; return the notes."""
    return write_format(exportable(model, **facts), formats()[name], folder)[1]
