from __future__ import annotations

import io

from rich.console import Console

from starsearch.candidate import Candidate
from starsearch.cli.live import LiveView
from starsearch.families.family import Architecture, presets
from starsearch.measurement import Measurement, Prediction
from starsearch.objective import Constraint
from starsearch.progress import Progress
from starsearch.recipe import Recipe
from starsearch.search.events import (
    FrontProgressed,
    MemberMeasured,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialProgressed,
    TrialStarted,
)
from starsearch.trial import Trial
from tests.report.frames import ACCURACY, BOTH


def candidate(number):
    anchor = "starnet_s1" if number == 0 else None
    architecture = presets()["starnet_s1"] if anchor else Architecture.of(embed_dim=16, depths=(1, 1, number, 1))
    return Candidate(architecture=architecture, recipe=Recipe(), anchor=anchor)


SLOWEST = (Constraint(name="latency_ms", high=8.0),)


def trial(number, **fields):
    return Trial(number=number, candidate=candidate(number), **fields)


def judged(number, top1, latency, **fields):
    readings = (
        Measurement(name="top1_percent", value=top1),
        Measurement(name="latency_ms", value=latency, runs=40, spread=0.02),
    )
    return trial(number, **{"state": "complete", "readings": readings, "seconds": 30.0, **fields})


def ended(*values, **fields):
    return TrialEnded(trial=judged(*values, **fields))


def failure(number, reason):
    return TrialEnded(trial=trial(number, state="fail", reason=reason, seconds=1.0))


def a_run(view):
    view(StudyStarted(finished=0, wanted=4, resumed=False))
    view(TrialStarted(trial=trial(0)))
    view(TrialProgressed(trial=trial(0), progress=Progress(fraction=0.2, stage="training")))
    view(ended(0, 60.0, 5.0))
    view(failure(1, "out of [bold]memory[/bold]"))
    view(ended(2, 50.0, 3.0))
    view(ended(3, 49.0, 4.0))
    view(ended(4, 90.0, 9.0))
    view(TrialStarted(trial=trial(5)))
    values = {"top1_percent": 41.5, "top5_percent": 80.0, "train_loss": 1.0}
    view(TrialProgressed(trial=trial(5), progress=Progress(fraction=0.5, stage="training", epoch=2, values=values)))


