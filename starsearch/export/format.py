"""What an export format is. The files of `starsearch.export.formats` define them in `FORMATS`.

A format's file imports torch, onnx and the like inside its functions: `starsearch --help` reads them all.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.errors import ExportError
from starsearch.files import written_whole
from starsearch.resolution import Resolution

if TYPE_CHECKING:
    from starsearch.data.preprocessing import Preprocessing
    from starsearch.export.weights import FloatArray
    from starsearch.families.network import Network
    from starsearch.measurement import Measurement, Reading

CARD_FILE = "README.md"
export_written_whole = functools.partial(
    written_whole,
    what="the export",
    error=ExportError,
    advice="Free some space there, or choose another folder.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """A network to export, with what formats and the model card say of it; the card leaves out what is empty.

    Attributes:
        model: the network as it was trained; formats leave it as it is.
        source: where its weights come from, in words: "trial 7 of study flowers", "random weights".
        origin: the same for the metadata of files: study, trial, architecture.
        preprocessing: what an image goes through before the network sees it.
        class_names: the classes of its outputs, in their order.
        formats: names of the formats it is exported in, together.
        multiple: the number of channels that an ONNX file's are padded to a multiple of; None leaves them.
        dynamic_batch: whether an ONNX file takes any number of images at once.
        is_trained: whether its weights are of any use.
        calibration: draws images it was trained on, normalised, each (1, 3, height, width).
        judge: measures a graph of it in 8-bit integers: its accuracy and its time, a sentence each.
        anchor: its published name.
        hub: the repository USER/NAME into which it is put; "" for none.
        data: what it was trained on.
        latency_resolution: the resolution in pixels that `latencies` and MACs are about.
    """

    model: Network
    source: str
    origin: Mapping[str, str] = field(default_factory=dict)
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()
    formats: Collection[str] = ("timm",)
    multiple: int | None = None
    dynamic_batch: bool = False
    is_trained: bool = True
    calibration: Callable[[], Iterable[FloatArray]] | None = None
    judge: Callable[[bytes], Sequence[str]] | None = None
    anchor: str | None = None
    hub: str = ""
    data: str | None = None
    recipe: Mapping[str, object] = field(default_factory=dict)
    fidelity: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    accuracies: tuple[Measurement, ...] = ()
    latencies: tuple[Reading, ...] = ()
    latency_resolution: Resolution = 224

    @property
    def metadata(self) -> dict[str, str]:
        """Origin, preprocessing and class names, as files of weights have them."""
        from starsearch.data.preprocessing import Validated

        return {**self.origin, **Validated(preprocessing=self.preprocessing, classes=self.class_names).metadata()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A form in which a network is exported.

    Attributes:
        name: what `--format` calls it.
        help: a line for `starsearch export --help`.
        file: the file or folder it writes into the export's folder; "." is that folder itself, as a whole.
        write: writes the network at a path that is not there yet; returns notes for the user.
        read_back: reads what `write` wrote; raises `ExportError` where it is not the network; returns notes.
        check: raises `ExportError` where a path cannot be written, or a package is not installed.
        options: the options of `starsearch export` that it follows: "--data", "--dynamic-batch", "--pad".
        needs_data: whether it cannot be written without a data set.
        scripts: files of `export/beside` that are put beside it.
    """

    name: str
    help: str
    file: str
    write: Callable[[TrainedNetwork, Path], Sequence[str]]
    read_back: Callable[[TrainedNetwork, Path], Sequence[str]]
    check: Callable[[Path], object] = lambda _: None
    options: frozenset[str] = frozenset()
    needs_data: bool = False
    scripts: tuple[str, ...] = ()


def write_format(
    network: TrainedNetwork,
    form: Format,
    folder: Path,
    *,
    computing: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> tuple[list[Path], list[str]]:
    """Write a network into a folder, read back before it takes its place; return the files, and notes for the user.

    Args:
        network: what to write.
        form: the format.
        folder: the export's folder.
        computing: a context for heavy work, in which nothing is timed on this machine.

    Raises:
        ExportError: it cannot be written, or does not read back as the network.
    """
    path, names, outputs = folder / form.file, network.class_names, network.model.num_classes
    if names and len(names) != outputs:
        raise ExportError(f"The model has {outputs} outputs; {len(names)} class names were given.")
    form.check(path)
    with export_written_whole(path) as partial:
        with computing():
            notes = [*form.write(network, partial)]
        notes += form.read_back(network, partial)
    for name in form.scripts:
        write_text(folder / name, script(name))
    written = [path] if path != folder else sorted(folder.iterdir())
    return [*written, *(folder / name for name in form.scripts)], [f"{form.file}: {note}" for note in notes]


def write_text(path: Path, text: str) -> None:
    """Write a text file of an export."""
    with export_written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def script(name: str) -> str:
    """Return the text of a script that lies beside an export and needs no starsearch."""
    return (Path(__file__).parent / "beside" / name).read_text(encoding="utf-8")
