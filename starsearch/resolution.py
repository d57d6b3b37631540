"""`Resolution`: the size of a network's images. A square's is a number of pixels, any other's is HEIGHTxWIDTH."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starsearch.errors import SpecError

Resolution = int | str
"""224 or "192x320": as files, records and tables have it, so that what was recorded of squares stays what it is."""


def sides(resolution: Resolution) -> tuple[int, int]:
    """Return height and width in pixels."""
    height, *width = str(resolution).split("x")
    return int(height), int(*width or [height])


def of_sides(height: int, width: int) -> Resolution:
    """Return the resolution of images of this height and width in pixels."""
    return height if height == width else f"{height}x{width}"


def area(resolution: Resolution) -> int:
    """Return the number of pixels."""
    height, width = sides(resolution)
    return height * width


def recorded(cell: Any) -> Resolution:
    """Return the resolution of a table's cell, in which a number may have become a fraction."""
    return cell if isinstance(cell, str) else int(cell)


@dataclass(frozen=True, slots=True)
class Between:
    """What the sides of a resolution are held to, `low` to `high` pixels; also in annotations that pydantic reads."""

    low: int
    high: int

    def __call__(self, said: object) -> Resolution:
        """Return the resolution that a user has written: 224, or "224" on a command line, or "192x320".

        Raises:
            SpecError: it is none.
        """
        parts = said.split("x") if isinstance(said, str) else [str(said)] * (type(said) is int)
        if len(parts) not in (1, 2) or not all(one.isdecimal() and self.low <= int(one) <= self.high for one in parts):
            raise SpecError(
                f"a resolution is a whole number of pixels from {self.low} to {self.high}, or two of them as "
                f"HEIGHTxWIDTH (192x320); got {said!r}."
            )
        return of_sides(int(parts[0]), int(parts[-1]))

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self, json_schema_input_schema=handler(source))
