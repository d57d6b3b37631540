"""The formats a trained network can be exported in: what each writes, checks and has to say about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.errors import ExportError, did_you_mean
from starsearch.progress import follow

if TYPE_CHECKING:
    from starsearch.data import DataSet
    from starsearch.data.preprocessing import Preprocessing
    from starsearch.export import CardFacts
    from starsearch.export.coreml_program import Precision
    from starsearch.export.weights import FloatArray
    from starsearch.families.layers import Layer
    from starsearch.families.network import Network
    from starsearch.recipe import Fidelity


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """A trained network with all that a format may want to know of it.

    Attributes:
        model: as it was trained.
        facts: for the model card.
        class_names: of its outputs, in their order.
        origin: where it comes from, for files that hold metadata: study, trial, architecture.
        fidelity: that it is validated at.
        data: that it was trained on, where one of the formats `USES_DATA` and it is there; else None.
        pad: whether channels may be padded, where that is faster on this machine.
        dynamic_batch: whether an ONNX file takes any number of images at once.
        is_trained: whether its weights are of any use.
    """

    model: Network
    facts: CardFacts
    class_names: tuple[str, ...]
    origin: Mapping[str, str]
    fidelity: Fidelity
    data: DataSet | None = None
    pad: bool = True
    dynamic_batch: bool = False
    is_trained: bool = True

    @property
    def preprocessing(self) -> Preprocessing:
        """What images go through before the network sees them."""
        return self.facts.preprocessing

    @property
    def metadata(self) -> dict[str, str]:
        """Origin, preprocessing and class names, as files of weights have them."""
        from starsearch.data.preprocessing import Validated

        validated = Validated(preprocessing=self.preprocessing, classes=self.class_names)
        return {**self.origin, **validated.metadata()}

    @property
    def card(self) -> str:
        """The text of the model card."""
        from starsearch.export import model_card

        return model_card(self.model.architecture, self.facts)

    def lower(self) -> tuple[tuple[Layer, ...], dict[str, FloatArray]]:
        """The layers of the network as it was trained, and its weights."""
        from starsearch.export import state_dict_arrays

        return self.model.lower(resolution=self.preprocessing.resolution), state_dict_arrays(self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a format's writer has left in the folder.

    Attributes:
        files: written, each read back and checked.
        notes: what was chosen or measured on the way, a sentence each.
        load: the Python line that loads it with timm; None for other formats.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    load: str | None = None


def write_timm(trained: TrainedNetwork, folder: Path) -> Written:
    """The folder itself, as timm loads it; what else is in it is replaced, so this format comes first."""
    from starsearch.export import export_timm

    export_timm(
        trained.model,
        folder,
        preprocessing=trained.preprocessing,
        class_names=trained.class_names,
        card=trained.card,
    )
    needs = "import starsearch, timm" if trained.facts.needs_starsearch else "import timm"
    load = f"{needs}; model = timm.create_model('local-dir:{folder}', pretrained=True)"
    return Written(files=tuple(sorted(folder.iterdir())), load=load)


def write_onnx(trained: TrainedNetwork, folder: Path) -> Written:
    """model.onnx in float32, with padded channels where that is faster on this machine."""
    from starsearch.export import export_onnx
    from starsearch.export.timm import ONNX_FILE

    multiple, notes = _choose_padding(trained) if trained.pad else (None, ())
    path = folder / ONNX_FILE
    export_onnx(
        trained.model,
        path,
        resolution=trained.preprocessing.resolution,
        metadata=trained.metadata,
        multiple=multiple,
        dynamic_batch=trained.dynamic_batch,
    )
    return Written(files=(path, _write_script(folder)), notes=notes)


def write_int8_onnx(trained: TrainedNetwork, folder: Path) -> Written:
    """model.int8.onnx, calibrated on training images, with its own top-1 and its time by float32's."""
    from starsearch.evaluators.int8 import calibration_images
    from starsearch.export.int8 import export_int8_onnx
    from starsearch.export.onnx import with_batch
    from starsearch.export.timm import INT8_FILE
    from starsearch.latency.lock import computing

    resolution, seed = trained.preprocessing.resolution, trained.facts.seed or 0
    assert trained.data is not None
    images = follow(calibration_images(trained.data, resolution=resolution, seed=seed))
    path = folder / INT8_FILE
    with computing():
        graph = export_int8_onnx(
            trained.model,
            path,
            images=images,
            resolution=resolution,
            metadata=trained.metadata,
            dynamic_batch=trained.dynamic_batch,
        )
    # Of random weights, or of other classes than the data's, a top-1 says nothing.
    judged = trained.is_trained and len(trained.data.classes) == trained.model.num_classes
    notes = [_int8_top1(trained, trained.data, graph, seed)] if judged else []
    notes += [_int8_latency(trained, with_batch(graph, 1))]
    return Written(files=(path, _write_script(folder)), notes=tuple(notes))


