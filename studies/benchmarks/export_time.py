"""Architecture to ONNX bytes: `starsearch.export.build_onnx` against `torch.onnx.export`, on random networks.

    python studies/benchmarks/export_time.py [--networks 100] [--peer-networks 5] [--out export_time.csv]

Networks are drawn from spaces/starnet.yaml with a fixed seed. Every one is built; on the first few, torch's two
exporters run too, one after the other on the same network. Outputs are compared in ONNX Runtime with the module's, by
the spread of its logits. Gates: median at most 100 ms, at least 50 times as fast as torch.onnx.export (with dynamo, its
default; the deprecated TorchScript exporter stands beside it), outputs within 1e-4.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from itertools import islice

import pandas as pd
import torch
from harness import read_options, show, write

from starsearch.export.onnx import build_onnx
from starsearch.export.verification import onnx_logits, random_images, relative_difference, torch_logits
from starsearch.export.weights import state_dict_arrays
from starsearch.families.family import lower, presets
from starsearch.families.network import build_model
from starsearch.resources import find_file
from starsearch.study.space_file import load_space

RESOLUTION = 224
OURS = "build_onnx"


def settle(model):
    """Two batches in training mode: without batch-norm statistics of its own a random star network is chaotic."""
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, 64, 64))
    return model.eval()


def export_by_torch(model, *, dynamo):
    """The bytes that torch writes, its chatter swallowed."""
    image, buffer = torch.zeros(1, 3, RESOLUTION, RESOLUTION), io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (image,), buffer, dynamo=dynamo, input_names=["input"], output_names=["logits"])
    return buffer.getvalue()


def measure(options):
    """A row a network and exporter."""
    architectures = load_space(find_file("starnet", "spaces")).sample_architectures(options.networks, options.seed)
    first = presets()["starnet_s1"]
    build_onnx(lower(first), state_dict_arrays(build_model(first)))  # imports onnx
    for number, architecture in enumerate(islice(architectures, options.networks)):
        torch.manual_seed(options.seed)
        model = settle(build_model(architecture))
        images = random_images(RESOLUTION)
        exporters = {OURS: lambda a=architecture, m=model: build_onnx(lower(a), state_dict_arrays(m))}
        if number < options.peer_networks:
            exporters["torch.onnx.export (dynamo)"] = lambda m=model: export_by_torch(m, dynamo=True)
            exporters["torch.onnx.export (TorchScript)"] = lambda m=model: export_by_torch(m, dynamo=False)
        for name, export in exporters.items():
            began = time.perf_counter()
            graph = export()
            took_ms = 1e3 * (time.perf_counter() - began)
            found, expected = onnx_logits(graph, images), torch_logits(model, images)
            difference = relative_difference(found, expected, what="ONNX Runtime")
            yield {"network": number, "exporter": name, "ms": took_ms, "difference": difference}


if __name__ == "__main__":
    options = read_options(__doc__, networks=100, peer_networks=5, seed=0, threads=1)
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    rows = pd.DataFrame(measure(options))
    ours = rows[rows["exporter"] == OURS].set_index("network")["ms"]
    rows["times_ours"] = rows["ms"] / rows["network"].map(ours)
    table = rows.groupby("exporter", sort=False).agg(
        networks=("ms", "size"),
        median_ms=("ms", "median"),
        slowest_ms=("ms", "max"),
        times_ours=("times_ours", "median"),
        worst_difference=("difference", "max"),
    )
    write(table, options.out, index=True)
    show(table)
