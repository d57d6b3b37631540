import itertools

import numpy as np
import pytest

from starsearch.pareto import hypervolume, next_promotion, non_dominated, non_dominated_ranks


def dominates(a, b):
    return (a <= b).all() and (a < b).any()


def brute_force(losses):
    return [not np.isnan(row).any() and not any(dominates(other, row) for other in losses) for row in losses]


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(8))
def test_non_dominated_is_what_comparing_all_pairs_finds(num_objectives, seed):
    # Few distinct values, so that ties and copies are common.
    losses = np.random.default_rng(seed).integers(0, 5, (60, num_objectives)).astype(float)
    assert non_dominated(losses).tolist() == brute_force(losses)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([[1, 2], [2, 1], [1, 2], [3, 3]], [True, True, True, False]),
        ([[NAN, -9], [1, 1], [2, NAN], [2, 2]], [False, True, False, False]),
        ([[1, INF], [1, 2], [INF, 0]], [False, True, True]),
        ([[INF]], [True]),
        ([[NAN]], [False]),
    ],
)
def test_copies_are_all_on_the_front_and_nan_is_not(losses, expected):
    assert non_dominated(np.array(losses, dtype=float)).tolist() == expected


@pytest.mark.parametrize("shape", [(0, 1), (0, 2), (0, 3)])
def test_no_rows_have_no_front_and_no_volume(shape):
    assert non_dominated(np.empty(shape)).shape == (0,)
    assert hypervolume(np.empty(shape), np.zeros(shape[1])) == 0.0


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_hypervolume_is_the_number_of_unit_cells_some_row_dominates(num_objectives, seed):
    losses = np.random.default_rng(seed).integers(0, 6, (12, num_objectives)).astype(float)
    cells = itertools.product(range(6), repeat=num_objectives)
    expected = sum(any((row <= cell).all() for row in losses) for cell in cells)
    assert hypervolume(losses, np.full(num_objectives, 6.0)) == pytest.approx(expected)


@pytest.mark.parametrize("row", [[3.0, 0.0], [np.nan, 0.0]])
def test_hypervolume_refuses_a_row_beyond_the_reference(row):
    with pytest.raises(ValueError, match="at or below the reference"):
        hypervolume(np.array([[1.0, 1.0], row]), np.array([2.0, 2.0]))


def peel(losses):
    """Ranks by taking front after front away."""
    ranks, left, rank = np.full(len(losses), -1), np.arange(len(losses)), 0
    while len(left):
        best = non_dominated(losses[left])
        ranks[left[best]] = rank
        left, rank = left[~best], rank + 1
    return ranks


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_taking_front_after_front_away(num_objectives, seed):
    losses = np.random.default_rng(seed).integers(0, 6, (40, num_objectives)).astype(float)
    assert non_dominated_ranks(losses).tolist() == peel(losses).tolist()


def arrive(losses, *, eta, allowed=None):
    """Rows reach the rung one after the other; after each, all that may go on do. Yields (row, reached so far)."""
    allowed = np.ones(len(losses), dtype=bool) if allowed is None else allowed
    promoted = np.zeros(len(losses), dtype=bool)
    for reached in range(len(losses) + 1):
        here = slice(reached)
        while (
            row := next_promotion(losses[here], promoted=promoted[here], allowed=allowed[here], eta=eta)
        ) is not None:
            yield row, reached, promoted.copy()
            promoted[row] = True


@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("num_objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_at_most_one_in_eta_goes_on_and_none_before_one_that_dominates_it(eta, num_objectives, seed):
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, 12, (60, num_objectives)).astype(float)
    allowed = rng.random(60) < 0.8
    count = 0
    for row, reached, promoted in arrive(losses, eta=eta, allowed=allowed):
        count += 1
        assert count <= reached // eta
        assert row < reached
        assert allowed[row]
        assert not promoted[row]
        before = [other for other in range(reached) if allowed[other] and dominates(losses[other], losses[row])]
        assert promoted[before].all()
    assert count == min(60 // eta, allowed.sum())


@pytest.mark.parametrize("seed", range(10))
def test_of_one_rank_the_row_goes_on_without_which_most_hypervolume_is_lost(seed):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.random(9))
    losses = np.stack([x * 1000, np.sort(rng.random(9))[::-1] / 1000], axis=1)  # a front, in units far apart
    chosen = next_promotion(losses, promoted=np.zeros(9, dtype=bool), allowed=np.ones(9, dtype=bool), eta=9)
    scaled = (losses - losses.min(axis=0)) / np.ptp(losses, axis=0)
    lost = [-hypervolume(np.delete(scaled, row, axis=0), np.array([1.1, 1.1])) for row in range(9)]
    assert chosen == int(np.argmax(lost))


def test_units_do_not_decide():
    rng = np.random.default_rng(0)
    losses = rng.random((30, 2))
    first = [row for row, *_ in arrive(losses, eta=3)]
    assert first == [row for row, *_ in arrive(losses * [1e6, 1e-6] + [5, -3], eta=3)]


@pytest.mark.parametrize("eta", [3, 4])
@pytest.mark.parametrize("reached", [0, 1, 2])
def test_a_rung_with_fewer_than_eta_rows_lets_none_go_on(reached, eta):
    losses = np.random.default_rng(0).random((reached, 2))
    none, everyone = np.zeros(reached, dtype=bool), np.ones(reached, dtype=bool)
    assert next_promotion(losses, promoted=none, allowed=everyone, eta=eta) is None


def test_an_eta_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        next_promotion(np.zeros((3, 2)), promoted=np.zeros(3, dtype=bool), allowed=np.ones(3, dtype=bool), eta=1)


def test_copies_go_on_one_after_the_other():
    assert [row for row, *_ in arrive(np.ones((6, 2)), eta=2)] == [0, 1, 2]
