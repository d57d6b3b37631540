"""Tests of `starsearch.export`."""
