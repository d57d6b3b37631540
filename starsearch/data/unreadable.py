"""Images that cannot be read: how many may be left out, and in which words."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import islice

from starsearch.data.dataset import Split
from starsearch.data.share import ALL, Share
from starsearch.errors import DataError

MOST_UNREADABLE = 0.01  # of a split; more is no accident of single files


def are_too_many(unreadable: int, num_images: int) -> bool:
    """Whether so many unreadable images are refused. One among few is an accident too, unless nothing is left."""
    return unreadable > max(1, MOST_UNREADABLE * num_images) or unreadable == num_images > 0


class Unreadable:
    """Broken images of a split, as the batches of a pass name them.

    Args:
        data: the data set's name.
        split: whose list of unreadable images grows.
        num_images: that are used of it, by all ranks.
        consequence: what is done about them, in words.
        share: tells what other ranks have found.
    """

    def __init__(
        self, data: str, split: Split, num_images: int, consequence: str = "They are left out.", share: Share = ALL
    ) -> None:
        self._data = data
        self._split = split
        self._num_images = num_images
        self._consequence = consequence
        self._share = share
        self._told = 0
        self._found: dict[str, None] = {}

    def note(self, names: Sequence[str]) -> None:
        """Take note of what a batch of this rank lacked.

        Raises:
            DataError: there are too many.
        """
        self._add(names)
        self._judge()

    def tell(self) -> None:
        """Bring together what the ranks have found, and warn of those that are new; once a pass, on every rank.

        Raises:
            DataError: there are too many; on every rank.
        """
        for names in self._share.gather(tuple(self._found)):
            self._add(names)
        self._judge()
        if len(self._found) > self._told:
            warnings.warn(f"{self._in_words()}. {self._consequence}", stacklevel=2)
        self._told = len(self._found)

    def _add(self, names: Sequence[str]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._found]
        self._found.update(dict.fromkeys(new))
        known = set(self._split.unreadable)
        self._split.unreadable.extend(name for name in new if name not in known)

    def _judge(self) -> None:
        if are_too_many(len(self._found), self._num_images):
            raise DataError(
                f"{self._in_words()}. At most {MOST_UNREADABLE:.0%} may be left out; repair or remove them."
            )

    def _in_words(self) -> str:
        named = "; ".join(islice(self._found, 3)) + (" …" if len(self._found) > 3 else "")
        return (
            f"{len(self._found):,} of {self._num_images:,} {self._split.name} images of {self._data!r} "
            f"cannot be read: {named}"
        )
