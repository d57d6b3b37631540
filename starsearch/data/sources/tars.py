"""Images in tars, read in place: class folders in two tars, ImageNet's original tars, and WebDataset shards.

Each image is found once and then read by its place. 150 GB of ImageNet need not be unpacked into 1.3 million files,
and shards need not be streamed: a stream has no subsets balanced over classes, no resuming in the same order, and no
equal shares for the ranks of a training. What streaming spares, a seek for each image, costs nothing beside decoding a
JPEG on local disks; shards elsewhere are streamed by timm ("wds/NAME").
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsearch.data.dataset import Source, Split, SplitName
from starsearch.data.decoding import reason_of_file
from starsearch.data.names import (
    assign_splits,
    check_links,
    class_synsets,
    classes_of_images,
    find_split_files,
    image_suffixes,
    images_and_others,
    in_order,
    is_hidden,
    is_image,
    no_images,
    split_of_folder,
    visible,
)
from starsearch.data.source import ClassFolder, DataSource
from starsearch.errors import DataError
from starsearch.files import written_whole

TRAIN, VALIDATION, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
FORM = (
    f"a folder with train.tar and validation.tar of class folders; with ImageNet's original {TRAIN}, {VALIDATION} and "
    f"{DEVKIT}; or with WebDataset shards (NAME-train-0000.tar …, NAME-validation-0000.tar …)"
)
_ORIGINALS = {
    TRAIN: "the training images",
    VALIDATION: "the validation images",
    DEVKIT: "the validation images' classes",
}
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_INDEX_VERSION = 3
_MOST_CLASSES = 1_000_000
Row = tuple[str, int, int, int, int]  # an image's name, number of its tar, start, size, class


def find(asked: DataSource) -> Source | None:
    """Return the data set of the folder's tars; one tar for each split comes before many."""
    root = asked.folder
    if root is None:
        return None
    tars = (file for file in visible(root) if file.suffix == ".tar" and not file.is_dir())
    named = assign_splits(root.name, ((split, tar.name, tar) for tar in tars if (split := split_of_folder(tar.stem))))
    if named:
        found = {split: partial(_list_folders, root, split, tar, asked.classes) for split, tar in named.items()}
        return Source(name=root.name, splits=found, options=frozenset({"classes"}))
    if any((root / name).is_file() for name in _ORIGINALS):
        return Source(
            name=root.name,
            splits={"train": partial(_list_original_train, root), "validation": partial(_list_original_val, root)},
        )
    shards = find_split_files(root, ".tar")
    splits = {split: partial(_list_shards, root, split, files) for split, files in shards.items()}
    return Source(name=root.name, splits=splits) if splits else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """Where each image lies; reads them. A tar is opened for each, so that forked processes share nothing.

    `places` is (4, n): number of the tar, start and size in bytes, class (0 where the name tells it).
    """

    tars: Sequence[Path]
    names: list[str]
    places: NDArray[np.int64]
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, tars: Sequence[Path], rows: Sequence[Row], left_out: Mapping[str, int]) -> _Index:
        places = np.array([row[1:] for row in rows], dtype=np.int64).T
        return cls(tars=tars, names=[row[0] for row in rows], places=places, left_out=left_out)

    def __call__(self, index: int) -> bytes:
        tar, start, size, _ = self.places[:, index]
        return _read(self.tars[tar], int(start), int(size))

    def size_of(self, index: int) -> int:
        return int(self.places[2, index])

    def split(
        self, split: SplitName, classes: Sequence[str], targets: NDArray[np.int64], *, numbered: bool = False
    ) -> Split:
        return Split(
            name=split,
            classes=tuple(classes),
            targets=targets,
            names=self.names,
            content=self,
            size_of=self.size_of,
            numbered=numbered,
            left_out=self.left_out,
        )


def _read(file: Path, start: int, size: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read(size)


def _kept_index(root: Path, split: SplitName, tars: Sequence[Path], build: Callable[[], _Index]) -> _Index:
    """Return the index kept beside the tars if it is of just these, else a new one, kept if the folder can be written.

    Reading every member's header of ImageNet's tars takes minutes and each process of a training would do it again.
    The file holds arrays and text only (no pickle), as it may come with a data set from anywhere.
    """
    check_links(tars)
    file = root / f"starsearch-index-{split}.npz"
    rule = [_INDEX_VERSION, sorted(image_suffixes())]  # an index made by another rule is of other images
    about = json.dumps([*rule, *([tar.name, tar.stat().st_size, tar.stat().st_mtime_ns] for tar in tars)])
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(file) as kept:
        texts = {name: bytes(kept[name]).decode() for name in ("about", "names", "left_out")}
        names, places = texts["names"].split("\n"), kept["places"]
        if texts["about"] == about and places.shape == (4, len(names)) and 0 <= places[0].max() < len(tars):
            return _Index(tars=tars, names=names, places=places, left_out=json.loads(texts["left_out"]))
    index = build()
    texts = {"about": about, "names": "\n".join(index.names), "left_out": json.dumps(index.left_out)}
    arrays: dict[str, Any] = {name: np.frombuffer(text.encode(), dtype=np.uint8) for name, text in texts.items()}
    with suppress(DataError), written_whole(file, error=DataError) as new, new.open("wb") as stream:  # else read-only
        np.savez(stream, places=index.places, **arrays)
    return index


def _files_of(name: str, tar: Path) -> list[tuple[str, int, int]]:
    """Return the files of a tar that are not hidden: path, start, size; a tar inside it stands for a folder."""
    try:
        with tarfile.open(tar, "r:") as opened:
            return list(_walk(opened))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"{name} cannot be read as an uncompressed tar: {reason_of_file(tar, error)}. Fetch it again, or unpack "
            "what compresses it."
        ) from error


