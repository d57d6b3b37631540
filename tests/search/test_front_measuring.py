"""The front's members are measured at the end of a run, until all that are shown have been."""

import math
import shutil
from dataclasses import replace
from typing import ClassVar

import optuna
import pytest

from starsearch.errors import BackendError, EvaluationError, ExportError
from starsearch.families.family import count_macs
from starsearch.families.text import architecture_hash, parse_architecture
from starsearch.measurement import Measurement, Prediction
from starsearch.objective import Constraint, Objective
from starsearch.progress import Progress
from starsearch.records.table import load_trials
from starsearch.samplers import SAMPLERS, SamplerKind
from starsearch.search.events import FrontProgressed, MemberMeasured, StudyEnded, TrialEnded
from tests.search.studies import WIDE, make_spec, run, url_of

NAME = "latency_ms@phone"
OBJECTIVES = (
    Objective(name="top1_percent", direction="maximize"),
    Objective(name=NAME, direction="minimize", device="phone"),
)


def true_ms(architecture):
    """Half of the networks, as their hash has it, are a third slower than was predicted."""
    slow = int(architecture_hash(architecture), 16) % 2
    return predicted_ms(architecture) * (1.33 if slow else 0.99)


def predicted_ms(architecture):
    return count_macs(architecture) / 1e8


def evaluate(candidate, *, seed, weights, part=None):
    yield Progress(fraction=0.5, stage="training")
    if weights is not None:
        weights.write_text("weights")
    ms = predicted_ms(candidate.architecture)
    return (
        Measurement(name="top1_percent", value=40 + 10 * math.sqrt(ms)),
        # A third of the true values lies beyond the interval, but none beyond twice as much.
        Prediction(name=NAME, value=ms, low=0.85 * ms, high=1.2 * ms, device="a phone"),
    )


class Meter:
    """Measures at once, remembers what, and does what `misbehave` says before."""

    def __init__(self, misbehave=lambda architecture: None):
        self.asked = []
        self._misbehave = misbehave

    def __call__(self, architecture):
        self.asked.append(architecture_hash(architecture))
        yield Progress(fraction=0.5, stage="latency")
        self._misbehave(architecture)
        return Measurement(name=NAME, value=true_ms(architecture), runs=20, spread=0.01, device="this phone")


def spec_of(**changes):
    values = {"objectives": OBJECTIVES, "constraints": (Constraint(name=NAME, high=5.0),), "trials": 14}
    return make_spec(WIDE, **{**values, **changes})


