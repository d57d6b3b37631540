"""The examples in public docstrings are true."""

import doctest
import importlib

import pytest

HOMES = [
    "starsearch.families.family",
    "starsearch.families.text",
    "starsearch.api.latency",
    "starsearch.study.study_file",
]


@pytest.mark.parametrize("home", HOMES)
def test_the_examples_of_a_module_are_true(home):
    found = doctest.testmod(importlib.import_module(home), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert not found.failed
