from __future__ import annotations

import itertools

import numpy as np
import pytest

from starsearch.objective import Objective
from starsearch.report import Rung, draw_front, front_table
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


def test_what_is_seen_is_not_counted_as_outside_and_no_error_bar_is_cut():
    # The third is slower than the front by a little more than half the front's range: in the frame's margin.
    latencies = [(0, 5.0), (1, 6.0), (2, 6.5 + 0.06)]
    trials = frame([trial(n, top1_percent=60.0 + n * (n < 2), latency_ms=at) for n, at in latencies])
    axes = draw_front(trials.assign(top1_percent_spread=3.0), BOTH, title="").axes[0]
    assert axes.get_xlim()[1] > 6.56
    assert not any("outside" in text.get_text() for text in axes.texts)
    low, high = axes.get_ylim()
    assert low < 57
    assert high > 64


@pytest.mark.parametrize(("promoted", "strips"), [([0, 1], 1), (range(5), 0)])
def test_trials_without_a_higher_result_stand_in_a_strip_of_their_own(promoted, strips):
    proxy = frame([trial(n, top1_percent=60.0 + n, latency_ms=5.0 + n) for n in range(5)])
    full = proxy[proxy["number"].isin(promoted)].assign(fidelity="full")
    rung = Rung(study="s", trials=proxy, front=front_table(proxy, BOTH))
    figure = draw_front(full, BOTH, title="", lower=[rung])
    assert len(figure.axes) == 1 + strips
    for strip in figure.axes[1:]:
        assert strip.lines[0].get_xdata().tolist() == [7.0, 8.0, 9.0]


def test_a_ranking_has_error_bars_too():
    trials = realistic_trials().assign(top1_percent_spread=3.0)
    containers = draw_front(trials, (ACCURACY,), title="").axes[0].containers
    assert any(container.has_yerr for container in containers)


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
