"""Does an exported file compute what the model computes?"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import ExportError
from starsearch.resolution import Resolution, sides

if TYPE_CHECKING:
    from torch import nn

    from starsearch.families.network import Network

# Of the logits' spread. Rounding alone gives 1e-6 to 1e-5 in trained networks.
TOLERANCE = 1e-4
_NUM_IMAGES = 4


def deployed_copy(model: Network) -> Network:
    """Return a copy as it will run elsewhere: on the CPU, in float32, contiguous, in evaluation mode."""
    import torch

    twin: Network = copy.deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format).eval()
    return twin


def random_images(resolution: Resolution, *, channels: int = 3) -> NDArray[np.float32]:
    """Return four standard normal images (4, channels, height, width), always the same."""
    shape = (_NUM_IMAGES, channels, *sides(resolution))
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def torch_logits(model: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what `model` answers, (num_images, classes)."""
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(images)).numpy()
    return logits


def onnx_logits(onnx_bytes: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what ONNX Runtime's CPU provider answers, (num_images, classes).

    One image at a time, or, of a model that takes any number, the first alone and the others at once.
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


def relative_difference(found: NDArray[Any], expected: NDArray[Any], *, what: str) -> float:
    """Return the largest absolute difference by the spread (standard deviation) of `expected`.

    Infinite where a value is not finite in either, or where the expected ones do not vary.
    """
    if found.shape != expected.shape:
        raise ExportError(f"The {what} gives outputs of shape {found.shape}, the trained model {expected.shape}.")
    spread = float(expected.std(dtype=np.float64))
    difference = float(np.abs(found - expected).max())
    return difference / spread if np.isfinite(difference) and spread > 0 else float("inf")


def refuse_difference(difference: float, tolerance: float, *, what: str) -> None:
    """Raise `ExportError` where a difference is more than rounding."""
    if difference > tolerance:
        raise ExportError(
            f"The {what}'s outputs differ from the trained model's by {difference:.1e} of their spread; at most "
            f"{tolerance:.0e} is rounding. A network that was never trained is chaotic and cannot be compared; "
            "a trained one should not differ: please report its architecture."
        )


def check_onnx(onnx_bytes: bytes, model: Network, *, resolution: Resolution = 224) -> float:
    """Return the difference of ONNX Runtime's logits from torch's; raise `ExportError` where it is above rounding."""
    check_onnx_format(onnx_bytes)
    images = random_images(resolution, channels=model.in_chans)
    expected = torch_logits(deployed_copy(model), images)
    difference = relative_difference(onnx_logits(onnx_bytes, images), expected, what="ONNX model")
    refuse_difference(difference, TOLERANCE, what="ONNX model")
    return difference


def check_onnx_format(onnx_bytes: bytes) -> None:
    """Let ONNX's own checker read the bytes."""
    import onnx

    try:
        onnx.checker.check_model(onnx_bytes, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ExportError(f"The exported bytes are not a valid ONNX model: {error}") from error
