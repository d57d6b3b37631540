"""Images that are in both splits, byte for byte: validation then tells what was learned by heart."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from starsearch.data.dataset import DataSet, Split
from starsearch.data.reading import UNREADABLE, DecodedImages

_MOST_BYTES = 512 * 1024**2  # that are read; more of a large data set is a sample
_MOST_SIZES = 200_000  # images of a split whose size is asked for: some seconds
_OPENING_BYTES = 4096  # what opening a file costs, as if so much were read


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedImages:
    """Validation images that are among the training images too.

    Attributes:
        names: of each such validation image and of the training image that it equals.
        compared: validation images that were compared; fewer than there are of a large data set.
        among: training images that they were compared with; likewise.
        is_sample: whether either is not all.
    """

    names: tuple[tuple[str, str], ...]
    compared: int
    among: int
    is_sample: bool

    def in_words(self) -> str:
        """What to warn of; empty where nothing is shared."""
        if not self.names:
            return ""
        of = f"the {self.compared:,} validation images"
        if self.is_sample:
            of += f" that were compared with {self.among:,} training images"
        named = "; ".join(f"{validation} = {training}" for validation, training in self.names[:3])
        return (
            f"{len(self.names):,} of {of} ({len(self.names) / self.compared:.1%}) are also among the training images, "
            f"byte for byte: {named}{' …' if len(self.names) > 3 else ''}. Accuracy on them says nothing of others."
        )


def warn_of_shared_images(data: DataSet) -> None:
    """Warn in a line where training images are validated on."""
    if words := find_shared_images(data).in_words():
        warnings.warn(words, stacklevel=2)


def find_shared_images(data: DataSet) -> SharedImages:
    """Compare the validation images with the training images by size, then by a hash of the bytes.

    The reading is bounded: of a large data set a sample of the validation images is compared, of a very large one with
    a sample of the training images, and nothing where only reading all of it would tell the sizes.
    """
    training, validation = _by_size(data.train), _by_size(data.validation)
    left, compared, found = _MOST_BYTES, 0, []
    for size, members in validation.items():
        others = training.get(size, [])
        each = _OPENING_BYTES + (size or _typical_size(data.train))
        cost = each * (len(members) + len(others)) if others else 0
        if cost > left:
            continue
        left, compared = left - cost, compared + len(members)
        by_digest = {digest: index for index, digest in _digests(data.train, others)} if others else {}
        for index, digest in _digests(data.validation, members) if others else ():
            if digest in by_digest:
                found.append((index, by_digest[digest]))
    among = sum(map(len, training.values()))
    return SharedImages(
        names=tuple((data.validation.image_name(one), data.train.image_name(other)) for one, other in sorted(found)),
        compared=compared,
        among=among,
        is_sample=compared < len(data.validation) or among < len(data.train),
    )


def _by_size(split: Split) -> dict[int, list[int]]:
    """Indices by their images' sizes in bytes, sizes in a random order; all under 0 where they are not known."""
    size_of = getattr(_content_of(split), "size_of", None)
    if size_of is None:
        return {0: list(range(len(split)))}
    chosen = np.random.default_rng(0).permutation(len(split))[:_MOST_SIZES].tolist()
    by_size = defaultdict(list)
    for index in chosen:
        by_size[size_of(index)].append(index)
    return by_size


def _digests(split: Split, indices: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Hashes of the images that can be read."""
    content_of = _content_of(split)
    for index in indices:
        with suppress(*UNREADABLE):
            if content := content_of(index):
                yield index, hashlib.blake2b(content, digest_size=16).digest()


def _typical_size(split: Split) -> int:
    with suppress(*UNREADABLE):
        return len(_content_of(split)(0))
    return 0


def _content_of(split: Split) -> Callable[[int], bytes]:
    """What reads the bytes of an index's file; of its pixels, where a library keeps the files."""
    return split.read.content if isinstance(split.read, DecodedImages) else lambda index: split.read(index).tobytes()
