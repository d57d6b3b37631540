"""Core ML packages in single precision, for networks whose activations are beyond half precision."""

from __future__ import annotations

import functools

from starsearch.export.format import Format
from starsearch.export.formats import coreml

FORMAT = Format(
    name="coreml-fp32",
    help="the same in single precision",
    file="model.fp32.mlpackage",
    check=coreml.FORMAT.check,
    write=functools.partial(coreml.write, precision="fp32"),
    read_back=functools.partial(coreml.read_back, precision="fp32"),
)
