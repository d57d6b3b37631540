"""Networks in 8-bit integers: their time by float32's, and their top-1 beside float32's on trained networks.

    python studies/benchmarks/latency/int8.py [--study STUDY --data DATA] [--variants] [--out-dir FOLDER]

Times: S1 and S4 at 224 pixels, int8 and float32 in pairs, in several new sessions each. Top-1, always through ONNX
Runtime on the same validation images: networks trained here on the embedded digits (published ones, and one of each
activation placement), and, with `--study`, every network of a study whose weights were kept. With `--variants` also
other ways to quantise: full 8-bit weights, signed activations, ranges by percentile or entropy. Without VNNI or a
like instruction products of 8-bit weights saturate, so the processor is part of the result.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import itertools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from starsearch.data import DataSet, open_data
from starsearch.evaluators.int8 import calibration_images, measure_onnx_top1
from starsearch.export.formats.onnx_int8 import build_int8_onnx
from starsearch.export.onnx import INPUT_NAME, build_onnx
from starsearch.export.weights import random_weights, state_dict_arrays
from starsearch.families.family import lower
from starsearch.families.network import Network
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.backends.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.device import device_fingerprint
from starsearch.latency.paired import COPIES, Copies, PairLimits, measure_paired
from starsearch.progress import follow
from starsearch.recipe import Fidelity, Recipe
from starsearch.training import train
from starsearch.training.weight_file import load_weights

TIMED = ("starnet_s1", "starnet_s4")
DIGITS = Fidelity(name="digits", resolution=32)
TRAINED = ("starnet_s050", *(f"starnet:embed_dim=16,depths=1-1-3-1,activation={a}" for a in ("none", "both", "post")))
OURS = "unsigned activations, 7-bit weights, min-max"
TIME_COLUMNS = ["network", "session", "int8_by_float32", "low", "high", "pairs"]
TOP1_COLUMNS = ["data", "network", "images", "variant", "top1_float32_percent", "top1_int8_percent", "ms_by_float32"]


def time_int8(name: str, sessions: int) -> Iterator[dict[str, object]]:
    """A row a session: the int8 network against the float32 one, random weights."""
    rng = np.random.default_rng(0)
    layers = lower(parse_architecture(name))
    weights = random_weights(layers, rng)
    images = [rng.standard_normal((1, 3, 224, 224), dtype=np.float32) for _ in range(4)]
    graphs = build_int8_onnx(layers, weights, images=images), build_onnx(layers, weights)
    for session in range(sessions):
        timers = [Copies(partial(OnnxRuntimeTimer, graph, rng=rng), COPIES) for graph in graphs]
        limits = PairLimits(min_pairs=40, max_pairs=60, half_width=0.005)
        paired = follow(measure_paired(timers[0], timers[1], rng=rng, limits=limits))
        cells = (name, session, f"{paired.ratio:.4f}", f"{paired.interval.low:.4f}", f"{paired.interval.high:.4f}")
        yield dict(zip(TIME_COLUMNS, (*cells, paired.pairs), strict=True))


def quantize_otherwise(onnx_bytes: bytes, images: Sequence[np.ndarray], options: dict[str, Any]) -> bytes:
    """The float32 network through ONNX Runtime's quantiser with these options; its chatter swallowed."""
    from onnxruntime.quantization import QuantFormat, quantize_static

    class Reader:
        def __init__(self) -> None:
            self.images = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {INPUT_NAME: image}

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        model = onnx.load_from_string(onnx_bytes)
        quantize_static(model, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **options)
        return path.read_bytes()


def variants() -> dict[str, dict[str, Any]]:
    """Other ways to quantise, by name."""
    from onnxruntime.quantization import CalibrationMethod, QuantType

    unsigned = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    signed = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    percentile = {"calibrate_method": CalibrationMethod.Percentile, "extra_options": {"CalibPercentile": 99.99}}
    return {
        "unsigned activations, 8-bit weights, min-max": unsigned,
        "signed activations, 7-bit weights, min-max": signed | {"reduce_range": True},
        "unsigned activations, 7-bit weights, percentile": unsigned | percentile | {"reduce_range": True},
        "unsigned activations, 7-bit weights, entropy": unsigned
        | {"calibrate_method": CalibrationMethod.Entropy, "reduce_range": True},
    }


