"""Formats whose converter is another project's: a folder with the network, what it is, and a script that runs it."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starsearch.errors import ExportError, first_line
from starsearch.export.format import Format, TrainedNetwork, script
from starsearch.resolution import sides

RUN_SCRIPT, ABOUT_FILE = "run.py", "about.json"
Converter = Callable[[TrainedNetwork, Any, Any, Path], object]


def _runtime_format(name: str, about: str, file: str, needs: tuple[str, str], convert: Converter) -> Format:
    """Return a format of its own folder, in which `file` is the network for images (1, 3, height, width) in float32.

    Args:
        needs: the module that `convert` imports, and the package that pip installs it from.
        convert: writes the network, given it in evaluation mode on the CPU and an image, at a path.
    """
    module, package = needs

    def check(_: Path) -> None:
        if find_spec(module) is None:
            raise ExportError(f"{name} needs {package}: pip install {package}, best in an environment of its own.")

    def write(network: TrainedNetwork, folder: Path) -> Sequence[str]:
        import torch

        from starsearch.export.verification import deployed_copy

        size = network.model.in_chans, *sides(network.preprocessing.resolution)
        model, image = deployed_copy(network.model), torch.zeros(1, *size)
        folder.mkdir()
        try:
            with _quiet():
                convert(network, model, image, folder / file)
        except OSError:
            raise
        except Exception as error:  # the converters raise what they like
            raise ExportError(f"{package} cannot convert the network: {first_line(error)}") from error
        read = {key: json.loads(network.metadata[key]) for key in ("preprocessing", "class_names")}
        (folder / ABOUT_FILE).write_text(json.dumps({**network.origin, **read}, indent=2) + "\n", encoding="utf-8")
        (folder / RUN_SCRIPT).write_text(script("run_onnx.py"), encoding="utf-8")
        return ()

    return Format(name=name, help=about, file=name, check=check, write=write, read_back=_read_back)


def _read_back(network: TrainedNetwork, folder: Path) -> Sequence[str]:
    """Compare with the model's the logits that the script beside the file computes."""
    import numpy as np

    from starsearch.export import verification as verified

    images = verified.random_images(network.preprocessing.resolution, channels=network.model.in_chans)
    try:
        with _quiet():
            answer, _ = runpy.run_path(str(folder / RUN_SCRIPT))["load"](next(folder.glob("model.[!b]*")))
            found = np.concatenate([answer(image) for image in np.split(images, len(images))])
    except Exception as error:  # the runtimes share no base class
        raise ExportError(f"The exported file does not run: {first_line(error)}") from error
    expected = verified.torch_logits(verified.deployed_copy(network.model), images)
    difference = verified.relative_difference(found, expected, what=f"{folder.name} file")
    verified.refuse_difference(difference, verified.TOLERANCE, what=f"{folder.name} file")
    return (f"read back and run: logits within {difference:.0e} of their spread from the model's.",)


@contextlib.contextmanager
def _quiet() -> Any:
    """Use a converter without what it says of its steps, and of newer libraries."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _convert_pt2(_: TrainedNetwork, model: Any, image: Any, path: Path) -> None:
    import torch

    torch.export.save(torch.export.export(model, (image,)), path)


def _convert_openvino(network: TrainedNetwork, _model: Any, _image: Any, path: Path) -> None:
    """Write what OpenVINO makes of the network's ONNX graph, whose batch norms are folded."""
    import openvino

    from starsearch.export.onnx import build_onnx
    from starsearch.export.weights import state_dict_arrays

    layers = network.model.lower(resolution=network.preprocessing.resolution)
    read = openvino.Core().read_model(build_onnx(layers, state_dict_arrays(network.model)))
    openvino.save_model(read, path, compress_to_fp16=False)


def _convert_litert(_: TrainedNetwork, model: Any, image: Any, path: Path) -> None:
    import litert_torch

    litert_torch.convert(model, (image,)).export(str(path))


def _convert_executorch(_: TrainedNetwork, model: Any, image: Any, path: Path) -> None:
    """Write the program, its convolutions handed over to XNNPACK."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(torch.export.export(model, (image,)), partitioner=[XnnpackPartitioner()])
    path.write_bytes(edge.to_executorch().buffer)


# Name, help, file, the module that converts with the package it is from, and how.
_ROWS: tuple[tuple[str, str, str, tuple[str, str], Converter], ...] = (
    (
        "executorch",
        "ExecuTorch's .pte with XNNPACK, in float32",
        "model.pte",
        ("executorch", "executorch"),
        _convert_executorch,
    ),
    ("litert", "LiteRT's .tflite, in float32", "model.tflite", ("litert_torch", "litert-torch"), _convert_litert),
    ("openvino", "OpenVINO's, in float32", "model.xml", ("openvino", "openvino"), _convert_openvino),
    ("pt2", "a program of torch.export", "model.pt2", ("torch", "torch"), _convert_pt2),
)
FORMATS = tuple(_runtime_format(*row) for row in _ROWS)
