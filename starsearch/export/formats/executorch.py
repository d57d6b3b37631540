"""ExecuTorch (.pte), in float32, with XNNPACK: PyTorch's own runtime for phones and boards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starsearch.export.format import TrainedNetwork
from starsearch.export.runtime import runtime_format


def convert(_: TrainedNetwork, model: Any, image: Any, path: Path) -> None:
    """Write the program, its convolutions handed over to XNNPACK."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(torch.export.export(model, (image,)), partitioner=[XnnpackPartitioner()])
    path.write_bytes(edge.to_executorch().buffer)


FORMAT = runtime_format(
    name="executorch",
    about="ExecuTorch's .pte with XNNPACK, in float32",
    file="model.pte",
    needs=("executorch", "executorch"),
    convert=convert,
)