def on_a_terminal(objectives=BOTH, constraints=SLOWEST, *, width=120, events=a_run):
    """What the view shows after `events`, and everything that was written."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, height=40)
    with LiveView(objectives, constraints, title="few in studies/few", console=console) as view:
        events(view)
        seen = Console(file=io.StringIO(), width=width, record=True)
        seen.print(view._render())
    return seen.export_text(), file.getvalue()


def without_a_terminal(events=a_run):
    file = io.StringIO()
    with LiveView(BOTH, SLOWEST, title="few in studies/few", console=Console(file=file, width=60)) as view:
        events(view)
    return file.getvalue()


def test_a_terminal_shows_bar_trial_epoch_and_time_left():
    shown, _ = on_a_terminal()
    assert "few in studies/few" in shown
    assert "4/4" in shown
    assert "1 failed" in shown
    assert "trial 5  starnet:embed_dim=16,depths=1-1-5-1" in shown
    assert "training, epoch 2, top-1 41.50 %" in shown
    assert "50 %" in shown


def test_the_front_so_far_holds_the_feasible_and_undominated_only():
    shown, _ = on_a_terminal()
    table = shown.partition("Front so far")[2]
    assert "starnet_s1" in table
    assert "5.00 ± 0.02" in table
    assert "3.00 ± 0.02" in table
    assert "4.00 ± 0.02" not in table  # dominated
    assert "90.00" not in table  # breaks a constraint


def test_the_time_left_follows_the_pace_of_this_run_however_many_work_and_whatever_was_there_before():
    now = 1000.0
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveView(BOTH, console=console, clock=lambda: now) as view:
        now = 2000.0
        view(StudyStarted(finished=5, wanted=18, resumed=True))
        now = 2060.0
        for number in range(3):  # two workers: 3 trials of 40 s in one minute
            view(ended(number, 50.0 + number, 3.0, seconds=40.0))
        seen = Console(file=io.StringIO(), width=100, record=True)
        seen.print(view._render())
    assert "about 200 s left" not in seen.export_text(clear=False)
    assert "about 3 min left" in seen.export_text()  # 10 more at 20 s each


def test_a_failure_is_written_above_the_bars_as_it_is():
    _, written = on_a_terminal()
    assert "failed: out of [bold]memory[/bold]" in written


def test_a_long_front_is_cut_evenly_with_both_ends_kept():
    def events(view):
        view(StudyStarted(finished=0, wanted=50, resumed=False))
        for number in range(1, 31):
            view(ended(number, 50.0 + number, 1.0 + number))

    shown, _ = on_a_terminal(constraints=(), events=events)
    assert "30 trials on the front; 10 of them shown." in shown
    assert "2.00 ± 0.02" in shown
    assert "31.00 ± 0.02" in shown


def test_one_objective_and_unmeasured_values_are_fine():
    def events(view):
        view(StudyStarted(finished=0, wanted=2, resumed=False))
        view(ended(1, 50.0, 3.0, readings=()))
        view(ended(2, 55.0, 3.0))

    shown, _ = on_a_terminal([ACCURACY], (), events=events)
    assert "55.00" in shown


def test_without_a_terminal_each_ended_trial_is_one_line():
    lines = without_a_terminal().splitlines()
    assert lines[0] == "few in studies/few"
    assert len(lines) == 6
    assert lines[1] == "[1/4] trial 0 top-1 60.00 %, latency 5.00 ± 0.02 ms, 30 s  starnet_s1"
    assert lines[2].startswith("[1/4] trial 1 failed: out of [bold]memory[/bold] (starnet:")
    assert "breaks a constraint" in lines[5]
    assert not any("\x1b" in line for line in lines)


def test_going_on_is_said():
    def events(view):
        view(StudyStarted(finished=3, wanted=8, resumed=True))
        view(StudyEnded(finished=8, wanted=8, why="complete"))

    assert "Resuming: 3 of 8 trials are there." in without_a_terminal(events)


def test_the_terminal_is_given_back_when_the_run_breaks():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=40)
    try:
        with LiveView(BOTH, console=console) as view:
            view(StudyStarted(finished=0, wanted=1, resumed=False))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert file.getvalue().rpartition("\x1b[?25l")[2].count("\x1b[?25h") == 1  # the cursor, hidden, is shown again


def test_going_on_shows_the_front_of_the_earlier_trials():
    earlier = judged(7, 90.0, 1.0)
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=40)
    with LiveView(BOTH, console=console) as view:
        view(StudyStarted(finished=1, wanted=8, resumed=True, earlier=(earlier,)))
        console.print(view._render())
    assert "90.00" in console.file.getvalue()


def test_predicted_values_are_marked_and_the_front_is_measured_before_the_eyes():
    predicted = Prediction(name="latency_ms", value=2.0, low=1.8, high=2.2, device="a phone")
    measured = Measurement(name="latency_ms", value=2.5, runs=20, spread=0.02)

    def events(view):
        view(StudyStarted(finished=0, wanted=1, resumed=False))
        view(ended(2, 50.0, 2.0, readings=(Measurement(name="top1_percent", value=50.0), predicted)))
        view(FrontProgressed(measured=1, wanted=4, trial=trial(2), progress=Progress(fraction=0.5, stage="latency")))
        view(MemberMeasured(trial=trial(2), prediction=predicted, measurement=measured))
        view(MemberMeasured(trial=trial(2), prediction=predicted, measurement=None, reason="too hot"))

    seen, _ = on_a_terminal(events=events)
    assert "≈ 2.00" in seen
    assert "measuring the front" in seen
    assert "network 2 of 4" in seen

    file = io.StringIO()
    with LiveView(BOTH, console=Console(file=file, width=200)) as view:
        events(view)
    lines = file.getvalue()
    assert "latency measured 2.50 ± 0.02 ms, predicted ≈ 2.00 (-20.0 %)" in lines
    assert "latency stays ≈ 2.00 ms: too hot" in lines
