"""Networks in 8-bit integers: their time by float32's, and their top-1 beside float32's on trained networks.

    python studies/benchmarks/latency/int8.py [--study STUDY --data DATA] [--variants] [--out-dir FOLDER]

Times: S1 and S4 at 224 pixels, int8 and float32 in pairs, in several new sessions each. Top-1, always through ONNX
Runtime on the same validation images: networks trained here on the embedded digits (published ones, and one of each
activation placement), and, with `--study`, every network of a study whose weights were kept. With `--variants` also
other ways to quantise: full 8-bit weights, signed activations, ranges by percentile or entropy. Without VNNI or a
like instruction products of 8-bit weights saturate, so the processor is part of the result.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import collected, read_options

from starsearch.data import open_data
from starsearch.evaluators.int8 import calibration_images, measure_onnx_top1
from starsearch.export.formats.onnx_int8 import build_int8_onnx
from starsearch.export.onnx import INPUT_NAME, build_onnx
from starsearch.export.weights import random_weights, state_dict_arrays
from starsearch.families.family import lower
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.backends.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.paired import COPIES, Copies, PairLimits, measure_paired
from starsearch.progress import follow
from starsearch.recipe import Fidelity, Recipe
from starsearch.records.table import load_study
from starsearch.training import train
from starsearch.training.weight_file import load_weights

DIGITS = Fidelity(name="digits", resolution=32)
TRAINED = ("starnet_s050", *(f"starnet:embed_dim=16,depths=1-1-3-1,activation={a}" for a in ("none", "both", "post")))
OURS = "unsigned activations, 7-bit weights, min-max"
UNSIGNED = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
VARIANTS = {
    "unsigned activations, 8-bit weights, min-max": UNSIGNED,
    "signed activations, 7-bit weights, min-max": UNSIGNED | {"activation_type": QuantType.QInt8, "reduce_range": True},
    "unsigned activations, 7-bit weights, percentile": UNSIGNED
    | {"calibrate_method": CalibrationMethod.Percentile, "extra_options": {"CalibPercentile": 99.99}}
    | {"reduce_range": True},
    "unsigned activations, 7-bit weights, entropy": UNSIGNED
    | {"calibrate_method": CalibrationMethod.Entropy, "reduce_range": True},
}


def time_pair(graphs, **limits):
    rng = np.random.default_rng(0)
    timers = [Copies(partial(OnnxRuntimeTimer, graph, rng=rng), COPIES) for graph in graphs]
    return follow(measure_paired(*timers, rng=rng, **limits))


def times(sessions):
    """A row a session: the int8 network against the float32 one, random weights."""
    for name in ("starnet_s1", "starnet_s4"):
        rng = np.random.default_rng(0)
        layers = lower(parse_architecture(name))
        weights = random_weights(layers, rng)
        images = [rng.standard_normal((1, 3, 224, 224), dtype=np.float32) for _ in range(4)]
        graphs = build_int8_onnx(layers, weights, images=images), build_onnx(layers, weights)
        for session in range(sessions):
            paired = time_pair(graphs, limits=PairLimits(min_pairs=40, max_pairs=60, half_width=0.005))
            low, high = paired.interval.low, paired.interval.high
            row = {"network": name, "session": session, "int8_by_float32": paired.ratio, "low": low, "high": high}
            yield row | {"pairs": paired.pairs}


def quantize_otherwise(float32, images, options):
    """The float32 network through ONNX Runtime's quantiser with these options; its chatter swallowed."""

    class Reader:
        batches = iter(images)

        def get_next(self):
            image = next(self.batches, None)
            return None if image is None else {INPUT_NAME: image}

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path, model = Path(folder) / "model.onnx", onnx.load_from_string(float32)
        quantize_static(model, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **options)
        return path.read_bytes()


def top1s(options):
    """A row a network and way to quantise: top-1 of int8 and float32 on the same images."""
    for model, data, fidelity in networks(options):
        layers, weights = model.lower(resolution=fidelity.resolution), state_dict_arrays(model)
        images = list(follow(calibration_images(data, resolution=fidelity.resolution, seed=0)))
        float32 = build_onnx(layers, weights)
        graphs = {OURS: build_int8_onnx(layers, weights, images=images)}
        if options.variants:
            graphs |= {name: quantize_otherwise(float32, images, how) for name, how in VARIANTS.items()}
        top1 = partial(measure_onnx_top1, data=data, fidelity=fidelity, seed=0)
        float32_percent = follow(top1(float32))
        for name, graph in graphs.items():
            yield {
                "data": data.name,
                "network": format_architecture(model.architecture),
                "images": min(fidelity.validation_samples or data.num_validation, data.num_validation),
                "variant": name,
                "top1_float32_percent": float32_percent,
                "top1_int8_percent": follow(top1(graph)),
                "ms_by_float32": time_pair((graph, float32)).ratio,
            }


def networks(options):
    """The trained networks, on digits and of the study."""
    digits, recipe = open_data("digits"), Recipe(epochs=options.epochs or 1, batch_size=64, hflip=0.0)
    for text in TRAINED if options.epochs else ():
        training = train(parse_architecture(text), data=digits, recipe=recipe, fidelity=DIGITS, seed=0)
        yield follow(training).model, digits, DIGITS
    if options.study:
        data, folder = open_data(options.data), options.study
        fidelity = load_study(f"sqlite:///{folder}/study.db", folder.name).spec.fidelity
        for path in sorted((folder / "weights").glob("*.safetensors"), key=lambda path: int(path.stem.split("-")[-1])):
            yield load_weights(path), data, fidelity


if __name__ == "__main__":
    flags = {"sessions": 3, "epochs": 8, "study": None, "data": "digits", "variants": False, "out_dir": None}
    options = read_options(__doc__, out=False, **flags)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    collected(times(options.sessions), options.out_dir and options.out_dir / "int8_time.csv")
    collected(top1s(options), options.out_dir and options.out_dir / "int8_top1.csv")
