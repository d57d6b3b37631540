"""Tests of `starsearch.families`."""
