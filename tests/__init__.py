"""Tests of starsearch; the folders mirror the package's."""
