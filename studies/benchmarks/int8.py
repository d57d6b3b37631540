"""Networks in 8-bit integers: their time by float32's, and their top-1 beside float32's on trained networks.

    python studies/benchmarks/int8.py [--study STUDY --data DATA] [--variants] [--out-dir FOLDER]

Times: S1 and S4 at 224 pixels, int8 and float32 in pairs, in several new sessions each. Top-1, always through ONNX
Runtime on the same validation images: every network of a study whose weights were kept. With `--variants` also other
ways to quantise: full 8-bit weights, signed activations, ranges by percentile or entropy. Without VNNI or a like
instruction products of 8-bit weights saturate, so the processor is part of the result.
"""

from __future__ import annotations

import logging
from functools import partial
from unittest import mock

import numpy as np
import torch
from harness import collected, read_options, time_pair
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

from starsearch.data import open_data
from starsearch.evaluators.int8 import calibration_images, measure_onnx_top1
from starsearch.export.formats.onnx_int8 import build_int8_onnx
from starsearch.export.onnx import build_onnx
from starsearch.export.weights import random_weights, state_dict_arrays
from starsearch.families.family import lower
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.paired import DEFAULT_LIMITS
from starsearch.progress import follow
from starsearch.records.table import load_study
from starsearch.training.weight_file import load_weights

PERCENTILE = {"calibrate_method": CalibrationMethod.Percentile, "extra_options": {"CalibPercentile": 99.99}}
VARIANTS = {  # what differs from `build_int8_onnx`
    "unsigned activations, 7-bit weights, min-max": {},
    "unsigned activations, 8-bit weights, min-max": {"reduce_range": False},
    "signed activations, 7-bit weights, min-max": {"activation_type": QuantType.QInt8},
    "unsigned activations, 7-bit weights, percentile": PERCENTILE,
    "unsigned activations, 7-bit weights, entropy": {"calibrate_method": CalibrationMethod.Entropy},
}


def times(sessions):
    """A row a session: the int8 network against the float32 one, random weights."""
    for name in ("starnet_s1", "starnet_s4"):
        rng = np.random.default_rng(0)
        layers = lower(parse_architecture(name))
        weights = random_weights(layers, rng)
        images = [rng.standard_normal((1, 3, 224, 224), dtype=np.float32) for _ in range(4)]
        graphs = build_int8_onnx(layers, weights, images=images), build_onnx(layers, weights)
        for session in range(sessions):
            paired = time_pair(graphs)
            low, high = paired.interval.low, paired.interval.high
            row = {"network": name, "session": session, "int8_by_float32": paired.ratio, "low": low, "high": high}
            yield row | {"pairs": paired.pairs}


def quantized(layers, weights, images, changes):
    """What `build_int8_onnx` makes with other options of ONNX Runtime's quantiser."""
    changed = lambda *arguments, **options: quantize_static(*arguments, **(options | changes))  # noqa: E731
    with mock.patch.object(quantization, "quantize_static", changed):
        return build_int8_onnx(layers, weights, images=images)


def top1s(options):
    """A row a network and way to quantise: top-1 of int8 and float32 on the same images."""
    data, folder = open_data(options.data), options.study
    fidelity = load_study(f"sqlite:///{folder}/study.db", folder.name).spec.fidelity
    for path in sorted((folder / "weights").glob("*.safetensors"), key=lambda path: int(path.stem.split("-")[-1])):
        model = load_weights(path)
        layers, weights = model.lower(resolution=fidelity.resolution), state_dict_arrays(model)
        images = list(follow(calibration_images(data, resolution=fidelity.resolution, seed=0)))
        top1 = partial(measure_onnx_top1, data=data, fidelity=fidelity, seed=0)
        float32 = build_onnx(layers, weights)
        found = follow(top1(float32))
        for name, changes in list(VARIANTS.items())[: None if options.variants else 1]:
            graph = quantized(layers, weights, images, changes)
            yield {
                "data": data.name,
                "network": format_architecture(model.architecture),
                "images": found.runs,
                "variant": name,
                "top1_float32_percent": found.value,
                "top1_int8_percent": follow(top1(graph)).value,
                "ms_by_float32": time_pair((graph, float32), DEFAULT_LIMITS).ratio,
            }


if __name__ == "__main__":
    flags = {"sessions": 3, "study": None, "data": "digits", "variants": False, "out_dir": None}
    options = read_options(__doc__, out=False, **flags)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    collected(times(options.sessions), options.out_dir and options.out_dir / "int8_time.csv")
    if options.study:
        collected(top1s(options), options.out_dir and options.out_dir / "int8_top1.csv")
