import io
import json

import pytest
from rich.console import Console

from starsearch.cli.studies import print_front, render_front
from starsearch.quantities import quantity
from starsearch.report.summary import failure_reasons
from starsearch.report.table import plain_rows, to_json
from tests.report.frames import ACCURACY, BOTH, PARAMS, failed, frame, realistic_trials, trial, view


def printed(study, width):
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render_front(study))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 140])
def test_every_number_of_the_front_is_printed_whole(width):
    study = view(realistic_trials(30))
    text = printed(study, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in plain_rows(study.front):
        assert f"{row['top1_percent']:.2f}" in text
        assert f"{row['latency_ms']:.2f} ± 0.02" in text
        assert f"{row['macs'] / 1e6:.1f}" in text
        if row["nearest_anchor"]:
            assert f"{-row['gain_latency_ms']:+.2f}ms".replace("-", "−") in text


@pytest.mark.parametrize("objectives", [(ACCURACY,), BOTH, (*BOTH, PARAMS)])
def test_one_two_and_three_objectives_have_a_table(objectives):
    text = printed(view(realistic_trials(), objectives), 120)
    assert "starnet_s4" in text
    assert "Top-1" in text


def test_a_file_narrower_than_the_table_still_holds_every_number(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    study = view(realistic_trials())
    print_front(study)
    text = capsys.readouterr().out
    for row in plain_rows(study.front):
        assert f"{row['latency_ms']:.2f} ± 0.02" in text
        assert f"{row['num_params'] / 1e6:.2f}" in text


def test_without_a_front_that_is_said_and_reasons_are_printed_as_they_are(capsys):
    trials = frame(
        [
            failed(0, "[red]odd[/red]\nsecond line"),
            failed(1, "[red]odd[/red]\nother"),
            failed(2, "full"),
            failed(3, "interrupted") | {"state": "INTERRUPTED"},
        ]
    )
    print_front(view(trials))
    text = capsys.readouterr().out
    assert "there is no front" in text
    assert "1 trial was interrupted: not counted" in text
    assert (view(trials).summary["failed"], view(trials).summary["interrupted"]) == (3, 1)
    again = frame([*trials.to_dict("records"), trial(4) | {"retry_of": 3}]).astype({"retry_of": "Int64"})
    print_front(view(again))
    assert "1 trial was interrupted: not counted, and repeated by a later trial." in capsys.readouterr().out
    assert (view(again).summary["interrupted"], view(again).summary["repeated"]) == (0, 1)
    assert "[red]odd[/red]" in text
    assert "second line" not in text
    reasons = failure_reasons(trials)
    assert list(reasons["count"]) == [2, 1]
    assert list(reasons["numbers"]) == [[0, 1], [2]]


def test_where_nothing_is_trained_it_is_said_by_how_much_the_nearest_misses(capsys):
    slow = {"state": "UNTRAINED", "feasible": False, "top1_percent": float("nan"), "reason": "Not trained: …"}
    rows = [trial(n, latency_ms=ms, **slow) | {"excess_latency_ms.max": ms - 1} for n, ms in enumerate((5.0, 2.31, 3))]
    print_front(view(frame(rows)))
    text = " ".join(capsys.readouterr().out.split())
    assert "3 trials were not trained, for what is known before breaks the study's constraints: 3 break" in text
    assert "Nearest is trial 1: Latency 2.31 ms where at most 1 ms is wanted." in text
    print_front(view(frame([*rows, trial(3, latency_ms=0.9) | {"excess_latency_ms.max": -0.1}])))
    assert "Nearest" not in capsys.readouterr().out


def test_json_holds_every_row_with_null_where_nothing_was_measured():
    study = view(frame([trial(0), trial(1, anchor="starnet_s1", latency_ms=float("nan"))]))
    found = json.loads(to_json(study.front, study.summary), parse_constant=pytest.fail)
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


def test_an_unknown_quantity_is_read_by_its_name_and_percentages_change_by_points():
    assert quantity("peak_memory_mb").heading == "Peak memory (MB)"
    assert quantity("zen_score").heading == "Zen score"
    assert quantity("latency_ms@phone").heading == "Latency @phone (ms)"
    assert quantity("top1_percent").change(-1.5) == "−1.50 pp"
    assert quantity("latency_ms").change(0.5) == "+0.50 ms"
