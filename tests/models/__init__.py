"""Tests of `starsearch.models`."""
