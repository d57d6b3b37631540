from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from starsearch.report import failure_reasons, front_table, render_failures, render_front, summary, to_json
from starsearch.report.labels import quantity
from starsearch.report.table import plain_rows, shorten_numbers
from tests.report.frames import ACCURACY, BOTH, PARAMS, failed, frame, realistic_trials, trial


def printed(table, width):
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 140])
def test_every_number_of_the_front_is_printed_whole(width):
    trials = realistic_trials(30)
    front = front_table(trials, BOTH)
    text = printed(render_front(front, BOTH), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in plain_rows(front):
        assert f"{row['top1_percent']:.2f}" in text
        assert f"{row['latency_ms']:.2f} ± 0.02" in text
        assert f"{row['macs'] / 1e6:.1f}" in text
        if row["nearest_anchor"]:
            assert f"{-row['gain_latency_ms']:+.2f}ms".replace("-", "−") in text


@pytest.mark.parametrize("objectives", [(ACCURACY,), BOTH, (*BOTH, PARAMS)])
def test_one_two_and_three_objectives_have_a_table(objectives):
    text = printed(render_front(front_table(realistic_trials(), objectives), objectives), 120)
    assert "starnet_s4" in text
    assert "Top-1" in text


def test_an_empty_front_says_so():
    assert "No front" in printed(render_front(front_table(frame([failed(0)]), BOTH), BOTH), 100)


def test_rows_beyond_the_limit_are_counted():
    assert "more rows" in printed(render_front(front_table(realistic_trials(), [ACCURACY]), [ACCURACY], limit=3), 100)


def test_a_reason_with_markup_is_printed_as_it_is():
    trials = frame(
        [failed(0, "[red]odd[/red]\nsecond line"), failed(1, "[red]odd[/red]\nother"), failed(2, "disk full")]
    )
    text = printed(render_failures(trials), 100)
    assert "[red]odd[/red]" in text
    assert "second line" not in text
    reasons = failure_reasons(trials)
    assert list(reasons["count"]) == [2, 1]
    assert list(reasons["numbers"]) == [[0, 1], [2]]


def test_json_holds_every_row_with_null_where_nothing_was_measured():
    trials = frame([trial(0), trial(1, anchor="starnet_s1", latency_ms=float("nan"))])
    front = front_table(trials, BOTH)
    found = json.loads(to_json(front, summary(trials, BOTH)), parse_constant=pytest.fail)
    assert [row["number"] for row in found["front"]] == [0, 1]
    assert found["front"][1]["latency_ms"] is None
    assert found["front"][1]["rank"] is None
    assert found["front"][0]["top1_percent"] == 60.0
    assert found["summary"]["complete"] == 2


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("latency_ms", 1.234, "1.23"),
        ("macs", 421_900_000.0, "421.9"),
        ("energy_mj", 2.5, "2.50"),
        ("top1_percent", float("nan"), "–"),
    ],
)
def test_quantities_are_written_in_their_unit(name, value, text):
    assert quantity(name).number(value) == text


def test_an_unknown_quantity_is_read_by_its_name():
    assert quantity("peak_memory_mb").heading == "Peak memory (MB)"
    assert quantity("zen_score").heading == "Zen score"


def test_percentages_change_by_points():
    assert quantity("top1_percent").change(-1.5) == "−1.50 pp"
    assert quantity("latency_ms").change(0.5) == "+0.50 ms"


def test_long_lists_of_numbers_are_cut_and_counted():
    assert shorten_numbers([1, 2]) == "1, 2"
    assert shorten_numbers(list(range(8))) == "0, 1, 2, 3, 4 and 3 more"
