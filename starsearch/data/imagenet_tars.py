"""ImageNet as its original tars, read in place: 150 GB need not be unpacked into 1.3 million files.

timm reads the training tar too, but keeps it open, so that forked workers share its position; of the validation tar,
which has no classes, it knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from starsearch.data.devkit import Devkit, read_devkit
from starsearch.data.image_index import ImageIndex, kept_index, opened_tar
from starsearch.data.listing import Listing, Source, SplitName
from starsearch.data.names import in_order, is_hidden, is_image
from starsearch.data.source import DataSource
from starsearch.errors import DataError

TRAIN, VALIDATION, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
_WHAT = {TRAIN: "the training images", VALIDATION: "the validation images", DEVKIT: "the validation images' classes"}


def find_imagenet_tars(path: Path, _: DataSource) -> Source | None:
    """The data set of ImageNet's original tars; None where none of the files is there.

    Names, order, classes and the fingerprint are those of the same images in class folders.
    """
    if not any((path / name).is_file() for name in _WHAT):
        return None

    def list_split(split: SplitName) -> Listing:
        # Before minutes go into the training images: those of validation will be wanted too.
        _check_complete(path, (TRAIN, VALIDATION, DEVKIT) if split == "train" else (VALIDATION, DEVKIT))
        return _list_train(path) if split == "train" else _list_validation(path)

    return Source(name=path.name, splits=frozenset({"train", "validation"}), list_split=list_split)


def _check_complete(path: Path, wanted: Sequence[str]) -> None:
    if missing := [name for name in wanted if not (path / name).is_file()]:
        there = ", ".join(name for name in _WHAT if name not in missing)
        raise DataError(
            f"ImageNet's original files in {path.name!r} are not complete: it lacks "
            f"{' and '.join(f'{name} ({_WHAT[name]})' for name in missing)}{f'; it has {there}' if there else ''}. "
            "Fetch what is missing from image-net.org, of ILSVRC 2012, into the same folder."
        )


def _list_train(path: Path) -> Listing:
    tar = path / TRAIN
    index = kept_index(path / "starsearch-index-train.npz", [tar], lambda: _index_train(f"{path.name}/{TRAIN}", tar))
    return index.listing(sorted({_synset(name) for name in index.names}))


def _index_train(name: str, tar: Path) -> ImageIndex:
    """A tar of class tars: an image's place is its class tar's place and its place therein."""
    import tarfile

    found: list[tuple[str, int, int]] = []
    with opened_tar(name, tar) as outer:
        for class_tar in outer:
            if not class_tar.name.endswith(".tar"):
                continue
            synset, content = Path(class_tar.name).stem, outer.extractfile(class_tar)
            assert content is not None  # not a link: those have no content
            with tarfile.open(fileobj=content, mode="r:") as inner:
                images = [
                    (f"{synset}/{Path(member.name).name}", class_tar.offset_data + member.offset_data, member.size)
                    for member in inner
                    if member.isfile() and is_image(member.name) and not is_hidden(member.name)
                ]
            if not images:
                raise DataError(f"The class tar {class_tar.name} in {name} has no images.")
            found += images
    if not found:
        raise DataError(f"{name} holds no class tars (n01440764.tar …); it is not ImageNet's.")
    return _in_order(tar, found)


def _list_validation(path: Path) -> Listing:
    tar, kit = path / VALIDATION, read_devkit(f"{path.name}/{DEVKIT}", path / DEVKIT)
    name = f"{path.name}/{VALIDATION}"
    # By name only: which class an image has comes from another file, that may change.
    flat = kept_index(path / "starsearch-index-validation.npz", [tar], lambda: _index_validation(name, tar))
    index = _with_classes(name, tar, flat, kit)
    return index.listing(sorted({_synset(name) for name in index.names}))


def _index_validation(name: str, tar: Path) -> ImageIndex:
    with opened_tar(name, tar) as opened:
        found = [
            (Path(member.name).name, 0, member.offset_data, member.size, 0)
            for member in opened
            if member.isfile() and is_image(member.name) and not is_hidden(member.name)
        ]
    if not found:
        raise DataError(f"There are no images in {name}.")
    return ImageIndex.of([tar], sorted(found))


def _with_classes(name: str, tar: Path, flat: ImageIndex, kit: Devkit) -> ImageIndex:
    if len(flat.names) != len(kit.ground_truth):
        raise DataError(
            f"{name} holds {len(flat.names):,} images but {DEVKIT} tells the classes of {len(kit.ground_truth):,}: one "
            "of the two is cut off or not of ILSVRC 2012."
        )
    synsets = [kit.synsets[number] for number in kit.ground_truth]
    named = [f"{synset}/{image}" for synset, image in zip(synsets, flat.names, strict=True)]
    return _in_order(tar, list(zip(named, flat.images.starts.tolist(), flat.images.sizes.tolist(), strict=True)))


def _in_order(tar: Path, found: Sequence[tuple[str, int, int]]) -> ImageIndex:
    """Images (SYNSET/NAME, start, size) in the order that timm has for folders; classes in that of their synsets."""
    places = {name: (start, size) for name, start, size in found}
    index = ImageIndex.of([tar], [(name, 0, *places[name], 0) for name in in_order(places)])
    synsets = [_synset(name) for name in index.names]
    numbers = {synset: number for number, synset in enumerate(sorted(set(synsets)))}
    return replace(index, targets=np.array([numbers[synset] for synset in synsets], dtype=np.int64))


def _synset(name: str) -> str:
    return name.partition("/")[0]
