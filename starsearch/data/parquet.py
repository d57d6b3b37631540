"""Parquet files as the Hugging Face hub has them, read in place by pyarrow.

An image costs the reading of its row group (100 rows in the hub's files), because Parquet compresses pages, not rows.
The library `datasets` would be quicker there, for it first writes everything uncompressed to its cache: another
150 GB for ImageNet. `starsearch data check` tells whether the reading keeps up with the training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from starsearch.data.listing import Listing, Source, SplitName, found_splits
from starsearch.data.names import find_split_files
from starsearch.data.reading import reason_of_file
from starsearch.data.shards import class_synsets
from starsearch.data.source import DataSource
from starsearch.data.stored import Integers
from starsearch.errors import DataError

_IMAGES, _LABELS = ("image", "img", "jpg", "jpeg", "png"), ("label", "labels", "fine_label", "cls")


def find_parquet(path: Path, _: DataSource) -> Source | None:
    """The data set of the folder's Parquet files (data/train-00000-of-00294.parquet, …); None where there are none.

    The image is a struct of `bytes` and `path`, or bytes; the class a number. Classes are called as the files'
    Hugging Face metadata says, else by the synset in the images' paths, else by their number.
    """
    found = find_split_files(path, ".parquet")
    splits: dict[SplitName, Sequence[Path]] = {**found}
    return found_splits(path, splits, lambda files: _list(path, files))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Which columns are read, and what the metadata calls the classes ((), where it does not).

    The images' bytes are in a field of their column where that is a struct; it may have a path beside them.
    """

    image: str
    is_struct: bool
    has_path: bool
    label: str
    classes: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """Where images and classes are."""
        place = f"{self.image}.bytes" if self.is_struct else self.image
        return f"images in {place}{' with paths' if self.has_path else ''} and classes in {self.label}"


@dataclass(eq=False)
class ParquetImages:
    """Reads the bytes of an index's image. No file stays open, so that processes may be forked.

    Attributes:
        files: that hold the rows.
        column: of the images' bytes, as "image.bytes".
        group_ends: (groups,), number of rows up to the end of each row group, counted through all files.
        group_files: (groups,), the file that a row group is in.
        group_numbers: (groups,), its number there.
    """

    files: tuple[Path, ...]
    column: str
    group_ends: Integers
    group_files: Integers
    group_numbers: Integers
    # The last row group: whoever reads in order, as validation does, finds the next image there.
    _held: dict[int, Any] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": {}}

    def __call__(self, index: int) -> bytes:
        """Return the image's encoded bytes.

        Raises:
            OSError: the row has none.
        """
        group = int(np.searchsorted(self.group_ends, index, side="right"))
        rows = self._held.get(group)
        if rows is None:
            rows = self._read(group)
            self._held.clear()
            self._held[group] = rows
        content: bytes | None = rows[index - int(self.group_ends[group])].as_py()  # from the group's end: negative
        if content is None:
            raise OSError("the row has no bytes")
        return content

    def _read(self, group: int) -> Any:
        import pyarrow.parquet as pq

        file, number = self.files[self.group_files[group]], int(self.group_numbers[group])
        with pq.ParquetFile(file) as opened:
            # In this thread alone: pyarrow's pool does not live on in a forked process.
            table = opened.read_row_group(number, columns=[self.column], use_threads=False)
        column = table.column(0).combine_chunks()
        return column.field("bytes") if "." in self.column else column


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What one file holds: classes of its rows, their images' own paths ("" for none), lengths of its row groups."""

    path: Path
    targets: Integers
    image_paths: Sequence[str]
    group_lengths: Sequence[int]

    @property
    def names(self) -> list[str]:
        """Of the rows, for messages."""
        rows = enumerate(self.image_paths)
        return [f"{self.path.name} row {row}" + (f" {path}" if path else "") for row, path in rows]


def _list(path: Path, files: Sequence[Path]) -> Listing:
    columns = _columns(path, files[0])
    for file in files[1:]:
        _check_columns(path, file, columns, first=files[0])
    found = [_read_file(path, file, columns) for file in files]
    targets = np.concatenate([file.targets for file in found])
    if not len(targets):
        raise DataError(f"There are no images in the Parquet files of {path.name!r} ({files[0].name}, …).")
    classes, numbered = _class_names(path, columns, [name for file in found for name in file.image_paths], targets)
    return Listing(
        classes=classes,
        targets=targets,
        names=[name for file in found for name in file.names],
        # The files' sizes stand for those of the images, which are known only once they are read.
        sizes=[file.path.stat().st_size if row == 0 else 0 for file in found for row in range(len(file.targets))],
        content=_reader(columns, found),
        numbered=numbered,
    )


