"""Data sets through timm's readers: opened and checked, decoded once where they are small, fed in augmented batches."""

from starsearch.data.dataset import DataSet, Split
from starsearch.data.opening import open_data

__all__ = ["DataSet", "Split", "open_data"]
