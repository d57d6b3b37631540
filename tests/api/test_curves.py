"""Event files, as TensorBoard's own reader reads them."""

import numpy as np
import pandas as pd
import pytest

from starsearch.api.curves import Curve, StudyCurves
from starsearch.candidate import Candidate
from starsearch.families.family import Architecture
from starsearch.progress import Progress
from starsearch.recipe import Recipe
from starsearch.search.events import TrialEnded, TrialProgressed
from starsearch.trial import Trial

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read_curve(folder):
    """The scalars of a run by tag and step."""
    run = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(point.step, point.value) for point in run.Scalars(tag)] for tag in run.Tags()["scalars"]}


def epoch(number, top1):
    return Progress(fraction=0.5, stage="validation", epoch=number, values={"top1_percent": top1})


def test_a_resumed_training_goes_on_in_its_curve_and_no_step_is_there_twice(tmp_path):
    parts = ({1: 10.0, 2: 20.0, 3: 30.0}, {3: 31.0, 4: 40.0}, {4: 40.0, 5: 50.0})  # each killed, and resumed
    curves = [Curve(tmp_path) for _ in parts]
    for curve, tops in zip(curves, parts, strict=True):
        for number, top1 in tops.items():
            curve.add(epoch(number, top1))
    read = read_curve(tmp_path)
    for curve in curves:  # only now: what was told of is on the disk
        curve.close()
    assert read == {"top1_percent": [(1, 10.0), (2, 20.0), (3, 31.0), (4, 40.0), (5, 50.0)]}


def test_a_candidate_that_continues_or_runs_again_has_one_curve(tmp_path):
    candidate = Candidate(architecture=Architecture.of(), recipe=Recipe())
    seen = []
    for number, epochs in ((2, (1, 2)), (7, (3, 4))):  # stopped at a rung, and promoted by a driver that came later
        trial, watch = Trial(candidate=candidate, number=number), StudyCurves(tmp_path / "tensorboard", seen.append)
        for one in epochs:
            watch(TrialProgressed(trial=trial, progress=Progress(fraction=0.1, stage="training")))
            watch(TrialProgressed(trial=trial, progress=epoch(one, 10.0 * one)))
        watch(TrialEnded(trial=trial))
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == f"2-{candidate.key}"
    assert read_curve(folder)["top1_percent"] == [(1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0)]
    assert len(seen) == 10


def test_a_studys_curves_end_at_its_trials_accuracies(finished):
    trials = pd.read_csv(finished / "studies" / "few" / "trials.csv")
    for number, top1 in zip(trials["number"], trials["top1_percent"], strict=True):
        (folder,) = (finished / "studies" / "few" / "tensorboard").glob(f"{number}-*")
        assert read_curve(folder)["top1_percent"][-1][1] == np.float32(top1)
