"""Images that cannot be read: named, counted, and refused where they are too many."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

from PIL import Image

from starsearch.data.dataset import Split
from starsearch.data.decoding import UNREADABLE, reason_of
from starsearch.errors import DataError

MOST_UNREADABLE = 0.01  # of a split; more is no accident of single files
Names = tuple[str, ...]


def read_or_note(split: Split, index: int) -> Image.Image | str:
    """Return an image, or the name of one that cannot be read, with the reason."""
    try:
        return split.read(index)
    except UNREADABLE as error:
        return f"{split.image_name(index)} ({reason_of(error)})"


def are_too_many(unreadable: int, num_images: int) -> bool:
    """Whether so many unreadable images are refused. One among few is an accident too, unless nothing is left."""
    return unreadable > max(1, MOST_UNREADABLE * num_images) or unreadable == num_images > 0


class Unreadable:
    """The broken images of a split that the passes over it have found so far.

    Args:
        data: the data set's name.
        split: its list of unreadable images grows.
        num_images: how many are used of it, by all ranks.
        consequence: what is done about them, for the warning; "" warns of nothing.
        gather: turns this rank's names into those of every rank.
    """

    def __init__(
        self,
        data: str,
        split: Split,
        num_images: int,
        consequence: str = "They are left out.",
        gather: Callable[[Names], Sequence[Names]] = lambda names: (names,),
    ) -> None:
        self._data, self._split, self._num_images = data, split, num_images
        self._consequence, self._gather = consequence, gather
        self._warned = 0
        self._found: dict[str, None] = {}

    def note(self, names: Iterable[str]) -> None:
        """Take note of what a batch of this rank lacks."""
        new = [name for name in dict.fromkeys(names) if name not in self._found]
        self._found.update(dict.fromkeys(new))
        known = set(self._split.unreadable)
        self._split.unreadable.extend(name for name in new if name not in known)
        if are_too_many(len(self._found), self._num_images):
            at_most = f"At most {MOST_UNREADABLE:.0%} may be left out; repair or remove them."
            raise DataError(f"{self._in_words()}. {at_most}")

    def end_pass(self) -> None:
        """Bring together what the ranks have found, and warn of what is new; on every rank at the end of a pass."""
        self.note([name for names in self._gather(tuple(self._found)) for name in names])
        if self._consequence and len(self._found) > self._warned:
            warnings.warn(f"{self._in_words()}. {self._consequence}", stacklevel=2)
        self._warned = len(self._found)

    def _in_words(self) -> str:
        named = "; ".join(list(self._found)[:3]) + (" …" if len(self._found) > 3 else "")
        return (
            f"{len(self._found):,} of {self._num_images:,} {self._split.name} images of {self._data!r} cannot be read: "
            f"{named}"
        )
