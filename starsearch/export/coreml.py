"""A Core ML program written directly from the lowering, and a trained model as a package that was read back.

Tracing with torch takes coremltools six to nine times as long and leaves a batch norm before the head
(studies/benchmarks/latency). What is written here is the final program: none of coremltools' graph passes need to run.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import ExportError
from starsearch.export.coreml_library import load_coremltools, quiet_conversion
from starsearch.export.coreml_program import COLOUR_SPACES, IMAGE_NAME, PRECISIONS, Operation, Precision, plan_program
from starsearch.export.coreml_verification import CoreMLCheck, check_package
from starsearch.export.files import export_written_whole
from starsearch.export.weights import FloatArray, state_dict_arrays
from starsearch.families.layers import Layer

if TYPE_CHECKING:
    from starsearch.families.network import Network

SUFFIX = ".mlpackage"


def build_coreml(
    layers: Sequence[Layer],
    weights: Mapping[str, FloatArray],
    *,
    precision: Precision = "fp16",
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    image_input: bool = True,
) -> Any:
    """The network as a `coremltools.models.MLModel`, a program for iOS 16, macOS 13 and later.

    The input "image" is an image of the first layer's size, RGB or grey, as the camera gives it: the normalisation
    is part of the program. The output is "logits", or "classLabel" and "classLabel_probs" with class names.

    A star multiplies two branches, and without activations a network's numbers can grow beyond 65504, where half
    precision ends; `export_coreml` looks for that.

    Args:
        layers: of `starsearch.families.family.lower`.
        weights: by state-dict key; what no layer owns is ignored.
        precision: "fp16", which the Neural Engine needs, or "fp32".
        preprocessing: whose mean and std normalise the image; ImageNet's by default.
        class_names: of the outputs, in their order.
        metadata: written into the package's user-defined metadata.
        image_input: whether it reads an image, or (for timing) a float32 tensor of pixels.

    Raises:
        ExportError: coremltools is not installed or cannot write, the weights do not fit the layers or half
            precision, the image is neither grey nor RGB, or the class names are not one a class.
    """
    operations = _plan(layers, weights, precision, preprocessing or Preprocessing(), class_names)
    return _convert(operations, layers[0], class_names=class_names, metadata=metadata or {}, image_input=image_input)


def export_coreml(
    model: Network,
    out: Path,
    *,
    resolution: int = 224,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    precision: Precision = "fp16",
    metadata: Mapping[str, str] | None = None,
    images: Iterable[FloatArray] | None = None,
) -> CoreMLCheck:
    """Write `model` for one image of `resolution` pixels; what was compared, and with what result.

    The package is written beside `out`, read back from the disk and compared with the lowering, operation by
    operation and weight by weight; on a Mac it also runs and is compared with torch. Only then it takes its place.

    Args:
        model: the trained model; on any device, in any mode, it stays as it is.
        out: the package, a folder whose name ends in ".mlpackage".
        resolution: height and width of the image.
        preprocessing: what the model was validated with; of it mean and std count here.
        class_names: of the outputs, in their order; with them the package is a classifier.
        precision: "fp16" or "fp32".
        metadata: written into the package's user-defined metadata.
        images: normalised, each (1, channels, resolution, resolution), on which activations must stay within half
            precision; None takes noise, on which they were seven times smaller.

    Raises:
        ExportError: as for `build_coreml`, or the package cannot be written, does not read back as the model, or
            the model's activations are beyond half precision.
    """
    if out.suffix != SUFFIX:
        raise ExportError(f"A Core ML package's name ends in {SUFFIX}; got {out.name!r}.")
    preprocessing = preprocessing or Preprocessing()
    layers = model.lower(resolution=resolution)
    operations = _plan(layers, state_dict_arrays(model), precision, preprocessing, class_names)
    program = _convert(operations, layers[0], class_names=class_names, metadata=metadata or {})
    with (
        export_written_whole(out) as partial,
        tempfile.TemporaryDirectory(prefix=f".{out.stem}.", dir=out.parent) as folder,
    ):
        package = Path(folder) / f"model{SUFFIX}"  # Core ML loads nothing without the suffix
        program.save(str(package))
        check = check_package(
            package,
            operations,
            model,
            resolution=resolution,
            preprocessing=preprocessing,
            class_names=class_names,
            images=images,
        )
        package.rename(partial)
    return check


def _plan(
    layers: Sequence[Layer],
    weights: Mapping[str, FloatArray],
    precision: Precision,
    preprocessing: Preprocessing,
    class_names: Sequence[str],
) -> tuple[Operation, ...]:
    if precision not in PRECISIONS:
        raise ExportError(f"precision is one of {', '.join(PRECISIONS)}; got {precision!r}.")
    _check_class_names(layers, class_names)
    with_probabilities = bool(class_names)
    return plan_program(
        layers, weights, precision=precision, preprocessing=preprocessing, with_probabilities=with_probabilities
    )


def _check_class_names(layers: Sequence[Layer], class_names: Sequence[str]) -> None:
    """Raise `ExportError` unless there are no class names, or one for each output of the head, all different."""
    if not class_names:
        return
    outputs = layers[-1].out_shape[0] if layers[-1].op == "linear" else 0
    if len(class_names) != outputs:
        raise ExportError(f"The model has {outputs} classes; {len(class_names)} class names were given.")
    repeated = [name for name, count in Counter(class_names).items() if count > 1]
    if repeated:
        raise ExportError(
            f"Two classes are named {repeated[0]!r}; Core ML keys probabilities by name, so names must differ. "
            "Use the classes' ids, or export without class names."
        )


def _convert(
    operations: Sequence[Operation],
    first: Layer,
    *,
    class_names: Sequence[str],
    metadata: Mapping[str, str],
    image_input: bool = True,
) -> Any:
    """The `MLModel` of these operations."""
    coremltools = load_coremltools()
    colour_space = getattr(coremltools.colorlayout, COLOUR_SPACES[first.in_shape[0]])
    shape = (1, *first.in_shape)
    image = coremltools.ImageType(name=IMAGE_NAME, shape=shape, color_layout=colour_space)
    pixels = coremltools.TensorType(name=IMAGE_NAME, shape=shape)
    try:
        with quiet_conversion():
            model = coremltools.convert(
                _write_program(operations, shape),
                inputs=[image if image_input else pixels],
                classifier_config=coremltools.ClassifierConfig(list(class_names)) if class_names else None,
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target.iOS16,
                # What is written has its precision already, and nothing to fold or fuse: a quarter of the time.
                compute_precision=coremltools.precision.FLOAT32,
                pass_pipeline=coremltools.PassPipeline.EMPTY,
                skip_model_load=True,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise ExportError(f"coremltools cannot write the program: {error}") from error
    for key, value in metadata.items():
        model.user_defined_metadata[key] = value
    return model


def _write_program(operations: Sequence[Operation], image_shape: tuple[int, ...]) -> Any:
    """A `coremltools.converters.mil.Program` of one function that maps "image" to the last operation's output."""
    import coremltools
    from coremltools.converters.mil import Builder

    def main(image: Any) -> Any:  # the parameter's name is the input's: IMAGE_NAME
        values = {IMAGE_NAME: image}
        for operation in operations:
            sources = {parameter: values[source] for parameter, source in operation.inputs.items()}
            write = getattr(Builder, operation.type)
            values[operation.name] = write(**sources, **operation.constants, name=operation.name)
        return values[operations[-1].name]

    specs = [Builder.TensorSpec(shape=image_shape)]  # in float32, as every image input of Core ML
    return Builder.program(input_specs=specs, opset_version=coremltools.target.iOS16)(main)
