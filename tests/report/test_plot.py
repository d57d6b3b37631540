from __future__ import annotations

import itertools

import numpy as np
import pytest

from starsearch.objective import Objective
from starsearch.report import draw_front, front_table
from starsearch.report.placement import place_labels
from starsearch.report.plot import axis_label, plane_of
from tests.report.frames import ACCURACY, BOTH, DEVICE, LATENCY, PARAMS, failed, frame, realistic_trials, trial


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("objectives", [(ACCURACY,), BOTH, (LATENCY, ACCURACY), (*BOTH, PARAMS)])
def test_anchors_are_labelled_whatever_the_objectives(objectives):
    figure = draw_front(realistic_trials(), objectives, title="study")
    assert {"S1", "S2", "S3", "S4"} <= set(texts_of(figure))
    assert "Top-1 accuracy (%)" in {figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()}


def test_axes_say_quantity_unit_and_device():
    figure = draw_front(realistic_trials(), BOTH, title="study · digits · proxy")
    assert figure.axes[0].get_xlabel() == f"Latency (ms) on {DEVICE}"
    assert figure.axes[0].get_title(loc="left") == "study · digits · proxy"


def test_labels_of_anchors_do_not_overlap():
    figure = draw_front(realistic_trials(), BOTH, title="study")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text().startswith("S")]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_labels_of_points_side_by_side_keep_apart():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
    placed = place_labels(
        axes, [(0.5, 0.5, "S1"), (0.52, 0.51, "S2"), (0.5, 0.53, "S3"), (0.98, 0.98, "S4")], color="k"
    )
    boxes = [text.get_window_extent() for text in placed]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


@pytest.mark.parametrize("directions", list(itertools.product(["maximize", "minimize"], repeat=2)))
def test_the_front_line_encloses_every_feasible_trial(directions):
    objectives = [
        Objective(name=n, direction=d) for n, d in zip(("top1_percent", "latency_ms"), directions, strict=True)
    ]
    trials = realistic_trials(25)
    axes = draw_front(trials, objectives, title="").axes[0]
    line = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    across, up = plane_of(objectives)
    sign_x, sign_y = (1 if o.direction == "minimize" else -1 for o in (across, up))
    feasible = trials[trials["feasible"].eq(True)]
    # At a trial's place the line has come at least as far down (in losses) as the trial.
    for x, y in feasible[[across.name, up.name]].to_numpy():
        reached = [sign_y * ly for lx, ly in zip(*line.get_data(), strict=True) if sign_x * lx <= sign_x * x]
        assert min(reached) <= sign_y * y
    front = front_table(trials, objectives)
    assert len(line.get_xdata()) == front["on_front"].sum()


def test_far_trials_are_left_outside_and_counted():
    trials = frame(
        [trial(0, top1_percent=60.0), trial(1, top1_percent=70.0, latency_ms=6.0), trial(2, latency_ms=900.0)]
    )
    figure = draw_front(trials, BOTH, title="")
    assert "1 trial lies outside" in texts_of(figure)
    assert figure.axes[0].get_xlim()[1] < 10


@pytest.mark.parametrize("trials", [frame([failed(0)]), frame([trial(0, feasible=False)])])
def test_without_a_front_the_picture_says_so(trials):
    assert any("No front" in text for text in texts_of(draw_front(trials, BOTH, title="")))


def test_a_single_trial_is_drawn():
    figure = draw_front(frame([trial(0)]), BOTH, title="")
    figure.canvas.draw()
    assert np.isfinite(figure.axes[0].get_xlim()).all()


def test_a_device_is_named_only_where_it_is_one():
    trials = frame([trial(0), trial(1, latency_ms_device="other")])
    assert axis_label(LATENCY, trials).endswith("2 devices")
    assert axis_label(PARAMS, trials) == "Params (M)"
