"""Turns of trials, and what their clocks say: pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.trials.answers import answer
from scheduler.trials.turns import Process, count, side_of

START = datetime(2026, 1, 1, tzinfo=UTC)
#: Scatter of ten processes, about 1.
SCATTER = (1.0, 1.004, 0.997, 1.002, 0.999, 1.003, 0.996, 1.001, 0.998, 1.005)


def ran(sides: str, *, every_s: float = 60.0, pauses: Sequence[tuple[int, float]] = ()) -> list[Process]:
    """Processes of these sides (A: baseline) one after the other; before some of them a pause."""
    found, at = [], START
    for number, letter in enumerate(sides):
        at += timedelta(seconds=every_s + dict(pauses).get(number, 0.0))
        found.append(Process(side="baseline" if letter == "A" else "candidate", started_at=at, p50_ms=1.0))
    return found


def timed(baseline_ms: float, candidate_ms: float, clocks: tuple[float | None, float | None]) -> list[Process]:
    """Ten processes of each side, in turns, at these clocks."""
    found = []
    for number in range(20):
        side = side_of(number)
        typical, clock = (baseline_ms, clocks[0]) if side == "baseline" else (candidate_ms, clocks[1])
        at = START + timedelta(seconds=10 * number)
        scatter = SCATTER[number // 2]
        found.append(Process(side=side, started_at=at, p50_ms=typical * scatter, clock_mhz=clock))
    return found


def test_sides_take_turns() -> None:
    assert "".join("A" if side_of(number) == "baseline" else "B" for number in range(12)) == "ABBA" * 3


@pytest.mark.parametrize(
    "sides", ["ABBA" * 5, "ABBA" * 2 + "AB", "BABA" * 3, "AABB" + "ABBA" * 4, "ABBA" * 5 + "ABBAAB"]
)
def test_small_disorder_is_in_turns(sides: str) -> None:
    found = count(ran(sides))
    assert not found.not_alternated
    assert len(found.processes) == len(sides)


@pytest.mark.parametrize("sides", ["A" * 10 + "B" * 10, "AAAAABBABBBB", "BBBBB" + "ABBA" * 2 + "AAAAA"])
def test_one_side_after_the_other_is_not(sides: str) -> None:
    assert count(ran(sides)).lopsided


def test_order_of_what_is_told_does_not_matter() -> None:
    told = ran("ABBA" * 5)
    assert count(told[::-1]) == count(told)


def test_what_is_alone_beyond_a_pause_does_not_count() -> None:
    found = count(ran("ABBAA" + "BBAABBA", pauses=[(4, 4000.0), (5, 4000.0)]))
    assert (found.alone, found.pauses, found.not_alternated) == (1, 1, True)
    assert len(found.processes) == 11
    whole = count(ran("ABBA" * 5, every_s=900.0))  # slow, but never an hour apart
    assert (whole.alone, whole.pauses) == (0, 0)


def test_nothing_ran() -> None:
    found = count([])
    assert (found.processes, found.alone, found.not_alternated) == ((), 0, False)
    assert count(ran("AAAA")).alone == 4


@pytest.mark.parametrize(
    ("clocks", "agrees"),
    [
        ((None, None), None),
        ((2000.0, None), None),
        ((2000.0, 2000.0), True),
        ((2000.0, 1886.8), False),  # 6 % slower at a clock that is 6 % lower
        ((2000.0, 1600.0), False),  # the work itself got less
    ],
)
def test_slower_is_checked_in_clock_cycles(clocks: tuple[float | None, float | None], agrees: bool | None) -> None:
    found = answer(count(timed(10.0, 10.6, clocks)))
    assert found.verdict.answer == "slower"
    assert found.clock_agrees is agrees
    assert (found.clock_why is not None) == (agrees is False)


def test_clocks_say_nothing_of_what_is_the_same() -> None:
    found = answer(count(timed(10.0, 10.0, (2000.0, 1800.0))))
    assert (found.verdict.answer, found.clock_agrees) == ("same", None)


def test_least_effect_and_floor_are_heeded() -> None:
    processes = count(timed(10.0, 10.4, (None, None)))
    assert answer(processes).verdict.answer == "slower"
    assert answer(processes, least_effect=0.05).verdict.answer == "same"
    assert answer(processes, noise_floor=0.045).verdict.answer == "same"
