"""A training that begins with the weights of the fidelity below."""

from dataclasses import replace

import pytest

from starsearch.candidate import Candidate
from starsearch.data import open_data
from starsearch.errors import EvaluationError
from starsearch.evaluators import ProxyEvaluator
from starsearch.evaluators.evaluator import TrainingPart
from starsearch.families.family import count_macs
from starsearch.families.text import parse_architecture
from starsearch.objective import Constraint
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


def test_a_searched_network_that_breaks_a_constraint_by_what_is_known_before_is_not_trained():
    macs = count_macs(CANDIDATE.architecture, resolution=224, num_classes=10)
    for limit, trained in ((macs - 1, False), (macs, True)):
        evaluator = replace(make(), constraints=(Constraint(name="macs", high=limit),))
        for candidate, whole in ((CANDIDATE, trained), (replace(CANDIDATE, anchor="small"), True)):
            readings = {one.name: one.value for one in follow(evaluator(candidate, seed=0, weights=None))}
            assert readings["macs"] == macs
            assert ("top1_percent" in readings) is whole
