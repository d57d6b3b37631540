"""A program of torch.export, which torch alone loads: for servers, and for compilers that begin with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starsearch.export.format import TrainedNetwork
from starsearch.export.runtime import runtime_format


def convert(_: TrainedNetwork, model: Any, image: Any, path: Path) -> None:
    """Write the program."""
    import torch

    torch.export.save(torch.export.export(model, (image,)), path)


FORMAT = runtime_format(
    name="pt2", about="a program of torch.export", file="model.pt2", needs=("torch", "torch"), convert=convert
)
