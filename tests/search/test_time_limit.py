import pytest

from starsearch.search.time_limit import TimeLimit
from tests.search.workers import Clock


def listen(limit, clock, seconds):
    with limit.listening():
        clock.now += seconds


def test_who_began_first_is_overdue_first():
    clock = Clock()
    limit = TimeLimit(10.0, clock)
    for number in (7, 3):
        limit.begin(number)
        listen(limit, clock, 1.0)
    listen(limit, clock, 8.0)
    assert limit.first_overdue() is None
    listen(limit, clock, 0.5)
    assert limit.first_overdue() == 7
    limit.forget(7)
    assert limit.first_overdue() is None
    listen(limit, clock, 1.0)
    assert limit.first_overdue() == 3


def test_hearing_a_trial_again_does_not_begin_it_again_and_its_second_part_does():
    clock = Clock()
    limit = TimeLimit(10.0, clock)
    limit.begin(1)
    listen(limit, clock, 11.0)
    limit.begin(1)
    assert limit.first_overdue() == 1
    limit.forget(1)
    limit.begin(1)
    assert limit.first_overdue() is None


@pytest.mark.parametrize(("away_s", "overdue"), [(600.0, None), (3.0, 1)])
def test_the_time_in_which_nobody_listens_does_not_count_unless_it_is_short(away_s, overdue):
    clock = Clock()
    limit = TimeLimit(10.0, clock)
    limit.begin(1)
    listen(limit, clock, 8.0)
    clock.now += away_s
    with limit.listening():
        assert limit.first_overdue() == overdue
    listen(limit, clock, 3.0)
    assert limit.first_overdue() == 1


def test_without_a_limit_nobody_is_overdue():
    clock = Clock()
    limit = TimeLimit(None, clock)
    limit.begin(1)
    listen(limit, clock, 1e9)
    assert limit.first_overdue() is None
