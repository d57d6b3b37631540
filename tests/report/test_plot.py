import itertools
from dataclasses import replace

import pytest

from starsearch.objective import Constraint, Objective
from starsearch.report.figures import front_figure
from starsearch.report.plot import axis_label, draw_front, plane_of
from tests.report.frames import ACCURACY, BOTH, DEVICE, LATENCY, PARAMS, failed, frame, realistic_trials, trial, view


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("objectives", [(ACCURACY,), BOTH, (LATENCY, ACCURACY), (*BOTH, PARAMS)])
def test_anchors_are_labelled_whatever_the_objectives(objectives):
    figure = draw_front(view(realistic_trials(), objectives), title="study")
    assert {"S1", "S2", "S3", "S4"} <= set(texts_of(figure))
    assert any(container.has_yerr for container in figure.axes[0].containers)
    assert "Top-1 accuracy (%)" in {figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()}


def test_axes_say_quantity_unit_and_device():
    figure = draw_front(view(realistic_trials()), title="study · digits · proxy")
    assert figure.axes[0].get_xlabel() == f"Latency (ms) on {DEVICE}"
    assert figure.axes[0].get_title(loc="left") == "study · digits · proxy"
    trials = frame([trial(0), trial(1, latency_ms_device="other")])
    assert axis_label(LATENCY, trials).endswith("2 devices")
    assert axis_label(PARAMS, trials) == "Params (M)"


def test_labels_of_anchors_do_not_overlap():
    figure = draw_front(view(realistic_trials()), title="study")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text().startswith("S")]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("directions", list(itertools.product(["maximize", "minimize"], repeat=2)))
def test_the_front_line_encloses_every_feasible_trial(directions):
    objectives = [
        Objective(name=n, direction=d) for n, d in zip(("top1_percent", "latency_ms"), directions, strict=True)
    ]
    trials = realistic_trials(25)
    study = view(trials, objectives)
    line = next(line for line in draw_front(study, title="").axes[0].lines if line.get_drawstyle() == "steps-post")
    across, up = plane_of(objectives)
    sign_x, sign_y = (1 if o.direction == "minimize" else -1 for o in (across, up))
    feasible = trials[trials["feasible"].eq(True)]
    # At a trial's place the line has come at least as far down (in losses) as the trial.
    for x, y in feasible[[across.name, up.name]].to_numpy():
        reached = [sign_y * ly for lx, ly in zip(*line.get_data(), strict=True) if sign_x * lx <= sign_x * x]
        assert min(reached) <= sign_y * y
    assert len(line.get_xdata()) == study.front["on_front"].sum()


def test_far_trials_are_left_outside_and_counted_and_no_error_bar_is_cut():
    rows = [trial(0, top1_percent=60.0), trial(1, top1_percent=70.0, latency_ms=6.0)]
    far = draw_front(view(frame([*rows, trial(2, latency_ms=900.0)])), title="")
    assert "1 trial lies outside" in texts_of(far)
    assert far.axes[0].get_xlim()[1] < 10
    # Slower than the front by a little less than half the front's range.
    near = frame([*rows, trial(2, latency_ms=6.49)]).assign(top1_percent_spread=3.0)
    axes = draw_front(view(near), title="").axes[0]
    assert axes.get_xlim()[1] > 6.49
    assert not any("outside" in text.get_text() for text in axes.texts)
    assert axes.get_ylim()[0] < 57
    assert axes.get_ylim()[1] > 73


@pytest.mark.parametrize("trials", [frame([failed(0)]), frame([trial(0, feasible=False)])])
def test_without_a_front_the_picture_says_so(trials):
    assert any("No front" in text for text in texts_of(draw_front(view(trials), title="")))


def test_a_limit_is_drawn_and_anchors_that_break_it_are_hollow():
    trials = realistic_trials()
    limit = float(trials["latency_ms"][:4].median())
    study = view(trials.assign(feasible=trials["feasible"].mask(trials["latency_ms"] > limit, False)))
    study = replace(study, spec=replace(study.spec, constraints=(Constraint(name="latency_ms", high=limit),)))
    drawn = {line.get_label(): line for line in draw_front(study, title="").axes[0].lines}
    assert set(drawn[f"limit {limit:g} ms"].get_xdata()) == {limit}
    assert drawn["published, breaks a constraint"].get_markerfacecolor() == "white"
    assert min(drawn["published, breaks a constraint"].get_xdata()) > limit > max(drawn["published"].get_xdata())
    page = front_figure(study)
    assert page.layout.shapes[0].x0 == limit
    (hollow,) = (trace for trace in page.data if trace.name == "published, breaks a constraint")
    assert hollow.marker.symbol == "diamond-open"
    assert min(hollow.x) > limit
