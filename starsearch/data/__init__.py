"""Data sets through timm's readers: opened and checked, decoded once where they are small, fed in augmented batches."""

from starsearch.data.dataset import DataSet, Split, ValidationSet
from starsearch.data.opening import open_data, open_validation

__all__ = ["DataSet", "Split", "ValidationSet", "open_data", "open_validation"]
