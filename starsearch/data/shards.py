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
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starsearch.data.image_index import ImageIndex, kept_index, opened_tar
from starsearch.data.listing import Listing, Source, SplitName, found_splits
from starsearch.data.names import find_split_files, is_hidden, is_image
from starsearch.data.source import DataSource
from starsearch.errors import DataError

_MOST_CLASSES = 1_000_000
_SYNSET = re.compile(r"(?:^|_)(n\d{8})(?=_|$)")


def find_shards(path: Path, _: DataSource) -> Source | None:
    """The data set of the folder's shards (imagenet1k-train-0000.tar, …); None where there are none.

    A sample is the members of one key: its image KEY.jpg (or another suffix that Pillow reads) and its class as a
    number, in KEY.cls or as "label" in KEY.json; further images (KEY.seg.png) are left out. Classes are called by their
    number, or by the synset where the training images' keys tell it (n01440764_10026). The index of a split is kept
    beside the shards.
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
    """What was found of one key: its images (extension, start, size), the extensions of class files, and its class."""

    images: list[tuple[str, int, int]] = field(default_factory=list)
    class_files: list[str] = field(default_factory=list)
    target: int | None = None


def _index(path: Path, tars: Sequence[Path]) -> ImageIndex:
    rows, left_out = [], Counter[str]()
    for number, tar in enumerate(tars):
        name = f"{path.name}/{tar.relative_to(path).as_posix()}"
        samples = _samples(name, tar, left_out)
        rows += [(image, number, start, size, target) for image, start, size, target in samples]
    if not rows:
        raise DataError(f"There are no images in the shards of {path.name!r} ({tars[0].name}, …).")
    return ImageIndex.of(tars, rows, left_out=left_out)


def _samples(name: str, tar: Path, left_out: Counter[str]) -> Iterator[tuple[str, int, int, int]]:
    """Yield the images of a shard, as name, start, size and class; count what is none of them."""
    samples: defaultdict[str, _Sample] = defaultdict(_Sample)
    with opened_tar(name, tar) as opened:
        for member in opened:
            if member.isfile() and not is_hidden(member.name) and not _take(samples, opened, member, name):
                left_out[_extension(member.name).lower()] += 1
    for key, sample in samples.items():
        if not sample.images:
            continue  # a text beside the images, as a README
        image, others = _image_of(name, key, sample)
        if sample.target is None:
            raise DataError(f"{key} in {name} has no class: neither {key}.cls nor a number as 'label' in {key}.json.")
        left_out.update(f".{extension.lower()}" for extension, *_ in others)
        yield (f"{key}.{image[0]}", image[1], image[2], sample.target)


def _image_of(name: str, key: str, sample: _Sample) -> tuple[tuple[str, int, int], list[tuple[str, int, int]]]:
    """Return the image that is trained on, KEY.jpg or the like, and the others, as a mask in KEY.seg.png.

    Raises:
        DataError: none or several are bare, or the members of a key are those of several samples.
    """
    bare = [image for image in sample.images if "." not in image[0]]
    candidates = bare or sample.images
    several_classes = len(sample.class_files) > 1
    if not bare and len(candidates) == 1:
        raise DataError(
            f"{key}.{candidates[0][0]} in {name} is not called as an image to train on is: the key {key!r} ends at the "
            f"first dot of a file's name, and {key}.jpg (or .png …) is missing. Call the image {key}.jpg."
        )
    if len(candidates) > 1 or several_classes:
        members = sorted(
            f"{key}.{extension}"
            for extension in [*(image[0] for image in candidates), *(sample.class_files if several_classes else ())]
        )
        raise DataError(
            f"{' and '.join(members[:4])}{' and more' if len(members) > 4 else ''} in {name} share the key {key!r}, "
            "which ends at the first dot of a file's name. Rename them where they are different samples; of one "
            f"sample, call the image to train on {key}.jpg (or .png …) and all others {key}.KIND.png."
        )
    return candidates[0], [image for image in sample.images if image is not candidates[0]]


def _take(samples: defaultdict[str, _Sample], opened: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> bool:
    """Note an image, or the class of one, and say whether the member is either."""
    path = member.name.removeprefix("./")
    extension = _extension(path)[1:]
    sample = samples[path[: len(path) - len(extension) - 1] if extension else path]
    if is_image(path):
        sample.images.append((extension, member.offset_data, member.size))
    elif extension == "cls":
        sample.target = _class_of_text(_content(opened, member), f"{member.name} in {name}")
        sample.class_files.append(extension)
    elif extension.endswith(".cls"):
        sample.class_files.append(extension)
    elif extension == "json":
        if sample.target is None:  # what .cls says stands above it
            sample.target = _class_of_json(_content(opened, member))
    else:
        return False
    return True


def _extension(name: str) -> str:
    """Return what follows the key, with its dot: a key ends at the first dot of the file's name, as in WebDataset."""
    _, dot, extension = name.rpartition("/")[2].partition(".")
    return f"{dot}{extension}"


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