def _write_script(folder: Path) -> Path:
    """run_onnx.py, which classifies a picture by the file beside it."""
    from starsearch.export.files import export_written_whole
    from starsearch.export.timm import RUN_ONNX_SCRIPT, script

    with export_written_whole(folder / RUN_ONNX_SCRIPT) as partial:
        partial.write_text(script(RUN_ONNX_SCRIPT), encoding="utf-8")
    return folder / RUN_ONNX_SCRIPT


def write_coreml(trained: TrainedNetwork, folder: Path) -> Written:
    """model.mlpackage in half precision, with the normalisation and the class names inside."""
    from starsearch.export.timm import COREML_PACKAGE

    return _write_coreml(trained, folder / COREML_PACKAGE, "fp16")


def write_coreml_fp32(trained: TrainedNetwork, folder: Path) -> Written:
    """model.fp32.mlpackage, the same in single precision."""
    from starsearch.export.timm import COREML_FP32_PACKAGE

    return _write_coreml(trained, folder / COREML_FP32_PACKAGE, "fp32")


_NEEDS_COREMLTOOLS = frozenset({"coreml", "coreml-fp32"})
# In the order they are written in.
FORMATS: dict[str, Callable[[TrainedNetwork, Path], Written]] = {
    "timm": write_timm,
    "onnx": write_onnx,
    "onnx-int8": write_int8_onnx,
    "coreml": write_coreml,
    "coreml-fp32": write_coreml_fp32,
}
ONNX_FORMATS = ("onnx", "onnx-int8")
NEEDS_DATA = frozenset({"onnx-int8"})  # since it is calibrated
USES_DATA = NEEDS_DATA | {"coreml"}  # to see how large activations become, which in half precision have an end


def check_formats(names: Collection[str]) -> None:
    """Refuse formats that do not exist or that cannot be written here, before anything is written.

    Raises:
        ExportError: a format is not known, or a package that it takes is not installed.
    """
    for name in names:
        if name not in FORMATS:
            raise ExportError(f"Unknown format {name!r}.{did_you_mean(name, FORMATS)} Known: {', '.join(FORMATS)}.")
    if _NEEDS_COREMLTOOLS.intersection(names):
        from starsearch.export.coreml_library import load_coremltools

        load_coremltools()


def _write_coreml(trained: TrainedNetwork, path: Path, precision: Precision) -> Written:
    from starsearch.export.coreml import export_coreml

    images = None
    if trained.data is not None:
        from starsearch.evaluators.int8 import calibration_images

        resolution, seed = trained.preprocessing.resolution, trained.facts.seed or 0
        images = follow(calibration_images(trained.data, resolution=resolution, seed=seed))
    check = export_coreml(
        trained.model,
        path,
        resolution=trained.preprocessing.resolution,
        preprocessing=trained.preprocessing,
        class_names=trained.class_names,
        precision=precision,
        metadata=trained.metadata,
        images=images,
    )
    return Written(files=(path,), notes=(f"{path.name}: {check.text}.",))


def _choose_padding(trained: TrainedNetwork) -> tuple[int | None, tuple[str, ...]]:
    """The multiple to pad channels to, timed on this machine, and the choice in words."""
    import numpy as np

    from starsearch.latency.device import vector_width
    from starsearch.latency.padded import choose_padding

    layers, weights = trained.lower()
    choice = follow(choose_padding(layers, weights, multiple=vector_width(), rng=np.random.default_rng(0)))
    return choice.multiple, (f"model.onnx: {choice.text}",)


def _int8_top1(trained: TrainedNetwork, data: DataSet, graph: bytes, seed: int) -> str:
    from starsearch.evaluators.int8 import measure_onnx_top1

    top1 = follow(measure_onnx_top1(graph, data=data, fidelity=trained.fidelity, seed=seed))
    recorded = next((one.value for one in trained.facts.accuracies if one.name == "top1_percent"), None)
    against = "" if recorded is None else f", {recorded:.2f} % in float32"
    return f"model.int8.onnx: top-1 {top1.value:.2f} ± {top1.spread:.2f} % of {top1.runs:,} validation images{against}."


def _int8_latency(trained: TrainedNetwork, graph: bytes) -> str:
    import numpy as np

    from starsearch.export import build_onnx
    from starsearch.latency.backends.onnxruntime import OnnxRuntimeTimer
    from starsearch.latency.paired import COPIES, Copies, measure_paired

    rng = np.random.default_rng(0)
    graphs = graph, build_onnx(*trained.lower())
    int8, float32 = (Copies(partial(OnnxRuntimeTimer, onnx_bytes, rng=rng), COPIES) for onnx_bytes in graphs)
    paired = follow(measure_paired(int8, float32, rng=rng))
    return (
        f"model.int8.onnx: here it takes {paired.ratio:.2f} times as long as in float32 "
        f"(95 %: {paired.interval.low:.2f} to {paired.interval.high:.2f})."
    )
