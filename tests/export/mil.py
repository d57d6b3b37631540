"""What a Core ML program computes, by torch: an interpreter of the dozen MIL operations that star networks need.

Written from Apple's definitions of the operations, not from the exporter: what runs on a Mac cannot run here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

_BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul}
_TYPES = {"fp16": torch.float16, "fp32": torch.float32}


def interpret(operations, image):
    """The output (classes,) for an image (channels, height, width) of pixels 0..255; each step in its precision."""
    values = {"image": torch.from_numpy(image[np.newaxis].astype(np.float32))}
    for operation in operations:
        arguments = {key: values[source] for key, source in operation.inputs.items()}
        arguments |= {key: _as_argument(value) for key, value in operation.constants.items()}
        value = _compute(operation.type, arguments)
        assert tuple(value.shape) == operation.shape, operation
        assert value.dtype == _TYPES[operation.precision], operation
        values[operation.name] = value
    return value[0].numpy()


def _as_argument(value):
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
        return torch.from_numpy(np.array(value))
    return value


def _compute(op_type, arguments):
    x = arguments.pop("x")
    if op_type in _BINARY:
        return _BINARY[op_type](x, arguments["y"])
    return _UNARY[op_type](x, **arguments)


def _conv(x, *, weight, bias, strides, pad_type, pad, dilations, groups):
    assert pad_type == "custom"
    top, bottom, left, right = map(int, pad)
    padded = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(padded, weight, bias, tuple(map(int, strides)), 0, tuple(map(int, dilations)), int(groups))


def _gelu(x, *, mode):
    assert mode == "EXACT"
    return functional.gelu(x)


_UNARY = {
    "cast": lambda x, *, dtype: x.to(_TYPES[str(dtype)]),
    "conv": _conv,
    "gelu": _gelu,
    "leaky_relu": lambda x, *, alpha: functional.leaky_relu(x, float(alpha)),
    "linear": lambda x, *, weight, bias: functional.linear(x, weight, bias),
    "reduce_mean": lambda x, *, axes, keep_dims: x.mean(dim=tuple(map(int, axes)), keepdim=bool(keep_dims)),
    "relu": functional.relu,
    "relu6": functional.relu6,
    "sigmoid_hard": lambda x, *, alpha, beta: (float(alpha) * x + float(beta)).clamp(0, 1),
    "silu": functional.silu,
    "softmax": lambda x, *, axis: x.softmax(dim=int(axis)),
}