def _walk(opened: tarfile.TarFile, folder: str = "", begin: int = 0) -> Iterator[tuple[str, int, int]]:
    for member in opened:
        if not member.isfile() or is_hidden(member.name):
            continue
        if member.name.endswith(".tar") and not folder:
            with tarfile.open(fileobj=opened.extractfile(member), mode="r:") as inner:
                yield from _walk(inner, f"{member.name.removesuffix('.tar')}/", begin + member.offset_data)
        else:
            yield f"{folder}{member.name}", begin + member.offset_data, member.size


# ---- Class folders in a tar


def _list_folders(root: Path, split: SplitName, tar: Path, choice: ClassFolder | None) -> Split:
    """List a tar of class folders; which class an image has depends on how it is read, so the index has none."""
    name = f"{root.name}/{tar.name}"
    index = _kept_index(root, split, [tar], partial(_index_images, name, tar))
    return index.split(split, *classes_of_images(name, index.names, choice))


def _index_images(name: str, tar: Path) -> _Index:
    places = {file: (0, start, size, 0) for file, start, size in _files_of(name, tar)}
    names, left_out = images_and_others(places)
    if not names:
        raise no_images(name, left_out)
    return _Index.of([tar], [(file, *places[file]) for file in names], left_out)


# ---- ImageNet's original files. Names, order, classes and fingerprint are those of the unpacked class folders. timm
# reads the training tar too, but keeps it open, so that forked workers share its position; it cannot read the
# validation tar, which says no classes.


def _list_original_train(root: Path) -> Split:
    # Checked before minutes go into the training images: those of validation will be wanted too.
    _check_complete(root, (TRAIN, VALIDATION, DEVKIT))
    return _list_folders(root, "train", root / TRAIN, "outermost")


def _list_original_val(root: Path) -> Split:
    _check_complete(root, (VALIDATION, DEVKIT))
    tar, name = root / VALIDATION, f"{root.name}/{VALIDATION}"
    synsets = _read_devkit(f"{root.name}/{DEVKIT}", root / DEVKIT)
    flat = _kept_index(root, "validation", [tar], partial(_index_images, name, tar))
    if len(flat.names) != len(synsets):
        raise DataError(
            f"{name} holds {len(flat.names):,} images but {DEVKIT} tells the classes of {len(synsets):,}: one of the "
            "two is cut off or not of ILSVRC 2012."
        )
    named = {
        f"{synset}/{Path(image).name}": place
        for synset, image, place in zip(synsets, flat.names, flat.places.T.tolist(), strict=True)
    }
    index = _Index.of([tar], [(image, *named[image]) for image in in_order(named)], flat.left_out)
    return index.split("validation", *classes_of_images(name, index.names, "outermost"))


def _check_complete(root: Path, wanted: Sequence[str]) -> None:
    if missing := [name for name in wanted if not (root / name).is_file()]:
        there = ", ".join(name for name in _ORIGINALS if name not in missing)
        raise DataError(
            f"ImageNet's original files in {root.name!r} are not complete: it lacks "
            f"{' and '.join(f'{name} ({_ORIGINALS[name]})' for name in missing)}"
            f"{f'; it has {there}' if there else ''}. Fetch what is missing from image-net.org, of ILSVRC 2012, into "
            "the same folder."
        )


