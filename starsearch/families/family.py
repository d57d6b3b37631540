"""The families of networks that can be searched, and what every architecture of theirs has."""

from __future__ import annotations

from collections.abc import Mapping

from starsearch.families.anchors import ANCHORS
from starsearch.families.cost import Convention, count_macs, count_params
from starsearch.families.layers import lower
from starsearch.families.starnet import Architecture

__all__ = ["Architecture", "Convention", "count_macs", "count_params", "lower", "presets"]


def presets() -> Mapping[str, Architecture]:
    """The published architectures by name, of all families."""
    return ANCHORS
