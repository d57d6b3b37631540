"""Networks whose outputs can be compared, as tests of every format need them."""

from __future__ import annotations

import torch

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
