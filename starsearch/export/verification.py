"""Does an exported file compute what the model computes?"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import ExportError

if TYPE_CHECKING:
    from starsearch.families.network import Network

# Of the logits' spread. Rounding alone gives 1e-6 to 1e-5 in trained networks.
TOLERANCE = 1e-4


def deployed_copy(model: Network) -> Network:
    """A copy as it will run elsewhere: on the CPU, in float32, contiguous, in evaluation mode."""
    import torch

    twin: Network = copy.deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format).eval()
    return twin


def random_images(model: Network, *, resolution: int, num_images: int, seed: int = 0) -> NDArray[np.float32]:
    """Standard normal images (num_images, channels, resolution, resolution)."""
    shape = (num_images, model.in_chans, resolution, resolution)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def torch_logits(model: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `model` (as `deployed_copy` gives it) answers, (num_images, classes)."""
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(images)).numpy()
    return logits


def onnx_logits(onnx_bytes: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ONNX Runtime's CPU provider answers, (num_images, classes).

    One image at a time, or, of a model that takes any number, the first alone and the others at once.

    Raises:
        ExportError: the runtime cannot load the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more would spin between the few images, beside torch's own threads
    options.log_severity_level = 4  # what goes wrong is raised as well
    try:
        session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
        (node,) = session.get_inputs()
        at = [1] if isinstance(node.shape[0], str) else range(1, len(images))
        outputs: list[Any] = [session.run(None, {node.name: batch})[0] for batch in np.split(images, at)]
    except Exception as error:  # ONNX Runtime's own exceptions have no common base but this
        raise ExportError(f"ONNX Runtime cannot run the exported model: {error}") from error
    return np.concatenate(outputs)


def compare_with_torch(
    onnx_bytes: bytes, model: Network, *, resolution: int = 224, num_images: int = 4, seed: int = 0
) -> float:
    """Largest absolute difference of ONNX Runtime's logits from torch's, by the spread of torch's.

    The spread is the standard deviation over classes and images. Infinite where a logit is not finite in either,
    or where torch's do not vary.

    Raises:
        ExportError: the runtime cannot load the model, or gives another shape.
    """
    images = random_images(model, resolution=resolution, num_images=num_images, seed=seed)
    expected = torch_logits(deployed_copy(model), images)
    found = onnx_logits(onnx_bytes, images)
    if found.shape != expected.shape:
        raise ExportError(f"The ONNX model gives logits of shape {found.shape}, the trained model {expected.shape}.")
    spread = float(expected.std(dtype=np.float64))
    difference = float(np.abs(found - expected).max())
    return difference / spread if np.isfinite(difference) and spread > 0 else float("inf")


def check_onnx(
    onnx_bytes: bytes, model: Network, *, resolution: int = 224, num_images: int = 4, tolerance: float = TOLERANCE
) -> float:
    """The difference of `compare_with_torch`, after ONNX's own checker has read the bytes.

    Raises:
        ExportError: the bytes are no valid ONNX model, or the difference is above `tolerance`.
    """
    check_onnx_format(onnx_bytes)
    difference = compare_with_torch(onnx_bytes, model, resolution=resolution, num_images=num_images)
    if difference > tolerance:
        raise ExportError(
            f"The ONNX model's logits differ from the trained model's by {difference:.1e} of their spread; at most "
            f"{tolerance:.0e} is rounding. A network that was never trained is chaotic and cannot be compared; "
            "a trained one should not differ: please report its architecture."
        )
    return difference


def check_onnx_format(onnx_bytes: bytes) -> None:
    """Let ONNX's own checker read the bytes.

    Raises:
        ExportError: they are no valid ONNX model.
    """
    import onnx

    try:
        onnx.checker.check_model(onnx_bytes, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ExportError(f"The exported bytes are not a valid ONNX model: {error}") from error
