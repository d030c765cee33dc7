"""What trials are put down to, and which of it is told at once."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.regressions.attribution import (
    Evidence,
    Shown,
    as_rows,
    believed,
    history_test,
    read_rows,
    shown_by,
    sure,
    together,
)
from scheduler.verdicts import compare

LEVEL = [1 + 0.001 * number for number in range(-5, 5)]
SLOW = [1.1 * value for value in LEVEL]


def shown(**changes: Any) -> dict[str, Shown]:
    """Tests of an evidence by kind: two artifacts that are alike, on a unit as it was."""
    base: dict[str, Any] = {"answer": compare(LEVEL, LEVEL, alternated=True), "then": LEVEL, "now": LEVEL}
    base |= {"same_artifact_then": True, "noise": 0.01}
    return {test.kind: test for test in shown_by(Evidence(**(base | changes)))}


def test_a_slower_artifact_is_the_codes() -> None:
    found = shown(answer=compare(LEVEL, SLOW, alternated=True))
    assert (found["artifacts"].answer, found["artifacts"].cause) == ("slower", "code")
    assert found["artifacts"].change == pytest.approx(0.1)
    low, high = found["artifacts"].low, found["artifacts"].high
    assert low is not None
    assert high is not None
    assert low < 0.1 < high
    assert found["unit"].answer == "same"


def test_the_clock_the_converter_and_what_nothing_tells() -> None:
    slower = compare(LEVEL, SLOW, alternated=True)
    assert shown(answer=slower, clock_differs=True)["artifacts"].cause == "clock"
    converted = shown(answer=slower, conversion=["onnx (1 -> 2)"], other_model=False)["artifacts"]
    assert (converted.cause, "onnx (1 -> 2)" in converted.why) == ("environment", True)
    assert shown(answer=slower, conversion=["onnx (1 -> 2)"], other_model=None)["artifacts"].cause == "unknown"
    assert shown(answer=slower, conversion=["onnx (1 -> 2)"], other_model=True)["artifacts"].cause == "code"


def test_an_artifact_that_takes_longer_than_it_did_is_the_units_or_its_environments() -> None:
    assert shown(now=SLOW)["unit"].cause == "device"
    assert shown(now=SLOW)["unit"].answer == "slower"
    changed = shown(now=SLOW, environment=["os (14 -> 15)"])["unit"]
    assert (changed.cause, "os (14 -> 15)" in changed.why) == ("environment", True)
    assert shown(now=SLOW, same_artifact_then=False)["unit"].cause == "unknown"


def test_both_at_once_are_two_tests() -> None:
    found = shown(answer=compare(LEVEL, SLOW, alternated=True), now=SLOW, environment=["os (14 -> 15)"])
    assert [(test.answer, test.cause) for test in found.values()] == [("slower", "code"), ("slower", "environment")]


def test_a_unit_off_by_less_than_its_points_scatter_is_as_it_was_unless_the_history_says_more() -> None:
    slightly = [1.04 * value for value in LEVEL]
    assert shown(now=slightly, noise=0.02)["unit"].answer != "slower"
    assert shown(now=slightly, noise=0.02, step=0.045)["unit"].answer == "slower"


def test_few_processes_say_nothing_of_the_unit() -> None:
    assert "unit" not in shown(then=LEVEL[:4], now=SLOW)


def test_a_nights_spell_is_believed_on_the_third_night_or_by_the_history() -> None:
    [unit] = [test for test in shown(now=SLOW).values() if test.kind == "unit"]
    faster = [test for test in shown(now=[0.9 * value for value in LEVEL]).values() if test.kind == "unit"]
    asked: dict[str, Any] = {"history": False, "epoch": False, "lasting": []}
    assert believed([unit], **asked) == []
    assert believed([unit], **asked | {"lasting": [[unit]]}) == []
    assert believed([unit], **asked | {"lasting": [[unit], []]}) == []
    assert believed([unit], **asked | {"lasting": [[unit], faster]}) == []
    for more in ({"lasting": [[unit], [unit]]}, {"history": True}, {"epoch": True}):
        assert believed([unit], **asked | more) == [unit]


def test_artifacts_are_believed_at_once() -> None:
    code = shown(answer=compare(LEVEL, SLOW, alternated=True))["artifacts"]
    assert believed([code], history=False, epoch=False, lasting=[]) == [code]


def test_many_tests_together_keep_only_what_is_sure() -> None:
    def of(p: float | None) -> Shown:
        return Shown(kind="artifacts", answer="slower", change=0.1, low=0.0, high=0.2, p=p, cause="code", why="")

    assert sure([of(0.009)]) == [True]
    null = [Shown(kind="unit", answer="same", change=0, low=0, high=0, p=0.5, cause="device", why="")] * 20
    assert sure([of(0.009), of(1e-5), *null]) == [False, True, *[False] * 20]
    assert sure([history_test(0.05, "only the history")]) == [True]
    assert sure([]) == []


def test_tests_are_stored_and_read_back() -> None:
    tests = list(shown(now=SLOW).values())
    assert read_rows(as_rows(tests)) == tests
    assert together([0.1, 0.1]) == pytest.approx(0.21)


def test_a_unit_whose_clock_explains_it_is_the_clocks() -> None:
    assert shown(now=SLOW, clocks=(2000.0, 1818.0))["unit"].cause == "clock"
    assert shown(now=SLOW, clocks=(2000.0, 1990.0))["unit"].cause == "device"
