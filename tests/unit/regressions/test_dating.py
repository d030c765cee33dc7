"""Since which point a step is there."""

from __future__ import annotations

from scheduler.regressions.dating import Dating, date_step, date_together


def test_a_clear_step_is_dated_to_the_night() -> None:
    dated = date_step([1.0, 1.01, 0.99, 1.1, 1.09], "abcde", 1.0, 0.1, 0.01)
    assert (dated.good, dated.step, dated.bad) == (2, 3, 3)


def test_a_step_in_noise_is_dated_to_a_range_that_holds_it() -> None:
    dated = date_step([1.0, 0.98, 1.026, 1.05], "abcd", 1.0, 0.05, 0.02)
    assert (dated.good, dated.bad) == (1, 3)
    assert dated.good < dated.step <= dated.bad


def test_only_another_artifact_brings_a_step() -> None:
    dated = date_step([1.0, 1.05, 1.05, 1.05, 1.05], "aaabb", 1.0, 0.05, 0.02)
    assert (dated.good, dated.step, dated.bad) == (2, 3, 3)


def test_a_spike_before_the_step_does_not_date_it() -> None:
    dated = date_step([1.0, 1.5, 1.0, 1.0, 1.1, 1.1], "abcdef", 1.0, 0.1, 0.01)
    assert (dated.good, dated.step, dated.bad) == (3, 4, 4)


def test_one_artifact_for_ever_is_dated_last() -> None:
    assert date_step([1.0, 1.1], "aa", 1.0, 0.1, 0.01).step == 1


def test_what_several_series_tell_together_is_sharper_than_what_each_tells() -> None:
    vague = Dating(unit=1, good=10, costs={11: 0.0, 12: 2.5, 13: 3.0})
    dated = date_together([vague, Dating(unit=2, good=10, costs={11: 0.0, 12: 2.0, 13: 1.5})])
    assert (dated.good, dated.step) == (10, 11)
    assert dated.bad == 11
    assert date_together([vague]).bad == 13
    # On one unit they have the same nights: two are no more than one.
    assert date_together([vague, vague]) == date_together([vague])


def test_one_series_that_is_misled_does_not_shut_out_the_night_of_all_others() -> None:
    right = [Dating(unit=unit, good=10, costs={11: 0.0, 12: 3.0, 13: 6.0}) for unit in range(4)]
    misled = Dating(unit=9, good=11, costs={12: 0.0, 13: 4.0})
    dated = date_together([*right, misled])
    assert dated.good < 11 <= dated.bad


def test_a_night_without_a_point_counts_as_the_next_one() -> None:
    dated = date_together([Dating(unit=1, good=10, costs={14: 0.0}), Dating(unit=2, good=12, costs={13: 0.0, 14: 9.0})])
    assert (dated.good, dated.step, dated.bad) == (12, 13, 13)


def test_points_at_a_level_of_hardly_known_noise_still_tell_on_which_side_they_are() -> None:
    dated = date_step([1.0, 1.03, 1.02, 1.04, 4.1, 4.0], "abcdef", 1.0, 3.0, 0.001)
    assert (dated.good, dated.step, dated.bad) == (3, 4, 4)


def test_nights_of_the_same_artifact_as_the_good_one_are_good() -> None:
    assert date_together([Dating(unit=1, good=10, costs={14: 0.0}, nights=[10, 11, 12, 13, 14])]).good == 13