def _reader(columns: _Columns, found: Sequence[_File]) -> ParquetImages:
    groups = [
        (length, number, group) for number, file in enumerate(found) for group, length in enumerate(file.group_lengths)
    ]
    lengths, files, numbers = np.array(groups, dtype=np.int64).T
    return ParquetImages(
        files=tuple(file.path for file in found),
        column=f"{columns.image}.bytes" if columns.is_struct else columns.image,
        group_ends=np.cumsum(lengths),
        group_files=files,
        group_numbers=numbers,
    )


def _class_names(
    path: Path, columns: _Columns, image_paths: Sequence[str], targets: Integers
) -> tuple[tuple[str, ...], bool]:
    """What the classes are called, and whether that is but their numbers."""
    lowest, highest = int(targets.min()), int(targets.max())
    if lowest < 0:
        raise DataError(
            f"{int((targets < 0).sum()):,} images in the Parquet files of {path.name!r} have class {lowest}, which is "
            "how the hub marks images whose classes are not given away; such a split cannot be used."
        )
    if columns.classes:
        if highest >= len(columns.classes):
            raise DataError(
                f"The Parquet files of {path.name!r} name {len(columns.classes)} classes but say class {highest}."
            )
        return columns.classes, False
    synsets = class_synsets(image_paths, targets.tolist())
    return (synsets, False) if synsets else (tuple(str(number) for number in range(highest + 1)), True)


def _columns(path: Path, file: Path) -> _Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(path, file):
        schema = pq.read_schema(file)
    features = _features(schema.metadata or {})
    image = _one_of(_IMAGES, schema.names, [name for name, kind in features.items() if kind["_type"] == "Image"])
    label = _one_of(_LABELS, schema.names, [name for name, kind in features.items() if kind["_type"] == "ClassLabel"])
    if image is None or label is None:
        raise DataError(
            f"{path.name}/{file.name} shall have a column of images ({', '.join(_IMAGES)}) and one of classes "
            f"({', '.join(_LABELS)}); it has {', '.join(schema.names)}."
        )
    kind = schema.field(image).type
    fields = {kind.field(place).name for place in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
    names = features.get(label, {}).get("names")
    return _Columns(
        image=image,
        is_struct="bytes" in fields,
        has_path={"bytes", "path"} <= fields,
        label=label,
        classes=tuple(str(name) for name in names) if isinstance(names, list) else (),
    )


def _check_columns(path: Path, file: Path, columns: _Columns, *, first: Path) -> None:
    """Refuse a further file of a split that does not say the same in the same columns; its class names may be absent.

    Raises:
        DataError: naming both files.
    """
    theirs = _columns(path, file)
    if theirs.in_words != columns.in_words:
        raise DataError(
            f"The Parquet files of a split shall have the same columns; {path.name}/{file.name} has {theirs.in_words}, "
            f"{first.name} has {columns.in_words}. Write them alike, or remove what belongs to another data set."
        )
    if theirs.classes and columns.classes and theirs.classes != columns.classes:
        raise DataError(
            f"{path.name}/{file.name} names other classes than {first.name}, or in another order, so that their "
            "numbers do not say the same. Write both with the same names."
        )


def _one_of(usual: Sequence[str], there: Sequence[str], said: Sequence[str]) -> str | None:
    """The column that the metadata says, or one of a usual name; the usual one where the metadata says several."""
    candidates = said or there
    return next((name for name in usual if name in candidates), said[0] if len(said) == 1 else None)


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """The features that the library `datasets` has written into the schema, by column; none where it has not."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: kind for name, kind in features.items() if isinstance(kind, dict) and "_type" in kind}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _read_file(path: Path, file: Path, columns: _Columns) -> _File:
    import pyarrow.parquet as pq

    wanted = [columns.label, *([f"{columns.image}.path"] if columns.has_path else [])]
    with _readable(path, file), pq.ParquetFile(file) as opened:
        table = opened.read(columns=wanted, use_threads=False)
        about = opened.metadata
        lengths = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    labels = table.column(columns.label)
    if labels.null_count:
        raise DataError(f"{path.name}/{file.name} has {labels.null_count} rows without a class ({columns.label}).")
    with _readable(path, file):
        targets = labels.to_numpy().astype(np.int64, casting="same_kind")
    paths: list[str | None] = [None] * len(targets)
    if columns.has_path:
        paths = table.column(columns.image).combine_chunks().field("path").to_pylist()
    return _File(
        path=file,
        targets=targets,
        image_paths=[image or "" for image in paths],
        group_lengths=lengths,
    )


@contextmanager
def _readable(path: Path, file: Path) -> Iterator[None]:
    """Whatever pyarrow says of a file, as a `DataError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, TypeError) as error:
        raise DataError(f"{path.name}/{file.name} cannot be read as Parquet: {reason_of_file(file, error)}") from error
