import io
from contextlib import suppress

from rich.console import Console

from starsearch.candidate import Candidate
from starsearch.cli.live import LiveView
from starsearch.families.family import Architecture, presets
from starsearch.measurement import Measurement, Prediction
from starsearch.objective import Constraint, Objective
from starsearch.progress import Progress
from starsearch.recipe import Recipe
from starsearch.search.events import (
    FrontProgressed,
    MemberMeasured,
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


def failure(number, reason, **values):
    return TrialEnded(trial=trial(number, state="fail", reason=reason, seconds=1.0, **values))


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


def on_a_terminal(events=a_run, objectives=BOTH, constraints=SLOWEST, **options):
    """What the view shows after `events`, and everything that was written."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=40)
    with LiveView(objectives, constraints, title="few in studies/few", console=console, **options) as view:
        events(view)
        seen = Console(file=io.StringIO(), width=120, record=True)
        seen.print(view._render())
    return seen.export_text(), console.file.getvalue()


def without_a_terminal(events=a_run):
    console = Console(file=io.StringIO(), width=60)
    with LiveView(BOTH, SLOWEST, title="few in studies/few", console=console) as view:
        events(view)
    return console.file.getvalue().splitlines()


def test_a_terminal_shows_bars_epochs_failures_and_the_feasible_undominated_front():
    shown, written = on_a_terminal()
    bars, _, front = shown.partition("Front so far")
    for words in ("few in studies/few", "4/4", "1 failed", "trial 5  starnet:embed_dim=16,depths=1-1-5-1", "50 %"):
        assert words in bars
    assert "training, epoch 2, top-1 41.50 %" in bars
    assert "failed: out of [bold]memory[/bold]" in written
    assert "starnet_s1" in front
    assert "5.00 ± 0.02" in front
    assert "3.00 ± 0.02" in front
    assert "4.00 ± 0.02" not in front  # dominated
    assert "90.00" not in front  # breaks a constraint


def test_the_time_left_follows_the_pace_of_this_run_however_many_work_and_whatever_was_there_before():
    clock = [1000.0]

    def events(view):
        clock[0] = 2000.0
        view(StudyStarted(finished=5, wanted=18, resumed=True))
        clock[0] = 2060.0
        for number in range(3):  # two workers: 3 trials of 40 s in one minute
            view(ended(number, 50.0 + number, 3.0, seconds=40.0))

    shown, _ = on_a_terminal(events, clock=lambda: clock[0])
    assert "about 3 min left" in shown  # 10 more at 20 s each


def test_a_long_front_is_cut_evenly_with_both_ends_kept():
    def events(view):
        view(StudyStarted(finished=0, wanted=50, resumed=False))
        for number in range(1, 31):
            view(ended(number, 50.0 + number, 1.0 + number))

    shown, _ = on_a_terminal(events, constraints=())
    assert "30 trials on the front; 10 of them shown." in shown
    assert "2.00 ± 0.02" in shown
    assert "31.00 ± 0.02" in shown


def test_one_objective_and_unmeasured_values_are_fine():
    def events(view):
        view(StudyStarted(finished=0, wanted=2, resumed=False))
        view(ended(1, 50.0, 3.0, readings=()))
        view(ended(2, 55.0, 3.0))

    assert "55.00" in on_a_terminal(events, [ACCURACY], ())[0]


def test_without_a_terminal_each_ended_trial_is_one_line():
    lines = without_a_terminal()
    assert lines[0] == "few in studies/few"
    assert len(lines) == 6
    assert lines[1] == "[1/4] trial 0 top-1 60.00 %, latency 5.00 ± 0.02 ms, 30 s  starnet_s1"
    assert lines[2].startswith("[1/4] trial 1 failed: out of [bold]memory[/bold] (starnet:")
    assert "breaks a constraint" in lines[5]
    assert not any("\x1b" in line for line in lines)


def test_a_terminal_shows_how_many_were_not_trained_and_by_how_much_the_latest_misses():
    console = Console(force_terminal=True, width=80, file=io.StringIO(), record=True)
    live = LiveView(BOTH, (), console=console)
    readings = (Measurement(name="latency_ms", value=2.31),)
    live(StudyStarted(finished=0, wanted=4, resumed=False))
    live(failure(0, "Not trained: latency_ms is not at most 1.", untrained=True, readings=readings))
    console.print(live._render())
    text = " ".join(console.export_text().split())
    assert "1 not trained" in text
    assert "latency 2.31 ms. Not trained: latency_ms is not at most 1." in text


def test_what_ctrl_c_cuts_off_is_interrupted_and_has_not_failed():
    events = lambda view: view(failure(0, "interrupted", lost=True))  # noqa: E731
    assert without_a_terminal(events)[1] == "[0/0] trial 0 interrupted (starnet_s1)"
    assert "failed" not in on_a_terminal(events)[1]


def test_resuming_is_said_and_shows_the_front_of_the_earlier_trials():
    def events(view):
        view(StudyStarted(finished=3, wanted=8, resumed=True, earlier=(judged(7, 90.0, 1.0),)))

    assert "Resuming: 3 of 8 trials are there." in without_a_terminal(events)
    assert "90.00" in on_a_terminal(events)[0]


def test_the_terminal_is_given_back_when_the_run_breaks():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=40)
    with suppress(KeyboardInterrupt), LiveView(BOTH, console=console):
        raise KeyboardInterrupt
    written = console.file.getvalue()
    assert written.rpartition("\x1b[?25l")[2].count("\x1b[?25h") == 1  # the cursor, hidden, is shown again


def test_predicted_values_are_marked_and_the_front_is_measured_before_the_eyes():
    predicted = Prediction(name="latency_ms", value=2.0, low=1.8, high=2.2, device="a phone")
    measured = Measurement(name="latency_ms", value=2.5, runs=20, spread=0.02)

    def events(view):
        view(StudyStarted(finished=0, wanted=1, resumed=False))
        view(ended(2, 50.0, 2.0, readings=(Measurement(name="top1_percent", value=50.0), predicted)))
        view(FrontProgressed(measured=1, wanted=4, trial=trial(2), progress=Progress(fraction=0.5, stage="latency")))
        view(MemberMeasured(trial=trial(2), prediction=predicted, measurement=measured))
        view(MemberMeasured(trial=trial(2), prediction=predicted, measurement=None, reason="too hot"))

    seen, _ = on_a_terminal(events)
    for words in ("≈ 2.00", "measuring the front", "network 2 of 4"):
        assert words in seen
    lines = "\n".join(without_a_terminal(events))
    assert "latency measured 2.50 ± 0.02 ms, predicted ≈ 2.00 (-20.0 %)" in lines
    assert "latency stays ≈ 2.00 ms: too hot" in lines


def test_a_trial_shows_the_time_that_is_left_by_its_pace_since_it_was_resumed():
    clock = [0.0]

    def resumed(view):
        view(StudyStarted(finished=0, wanted=4, resumed=False))
        view(TrialStarted(trial=trial(1)))
        for clock[0], fraction in ((100.0, 0.0), (160.0, 0.5), (220.0, 0.6)):  # a tenth in a minute: four are left
            view(TrialProgressed(trial=trial(1), progress=Progress(fraction=fraction, stage="training")))

    shown, _ = on_a_terminal(resumed, clock=lambda: clock[0])
    assert "60 %  training, about 4 min left" in shown


def test_what_is_published_is_said_to_be_and_what_is_estimated_too():
    name = "imagenet_top1_percent"
    of = Objective(name=name, direction="maximize")
    known = Prediction(name=name, value=73.5, low=73.5, high=73.5, kind="published")
    guess = Prediction(name=name, value=74.1, low=72.7, high=75.4, kind="estimated")
    console = Console(file=io.StringIO(), width=60)
    with LiveView([of], console=console) as view:
        for number, reading in enumerate((known, guess)):
            view(TrialEnded(trial=trial(number, state="complete", readings=(reading,))))
    said = console.file.getvalue()
    assert "trial 0 published ImageNet top-1 73.5 %," in said
    assert "trial 1 estimated ImageNet top-1 ≈ 74.1 (72.7–75.4) %," in said
