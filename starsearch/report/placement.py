"""Labels beside points without covering each other or a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from starsearch.report.front import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Point = tuple[float, float]

# Offsets in typographic points with their alignment, the better-looking first.
_OFFSETS = (
    (0, 7, "center", "bottom"),
    (0, -7, "center", "top"),
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
    (6, -5, "left", "top"),
    (-6, 5, "right", "bottom"),
    (6, 5, "left", "bottom"),
    (-6, -5, "right", "top"),
    (0, -16, "center", "top"),
    (0, 16, "center", "bottom"),
    (16, -12, "left", "top"),
    (-16, 12, "right", "bottom"),
)
_POINT_RADIUS_PX = 7


def place_labels(
    axes: Axes, labels: Sequence[tuple[float, float, str]], *, color: str, around: Sequence[Point] = ()
) -> list[Annotation]:
    """Write each text near its point, where it covers the fewest labels and points placed before it.

    Greedy over a dozen offsets; enough for the handful of anchors a study has.

    Args:
        axes: with its limits set.
        labels: x, y and text, in data coordinates.
        color: of the texts.
        around: further points that are not to be covered.

    Returns:
        The texts, in order.
    """
    axes.figure.canvas.draw()
    taken = [_box_around(axes, point) for point in [*around, *((x, y) for x, y, _ in labels)]]
    placed = []
    for x, y, text in labels:
        tried = [_annotate(axes, (x, y), text, offset, color) for offset in _OFFSETS]
        boxes = [annotation.get_window_extent() for annotation in tried]
        best = min(range(len(tried)), key=lambda i: (_num_covered(boxes[i], taken, axes.bbox), i))
        for i, annotation in enumerate(tried):
            if i != best:
                annotation.remove()
        taken.append(boxes[best])
        placed.append(tried[best])
    return placed


def sample_polyline(x: FloatArray, y: FloatArray, *, per_segment: int = 12) -> list[Point]:
    """Points along the line through the corners (x, y), evenly spaced within each of its segments."""
    corners = np.arange(len(x))
    places = np.linspace(0, len(x) - 1, per_segment * (len(x) - 1) + 1)
    return list(zip(np.interp(places, corners, x), np.interp(places, corners, y), strict=True))


def _annotate(axes: Axes, point: Point, text: str, offset: tuple[int, int, str, str], color: str) -> Annotation:
    dx, dy, horizontal, vertical = offset
    return axes.annotate(
        text,
        point,
        xytext=(dx, dy),
        textcoords="offset points",
        ha=horizontal,
        va=vertical,
        color=color,
        fontsize=8,
        fontweight="bold",
        zorder=7,
    )


def _num_covered(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> int:
    leaves_frame = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    return sum(box.overlaps(other) for other in taken) + 10 * leaves_frame


def _box_around(axes: Axes, point: Point) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(point)
    r = _POINT_RADIUS_PX
    return Bbox.from_extents(x - r, y - r, x + r, y + r)
