"""Core ML packages by coremltools' own converter: normalisation, softmax and class labels are inside.

Away from a Mac a package can be written and read but not run: there, what the file says of image, normalisation,
labels and precision is compared with the network. On a Mac it also runs, and its outputs are compared with torch's;
that part has never been run.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import platform
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from starsearch.errors import ExportError
from starsearch.export.format import Format, TrainedNetwork
from starsearch.resolution import Resolution, sides

if TYPE_CHECKING:
    from torch import nn

    from starsearch.data.preprocessing import Preprocessing
    from starsearch.export.weights import FloatArray

Precision = Literal["fp16", "fp32"]
_PRECISIONS = {"fp16": "FLOAT16", "fp32": "FLOAT32"}
SUFFIX = ".mlpackage"
IMAGE_NAME, LOGITS_NAME = "image", "logits"
WEIGHTS_FOLDER = Path("Data") / "com.apple.CoreML" / "weights"  # in every package
_MAX_HALF = 65504  # the largest number of half precision
_NEAR_OVERFLOW = 1 / 16  # of half precision's range; a star squares, so that four times larger inputs pass it
# Of the outputs' spread. With every step rounded to half precision torch gives 1.5e-3 at most (S050, S1, S4, without
# activations, all sum), in float32 1e-6. A Mac's own arithmetic was not measured: hence room above that.
_TOLERANCES = {"fp16": 2e-2, "fp32": 1e-4}
_ROUNDING = 1e-3  # of a folded weight, which coremltools rounds to half precision


def load_coremltools() -> Any:
    """Return the module `coremltools`; raise `ExportError` where it is not installed, or lacks its native library."""
    with quiet():
        try:
            import coremltools
            import coremltools.libmilstoragepython  # without it coremltools fails when the first weights are written
        except ImportError as error:
            raise ExportError(
                f"Core ML needs coremltools with its native library: pip install coremltools. ({error}) pip has it for "
                f"Python 3.10 to 3.13 on macOS and Linux x86-64; this is Python {platform.python_version()} on "
                f"{platform.system()} {platform.machine()}."
            ) from error
    return coremltools


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Use coremltools without its bars and warnings (of newer libraries, of parts that only a Mac has)."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def build_coreml(
    model: nn.Module,
    *,
    resolution: Resolution,
    precision: Precision = "fp16",
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    image_input: bool = True,
) -> Any:
    """Return the network as a `coremltools.models.MLModel`, a program for iOS 16, macOS 13 and later.

    The input "image" is an RGB image as the camera gives it: the normalisation is part of the program. The output is
    "logits", or "classLabel" and "classLabel_probs" with class names.

    Args:
        model: the network, in evaluation mode, on the CPU, in float32; it stays as it is.
        resolution: of the image.
        precision: "fp16", which the Neural Engine needs, or "fp32".
        preprocessing: its mean and std normalise the image; ImageNet's by default.
        class_names: the classes of the outputs, in their order.
        metadata: written into the package's user-defined metadata.
        image_input: False takes a tensor (1, 3, height, width) of pixels 0..255 in the image's place, as
            coremltools' benchmark wants it.
    """
    import numpy as np
    import torch

    coremltools, shape = load_coremltools(), (1, 3, *sides(resolution))
    image = coremltools.TensorType(name=IMAGE_NAME, shape=shape)
    if image_input:
        image = coremltools.ImageType(name=IMAGE_NAME, shape=shape, color_layout=coremltools.colorlayout.RGB)
    try:
        with quiet():
            program = torch.export.export(_packaged(model, preprocessing, bool(class_names)), (torch.zeros(shape),))
            package = coremltools.convert(
                program.run_decompositions({}),
                inputs=[image],
                # What an app reads is float32 in either precision.
                outputs=None if class_names else [coremltools.TensorType(name=LOGITS_NAME, dtype=np.float32)],
                classifier_config=coremltools.ClassifierConfig(list(class_names)) if class_names else None,
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target.iOS16,
                compute_precision=getattr(coremltools.precision, _PRECISIONS[precision]),
                skip_model_load=True,
            )
    except (OSError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ExportError(f"coremltools cannot write the network: {error}") from error
    package.user_defined_metadata.update(metadata or {})
    return package


def _packaged(model: nn.Module, preprocessing: Preprocessing | None, with_probabilities: bool) -> nn.Module:
    """Return the network from pixels 0..255 to its output.

    Core ML's own image scale is one number for all channels, and a mean in the stem would be wrong at the border, whose
    padding is a zero of the normalised image. The mean goes first, while pixels are whole numbers.
    coremltools folds the norms that follow a convolution; the one before the pooling goes into the head here.
    """
    import copy

    import torch
    from torch import nn

    from starsearch.data.preprocessing import Preprocessing
    from starsearch.export.weights import fold_head, state_dict_arrays

    network: Any = copy.deepcopy(model)
    if isinstance(getattr(network, "norm", None), nn.BatchNorm2d) and isinstance(network.head, nn.Linear):
        folded = fold_head("norm", "head", state_dict_arrays(network))
        network.norm = nn.Identity()
        network.head.weight.data, network.head.bias.data = map(torch.from_numpy, folded)

    mean, scale = map(torch.from_numpy, normalisation(preprocessing or Preprocessing()))

    class Packaged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.network((image - mean) * scale)
            return outputs.softmax(-1) if with_probabilities else outputs

    return Packaged().eval()


def normalisation(preprocessing: Preprocessing) -> tuple[FloatArray, FloatArray]:
    """Return mean and scale (3, 1, 1), with (pixel − mean) · scale normalised for pixels of 0..255."""
    import numpy as np

    both = 255 * np.asarray([preprocessing.mean, preprocessing.std], np.float32)[..., None, None]
    return both[0], 1 / both[1]


def write(network: TrainedNetwork, path: Path, precision: Precision = "fp16") -> tuple[str, ...]:
    """Convert the network and save the package."""
    import numpy as np

    from starsearch.export.verification import deployed_copy

    names = network.class_names
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ExportError(
            f"Two classes are named {repeated[0]!r}; Core ML keys probabilities by name, so names must differ. "
            "Use the classes' ids, or export without class names."
        )
    for name, values in ((name, array) for name, arrays in _folded_weights(network).items() for array in arrays):
        largest = float(np.abs(values).max())
        if not np.isfinite(largest):
            raise ExportError(f"{name} holds numbers that are not finite: the training diverged.")
        if precision == "fp16" and largest > _MAX_HALF:
            end = f"half precision ends at {_MAX_HALF}"
            raise ExportError(f"{name} reaches {largest:.3g}; {end}. Export as coreml-fp32.")
    package = build_coreml(
        deployed_copy(network.model),
        resolution=network.preprocessing.resolution,
        precision=precision,
        preprocessing=network.preprocessing,
        class_names=names,
        metadata=network.metadata,
    )
    package.save(str(path))
    return ()


def read_back(network: TrainedNetwork, path: Path, precision: Precision = "fp16") -> tuple[str, ...]:
    """Compare what the package says with the network, look for numbers beyond half precision, and run it on a Mac."""
    num_weights = _compare(network, path, precision)
    is_mac = platform.system() == "Darwin"
    run = _compare_outputs(network, path, precision) if is_mac else "not run, which takes macOS"
    reached = _half_precision(network) if precision == "fp16" else ""
    return (f"read back: image, normalisation, labels and {num_weights:,} weights are the model's; {run}{reached}.",)


def _compare(network: TrainedNetwork, path: Path, precision: Precision) -> int:
    """Compare image, class labels, normalisation, precision and weights; return how many weights there are."""
    import numpy as np

    coremltools, (height, width) = load_coremltools(), sides(network.preprocessing.resolution)
    from coremltools.converters.mil.frontend.milproto.load import load

    try:
        with quiet():
            spec = coremltools.utils.load_spec(str(path))
            operations = load(spec, spec.specificationVersion, str(path / WEIGHTS_FOLDER)).functions["main"].operations
    except Exception as error:  # protobuf's, coremltools' and its C++ code's errors have no common base but this
        raise ExportError(f"coremltools cannot read {path.name} back: {error}") from error
    (image,), labels = spec.description.input, [op.classes.val for op in operations if op.op_type == "classify"]
    size, weighted = image.type.imageType, [op for op in operations if op.op_type in ("conv", "linear")]
    known = _folded_weights(network)
    for what, said, expected in (
        ("image", (image.name, size.width, size.height), (IMAGE_NAME, width, height)),
        ("class labels", tuple(labels[0]) if labels else (), tuple(network.class_names)),
        ("number of layers with weights", len(weighted), len(known)),
    ):
        if said != expected:
            raise ExportError(f"The saved package's {what} is {said}, the model's {expected}.")
    centred, scaled = (next(op for op in operations if op.op_type == kind) for kind in ("sub", "mul"))
    mean, scale = normalisation(network.preprocessing)
    arrays = {"mean": (centred.y.val, mean), "std": (scaled.y.val, scale)}
    for op, (name, (weight, bias)) in zip(weighted, known.items(), strict=True):
        arrays |= {f"{name}.weight": (op.weight.val, weight), f"{name}.bias": (op.bias.val, bias)}
    kind = np.dtype(np.float16 if precision == "fp16" else np.float32)
    for name, (found, values) in arrays.items():
        same_form = (found.shape, found.dtype) == (values.shape, kind)
        if not same_form or not np.allclose(found, values, rtol=_ROUNDING, atol=_ROUNDING * np.abs(values).max()):
            raise ExportError(f"The saved package differs from the model at {name!r}.")
    return sum(found.size for found, _ in arrays.values())


def _folded_weights(network: TrainedNetwork) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return weight and bias by layer, with the norms in them."""
    from starsearch.export.weights import fold_conv, fold_head, state_dict_arrays

    weights = state_dict_arrays(network.model)
    found: dict[str, tuple[FloatArray, FloatArray]] = {}
    layers = network.model.lower(resolution=network.preprocessing.resolution)
    for layer in layers:
        if layer.op in ("conv", "patches"):
            found[layer.name] = fold_conv(layer, weights)
        elif layer.op == "scale":  # the converter multiplies it into the convolution before it
            gamma = weights[f"{layer.name}.gamma"]
            weight, bias = found[layer.inputs[0]]
            found[layer.inputs[0]] = weight * gamma[:, None, None, None], bias * gamma
        elif layer.op == "linear":
            is_folded = any(one.op == "norm" for one in layers)
            plain = weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"]
            found[layer.name] = fold_head("norm", layer.name, weights) if is_folded else plain
    return found


