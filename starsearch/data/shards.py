"""WebDataset shards on disk, with random access.

WebDataset is made for streaming: shards in random order, images shuffled within a window. Here each image is found
once and then read by its place, as from any other data set, because a stream cannot do what trainings and studies
need: subsets balanced over classes, the same order again after a resume, and equal shares for the ranks of a
distributed training. What streaming spares, a seek an image, costs nothing beside decoding a JPEG on local disks;
shards elsewhere are streamed by timm ("wds/NAME").
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from starsearch.data.image_index import ImageIndex, is_image, kept_index, opened_tar
from starsearch.data.listing import Listing, Source, SplitName, found_splits
from starsearch.data.split_files import find_split_files
from starsearch.errors import DataError

_MOST_CLASSES = 1_000_000
_SYNSET = re.compile(r"(?:^|_)(n\d{8})(?=_|$)")


def find_shards(path: Path) -> Source | None:
    """The data set of the folder's shards (imagenet1k-train-0000.tar, …); None where there are none.

    A sample is the members of one key: KEY.jpg (jpeg, png, webp) and its class as a number, in KEY.cls or as "label"
    in KEY.json. Classes are called by their number, or by the synset where the training images' keys tell it
    (n01440764_10026). The index of a split is kept beside the shards.
    """
    found = find_split_files(path, ".tar")
    splits = {split: (split, tars) for split, tars in found.items()}
    return found_splits(path, splits, lambda entry: _list(path, *entry))


def _list(path: Path, split: SplitName, tars: Sequence[Path]) -> Listing:
    index = kept_index(path / f"starsearch-index-{split}.npz", tars, lambda: _index(path, tars))
    classes = class_synsets(index.names, index.targets.tolist())
    numbers = tuple(str(number) for number in range(int(index.targets.max()) + 1))
    return index.listing(classes or numbers, numbered=classes is None)


def class_synsets(names: Sequence[str], targets: Sequence[int]) -> tuple[str, ...] | None:
    """The synset of each class, as the names of its images tell it; None where they do not, or contradict each other.

    Args:
        names: of the images, as "n01440764_10026" or "ILSVRC2012_val_00000293_n01440764".
        targets: their classes.
    """
    synsets: dict[int, str] = {}
    for name, target in zip(names, targets, strict=True):
        found = _SYNSET.search(Path(name).name.partition(".")[0])
        if found is None or synsets.setdefault(target, found[1]) != found[1]:
            return None
    if set(synsets) != set(range(len(synsets))) or len(set(synsets.values())) < len(synsets):
        return None
    return tuple(synsets[number] for number in range(len(synsets)))


@dataclass(slots=True)
class _Sample:
    """What was found of one key: its image's name and place, and its class."""

    image: tuple[str, int, int] | None = None
    target: int | None = None


def _index(path: Path, tars: Sequence[Path]) -> ImageIndex:
    rows = []
    for number, tar in enumerate(tars):
        name = f"{path.name}/{tar.relative_to(path).as_posix()}"
        rows += [(image, number, start, size, target) for image, start, size, target in _samples(name, tar)]
    if not rows:
        raise DataError(f"There are no images in the shards of {path.name!r} ({tars[0].name}, …).")
    return ImageIndex.of(tars, rows)


def _samples(name: str, tar: Path) -> Iterator[tuple[str, int, int, int]]:
    """The images of a shard: name, start, size, class."""
    samples: defaultdict[str, _Sample] = defaultdict(_Sample)
    with opened_tar(name, tar) as opened:
        for member in opened:
            if member.isfile():
                _take(samples, opened, member, name)
    for key, sample in samples.items():
        if sample.image is None:
            continue  # a text beside the images, as a README
        if sample.target is None:
            raise DataError(f"{key} in {name} has no class: neither {key}.cls nor a number as 'label' in {key}.json.")
        yield (*sample.image, sample.target)


def _take(samples: defaultdict[str, _Sample], opened: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
    """Note an image, or the class of one. A key ends at the first dot of the file's name, as WebDataset has it."""
    folder, slash, file = member.name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    key = f"{folder}{slash}{stem}"
    if is_image(file):
        samples[key].image = (f"{key}.{extension}", member.offset_data, member.size)
    elif extension == "cls":
        samples[key].target = _class_of_text(_content(opened, member), f"{member.name} in {name}")
    elif extension == "json" and samples[key].target is None:  # what .cls says stands above it
        samples[key].target = _class_of_json(_content(opened, member))


def _content(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = opened.extractfile(member)
    assert content is not None  # a regular file
    return content.read()


def _class_of_text(content: bytes, name: str) -> int:
    try:
        said = int(content)
    except ValueError:
        said = -1
    if not 0 <= said < _MOST_CLASSES:
        raise DataError(f"{name} shall say a class as a number from 0; it says {content[:40]!r}.")
    return said


def _class_of_json(content: bytes) -> int | None:
    """The number called "label"; None where there is none: such files say all sorts of things."""
    try:
        said = json.loads(content).get("label")
    except (ValueError, AttributeError):
        return None
    return said if isinstance(said, int) and 0 <= said < _MOST_CLASSES else None