def shown(folder):
    """The feasible trials that no feasible other dominates, by comparing every pair; and the anchors."""
    trials = load_trials(url_of(folder))
    feasible = trials[trials["feasible"]]
    rows = list(zip(feasible["top1_percent"], feasible[NAME], strict=True))
    front = [not any(o[0] >= r[0] and o[1] <= r[1] and o != r for o in rows) for r in rows]
    members = set(feasible["number"][front])
    return trials[trials["number"].isin(members) | trials["anchor"].notna()], trials


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with a finished study, its meter and its events."""
    folder, meter, events = tmp_path_factory.mktemp("measured"), Meter(), []
    run(folder, spec_of(), evaluate, meters={NAME: meter}, watch=events.append)
    return folder, meter, events


def test_all_that_is_shown_is_measured_though_measuring_changes_who_that_is(measured):
    folder, meter, events = measured
    on_show, trials = shown(folder)
    assert set(on_show[f"{NAME}_kind"]) == {"measured"}
    known = trials[trials[f"{NAME}_kind"] == "measured"]
    assert len(on_show) < len(known) < len(trials)  # some were measured slower and left
    assert sorted(meter.asked) == sorted(known["architecture"])
    assert [e.trial.number for e in events if isinstance(e, MemberMeasured)] == [
        e.trial.number for e in events if isinstance(e, FrontProgressed)
    ]
    assert isinstance(events[-1], StudyEnded)


@pytest.fixture(scope="module")
def slower(tmp_path_factory):
    """The folder of a study whose profile is off: its networks take a quarter longer, give or take two percent."""
    folder = tmp_path_factory.mktemp("slower")
    run(folder, spec_of(constraints=()), evaluate_scattered, meters={NAME: slower_meter})
    return folder


def evaluate_scattered(candidate, *, seed, weights, part=None):
    top1, predicted = yield from evaluate(candidate, seed=seed, weights=weights)
    luck = int(architecture_hash(candidate.architecture), 16) % 7  # so that some are dominated
    return replace(top1, value=top1.value + luck), predicted


def slower_ms(architecture):
    return predicted_ms(architecture) * (1.25 + 0.02 * math.sin(int(architecture_hash(architecture), 16)))


def slower_meter(architecture):
    yield Progress(fraction=0.5, stage="latency")
    return Measurement(name=NAME, value=slower_ms(architecture), runs=20, spread=0.01, device="this phone")


def test_measured_members_correct_the_predictions_of_the_others(slower):
    trials = load_trials(url_of(slower))
    others = trials[trials[f"{NAME}_kind"] == "predicted"]
    assert len(others) > 3
    true = others["architecture_text"].map(parse_architecture).map(slower_ms)
    assert others[NAME].to_numpy() == pytest.approx(true.to_numpy(), rel=0.05)
    assert ((others[f"{NAME}_low"] < true) & (true < others[f"{NAME}_high"])).all()
    # What the trials have said stays, for plain Optuna too.
    said = others["architecture_text"].map(parse_architecture).map(predicted_ms)
    assert others[f"{NAME}_predicted"].to_numpy() == pytest.approx(said.to_numpy())
    by_number = {
        trial.number: trial.values[1] for trial in optuna.load_study(storage=url_of(slower), study_name=None).trials
    }
    assert trials["number"].map(by_number).to_numpy() == pytest.approx(trials[f"{NAME}_predicted"].to_numpy())


class Noting(optuna.samplers.RandomSampler):
    """Remembers the values that it was shown last."""

    shown: ClassVar = []

    def before_trial(self, study, trial):
        Noting.shown = [one.values[1] for one in study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]


def test_a_resumed_search_goes_on_with_the_corrected_predictions(slower, tmp_path, monkeypatch):
    shutil.copytree(slower, tmp_path, dirs_exist_ok=True)
    before, events = load_trials(url_of(tmp_path)), []
    kind = SamplerKind(factory=Noting, max_asks=10)
    monkeypatch.setitem(SAMPLERS, "tpe", kind)
    run(tmp_path, spec_of(constraints=(), trials=15), evaluate_scattered, watch=events.append)
    assert Noting.shown == pytest.approx(before[NAME].tolist())
    (new,) = [event.trial for event in events if isinstance(event, TrialEnded)]
    after = load_trials(url_of(tmp_path)).set_index("number").loc[new.number]
    assert new.readings[1].value == pytest.approx(after[NAME])
    assert after[NAME] == pytest.approx(1.25 * after[f"{NAME}_predicted"], rel=0.03)


def test_what_has_been_measured_is_not_measured_again_on_resume(measured, tmp_path):
    shutil.copytree(measured[0], tmp_path, dirs_exist_ok=True)
    again, events = Meter(), []
    run(tmp_path, spec_of(), evaluate, meters={NAME: again}, watch=events.append)
    assert again.asked == []
    # The live front begins with what is known by now.
    earlier = {trial.number: trial.readings[1] for trial in events[0].earlier}
    rows = load_trials(url_of(tmp_path)).to_dict("records")
    assert {n: (one.value, isinstance(one, Measurement)) for n, one in earlier.items()} == {
        row["number"]: (row[NAME], row[f"{NAME}_kind"] == "measured") for row in rows
    }


def test_an_interrupt_keeps_what_has_been_measured_and_the_next_run_goes_on(tmp_path):
    def interrupt_the_third(architecture):
        if len(meter.asked) == 3:
            raise KeyboardInterrupt

    meter = Meter(interrupt_the_third)
    ended = run(tmp_path, spec_of(), evaluate, meters={NAME: meter})
    assert (ended.why, ended.finished) == ("interrupted", 16)
    rest = Meter()
    assert run(tmp_path, spec_of(), evaluate, meters={NAME: rest}).why == "complete"
    assert not set(meter.asked[:2]) & set(rest.asked)
    assert meter.asked[2] in rest.asked
    assert set(shown(tmp_path)[0][f"{NAME}_kind"]) == {"measured"}


@pytest.mark.parametrize("error", [EvaluationError, BackendError, ExportError])
def test_a_network_that_cannot_be_measured_stays_predicted_and_is_asked_once(tmp_path, error):
    def refuse(architecture):
        raise error("too hot")

    meter, events = Meter(refuse), []
    assert run(tmp_path, spec_of(), evaluate, meters={NAME: meter}, watch=events.append).why == "complete"
    assert len(meter.asked) == len(set(meter.asked))
    assert {e.reason for e in events if isinstance(e, MemberMeasured)} == {"too hot"}
    assert set(load_trials(url_of(tmp_path))[f"{NAME}_kind"]) == {"predicted"}


def test_weights_are_kept_of_all_that_measuring_may_bring_to_the_front(measured):
    on_show, trials = shown(measured[0])
    assert on_show["weights"].notna().all()
    assert trials["weights"].isna().any()  # those that are surely dominated


def test_the_live_front_of_a_resumed_study_leaves_out_what_measured_beyond_a_constraint(tmp_path):
    def meter(architecture):
        yield Progress(fraction=0.5, stage="latency")
        return Measurement(name=NAME, value=5.1)

    run(tmp_path, spec_of(), evaluate, meters={NAME: meter})
    events = []
    run(tmp_path, spec_of(), evaluate, watch=events.append)
    trials = load_trials(url_of(tmp_path))
    assert {trial.number: trial.is_feasible(spec_of().constraints) for trial in events[0].earlier} == dict(
        zip(trials["number"], trials["feasible"], strict=True)
    )
    assert not trials["feasible"][trials[f"{NAME}_kind"] == "measured"].any()


def test_what_only_a_doubtful_network_dominates_keeps_its_weights(tmp_path):
    def better_and_doubtful(candidate, *, seed, weights, part=None):
        yield Progress(fraction=0.5, stage="training")
        if weights is not None:
            weights.write_text("weights")
        is_better = int(architecture_hash(candidate.architecture), 16) % 2
        # The better half is predicted to be just within the constraint: measuring may show that it is not.
        ms = 4.9 if is_better else 2.0
        return (
            Measurement(name="top1_percent", value=60.0 if is_better else 50.0),
            Prediction(name=NAME, value=ms, low=0.95 * ms, high=1.05 * ms, device="a phone"),
        )

    run(tmp_path, spec_of(objectives=OBJECTIVES[:1]), better_and_doubtful)
    trials = load_trials(url_of(tmp_path))
    assert set(trials["top1_percent"]) == {50.0, 60.0}
    assert trials["weights"].notna().all()
