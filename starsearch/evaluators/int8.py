"""What a trained network achieves in 8-bit integers: its own top-1, through ONNX Runtime, and its own latency."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from starsearch.data import DataSet
from starsearch.errors import EvaluationError, ExportError
from starsearch.evaluators.steps import without_measuring
from starsearch.measurement import Measurement, accuracy_measurement
from starsearch.objective import INT8_LATENCY
from starsearch.progress import Progress, mapped, scaled
from starsearch.recipe import Fidelity

if TYPE_CHECKING:
    from starsearch.data.batches import Batches
    from starsearch.families.network import Network
    from starsearch.latency.reference import Reference

T = TypeVar("T")

CALIBRATION_IMAGES = 256
INT8_TOP1 = "int8_top1_percent"
_BATCH_SIZE = 64  # of what is decoded at once; the network takes one image at a time
_DEPLOYED_STEM_STRIDE = 2


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
    data: DataSet, *, resolution: int, seed: int, samples: int = CALIBRATION_IMAGES
) -> Generator[Progress, None, CalibrationImages]:
    """Images to calibrate an int8 network with, equally many of every class; yields while they are decoded.

    Args:
        data: its training split is drawn from, so that validation stays unseen.
        resolution: of the network, in pixels.
        seed: of the draw.
        samples: how many.

    Raises:
        DataError: too many images are unreadable.
    """
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
    """`int8_top1_percent` on the validation images of the fidelity, through ONNX Runtime.

    Args:
        onnx_bytes: a network of one image of the fidelity's resolution.
        data: its validation split is judged by.
        fidelity: says the resolution and the number of images.
        seed: of the images' draw, the training's.

    Raises:
        EvaluationError: the runtime cannot run the network.
        DataError: too many images are unreadable.
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
    resolution: int,
    reference: Reference | None,
    seed: int,
    samples: int = CALIBRATION_IMAGES,
) -> Generator[Progress, None, tuple[Measurement, ...]]:
    """Quantise a trained network; yield progress; return `int8_top1_percent` and, with a reference, `int8_latency_ms`.

    Accuracy is that of the network as it was trained (the fidelity's resolution, the model's stem stride), calibrated
    on training images. Latency is that of the deployed network (`resolution`, the published stem), on the scale of the
    float32 latencies.

    Args:
        model: the trained network; it stays as it is.
        data: that it was trained on.
        fidelity: that it was trained at.
        resolution: at which it is deployed, in pixels.
        reference: the latency scale of this machine; None leaves latency out.
        seed: of the training, of the images' draw and of the order of the pairs.
        samples: images for calibration.

    Raises:
        EvaluationError: the network cannot be quantised or run.
        DataError: too many images are unreadable.
    """
    from starsearch.export.formats.onnx_int8 import with_image_size

    graph = yield from scaled(_quantize(model, data, fidelity, seed, samples), 0.0, 0.3)
    accuracy = measure_onnx_top1(graph, data=data, fidelity=fidelity, seed=seed)
    measured = [(yield from scaled(accuracy, 0.3, 0.8))]
    if reference is not None:
        deployed = with_image_size(graph, resolution=resolution, stem_stride=_DEPLOYED_STEM_STRIDE)
        measured.append((yield from scaled(_measure_latency(deployed, reference, seed), 0.8, 1.0)))
    return tuple(measured)


def _quantize(
    model: Network, data: DataSet, fidelity: Fidelity, seed: int, samples: int
) -> Generator[Progress, None, bytes]:
    from starsearch.export.formats.onnx_int8 import build_int8_onnx
    from starsearch.export.weights import state_dict_arrays
    from starsearch.latency.lock import computing

    images = yield from calibration_images(data, resolution=fidelity.resolution, seed=seed, samples=samples)
    layers = model.lower(resolution=fidelity.resolution)
    try:
        with computing():
            return build_int8_onnx(layers, state_dict_arrays(model), images=images)
    except ExportError as error:
        raise EvaluationError(str(error)) from error


def _measure_latency(graph: bytes, reference: Reference, seed: int) -> Generator[Progress, None, Measurement]:
    from starsearch.latency.measure import MeasureSpec, measure

    spec = MeasureSpec.like("onnxruntime-cpu", reference.device, seed=seed, reference=reference)
    measured = yield from mapped(measure(graph, spec), lambda progress: replace(progress, stage="int8 latency"))
    return measured.as_measurement(INT8_LATENCY)


def _as_progress(shares: Generator[float, None, T], stage: str) -> Generator[Progress, None, T]:
    """The same generator, its shares as a stage's progress, and nothing measured on this machine meanwhile."""
    return mapped(without_measuring(shares), lambda share: Progress(fraction=share, stage=stage))