def judge(model: Network, data: DataSet, fidelity: Fidelity, *, with_variants: bool) -> Iterator[dict[str, object]]:
    """A row a way to quantise: top-1 of int8 and float32 on the same images."""
    layers = model.lower(resolution=fidelity.resolution)
    weights = state_dict_arrays(model)
    images = list(follow(calibration_images(data, resolution=fidelity.resolution, seed=0)))
    float32 = build_onnx(layers, weights)
    graphs = {OURS: build_int8_onnx(layers, weights, images=images)}
    for name, options in (variants() if with_variants else {}).items():
        graphs[name] = quantize_otherwise(float32, images, options)
    top1 = {name: top1_of(graph, data, fidelity) for name, graph in {"float32": float32, **graphs}.items()}
    for name, graph in graphs.items():
        rng = np.random.default_rng(0)
        timers = [Copies(partial(OnnxRuntimeTimer, one, rng=rng), COPIES) for one in (graph, float32)]
        ratio = follow(measure_paired(*timers, rng=rng)).ratio
        count = min(fidelity.validation_samples or data.num_validation, data.num_validation)
        cells = (data.name, format_architecture(model.architecture), count, name)
        cells += (f"{top1['float32']:.2f}", f"{top1[name]:.2f}", f"{ratio:.3f}")
        yield dict(zip(TOP1_COLUMNS, cells, strict=True))


def top1_of(graph: bytes, data: DataSet, fidelity: Fidelity) -> float:
    return follow(measure_onnx_top1(graph, data=data, fidelity=fidelity, seed=0))


def train_on_digits(text: str, data: DataSet, epochs: int) -> Network:
    recipe = Recipe(epochs=epochs, batch_size=64, hflip=0.0)
    return follow(train(parse_architecture(text), data=data, recipe=recipe, fidelity=DIGITS, seed=0)).model


def kept_networks(study: Path) -> Iterator[tuple[Network, Fidelity]]:
    """The networks whose weights a study has kept, with the fidelity they were trained at."""
    from starsearch.api.study_folder import place_of
    from starsearch.records import load_study

    place = place_of(str(study))
    fidelity = load_study(place.url, place.name).spec.fidelity
    for path in sorted((study / "weights").glob("*.safetensors"), key=lambda path: int(path.stem.split("-")[-1])):
        yield load_weights(path), fidelity


def write(path: Path | None, columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    if path is None:
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=3, help="new sessions in which S1 and S4 are timed")
    parser.add_argument("--epochs", type=int, default=8, help="of the trainings on digits; 0 for none")
    parser.add_argument("--study", type=Path, help="folder of a study with kept weights")
    parser.add_argument("--data", help="its data set")
    parser.add_argument("--networks", type=int, help="of the study, at most")
    parser.add_argument("--variants", action="store_true", help="quantise in other ways, too")
    parser.add_argument("--out-dir", type=Path, help="write int8_time.csv and int8_top1.csv there")
    arguments = parser.parse_args()
    if arguments.study and not arguments.data:
        parser.error("--study takes --data, the data set that its networks were trained on")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    print(device_fingerprint().text)
    times: list[dict[str, object]] = []
    for row in itertools.chain.from_iterable(time_int8(name, arguments.sessions) for name in TIMED):
        times.append(row)
        print("  ".join(map(str, row.values())), flush=True)
    write(arguments.out_dir and arguments.out_dir / "int8_time.csv", TIME_COLUMNS, times)
    tops: list[dict[str, object]] = []
    for model, data, fidelity in networks(arguments):
        for row in judge(model, data, fidelity, with_variants=arguments.variants):
            tops.append(row)
            print("  ".join(map(str, row.values())), flush=True)
        write(arguments.out_dir and arguments.out_dir / "int8_top1.csv", TOP1_COLUMNS, tops)


def networks(arguments: argparse.Namespace) -> Iterator[tuple[Network, DataSet, Fidelity]]:
    """The trained networks, on digits and of the study."""
    if arguments.epochs:
        digits = open_data("digits")
        for text in TRAINED:
            yield train_on_digits(text, digits, arguments.epochs), digits, DIGITS
    if arguments.study:
        data = open_data(arguments.data)
        for model, fidelity in itertools.islice(kept_networks(arguments.study), arguments.networks):
            yield model, data, fidelity


if __name__ == "__main__":
    main()
