"""Images that are in both splits, byte for byte: validation then tells what was learned by heart."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from starsearch.data.dataset import DataSet, Split
from starsearch.data.decoding import UNREADABLE

_MOST_BYTES = 512 * 1024**2  # that are read; more of a large data set is a sample
_MOST_SIZES = 200_000  # images of a split whose size is asked for: some seconds
_OPENING_BYTES = 4096  # what opening a file costs, as if so much were read


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedImages:
    """Validation images (`names[i][0]`) that equal training images (`names[i][1]`).

    So many validation images were `compared` `among` so many training images; of a large data set either is a sample.
    """

    names: tuple[tuple[str, str], ...]
    compared: int
    among: int
    is_sample: bool

    def in_words(self) -> str:
        """Return what to warn of; "" if nothing is shared."""
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
    """Warn in one line if training images are validated on."""
    if words := find_shared_images(data).in_words():
        warnings.warn(words, stacklevel=2)


def find_shared_images(data: DataSet) -> SharedImages:
    """Compare the validation images with the training images by size, then by a hash of the bytes.

    The reading is bounded: of a large data set a sample of the validation images is compared, of a very large one with
    a sample of the training images, and nothing if only reading all of it would tell the sizes.
    """
    training, validation = _by_size(data.train), _by_size(data.validation)
    left, compared, found = _MOST_BYTES, 0, []
    for size, members in validation.items():
        others = training.get(size, [])
        each = _OPENING_BYTES + (size or _size_of_first(data.train))
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
    """Return indices by their images' sizes in bytes, sizes in a random order; all under 0 if they are not known."""
    if split.size_of is None:
        return {0: list(range(len(split)))}
    by_size = defaultdict(list)
    for index in np.random.default_rng(0).permutation(len(split))[:_MOST_SIZES].tolist():
        by_size[split.size_of(index)].append(index)
    return by_size


def _digests(split: Split, indices: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the hashes of the images that can be read: of their files, or of the pixels that a library gives."""
    for index in indices:
        with suppress(*UNREADABLE):
            content = split.content(index)
            if content := content if isinstance(content, bytes) else split.read(index).tobytes():
                yield index, hashlib.blake2b(content, digest_size=16).digest()


def _size_of_first(split: Split) -> int:
    with suppress(*UNREADABLE):
        content = split.content(0)
        return len(content if isinstance(content, bytes) else split.read(0).tobytes())
    return 0
