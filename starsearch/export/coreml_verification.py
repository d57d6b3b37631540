"""Is a saved Core ML package the model it was made from?

Everywhere the package is read back and compared with the lowering (`coreml_reading`). Only macOS can run it: there
its outputs are compared with torch's as well.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import ExportError
from starsearch.export.coreml_library import load_coremltools
from starsearch.export.coreml_program import IMAGE_NAME, LOGITS_NAME, MAX_HALF, MAX_PIXEL, Operation
from starsearch.export.coreml_reading import compare_with_plan
from starsearch.export.verification import deployed_copy, torch_logits

if TYPE_CHECKING:
    from starsearch.families.network import Network

# Of the outputs' spread. With every step rounded to half precision torch gives 1.5e-3 at most (S050, S1, S4, without
# activations, all sum), in float32 1e-6. A Mac's own arithmetic was not measured: hence room above that.
TOLERANCES = {"fp16": 2e-2, "fp32": 1e-4}
_NEAR_OVERFLOW = 1 / 16  # of half precision's range; a star squares, so that four times larger inputs pass it
_NUM_IMAGES = 2

Pixels = NDArray[np.uint8]  # (channels, height, width)
Predict = Callable[[Pixels], NDArray[np.floating[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreMLCheck:
    """What of a saved package was found to be the model's.

    Attributes:
        precision: of the package.
        operations: compared with the lowering: type, inputs, settings, weights and shape.
        weights: numbers among them that were compared bit by bit.
        size_bytes: of the package.
        largest_activation: magnitude reached on `images`, computed by torch in float32. Half precision ends at 65504.
        images: in words; on random ones activations may be far smaller than on the data set's own.
        difference: largest absolute difference of the outputs from torch's by their spread; None where the package
            was not run, since that takes macOS.
    """

    precision: str
    operations: int
    weights: int
    size_bytes: int
    largest_activation: float
    difference: float | None
    images: str = "random images"

    @property
    def text(self) -> str:
        """What was verified, and what was not, in a sentence."""
        read = f"read back: {self.operations} operations and {self.weights} weights are the model's"
        run = "not run, which takes macOS"
        if self.difference is not None:
            run = f"run: outputs within {self.difference:.1e} of their spread from torch's"
        return f"{read}; {run}{self._range}"

    @property
    def _range(self) -> str:
        if self.precision != "fp16":
            return ""
        reached = (
            f"activations reach {self.largest_activation:.0f} on {self.images} and half precision ends at {MAX_HALF}"
        )
        if self.largest_activation < _NEAR_OVERFLOW * MAX_HALF:
            return f"; {reached}"
        return f"; {reached}: compare the package's accuracy on images of the data set, or export with precision 'fp32'"


def check_package(
    package: Path,
    operations: Sequence[Operation],
    model: Network,
    *,
    resolution: int,
    preprocessing: Preprocessing,
    class_names: Sequence[str] = (),
    images: Iterable[NDArray[np.float32]] | None = None,
) -> CoreMLCheck:
    """Compare the saved package with the planned operations and, on macOS, its outputs with torch's.

    Raises:
        ExportError: the package cannot be read, differs, or needs numbers beyond its precision.
    """
    compare_with_plan(package, operations, class_names=class_names)
    twin = deployed_copy(model)
    pixels = random_pixels(model, resolution=resolution)
    precision = _precision(operations)
    looked_at = "random images" if images is None else "the study's calibration images"
    seen = [normalised(pixels, preprocessing)] if images is None else images
    largest = float(np.max([largest_activation(twin, batch) for batch in seen]))
    if precision == "fp16" and not largest <= MAX_HALF:
        raise ExportError(
            f"The network reaches {largest:.3g} on {looked_at}; half precision ends at {MAX_HALF}, and its outputs "
            "would not be numbers. Export with precision 'fp32'."
        )
    difference = None
    if platform.system() == "Darwin":
        predict = _predictor(package, class_names)
        difference = compare_outputs(predict, twin, pixels, preprocessing, as_probabilities=bool(class_names))
        _refuse_difference(difference, TOLERANCES[precision])
    return CoreMLCheck(
        precision=precision,
        operations=len(operations),
        weights=sum(_weights_of(operation) for operation in operations),
        size_bytes=sum(file.stat().st_size for file in package.rglob("*") if file.is_file()),
        largest_activation=largest,
        difference=difference,
        images=looked_at,
    )


def _precision(operations: Sequence[Operation]) -> str:
    return operations[0].precision  # of the image, which is cast first


def _weights_of(operation: Operation) -> int:
    return sum(
        value.size
        for value in operation.constants.values()
        if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
    )


def random_pixels(model: Network, *, resolution: int, seed: int = 0) -> list[Pixels]:
    """Two images of independent pixels 0..255, each (channels, resolution, resolution)."""
    rng = np.random.default_rng(seed)
    shape = (model.in_chans, resolution, resolution)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(_NUM_IMAGES)]


def normalised(images: Sequence[Pixels], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """What the model sees of these images in training and validation: (images, channels, height, width)."""
    mean, std = (np.asarray(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return np.stack([(image / MAX_PIXEL - mean) / std for image in images]).astype(np.float32)


def largest_activation(model: Network, images: NDArray[np.float32]) -> float:
    """The largest magnitude among the inputs and outputs of `model`'s modules; NaN where one is not a number.

    The products of the stars are among them, since the next convolution reads them.
    """
    import torch

    found: list[float] = []

    def look(_: Any, inputs: tuple[Any, ...], output: Any) -> None:
        found.extend(float(value.abs().max()) for value in (*inputs, output) if isinstance(value, torch.Tensor))

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    try:
        torch_logits(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return float(np.max(found))


def compare_outputs(
    predict: Predict, model: Network, images: Sequence[Pixels], preprocessing: Preprocessing, *, as_probabilities: bool
) -> float:
    """Largest absolute difference of the package's outputs from torch's, by the spread of torch's.

    The spread is the standard deviation over outputs and images. Infinite where an output is not finite in either,
    or where torch's do not vary.

    Args:
        predict: an image's outputs, (classes,), by the package.
        model: as `deployed_copy` gives it.
        images: of pixels 0..255.
        preprocessing: whose mean and std the package applies.
        as_probabilities: the package ends with a softmax.

    Raises:
        ExportError: the package gives another number of outputs.
    """
    expected = torch_logits(model, normalised(images, preprocessing)).astype(np.float64)
    if as_probabilities:
        exponentials = np.exp(expected - expected.max(axis=1, keepdims=True))
        expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    found = np.stack([np.asarray(predict(image), np.float64).reshape(-1) for image in images])
    if found.shape != expected.shape:
        raise ExportError(f"The Core ML package gives {found.shape[1]} outputs, the trained model {expected.shape[1]}.")
    spread, difference = float(expected.std()), float(np.abs(found - expected).max())
    return difference / spread if np.isfinite(difference) and spread > 0 else float("inf")


def _refuse_difference(difference: float, tolerance: float) -> None:
    if difference > tolerance:
        raise ExportError(
            f"The Core ML package's outputs differ from the trained model's by {difference:.1e} of their spread; at "
            f"most {tolerance:.0e} is rounding. A network that was never trained is chaotic and cannot be compared; "
            "a trained one should not differ: try precision 'fp32', and please report its architecture."
        )


def _predictor(package: Path, class_names: Sequence[str]) -> Predict:
    """Runs the package on the Mac's processor, whose arithmetic is the most exact of the three.

    Raises:
        ExportError: Core ML cannot load the package.
    """
    coremltools = load_coremltools()
    try:
        loaded = coremltools.models.MLModel(str(package), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    except Exception as error:  # the framework's errors have no common base but this
        raise ExportError(f"Core ML cannot load the exported package: {error}") from error

    def predict(image: Pixels) -> NDArray[np.floating[Any]]:
        outputs = loaded.predict({IMAGE_NAME: _as_picture(image)})
        if not class_names:
            return np.asarray(outputs[LOGITS_NAME])
        (probabilities,) = (value for value in outputs.values() if isinstance(value, dict))
        return np.asarray([probabilities[name] for name in class_names])

    return predict


def _as_picture(image: Pixels) -> Any:
    """A `PIL.Image.Image`, grey or RGB, which is how coremltools takes an image."""
    from PIL import Image

    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
