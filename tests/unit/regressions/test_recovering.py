"""When a series is back at its old level."""

from __future__ import annotations

from scheduler.regressions.recovering import back_since
from tests.unit.regressions.watch_rows import QUIET, history

SLOW = tuple(1.1 * value for value in QUIET[:5])


def test_a_trial_that_takes_the_step_back_closes_it_the_same_night() -> None:
    points, borders = history([*QUIET, *SLOW, 1.0]), {11: 1.1, 16: 1 / 1.1}
    found = back_since(points, borders, borders, 11, 0.1)
    assert found is not None
    assert found.id == 16


def test_half_a_step_back_is_not_back() -> None:
    borders = {11: 1.1, 16: 0.955}
    assert back_since(history([*QUIET, *SLOW, 1.05]), borders, borders, 11, 0.1) is None


def test_a_faster_model_mends_no_unit() -> None:
    points = history([*QUIET, *SLOW, *(0.909 * value for value in SLOW)])
    borders, unit = {11: 1.1, 16: 0.909}, {11: 1.1, 16: 1.0}
    assert back_since(points, borders, unit, 11, 0.1) is None
    assert back_since(points, borders, borders, 11, 0.1) is not None


def test_one_good_night_without_a_trial_is_not_back_and_a_new_level_is() -> None:
    points = history([*QUIET, *SLOW, *QUIET[:8]])
    borders = {11: 1.1}
    for last in range(16, 23):
        assert back_since(points[:last], borders, borders, 11, 0.1) is None
    found = back_since(points, borders, borders, 11, 0.1)
    assert found is not None
    assert found.id == 16


def test_a_confirmed_step_back_that_was_sized_short_is_settled_by_the_points_that_follow() -> None:
    points = history([*QUIET, *SLOW, *QUIET[:4]])
    borders = {11: 1.1, 16: 0.93}
    assert back_since(points[:16], borders, borders, 11, 0.1) is None
    assert back_since(points, borders, borders, 11, 0.1) is not None


def test_a_series_at_its_slow_level_is_never_back() -> None:
    points, borders = history([*QUIET, *SLOW, *SLOW]), {11: 1.1}
    for last in range(11, len(points) + 1):
        assert back_since(points[:last], borders, borders, 11, 0.1) is None


def test_a_step_older_than_what_is_known_says_nothing() -> None:
    assert back_since(history(QUIET), {}, {}, 99, 0.1) is None


def test_a_large_step_is_known_to_within_its_interval_and_so_is_its_end() -> None:
    points = history([*QUIET, *(4 * value for value in QUIET[:5]), 1.0])
    borders = {11: 4.1, 16: 1 / 3.95}
    assert back_since(points, borders, borders, 11, 3.1, uncertainty=0.05) is not None
    assert back_since(points, borders, borders, 11, 3.1) is None