def _half_precision(network: TrainedNetwork) -> str:
    """Say how near the network comes to the end of half precision; raise `ExportError` where it is beyond."""
    from starsearch.export.verification import deployed_copy, random_images

    looked_at, images = "random images", [random_images(network.preprocessing.resolution)]
    if network.calibration is not None:
        looked_at, images = "the study's calibration images", [*network.calibration()]
    twin = deployed_copy(network.model)
    largest = max(largest_activation(twin, batch) for batch in images)
    end = f"on {looked_at} and half precision ends at {_MAX_HALF}"
    if largest > _MAX_HALF:
        raise ExportError(
            f"The network reaches {largest:.3g} {end}: its outputs would not be numbers. Export as coreml-fp32."
        )
    is_near = largest >= _NEAR_OVERFLOW * _MAX_HALF
    advice = ": compare the package's accuracy on images of the data set, or export as coreml-fp32" if is_near else ""
    return f"; activations reach {largest:.0f} {end}{advice}"


def largest_activation(model: nn.Module, images: FloatArray) -> float:
    """Return the largest magnitude among inputs and outputs of a network's modules; infinity where one is no number.

    The products of the stars are among them, since the next convolution reads them.
    """
    import torch

    from starsearch.export.verification import torch_logits

    found: list[float] = []

    def look(_: Any, inputs: tuple[Any, ...], output: Any) -> None:
        values = (value for value in (*inputs, output) if isinstance(value, torch.Tensor))
        found.extend(float(value.abs().nan_to_num(nan=torch.inf).max()) for value in values)

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    try:
        torch_logits(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return max(found)


def _compare_outputs(network: TrainedNetwork, path: Path, precision: Precision) -> str:
    """Run the package on the Mac's processor, whose arithmetic is the most exact of the three, and compare with torch.

    Nobody has run this yet.
    """
    import numpy as np
    from PIL import Image
    from scipy.special import softmax

    from starsearch.export.verification import deployed_copy, refuse_difference, relative_difference, torch_logits

    coremltools, names = load_coremltools(), network.class_names
    mean, scale = normalisation(network.preprocessing)
    size = (2, *sides(network.preprocessing.resolution), 3)
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    try:
        loaded = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    except Exception as error:  # the framework's errors have no common base but this
        raise ExportError(f"Core ML cannot load the exported package: {error}") from error
    answers = [loaded.predict({IMAGE_NAME: Image.fromarray(image)}) for image in pixels]
    expected = torch_logits(
        deployed_copy(network.model), ((pixels.transpose(0, 3, 1, 2) - mean) * scale).astype(np.float32)
    )
    if names:
        named = [next(value for value in answer.values() if isinstance(value, dict)) for answer in answers]
        found, expected = np.asarray([[one[name] for name in names] for one in named]), softmax(expected, axis=1)
    else:
        found = np.concatenate([answer[LOGITS_NAME] for answer in answers])
    difference = relative_difference(found, expected, what="Core ML package")
    refuse_difference(difference, _TOLERANCES[precision], what="Core ML package")
    return f"run: outputs within {difference:.1e} of their spread from torch's"


FORMATS = (
    Format(
        name="coreml",
        help="a Core ML package in half precision",
        file="model.mlpackage",
        check=lambda _: load_coremltools(),
        write=write,
        read_back=read_back,
        options=frozenset({"--data"}),  # to see how large activations become, which in half precision have an end
    ),
    Format(
        name="coreml-fp32",
        help="the same in single precision",
        file="model.fp32.mlpackage",
        check=lambda _: load_coremltools(),
        write=functools.partial(write, precision="fp32"),
        read_back=functools.partial(read_back, precision="fp32"),
    ),
)
