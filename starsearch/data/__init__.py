"""Data sets: found and checked, decoded once where they are small, fed in augmented batches."""

from starsearch.data.dataset import DataSet, Split
from starsearch.data.sources import open_data, open_validation

__all__ = ["DataSet", "Split", "open_data", "open_validation"]
