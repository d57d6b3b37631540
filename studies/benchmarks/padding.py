"""Channels padded to the vector width: what it gains at width 30, and that the choice never makes a network slower.

    python studies/benchmarks/padding.py [--networks 100] [--width-30 10] [--out padding.csv]

Three sets, drawn with a fixed seed: random networks of width 30; as many
networks of spaces/starnet.yaml as of the same ranges without alignment (any width, ratios in quarters). Each is timed
padded against plain as `starsearch export --format onnx` does it; where padding is chosen, what was chosen is timed
against the plain network once more, in new sessions and with other random numbers, so that the choice cannot have
picked its own luck. A network that is not padded is the plain one. Gates: at width 30 at least 1.2 times as fast;
no chosen network of the random ones more than 2 % slower in the fresh pairs.
"""

from __future__ import annotations

from itertools import islice
from statistics import median

import numpy as np
import yaml
from harness import collected, read_options, show, time_pair

from starsearch.export.onnx import build_onnx
from starsearch.export.verification import onnx_logits
from starsearch.export.weights import pad_weights, random_weights
from starsearch.families.family import lower
from starsearch.families.layers import pad_channels
from starsearch.families.text import format_architecture
from starsearch.latency.backends.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.device import vector_width
from starsearch.latency.padded import choose_padding
from starsearch.latency.paired import take_readings
from starsearch.progress import follow
from starsearch.resources import find_file
from starsearch.study.study_file import load_specs


def draw_sets(networks, of_width_30, seed):
    """The networks with the name of their set."""
    ranges = yaml.safe_load(find_file("starnet", "spaces").read_text(encoding="utf-8"))["dimensions"]
    unaligned = {"embed_dim": {"low": 16, "high": 48}, "mlp_ratio": {"each": {"low": 2, "high": 6, "step": 0.25}}}
    sets = (
        ("width 30", {"embed_dim": 30}, of_width_30),
        ("unaligned widths", unaligned, networks - networks // 2),
        ("spaces/starnet.yaml", {}, networks // 2),
    )
    for name, changes, count in sets:
        (spec,) = load_specs({"family": "starnet", "dimensions": ranges | changes})
        for architecture in islice(spec.space.sample_architectures(count, seed), count):
            yield name, architecture


def judge(architecture, *, multiple, seed):
    """Everything about one network, by column."""
    rng = np.random.default_rng([seed, 1])
    layers = lower(architecture)
    weights = random_weights(layers, rng)
    choice = follow(choose_padding(layers, weights, multiple=multiple, rng=rng))
    wide = pad_channels(layers, multiple=multiple)
    padded, plain = build_onnx(wide, pad_weights(layers, wide, weights)), build_onnx(layers, weights)
    fresh = time_pair((padded, plain), seed=[seed, 2]).ratio if choice.multiple else 1.0  # else it is the plain one
    images = np.random.default_rng(0).standard_normal((3, *layers[0].in_shape), dtype=np.float32)
    found, expected = onnx_logits(padded, images), onnx_logits(plain, images)
    return {
        "architecture": format_architecture(architecture),
        "plain_ms": median(take_readings(OnnxRuntimeTimer(plain, rng=rng), runs=10)),
        "padded_by_plain": choice.ratio,
        "padded": bool(choice.multiple),
        "speed_up": 1 / fresh,
        "logits_difference": float(np.abs(found - expected).max() / expected.std()),
    }


if __name__ == "__main__":
    options = read_options(__doc__, networks=100, width_30=10, multiple=vector_width(), seed=0)
    drawn = enumerate(draw_sets(options.networks, options.width_30, options.seed), start=options.seed)
    judged = ({"set": name} | judge(one, multiple=options.multiple, seed=number) for number, (name, one) in drawn)
    rows = collected(judged, options.out)
    by_set = rows.groupby("set", sort=False)
    table = by_set["speed_up"].agg(["size", "median", "min", "max"]).join(by_set["padded"].sum())
    show(table.join(by_set[["padded_by_plain", "logits_difference"]].max()))
