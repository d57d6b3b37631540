"""How long Core ML conversions take, how large the packages are, and what of them is verified.

S1–S4 and random networks of spaces/starnet.yaml, each with random weights, in half and in single precision, as a
classifier of 1,000 classes with ImageNet's normalisation. Written: coreml_conversion.csv, a row a network and
precision. Seconds are of one process, coremltools imported: planning and converting (`convert_s`, and of it on the
processor `convert_cpu_s`, which does not grow when other processes compute), and saving, reading back and comparing
every operation and weight (`verify_s`). The peer, with --peer, is coremltools' own way: torch.jit.trace and ct.convert
(`trace_cpu_s`), and how many batch norms that leaves (`trace_batch_norms`).

    python studies/benchmarks/latency/coreml_conversion.py
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from starsearch.data.preprocessing import Preprocessing
from starsearch.export import build_coreml, random_weights
from starsearch.export.coreml_library import load_coremltools
from starsearch.export.coreml_program import PRECISIONS, Precision, plan_program
from starsearch.export.coreml_reading import compare_with_plan
from starsearch.families.family import Architecture, count_params, lower, presets
from starsearch.families.text import format_architecture
from starsearch.space import SearchSpace
from starsearch.study.space_file import load_space

RESOLUTION = 224
NUM_CLASSES = 1000
PUBLISHED = ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4")
COLUMNS = [
    "network",
    "precision",
    "operations",
    "params_millions",
    "package_mb",
    "convert_s",
    "convert_cpu_s",
    "verify_s",
    "trace_cpu_s",
    "trace_batch_norms",
]


def draw_networks(space: SearchSpace, num_random: int, seed: int) -> dict[str, Architecture]:
    """The published networks by their names, and random ones by their text."""
    drawn = space.sample_architectures(num_random, seed)
    return {name: presets()[name] for name in PUBLISHED} | {format_architecture(one): one for one in drawn}


def convert(name: str, architecture: Architecture, precision: Precision, folder: Path) -> dict[str, object]:
    """One row of the table."""
    layers = lower(architecture, resolution=RESOLUTION, num_classes=NUM_CLASSES)
    weights = random_weights(layers, np.random.default_rng(0))
    class_names = [str(number) for number in range(NUM_CLASSES)]
    package = folder / "model.mlpackage"
    begin, begin_cpu = time.perf_counter(), time.process_time()
    model = build_coreml(layers, weights, precision=precision, class_names=class_names)
    converted, converted_cpu = time.perf_counter(), time.process_time()
    model.save(str(package))
    planned = plan_program(layers, weights, precision=precision, preprocessing=Preprocessing(), with_probabilities=True)
    compare_with_plan(package, planned, class_names=class_names)
    verified = time.perf_counter()
    size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
    return {
        "network": name,
        "precision": precision,
        "operations": len(planned),
        "params_millions": f"{count_params(architecture) / 1e6:.2f}",
        "package_mb": f"{size / 1e6:.2f}",
        "convert_s": f"{converted - begin:.2f}",
        "convert_cpu_s": f"{converted_cpu - begin_cpu:.2f}",
        "verify_s": f"{verified - converted:.2f}",
    }


def trace(architecture: Architecture) -> dict[str, object]:
    """The peer's cells: coremltools' own way to a package in half precision; its normalisation is left out."""
    import coremltools
    import torch

    from starsearch.families.network import build_model

    model = build_model(architecture, num_classes=NUM_CLASSES).eval()
    shape = (1, 3, RESOLUTION, RESOLUTION)
    begin = time.process_time()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        traced = coremltools.convert(
            torch.jit.trace(model, torch.zeros(shape)),
            inputs=[coremltools.ImageType(name="image", shape=shape)],
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS16,
            skip_model_load=True,
        )
    took_s = time.process_time() - begin
    (block,) = traced.get_spec().mlProgram.functions["main"].block_specializations.values()
    batch_norms = sum(operation.type == "batch_norm" for operation in block.operations)
    return {"trace_cpu_s": f"{took_s:.2f}", "trace_batch_norms": batch_norms}


def print_summary(rows: list[dict[str, object]]) -> None:
    for precision in PRECISIONS:
        of_precision = [row for row in rows if row["precision"] == precision]
        seconds = [float(str(row["convert_s"])) for row in of_precision]
        cpu = [float(str(row["convert_cpu_s"])) for row in of_precision]
        verify = [float(str(row["verify_s"])) for row in of_precision]
        sizes = [float(str(row["package_mb"])) for row in of_precision]
        print(
            f"{precision}: {len(of_precision)} networks, converted in {statistics.median(seconds):.2f} s (median), "
            f"{max(seconds):.2f} s (slowest), on the processor {statistics.median(cpu):.2f} and {max(cpu):.2f} s; "
            f"verified in {statistics.median(verify):.2f} s, {max(verify):.2f} s; "
            f"{min(sizes):.1f} to {max(sizes):.1f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", type=Path, default=Path("spaces/starnet.yaml"))
    parser.add_argument("--networks", type=int, default=20, help="random networks beside S1–S4")
    parser.add_argument("--peer", action="store_true", help="time coremltools' own way on S1–S4 as well")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    begin = time.perf_counter()
    load_coremltools()
    print(f"coremltools imported in {time.perf_counter() - begin:.1f} s")
    networks = draw_networks(load_space(arguments.space), arguments.networks, arguments.seed)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, architecture in networks.items():
            for precision in PRECISIONS:
                rows.append(convert(name, architecture, precision, Path(folder)))
                if arguments.peer and name in PUBLISHED and precision == "fp16":
                    rows[-1] |= trace(architecture)
                print("  ".join(f"{rows[-1].get(column, '')!s:>8}" for column in COLUMNS[1:] + COLUMNS[:1]), flush=True)
    print_summary(rows)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