def _read_devkit(name: str, path: Path) -> list[str]:
    """Return the synset of each validation image, in the order of their names.

    The development kit has numbers of its own, which are neither timm's nor Caffe's; its meta.mat tells their synsets.
    """
    from scipy.io import loadmat

    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                for end in (_META, _TRUTH):
                    if member.name.endswith(end) and (file := tar.extractfile(member)) is not None:
                        found[end] = file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{name} cannot be read as a tar: {error}. Fetch it again.") from error
    if lacking := [end for end in (_META, _TRUTH) if end not in found]:
        raise DataError(f"{name} does not hold {' and '.join(lacking)}; it is not ImageNet's development kit of 2012.")
    try:
        rows: Any = loadmat(io.BytesIO(found[_META]), squeeze_me=True)["synsets"]
        leaves = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if int(row["num_children"]) == 0}
        return [leaves[int(line)] for line in found[_TRUTH].split()]
    except Exception as error:  # scipy raises what its readers stumble over: ValueError, TypeError, KeyError, …
        raise DataError(
            f"{_META} and {_TRUTH} in {name} cannot be read together: {type(error).__name__} {error}. Fetch it again."
        ) from error


# ---- WebDataset shards. A sample is the members of one key: its image KEY.jpg (or another suffix that Pillow reads)
# and its class as a number, in KEY.cls or as "label" in KEY.json; further images (KEY.seg.png) are left out.

Member = tuple[str, int, int]  # what follows the first dot of its file's name, where the key ends; start, size


def _list_shards(root: Path, split: SplitName, tars: Sequence[Path]) -> Split:
    """List shards; classes are named by the synset if the images' keys tell it (n01440764_10026), else numbered."""
    index = _kept_index(root, split, tars, partial(_index_shards, root, tars))
    targets = index.places[3]
    synsets = class_synsets(index.names, targets.tolist())
    numbers = tuple(str(number) for number in range(int(targets.max()) + 1))
    return index.split(split, synsets or numbers, targets, numbered=synsets is None)


def _index_shards(root: Path, tars: Sequence[Path]) -> _Index:
    rows: list[Row] = []
    left_out = Counter[str]()
    for number, tar in enumerate(tars):
        name = f"{root.name}/{tar.relative_to(root).as_posix()}"
        samples: defaultdict[str, list[Member]] = defaultdict(list)
        for path, start, size in _files_of(name, tar):
            folder, slash, file = path.removeprefix("./").rpartition("/")
            stem, _, extension = file.partition(".")
            samples[f"{folder}{slash}{stem}"].append((extension, start, size))
        for key, members in samples.items():
            images = [member for member in members if is_image(f"{key}.{member[0]}")]
            used = [_training_image(name, key, images, members)] if images else []
            if images:  # else a text beside the images, such as a README
                extension, start, size = used[0]
                rows.append((f"{key}.{extension}", number, start, size, _class_of(name, key, members, tar)))
            left_out.update(
                f".{extension.lower()}" if extension else ""
                for extension, *place in members
                if (extension, *place) not in used and extension not in ("cls", "json") and extension[-4:] != ".cls"
            )
    if not rows:
        raise DataError(f"There are no images in the shards of {root.name!r} ({tars[0].name}, …).")
    return _Index.of(tars, rows, left_out)


def _training_image(name: str, key: str, images: list[Member], members: list[Member]) -> Member:
    """Return the image to train on, KEY.jpg or the like; others, such as a mask in KEY.seg.png, are none."""
    candidates = [image for image in images if "." not in image[0]] or images
    class_files = [extension for extension, *_ in members if extension.rpartition(".")[2] == "cls"]
    if len(candidates) > 1 or len(class_files) > 1:
        extensions = [image[0] for image in candidates] + (class_files if len(class_files) > 1 else [])
        found = sorted(f"{key}.{extension}" for extension in extensions)
        raise DataError(
            f"{' and '.join(found[:4])}{' and more' if len(found) > 4 else ''} in {name} share the key {key!r}, which "
            "ends at the first dot of a file's name. Rename them if they are different samples; of one sample, name "
            f"the image to train on {key}.jpg (or .png …) and all others {key}.KIND.png."
        )
    if "." in candidates[0][0]:
        raise DataError(
            f"{key}.{candidates[0][0]} in {name} is not named as an image to train on: the key {key!r} ends at the "
            f"first dot of a file's name, and {key}.jpg (or .png …) is missing. Name the image {key}.jpg."
        )
    return candidates[0]


def _class_of(name: str, key: str, members: list[Member], tar: Path) -> int:
    """Return the number that KEY.cls says, else "label" in KEY.json, which may say all sorts of other things."""
    content = {extension: _read(tar, *place) for extension, *place in members if extension in ("cls", "json")}
    said: Any = None
    with suppress(ValueError, AttributeError):
        said = int(content["cls"]) if "cls" in content else json.loads(content.get("json", b"{}")).get("label")
    if isinstance(said, int) and 0 <= said < _MOST_CLASSES:
        return said
    if "cls" in content:
        raise DataError(f"{key}.cls in {name} must say a class as a number from 0; it says {content['cls'][:40]!r}.")
    raise DataError(f"{key} in {name} has no class: neither {key}.cls nor a number as 'label' in {key}.json.")
