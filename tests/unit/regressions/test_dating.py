"""Since which point a step is there."""

from __future__ import annotations

from scheduler.regressions.dating import date_step


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
