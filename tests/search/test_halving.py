"""Successive halving in the driver: who goes on, what the record says, what a resumed study does."""

import re
from dataclasses import replace

import pytest

from starsearch.families.family import count_macs
from starsearch.measurement import Measurement
from starsearch.objective import Constraint
from starsearch.progress import Progress
from starsearch.recipe import Fidelity
from starsearch.records.table import load_trials
from starsearch.search.events import TrialStarted
from starsearch.search.halving import Rungs
from starsearch.search.planned import anchor_trials
from starsearch.search.proposer import Proposer
from starsearch.study.spec import Halving, Rung
from starsearch.trial import Trial
from tests.search.studies import WIDE, make_spec, opened, run, url_of

HALVING = Halving(eta=3, rungs=(Rung(epochs=1), Rung(epochs=3, resolution=24)))


class Trainer:
    """Accuracy rises with epochs; keeps the epochs it has trained in the checkpoint, as the real one does."""

    def __init__(self, misbehave=lambda candidate, epoch: None):
        self.trained = []  # (key, epoch)
        self.asked = []
        self._misbehave = misbehave

    def __call__(self, candidate, *, seed, weights, part):
        self.asked.append((candidate.key, part))
        done = int(part.checkpoint.read_text()) if part.checkpoint.is_file() else 0
        macs = count_macs(candidate.architecture, resolution=224)
        top1 = 0.0
        for epoch in range(done + 1, (part.until or 9) + 1):
            self._misbehave(candidate, epoch)
            self.trained.append((candidate.key, epoch))
            top1 = 40 * (macs / 1e9) ** 0.5 + 3 * epoch
            part.checkpoint.parent.mkdir(exist_ok=True)
            part.checkpoint.write_text(str(epoch))
            yield Progress(fraction=epoch / 9, stage="training", epoch=epoch, values={"top1_percent": top1})
        known = {one.name: one for one in part.known}
        latency = known.get("latency_ms") or Measurement(name="latency_ms", value=macs / 1e8, runs=20, device="d")
        return (Measurement(name="top1_percent", value=top1), latency)


def halved(**changes):
    defaults = {"halving": HALVING, "fidelity": Fidelity(epochs=9), "trials": 18, "constraints": ()}
    return make_spec(WIDE, **{**defaults, **changes})


def recorded(folder, spec):
    with opened(folder, spec) as record:
        return record.trials()


def searched(trials):
    return trials[trials["anchor"].isna()]


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    """A folder with a finished study, and its trainer."""
    folder, trainer = tmp_path_factory.mktemp("halved"), Trainer()
    assert run(folder, halved(), trainer).finished == 20
    return folder, trainer


def test_one_in_three_leaves_each_rung_and_goes_on_as_a_new_trial_from_its_checkpoint(climbed):
    folder, trainer = climbed
    trials = load_trials(url_of(folder))
    states = searched(trials)["state"].value_counts()
    assert states["PRUNED"] == 18 + 6  # at the first rung all, at the second a third of them
    assert states["COMPLETE"] == 2
    assert (trials[trials["anchor"].notna()]["state"] == "COMPLETE").all()
    assert len(trainer.trained) == len(set(trainer.trained)) == 18 + 6 * 2 + 2 * 6 + 2 * 9, "no epoch twice"
    resolutions = {part.until: part.resolution for _, part in trainer.asked}
    assert resolutions == {1: None, 3: 24, None: None}


def test_latency_is_measured_once_and_the_curve_goes_on(climbed):
    folder, trainer = climbed
    assert all(bool(part.known) == (part.until != 1) for key, part in trainer.asked if part.until)
    by_number = {trial.number: trial for trial in recorded(folder, halved())}
    continued = [trial for trial in by_number.values() if trial.continues is not None]
    assert len(continued) == 8
    for trial in continued:
        before = by_number[trial.continues]
        assert (before.state, before.key) == ("pruned", trial.key)
        assert list(trial.curve) == list(range(1, max(trial.curve) + 1))
        assert before.curve.items() <= trial.curve.items()


def test_the_checkpoints_that_stay_are_of_those_who_wait(climbed):
    folder, _ = climbed
    trials = searched(load_trials(url_of(folder)))
    complete = set(trials[trials["state"] == "COMPLETE"]["architecture"])
    kept = {path.name.split("-")[0] for path in (folder / "checkpoints").glob("*.pt")}
    assert kept == set(trials["architecture"]) - complete


