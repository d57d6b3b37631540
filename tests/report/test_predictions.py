"""Predicted and measured latencies in tables, pictures and the page."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from starsearch.cli.studies import render_front
from starsearch.objective import Objective
from starsearch.report.figures import prediction_figure
from starsearch.report.page import render_page
from starsearch.report.plot import axis_label
from starsearch.report.summary import predicted_and_measured, prediction_lines
from starsearch.report.table import to_json
from tests.report.frames import ACCURACY, frame, realistic_trials, trial, view

NAME = "latency_ms@phone"
PHONE = Objective(name=NAME, direction="minimize", device="phone")
BOTH = (ACCURACY, PHONE)
COLUMNS = ("", "_kind", "_predicted", "_low", "_high", "_error_percent", "_spread")


def predicted(number, ms, measured=None, **values):
    """A trial whose latency on the phone was predicted, and `measured` where that is given."""
    known = (ms, "predicted", ms, 0.9 * ms, 1.1 * ms, np.nan, np.nan)
    if measured is not None:
        known = (measured, "measured", ms, 0.9 * ms, 1.1 * ms, 100 * (ms / measured - 1), 0.01)
    return trial(number, **{f"{NAME}{end}": value for end, value in zip(COLUMNS, known, strict=True)}, **values)


@pytest.fixture
def trials():
    return frame(
        [
            predicted(0, 2.0, 2.5, anchor="starnet_s1", top1_percent=50.0),
            predicted(1, 3.0, 2.9, top1_percent=60.0),
            predicted(2, 4.0, top1_percent=70.0),
            predicted(3, 9.0, top1_percent=10.0),
        ]
    )


def printed(table):
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_the_table_shows_predicted_and_measured_and_the_error_in_percent(trials):
    lines = printed(render_front(view(trials, BOTH))).splitlines()
    assert any("Latency @phone" in line and "Predicted" in line for line in lines)
    for number, words in (
        (0, ("2.50 ± 0.01", "2.00 (−20.0 %)")),
        (1, ("2.90 ± 0.01", "3.00 (+3.4 %)")),
        (2, ("≈ 4.00",)),
    ):
        line = next(line for line in lines if line.split()[1:2] == [str(number)])
        for word in words:
            assert word in line, line


def test_front_csv_has_the_columns_and_json_the_numbers(trials):
    study = view(trials, BOTH)
    assert {f"{NAME}{end}" for end in COLUMNS} <= set(study.front)
    found = json.loads(to_json(study.front, study.summary))
    assert found["front"][0][f"{NAME}_kind"] == "measured"
    assert found["summary"]["predictions"] == {
        NAME: {
            "networks": 2,
            "mape_percent": pytest.approx((20 + 100 / 29) / 2),
            "inside": 1,
            "only_predicted": 1,
            "corrected_percent": 0.0,  # as the record has corrected them, which these frames have not
            "repair": None,
        }
    }


def test_the_mean_error_is_said_in_words_and_that_nothing_was_measured(trials):
    (line,) = prediction_lines(view(trials, BOTH).predictions)
    assert "off by 11.7 % on average over 2 measured networks; 1 of them within the 90 % interval" in line
    assert "1 on the front is predicted only." in line
    (line,) = prediction_lines(view(frame([predicted(0, 2.0)]), BOTH).predictions)
    assert "none of it has been measured" in line


def test_a_profile_that_does_not_hold_is_said_with_the_correction_and_the_command_that_repairs_it():
    rows = [predicted(number, 2.0, 2.5, top1_percent=50.0) for number in range(6)]
    moved = predicted(6, 3.0, top1_percent=60.0) | {f"{NAME}_predicted": 2.4}
    (line,) = prediction_lines(view(frame([*rows, moved]), BOTH).predictions)
    assert "off by 20.0 % on average over 6 measured networks; 0 of them within the 90 % interval" in line
    assert "What was not measured is corrected accordingly, by +25.0 % (median). The profile does not hold" in line
    assert line.endswith(
        'latency fit --out phone-2.yaml --from phone.yaml --measurements FILE.csv --device "WHAT WAS MEASURED"'
    )
    here = frame([*(row | {f"{NAME}_runs": 12} for row in rows), moved])
    study = view(here, BOTH)
    spec = replace(study.spec, profile_files={NAME: "profiles/phone.yaml"}, space_file="spaces/own.yaml")
    (line,) = prediction_lines(replace(study, spec=spec).predictions)
    assert line.endswith(
        "latency fit --out phone-2.yaml --from profiles/phone.yaml --space spaces/own.yaml --budget 10"
    )


def test_a_network_that_two_trials_trained_counts_once(trials):
    again = trials[trials["number"] == 1].assign(number=7)
    twice = frame([*trials.to_dict("records"), *again.to_dict("records")])
    assert len(predicted_and_measured(twice, NAME)) == 2


def test_the_page_draws_predicted_against_measured_with_the_line_of_equals(trials):
    figure = prediction_figure(trials, [NAME])
    points, equal = figure.data
    assert list(points.x) == [2.5, 2.9]
    assert list(points.y) == [2.0, 3.0]
    assert list(points.y + points.error_y.array) == pytest.approx([2.2, 3.3])
    assert list(points.y - points.error_y.arrayminus) == pytest.approx([1.8, 2.7])
    assert tuple(equal.x) == tuple(equal.y)
    page = render_page(view(trials, BOTH), title="t")
    assert "Predicted against measured" in page
    assert "≈ 4.00" in page
    assert "2.00 (−20.0 %)" in page


def test_an_axis_says_whether_its_values_are_predicted(trials):
    some, all_of_them = trials, trials[trials["number"] > 1]
    assert axis_label(PHONE, some) == "Latency @phone (ms), partly predicted for phone"
    assert axis_label(PHONE, all_of_them) == "Latency @phone (ms), predicted for phone"
    assert "predicted" not in axis_label(PHONE, trials[trials["number"] < 2])


def test_a_study_without_predictions_says_nothing_of_them():
    trials = realistic_trials(10)
    objectives = (ACCURACY, Objective(name="latency_ms", direction="minimize"))
    study = view(trials, objectives)
    assert "predictions" not in study.summary
    assert "Predicted" not in printed(render_front(study))
    assert "Predicted against measured" not in render_page(study, title="t")
