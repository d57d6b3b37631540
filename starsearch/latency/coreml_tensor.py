"""A Core ML package's description, changed so that it reads and writes tensors.

coremltools 9.0's app that runs packages on a phone takes and returns tensors only, and its benchmark cannot draw an
image as its own input.
"""

from __future__ import annotations

from typing import Any


def tensor_spec(spec: Any) -> Any:
    """A copy of the `Model` message whose image is a tensor of pixels, and which ends before the class label.

    The program itself reads a tensor either way: only the description says that it is an image.
    """
    changed = type(spec)()
    changed.CopyFrom(spec)
    (image,) = changed.description.input
    size = image.type.imageType
    channels = 1 if size.colorSpace == size.GRAYSCALE else 3
    _describe_tensor(image, (1, channels, size.height, size.width))
    (block,) = changed.mlProgram.functions["main"].block_specializations.values()
    last = block.operations[-1]
    if last.type == "classify":
        _end_before(changed.description, block, last.inputs["probabilities"].arguments[0].name)
    return changed


def _end_before(description: Any, block: Any, output: str) -> None:
    """Take the last operation off, so that the program ends with `output`, (1, classes) in float32."""
    del block.operations[-1]
    del block.outputs[:]
    block.outputs.append(output)
    (shape,) = (
        tuple(dimension.constant.size for dimension in value.type.tensorType.dimensions)
        for operation in block.operations
        for value in operation.outputs
        if value.name == output
    )
    del description.output[:]
    _describe_tensor(description.output.add(name=output), shape)
    description.ClearField("predictedFeatureName")
    description.ClearField("predictedProbabilitiesName")


def _describe_tensor(feature: Any, shape: tuple[int, ...]) -> None:
    feature.type.multiArrayType.Clear()
    tensor = feature.type.multiArrayType
    tensor.dataType = tensor.FLOAT32
    tensor.shape[:] = shape
