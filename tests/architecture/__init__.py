"""Tests of `starsearch.architecture`."""