def test_a_study_that_is_cut_off_goes_on_at_the_same_rung_from_the_same_epoch(tmp_path):
    def interrupt(candidate, epoch):
        if epoch == 6:
            raise KeyboardInterrupt

    first = Trainer(interrupt)
    spec = halved()
    spec = replace(spec, space=replace(spec.space, anchors=()))
    assert run(tmp_path, spec, first).why == "interrupted"
    second = Trainer()
    assert run(tmp_path, spec, second).why == "complete"
    both = first.trained + second.trained
    assert len(both) == len(set(both)) == 18 + 6 * 2 + 2 * 6
    trials = load_trials(url_of(tmp_path))
    assert (trials["state"] == "COMPLETE").sum() == 2
    cut_off = trials[trials["state"] == "INTERRUPTED"]
    assert cut_off["reason"].tolist() == ["interrupted"]


def test_who_breaks_a_latency_budget_does_not_go_on(tmp_path):
    spec = halved(constraints=(Constraint(name="latency_ms", high=3.0),))
    run(tmp_path, spec, Trainer())
    trials = searched(load_trials(url_of(tmp_path)))
    assert (trials[trials["state"] == "COMPLETE"]["latency_ms"] <= 3.0).all()


def test_the_sampler_learns_from_one_rung_at_a_time(tmp_path):
    spec = halved(trials=60)
    run(tmp_path, spec, Trainer())
    proposer = Proposer(spec, recorded(tmp_path, spec))
    shown = {round(trial.values[0] - 40 * (trial.values[1] / 10) ** 0.5, 6) for trial in proposer.mirror.trials}
    assert shown == {3 * 3.0}, "of the second rung alone, which 20 have reached"
    assert len(proposer.mirror.trials) == 20


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "qmc"])
def test_every_sampler_takes_it(tmp_path, sampler):
    assert run(tmp_path, halved(sampler=sampler), Trainer()).why == "complete"


@pytest.mark.parametrize("anchors", [2, 4])  # with four, nobody waits at a rung when the first is proposed
def test_auto_chooses_between_new_ones_and_those_who_wait_and_says_how_far_they_train(tmp_path, anchors):
    evaluator, events = Trainer(), []
    rungs = Halving(eta=3, rungs=(Rung(epochs=1), Rung(epochs=3)))
    spec = halved(sampler="auto", halving=rungs, trials=8)
    published = ("starnet_s1", "starnet_s2", "starnet_s050", "starnet_s100")
    spec = replace(spec, space=replace(spec.space, anchors=published[:anchors]))
    run(tmp_path, spec, evaluator, watch=events.append)
    said = [event.why for event in events if isinstance(event, TrialStarted) and event.why]
    assert len(said) >= 6
    assert all(re.search(r"; (trains|goes on from epoch [13]) to epoch [139] of 9$", one) for one in said), said
    assert len(evaluator.trained) == len(set(evaluator.trained)), "what goes on does so from its checkpoint"
    ends = {key: max(epoch for one, epoch in evaluator.trained if one == key) for key, _ in evaluator.trained}
    assert len(ends) == 8 + anchors
    assert set(ends.values()) <= {1, 3, 9}


def test_who_is_to_train_to_the_end_at_once_does_so_again_after_a_loss():
    rungs, trial = Rungs(halved(), []), Trial(candidate=next(anchor_trials(halved())).candidate)
    trial = replace(trial, candidate=replace(trial.candidate, anchor=None))
    begun = [rungs.begin(replace(trial, **asked)).rung for asked in ({}, {"rung": 1}, {"rung": 2})]
    assert begun == [0, 1, None]
    assert rungs.begin(replace(trial, number=4, lost=True).again()).rung is None
    assert rungs.begin(replace(trial, number=4, lost=True, rung=1).again()).rung == 1


def test_more_trials_later_let_more_go_on(tmp_path):
    run(tmp_path, halved(trials=9), Trainer())
    run(tmp_path, halved(trials=27), Trainer())
    states = searched(load_trials(url_of(tmp_path)))["state"].value_counts()
    assert states["COMPLETE"] == 3
    assert states["PRUNED"] == 27 + 9
