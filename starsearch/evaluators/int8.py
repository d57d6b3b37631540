"""What a trained network achieves in 8-bit integers: its own top-1, through ONNX Runtime, and its own latency."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from starsearch.data import DataSet
from starsearch.errors import EvaluationError, ExportError
from starsearch.evaluators.latency import without_measuring
from starsearch.families.family import lower
from starsearch.measurement import Measurement, accuracy_measurement
from starsearch.objective import INT8_LATENCY
from starsearch.progress import Progress, mapped, scaled
from starsearch.recipe import Fidelity
from starsearch.resolution import Resolution

if TYPE_CHECKING:
    import torch

    from starsearch.data.batches import Batches
    from starsearch.families.network import Network
    from starsearch.latency.reference import Reference

T = TypeVar("T")

CALIBRATION_IMAGES = 256
INT8_TOP1 = "int8_top1_percent"
_BATCH_SIZE = 64  # images decoded at once; the network takes one at a time


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Training images as the network is validated with them: not augmented, normalised.

    Iterating yields (1, 3, resolution, resolution) float32 arrays; more than once if need be.
    """

    batches: Batches

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for images, _ in self.batches:
            yield from np.split(np.ascontiguousarray(images.numpy()), len(images))


def calibration_images(
    data: DataSet, *, resolution: Resolution, seed: int, samples: int = CALIBRATION_IMAGES
) -> Generator[Progress, None, CalibrationImages]:
    """Yield progress; return training images to calibrate an int8 network with, equally many of every class."""
    from starsearch.data.batches import validation_batches
    from starsearch.data.preprocessing import Preprocessing

    # Training images without augmentation are what validation makes of them.
    plain = replace(data, validation=data.train)
    preprocessing = Preprocessing(mean=data.mean, std=data.std, resolution=resolution, crop_pct=1.0)
    batches = validation_batches(plain, preprocessing, samples=samples, seed=seed, batch_size=_BATCH_SIZE)
    return CalibrationImages((yield from _as_progress(batches, "int8 calibration")))


def measure_onnx_top1(
    onnx_bytes: bytes, *, data: DataSet, fidelity: Fidelity, seed: int
) -> Generator[Progress, None, Measurement]:
    """Yield progress; return `int8_top1_percent` on the fidelity's validation images, through ONNX Runtime.

    The network takes one image at a time; the training's `seed` draws the images.
    """
    return (yield from _as_progress(_validate(onnx_bytes, data, fidelity, seed), "int8 validation"))


def _validate(onnx_bytes: bytes, data: DataSet, fidelity: Fidelity, seed: int) -> Generator[float, None, Measurement]:
    import torch

    from starsearch.data.batches import validation_batches
    from starsearch.data.preprocessing import Preprocessing
    from starsearch.latency.backends.onnxruntime import build_session
    from starsearch.training.evaluate import count_hits

    batches = yield from validation_batches(
        data,
        Preprocessing.of(data, fidelity),
        samples=fidelity.validation_samples,
        seed=seed,
        batch_size=_BATCH_SIZE,
    )
    session = build_session(onnx_bytes)
    (name,) = (node.name for node in session.get_inputs())

    def predict(images: torch.Tensor) -> torch.Tensor:
        singles = np.split(np.ascontiguousarray(images.numpy()), len(images))
        return torch.from_numpy(np.concatenate([session.run(None, {name: image})[0] for image in singles]))

    top1, _, count = (yield from count_hits(predict, batches)).tolist()
    return accuracy_measurement(INT8_TOP1, 100 * top1 / count, num_images=count)


def evaluate_int8(
    model: Network,
    *,
    data: DataSet,
    fidelity: Fidelity,
    resolution: Resolution,
    reference: Reference | None,
    seed: int,
    samples: int = CALIBRATION_IMAGES,
) -> Generator[Progress, None, tuple[Measurement, ...]]:
    """Quantise a trained network; yield progress; return its top-1, file size and, with a reference, latency.

    Accuracy is that of the network as it was trained (the fidelity's resolution, the model's stem stride), calibrated
    on training images. Latency is that of the deployed network (`resolution`, the published stem), on the scale of the
    float32 latencies. A network that cannot be quantised fails as a candidate.
    """
    from starsearch.export.formats.onnx_int8 import build_int8_onnx, with_image_size
    from starsearch.export.weights import state_dict_arrays
    from starsearch.latency.lock import computing
    from starsearch.latency.measure import MeasureSpec, measure

    calibration = calibration_images(data, resolution=fidelity.resolution, seed=seed, samples=samples)
    images = yield from scaled(calibration, 0.0, 0.3)
    layers = model.lower(resolution=fidelity.resolution)
    try:
        with computing():
            graph = build_int8_onnx(layers, state_dict_arrays(model), images=images)
    except ExportError as error:
        raise EvaluationError(str(error)) from error
    accuracy = measure_onnx_top1(graph, data=data, fidelity=fidelity, seed=seed)
    size = Measurement(name="int8_file_size_mb", value=len(graph) / 1e6)
    measured = [(yield from scaled(accuracy, 0.3, 0.8)), size]
    if reference is not None:
        stem = lower(model.architecture, resolution=resolution)[0]
        deployed = with_image_size(graph, resolution=resolution, stride=stem.stride)
        spec = MeasureSpec.like("onnxruntime-cpu", reference.device, seed=seed, reference=reference)
        timing = mapped(measure(deployed, spec), lambda progress: replace(progress, stage="int8 latency"))
        measured.append((yield from scaled(timing, 0.8, 1.0)).as_measurement(INT8_LATENCY))
    return tuple(measured)


def _as_progress(fractions: Generator[float, None, T], stage: str) -> Generator[Progress, None, T]:
    """The same generator, its fractions as a stage's progress, and nothing measured on this machine meanwhile."""
    return mapped(without_measuring(fractions), lambda fraction: Progress(fraction=fraction, stage=stage))
