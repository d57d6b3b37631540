import itertools

import numpy as np
import pytest

from starsearch.pareto import hypervolume, non_dominated


def brute_force(losses):
    def beats(a, b):
        return (a <= b).all() and (a < b).any()

    return [not np.isnan(row).any() and not any(beats(other, row) for other in losses) for row in losses]


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(8))
def test_non_dominated_is_what_comparing_all_pairs_finds(num_objectives, seed):
    # Few distinct values, so that ties and copies are common.
    losses = np.random.default_rng(seed).integers(0, 5, (60, num_objectives)).astype(float)
    assert non_dominated(losses).tolist() == brute_force(losses)


def test_copies_of_a_non_dominated_row_are_all_on_the_front():
    assert non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [3.0, 3.0]])).tolist() == [True] * 3 + [False]


def test_a_row_with_nan_is_dominated_and_dominates_nothing():
    losses = np.array([[np.nan, -9.0], [1.0, 1.0], [2.0, np.nan], [2.0, 2.0]])
    assert non_dominated(losses).tolist() == [False, True, False, False]


@pytest.mark.parametrize("shape", [(0, 1), (0, 2), (0, 3)])
def test_no_rows_have_no_front_and_no_volume(shape):
    assert non_dominated(np.empty(shape)).shape == (0,)
    assert hypervolume(np.empty(shape), np.zeros(shape[1])) == 0.0


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_one_objective_without_any_finite_value_is_handled(value):
    assert non_dominated(np.array([[value]])).tolist() == [not np.isnan(value)]


def test_infinite_losses_are_dominated_by_finite_ones():
    assert non_dominated(np.array([[1.0, np.inf], [1.0, 2.0], [np.inf, 0.0]])).tolist() == [False, True, True]


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
