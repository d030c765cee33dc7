"""When a step is suspected, since when, and against which artifact."""

from __future__ import annotations

from scheduler.regressions.levels import level_of
from scheduler.regressions.looks import first_look, history_look, step_of
from tests.unit.regressions.watch_rows import QUIET, history


def test_short_series_are_few_and_schedule_nothing() -> None:
    for count in range(4):
        look = first_look(history([*QUIET[:count], 2.0]), {}, None)
        assert (look.outcome, look.suspicion) == ("few", None)


def test_an_invalid_point_is_said_to_be_one_and_enters_no_level() -> None:
    assert first_look(history([*QUIET, None]), {}, None).outcome == "invalid"
    # Invalid points do not count as points of a level either.
    assert first_look(history([1.0, None, None, None, None, 1.0]), {}, None).outcome == "few"


def test_a_slower_artifact_is_suspected_against_one_that_is_surely_of_the_level() -> None:
    look = first_look(history([*QUIET, 1.1], artifacts="abcdefghijk"), {}, None)
    assert look.outcome == "slower"
    assert look.suspicion is not None
    assert (look.suspicion.baseline.id, look.suspicion.step.id) == (7, 11)


def test_a_step_that_was_missed_for_two_nights_is_suspected_where_it_began() -> None:
    look = first_look(history([*QUIET, 1.05, 1.05, 1.07], artifacts="aaaaaaaaaabcd"), {}, None)
    assert look.suspicion is not None
    assert (look.suspicion.baseline.id, look.suspicion.step.id) == (7, 11)


def test_the_artifact_before_a_recent_one_is_the_baseline_whatever_the_values_say() -> None:
    look = first_look(history([*QUIET, 1.0, 1.0, 1.0, 1.0, 1.1], artifacts="aaaaaaaaaabbbbb"), {}, None)
    assert look.suspicion is not None
    assert look.suspicion.baseline.id == 10


def test_one_artifact_for_ever_is_its_own_baseline() -> None:
    look = first_look(history([*QUIET, 1.1]), {}, None)
    assert look.suspicion is not None
    assert look.suspicion.baseline.id == 10


def test_a_steady_point_of_the_same_artifact_is_its_own_bridge() -> None:
    look = first_look(history([*QUIET, 1.0], environments="aaaaaaaaaab"), {}, None)
    assert (look.outcome, look.suspicion) == ("new_epoch", None)


def test_another_artifact_in_a_new_environment_gets_a_bridge() -> None:
    look = first_look(history([*QUIET, 1.0], environments="aaaaaaaaaab", artifacts="aaaaaaaaaab"), {}, None)
    assert look.outcome == "new_epoch"
    assert look.suspicion is not None


def test_nothing_counts_before_an_environment_that_no_bridge_explains() -> None:
    points = history([*QUIET, *QUIET[:3], 2.0], environments="aaaaaaaaaabbbb")
    assert first_look(points, {}, None).outcome == "few"
    assert first_look(points, {11: 1.0}, None).outcome == "slower"


def test_a_confirmed_step_is_taken_out_and_the_next_night_is_steady() -> None:
    points = history([*QUIET, 1.1, 1.105])
    assert first_look(points, {}, None).outcome == "slower"
    assert first_look(points, {11: 1.1}, None).outcome == "steady"
    assert [round(value, 2) for value in level_of(points, {11: 1.1}).values[:2]] == [1.1, 1.11]


def test_going_back_after_a_confirmed_step_is_faster_at_once() -> None:
    look = first_look(history([*QUIET, 1.1, 1.0]), {11: 1.1}, None)
    assert look.outcome == "faster"


def test_the_history_suspects_a_step_once() -> None:
    points = history([*QUIET, *(1.04 * value for value in QUIET[:6])])
    step = history_look(points, {}, ())
    assert step is not None
    assert (step.baseline.id, step.step.id) == (10, 11)  # one artifact for ever: its own baseline
    assert round(step_of(level_of(points, {})), 2) == 0.04
    # Looked into already, a few points beside; explained by a trial; faster; too small; the newest point invalid.
    assert history_look(points, {}, (9,)) is None
    assert history_look(points, {11: 1.04}, ()) is None
    assert history_look(history([*QUIET, *(0.9 * value for value in QUIET)]), {}, ()) is None
    assert history_look(history([*QUIET, *(1.01 * value for value in QUIET)]), {}, ()) is None
    assert history_look([*points, *history([None], first=17)], {}, ()) is None


def test_a_suspicion_never_reaches_back_over_a_step_that_is_explained() -> None:
    points = history([*QUIET, 0.9, 1.0], artifacts="aaaaaaaaaabc")
    look = first_look(points, {11: 0.9}, None)
    assert look.suspicion is not None
    assert (look.suspicion.baseline.id, look.suspicion.step.id) == (11, 12)


def test_a_step_that_is_dated_a_night_early_lends_no_baseline() -> None:
    """The border lies on a point that was still well; the trial measured the one after it."""
    points = history([*QUIET, 1.05, 1.1, 1.1, 1.2], artifacts="abcdefghijklmn")
    look = first_look(points, {11: 1.1}, None, {12})
    assert look.suspicion is not None
    assert look.suspicion.baseline.id >= 12
