"""A device of known costs, whose networks' latencies are computed, and profiles fitted to it."""

import random

import numpy as np

from starsearch.families.family import Architecture, lower
from starsearch.families.starnet import ACTIVATION_PLACEMENTS
from starsearch.families.text import format_architecture
from starsearch.latency.device import Device
from starsearch.latency.prediction.calibration import fit_profile
from starsearch.latency.prediction.imported import Sample
from starsearch.latency.prediction.terms import NetworkTerms

RESOLUTION = 224
DEVICE = Device(processor="Imagined X1", cores=4, threads=1, runtime="onnxruntime 1.0", optimization="all")


def draw_networks(count, *, seed):
    """Networks of the main space's ranges."""
    rng = random.Random(seed)
    return [
        Architecture.of(
            embed_dim=rng.randrange(16, 49, 4),
            depths=(rng.randint(1, 4), rng.randint(1, 4), rng.randint(2, 12), rng.randint(1, 6)),
            ops=tuple(rng.choice(("star", "sum")) for _ in range(4)),
            activation=rng.choice(ACTIVATION_PLACEMENTS),
            mlp_ratio=rng.randint(2, 6),
            kernel_size=rng.choice((3, 5, 7)),
        )
        for _ in range(count)
    ]


def run_on_imagined_device(architecture, *, slowdown=1.0, resolution=RESOLUTION):
    """Milliseconds by kind of layer: 25 G multiply-adds/s in vectors of 8, 20 GB/s, 4 µs a launch; sums are free."""
    costs = {}
    network = NetworkTerms.of(lower(architecture, resolution=resolution), vector_width=8)
    for kind, terms in network.by_kind.items():
        quantities = {name.rsplit(".", 1)[1]: value for name, value in terms.items()}
        ms = quantities.get("mmacs", 0) / 25 + 0.004 * quantities.get("fixed", 0)
        ms += (quantities.get("mbytes", 0) + quantities.get("weight_mbytes", 0)) / 20
        if kind not in ("sum", "residual"):
            costs[kind] = ms * (slowdown if "depthwise" in kind else 1.0)
    return costs


def measure_imagined(architectures, *, noise=0.005, with_shares=True, slowdown=1.0, seed=0):
    """Samples as a calibration would have them."""
    rng = np.random.default_rng(seed)
    samples = []
    for architecture in architectures:
        costs = run_on_imagined_device(architecture, slowdown=slowdown)
        total = sum(costs.values())
        samples.append(
            Sample(
                architecture=format_architecture(architecture),
                ms=float(total * np.exp(noise * rng.standard_normal())),
                pairs=40,
                spread_ms=noise * total,
                shares={kind: ms / total for kind, ms in costs.items()} if with_shares else {},
            )
        )
    return samples


def make_profile(count=60, *, name="imagined", **measured):
    """A profile of the imagined device, fitted to random networks."""
    samples = measure_imagined(draw_networks(count, seed=1), **measured)
    return fit_profile(
        samples, name=name, device=DEVICE, backend="onnxruntime-cpu", resolution=RESOLUTION, reference=None
    )
