import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starsearch.errors import StudyError
from starsearch.report.front import anchor_recipe_note, front_table, knee
from starsearch.report.table import architecture_name, plain_rows
from tests.report.frames import ACCURACY, BOTH, FAMILY, LATENCY, PARAMS, failed, frame, realistic_trials, trial, view

# Few values, so that ties and repeats are frequent; NaN for what was not measured.
NUMBERS = st.sampled_from([1.0, 2.0, 3.0, 4.0, float("nan")])


@st.composite
def random_trials(draw):
    rows = []
    for number in range(draw(st.integers(1, 9))):
        if draw(st.integers(0, 5)) == 0:
            rows.append(failed(number))
            continue
        values = {name: draw(NUMBERS) for name in ("top1_percent", "latency_ms", "num_params")}
        anchor = draw(st.sampled_from([None, FAMILY[number]])) if number < 4 else None
        rows.append(trial(number, anchor=anchor, feasible=draw(st.booleans()), **values))
    return frame(rows)


def brute_force_front(trials, objectives):
    """Numbers of the feasible measured trials that no other such trial beats; pair by pair."""
    signs = {o.name: 1 if o.direction == "minimize" else -1 for o in objectives}
    good = [
        row
        for row in trials.to_dict("records")
        if row["state"] == "COMPLETE" and row["feasible"] and not any(np.isnan(row[name]) for name in signs)
    ]

    def beats(a, b):
        differences = [sign * (b[name] - a[name]) for name, sign in signs.items()]
        return min(differences) >= 0 and max(differences) > 0

    return {row["number"] for row in good if not any(beats(other, row) for other in good)}


OBJECTIVES = st.sampled_from([(ACCURACY,), (LATENCY,), BOTH, (LATENCY, ACCURACY), (*BOTH, PARAMS)])


def test_an_anchor_of_several_recipes_is_its_best_feasible_row_and_says_by_which():
    lr = "params_recipe.lr"
    rows = [
        trial(0, anchor="starnet_s1", top1_percent=60.0, **{lr: 0.002}),
        trial(1, anchor="starnet_s1", top1_percent=64.0, latency_ms=5.01, **{lr: 0.009471234}),
        trial(2, anchor="starnet_s1", top1_percent=70.0, feasible=False, **{lr: 0.01}),
        trial(3, top1_percent=62.0, latency_ms=4.0, **{lr: 0.004}),
    ]
    front = front_table(frame(rows), BOTH)
    assert front["number"].tolist() == [3, 1]
    assert front.loc[0, "gain_top1_percent"] == -2.0, "over the best recipe of the anchor"
    assert view(frame(rows), BOTH).summary["complete"] == 4
    assert architecture_name(plain_rows(front)[1]) == "starnet_s1; lr=0.009471234"
    assert "best of up to 3 recipes" in anchor_recipe_note(frame(rows))
    note = anchor_recipe_note(frame([rows[0], rows[3]]))
    assert "trained by the study's own recipe (lr 0.002), the candidates by searched ones" in note
    assert anchor_recipe_note(realistic_trials()) is None


@settings(max_examples=40, deadline=None)
@given(random_trials(), OBJECTIVES)
def test_the_front_is_that_of_comparing_every_pair(trials, objectives):
    front = front_table(trials, objectives)
    found = set(front["number"][front["on_front"]])
    expected = brute_force_front(trials, objectives)
    assert found <= expected
    # What is left out repeats an architecture with its values.
    keys = ["architecture", *(o.name for o in objectives)]
    by_number = trials.set_index("number")
    kept = {tuple(by_number.loc[number, keys]) for number in found}
    assert {tuple(by_number.loc[number, keys]) for number in expected} == kept


@settings(max_examples=20, deadline=None)
@given(random_trials(), OBJECTIVES)
def test_every_complete_anchor_is_a_row_ranks_count_up_and_the_knee_is_on_the_front(trials, objectives):
    front = front_table(trials, objectives)
    anchors = trials[(trials["state"] == "COMPLETE") & trials["anchor"].notna()]
    assert set(anchors["number"]) == set(front["number"][front["anchor"].notna()])
    assert list(front["rank"].dropna()) == list(range(1, front["rank"].notna().sum() + 1))
    assert front.loc[front["on_front"], "rank"].notna().all()
    assert front["number"].is_unique
    members = front["number"][front["on_front"]]
    assert view(trials, objectives).knee in (set(members) or {None})


def test_the_front_runs_from_the_fastest_to_the_slowest_with_dominated_anchors_between():
    trials = frame(
        [
            trial(0, anchor="starnet_s1", top1_percent=60.0, latency_ms=4.0),
            trial(1, top1_percent=70.0, latency_ms=6.0),
            trial(2, top1_percent=62.0, latency_ms=3.0),
        ]
    )
    front = front_table(trials, BOTH)
    assert list(front["number"]) == [2, 0, 1]
    assert list(front["rank"].astype(object).where(front["rank"].notna(), None)) == [1, None, 2]


