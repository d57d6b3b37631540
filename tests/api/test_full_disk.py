"""A disk that is full when trained weights are written: the study stops, the candidate is not at fault."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from starsearch.candidate import Candidate
from starsearch.errors import StudyError
from starsearch.evaluators.evaluator import WHOLE
from starsearch.families.family import Architecture
from starsearch.families.network import build_model
from starsearch.recipe import Recipe
from starsearch.search.executor import Job, LocalExecutor
from starsearch.training.weight_file import load_weights, save_weights

SMALL = Architecture.of(embed_dim=8, depths=(1, 1))


def test_weights_that_cannot_be_written_leave_nothing_and_name_the_cause():
    # /dev/full is a real device on which every write fails for want of space
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(StudyError, match="Cannot write the trained weights"):
        save_weights(build_model(SMALL), full / "trial-0.safetensors")


def test_a_full_disk_stops_the_study_rather_than_failing_the_candidate(tmp_path):
    def evaluate(candidate, *, seed, weights, part=None):
        yield from ()
        raise StudyError("The trained weights cannot be written.") from OSError(errno.ENOSPC, "No space left")

    executor = LocalExecutor(evaluate)
    candidate = Candidate(architecture=SMALL, recipe=Recipe())
    executor.submit(Job(number=0, candidate=candidate, seed=0, weights=None, part=WHOLE))
    with pytest.raises(StudyError, match="weights"):
        executor.next()


def test_saved_weights_build_the_same_network_again(tmp_path):
    import torch

    model = build_model(SMALL, num_classes=3, stem_stride=1).eval()
    save_weights(model, tmp_path / "w.safetensors")
    again = load_weights(tmp_path / "w.safetensors")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), again(images))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
