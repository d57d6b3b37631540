"""A training that begins with the weights of the fidelity below."""

import pytest

from starsearch.candidate import Candidate
from starsearch.data import open_data
from starsearch.errors import EvaluationError
from starsearch.evaluators import ProxyEvaluator
from starsearch.evaluators.evaluator import TrainingPart
from starsearch.families.text import parse_architecture
from starsearch.progress import follow
from starsearch.recipe import Fidelity, Recipe

CANDIDATE = Candidate(
    architecture=parse_architecture("starnet:embed_dim=8,depths=1-1-1-1,mlp_ratio=2"),
    recipe=Recipe(epochs=1, batch_size=64, hflip=0.0, warmup_epochs=0),
)


def top1(evaluator, weights=None, start=None):
    readings = follow(evaluator(CANDIDATE, seed=0, weights=weights, part=TrainingPart(start=start)))
    return next(one.value for one in readings if one.name == "top1_percent")


def make(**changes):
    return ProxyEvaluator(
        data=open_data("digits"),
        fidelity=Fidelity(resolution=32, samples=512, validation_samples=300, **changes),
        reference=None,
    )


def test_it_goes_on_from_them_and_not_from_scratch(tmp_path):
    below = top1(make(epochs=3), weights=tmp_path / "below.safetensors")
    scratch, warm = top1(make()), top1(make(), start=tmp_path / "below.safetensors")
    assert warm != scratch
    assert warm > scratch
    assert below > scratch


def test_weights_that_are_not_there_fail_the_candidate_and_never_mean_scratch(tmp_path):
    with pytest.raises(EvaluationError, match="keep_weights"):
        top1(make(), start=tmp_path / "trial-3.safetensors")