def test_gains_are_positive_where_better_and_taken_from_the_nearest_anchor():
    trials = frame(
        [
            trial(0, anchor="starnet_s1", top1_percent=60.0, latency_ms=4.0),
            trial(1, anchor="starnet_s4", top1_percent=80.0, latency_ms=10.0),
            trial(2, top1_percent=62.0, latency_ms=3.0),
            trial(3, top1_percent=81.0, latency_ms=11.0),
        ]
    )
    front = front_table(trials, BOTH).set_index("number")
    assert list(front["nearest_anchor"][[2, 3]]) == ["starnet_s1", "starnet_s4"]
    np.testing.assert_allclose(front["gain_top1_percent"][[2, 3]], [2, 1])
    np.testing.assert_allclose(front["gain_latency_ms"][[2, 3]], [1, -1])
    np.testing.assert_allclose(front["gain_latency_percent"][[2, 3]], [25, -10])
    assert front["nearest_anchor"][[0, 1]].isna().all()
    assert "gain_top1_percent_percent" not in front


def test_equal_values_are_kept_of_each_architecture_once_of_the_anchor_or_the_first():
    twin = trial(2)
    trials = frame([trial(0), trial(1), twin, twin | {"number": 3}])
    assert list(front_table(trials, BOTH)["number"]) == [0, 1, 2]
    anchor = trial(5, anchor="starnet_s1")
    front = front_table(frame([anchor | {"number": 4, "anchor": None}, anchor]), BOTH)
    assert list(front["number"][front["on_front"]]) == [5]


def test_an_infeasible_anchor_is_shown_without_a_rank():
    front = front_table(frame([trial(0, anchor="starnet_s4", feasible=False), trial(1)]), BOTH)
    assert front.set_index("number")["on_front"].to_dict() == {0: False, 1: True}
    assert pd.isna(front.set_index("number")["rank"][0])


def test_one_objective_ranks_every_feasible_trial():
    trials = frame([trial(i, top1_percent=value) for i, value in enumerate([50.0, 70.0, 60.0])] + [failed(3)])
    ranking = front_table(trials, [ACCURACY])
    assert list(ranking["number"]) == [1, 2, 0]
    assert list(ranking["rank"]) == [1, 2, 3]
    assert list(ranking["on_front"]) == [True, False, False]


def test_fidelities_are_never_mixed():
    with pytest.raises(StudyError, match="of full, proxy"):
        front_table(frame([trial(0), trial(1, fidelity="full")]), BOTH)


@pytest.mark.parametrize("trials", [pd.DataFrame(), frame([failed(0)]), frame([trial(0, state="RUNNING")])])
def test_without_complete_trials_the_front_is_empty_with_all_its_columns(trials):
    front = front_table(trials, BOTH)
    assert front.empty
    assert {"rank", "anchor", "top1_percent", "latency_ms", "gain_latency_ms", "on_front"} <= set(front)
    assert view(trials, BOTH).summary["knee"] is None


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(50.0, 1.0)], 0),
        ([(50.0, 1.0), (60.0, 2.0)], 1),  # two points: no bulge, the most accurate
        ([(50.0, 1.0), (58.0, 2.0), (60.0, 9.0)], 1),
        ([(50.0, 1.0), (51.0, 5.0), (60.0, 9.0)], 2),  # hollow: an end
        ([(50.0, 1.0), (55.0, 2.0), (60.0, 3.0)], 2),  # straight
    ],
)
def test_the_knee_bulges_furthest_from_the_line_between_the_ends(points, expected):
    trials = frame([trial(i, top1_percent=top1, latency_ms=latency) for i, (top1, latency) in enumerate(points)])
    assert knee(front_table(trials, BOTH), BOTH) == expected


def test_the_hypervolume_of_two_points_is_counted_by_hand():
    trials = frame(
        [
            trial(0, anchor="starnet_s1", top1_percent=60.0, latency_ms=2.0),
            trial(1, top1_percent=70.0, latency_ms=12.0),
        ]
    )
    found = view(trials, BOTH).summary["hypervolume"]
    assert found["reference"] == pytest.approx({"top1_percent": 59.0, "latency_ms": 13.0})
    assert found["anchors"] == pytest.approx(1 * 11)
    assert found["front"] == pytest.approx(1 * 11 + 10 * 1)


def test_the_summary_counts_what_happened():
    found = view(realistic_trials(30), BOTH).summary
    assert (found["trials"], found["complete"], found["failed"], found["infeasible"]) == (34, 33, 1, 1)
    assert found["seconds"] == 340
    trials = realistic_trials(30)
    best = trials[trials["feasible"].eq(True)].set_index("number")["top1_percent"]
    assert found["best"]["top1_percent"] == {"value": best.max(), "spread": None, "number": best.idxmax()}
