"""A saved Core ML package, read back and compared with the lowering: each operation, shape, setting and weight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from starsearch.errors import ExportError
from starsearch.export.coreml_library import load_coremltools, quiet_conversion
from starsearch.export.coreml_program import COLOUR_SPACES, IMAGE_NAME, Operation, Precision

WEIGHTS_FOLDER = Path("Data") / "com.apple.CoreML" / "weights"  # in every package
_PRECISIONS: dict[Any, Precision] = {np.dtype(np.float16): "fp16", np.dtype(np.float32): "fp32"}


def compare_with_plan(package: Path, operations: Sequence[Operation], *, class_names: Sequence[str] = ()) -> None:
    """Pass where the package's program is these operations, from an image to the output, with these class names.

    Raises:
        ExportError: the package cannot be read, or differs; the text names the first difference.
    """
    description, found, names = read_package(package)
    if len(found) != len(operations):
        raise ExportError(f"The saved package has {len(found)} operations; the model has {len(operations)}.")
    # Structure first: of another network it says more than its first weight would.
    for compare in (_structural_difference, _constant_difference):
        for planned, read in zip(operations, found, strict=True):
            difference = compare(planned, read)
            if difference:
                raise ExportError(f"The saved package differs from the model at {planned.name!r}: {difference}.")
    if names != tuple(class_names):
        raise ExportError(f"The saved package has {len(names)} class names, not the {len(class_names)} of the data.")
    _compare_image(description, operations[0].shape)


def read_package(package: Path) -> tuple[Any, tuple[Operation, ...], tuple[str, ...]]:
    """The package's `ModelDescription`, its operations and its class names, empty where it is no classifier.

    Raises:
        ExportError: coremltools is not installed, or cannot read the package.
    """
    coremltools = load_coremltools()
    from coremltools.converters.mil.frontend.milproto.load import load

    try:
        with quiet_conversion():
            spec = coremltools.utils.load_spec(str(package))
            program = load(spec, spec.specificationVersion, str(package / WEIGHTS_FOLDER))
    except Exception as error:  # protobuf's, coremltools' and its C++ code's errors have no common base but this
        raise ExportError(f"coremltools cannot read {package.name} back: {error}") from error
    computing = [op for op in program.functions["main"].operations if op.op_type != "const"]
    names: tuple[str, ...] = ()
    if computing and computing[-1].op_type == "classify":
        names = tuple(computing.pop().classes.val)
    return spec.description, tuple(map(_as_operation, computing)), names


def _as_operation(op: Any) -> Operation:
    """coremltools' operation as ours: what is computed is an input, what is known is a constant."""
    from coremltools.converters.mil.mil.types import nptype_from_builtin

    (output,) = op.outputs
    known = {key: value for key, value in op.inputs.items() if value.val is not None}
    return Operation(
        name=op.name,
        type=op.op_type,
        inputs={key: value.name for key, value in op.inputs.items() if key not in known},
        constants={key: value.val for key, value in known.items()},
        shape=tuple(output.shape),
        precision=_PRECISIONS[np.dtype(nptype_from_builtin(output.dtype))],
    )


def _structural_difference(planned: Operation, read: Operation) -> str:
    """In words; empty where there is none."""
    for what in ("name", "type", "inputs", "shape", "precision"):
        expected, found = getattr(planned, what), getattr(read, what)
        if expected != found:
            return f"{what} is {found!r}, not {expected!r}"
    if set(planned.constants) != set(read.constants):
        return f"it has {sorted(read.constants)}, not {sorted(planned.constants)}"
    return ""


def _constant_difference(planned: Operation, read: Operation) -> str:
    """In words; empty where there is none."""
    for key, expected in planned.constants.items():
        if not _is_same(expected, read.constants[key]):
            return f"{key} is not the model's"
    return ""


def _is_same(expected: Any, found: Any) -> bool:
    """Bit by bit, type and shape included; Python's own numbers and words by value."""
    if isinstance(expected, np.ndarray | np.floating):
        found = np.asarray(found)
        same_form = expected.shape == found.shape and expected.dtype == found.dtype
        return bool(same_form and expected.tobytes() == found.tobytes())
    return bool(expected == found)


def _compare_image(description: Any, shape: tuple[int, ...]) -> None:
    (image,) = description.input
    found = image.type.imageType
    colour_spaces = dict(found.ColorSpace.items())
    _, channels, height, width = shape
    expected = (IMAGE_NAME, height, width, colour_spaces[COLOUR_SPACES[channels]])
    if (image.name, found.height, found.width, found.colorSpace) != expected:
        raise ExportError(f"The saved package's input is not an image of {width}×{height} pixels: {image}")
