"""What is tried of a series for the sake of another one of its model."""

from __future__ import annotations

import pytest

from scheduler.regressions.siblings import Lead, Slow, sibling_of
from tests.unit.regressions.watch_rows import history

NIGHTS = history([1.0] * 6, artifacts="abcdef")
WORSE = Lead(model="net", run_id=103, change=0.05)
MENDED = Lead(model="net", run_id=103, change=-0.05)


def test_another_series_is_tried_against_the_artifact_of_the_same_night() -> None:
    found = sibling_of(NIGHTS, {}, WORSE, None)
    assert found is not None
    assert (found.baseline.run_id, found.step.run_id, found.change) == (103, 104, 0.05)


def test_where_it_has_no_valid_point_of_that_night_the_one_before_counts() -> None:
    found = sibling_of(history([1.0, 1.0, None, 1.0, 1.0], artifacts="abcde"), {}, WORSE, None)
    assert found is not None
    assert found.baseline.run_id == 102


def test_a_step_that_is_explained_since_is_not_tried_again() -> None:
    assert sibling_of(NIGHTS, {5: 1.05}, WORSE, None) is None
    assert sibling_of(NIGHTS, {2: 1.05}, WORSE, None) is not None


def test_nothing_is_tried_without_another_artifact_or_an_older_point() -> None:
    assert sibling_of(history([1.0] * 6, artifacts="a"), {}, WORSE, None) is None
    assert sibling_of(history([1.0] * 3, first=5, artifacts="abc"), {}, WORSE, None) is None
    assert sibling_of([], {}, WORSE, None) is None


def test_a_slow_series_is_tried_with_its_slow_artifact_once_another_one_is_mended() -> None:
    found = sibling_of(NIGHTS, {3: 1.05}, MENDED, Slow(point_id=4, change=0.05))
    assert found is not None
    assert found.baseline.id == 4
    assert found.change == pytest.approx(1 / 1.05 - 1)


def test_who_is_well_is_not_tried_for_being_mended_and_who_is_slow_not_for_being_slower() -> None:
    assert sibling_of(NIGHTS, {}, MENDED, None) is None
    assert sibling_of(NIGHTS, {}, WORSE, Slow(point_id=4, change=0.05)) is None
