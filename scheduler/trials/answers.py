"""What the processes of a trial tell: the four answers, by time and by clock cycles. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.trials.turns import Counted, Process
from scheduler.verdicts import LEAST_EFFECT, LEAST_PROCESSES, Verdict, compare


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The answer by time, and what the clocks say to it."""

    verdict: Verdict
    #: Whether time x clock tells the same; None: no clock is known, or nothing was told.
    clock_agrees: bool | None = None
    #: What the clocks say where they do not agree.
    clock_why: str | None = None


def answer(counted: Counted, *, noise_floor: float | None = None, least_effect: float = LEAST_EFFECT) -> Answered:
    """Compare the two sides of a trial.

    Args:
        counted: its processes.
        noise_floor: relative noise of the series; None where it is not known.
        least_effect: the least that is worth a name to who asks.
    """
    before, after = counted.of("baseline"), counted.of("candidate")
    verdict = compare(
        [process.p50_ms for process in before],
        [process.p50_ms for process in after],
        noise_floor=noise_floor,
        least_effect=least_effect,
        alternated=not counted.not_alternated,
    )
    if verdict.answer not in ("faster", "slower"):
        return Answered(verdict=verdict)
    cycles_before, cycles_after = _cycles(before), _cycles(after)
    if min(len(cycles_before), len(cycles_after)) < LEAST_PROCESSES:
        return Answered(verdict=verdict)
    by_cycles = compare(cycles_before, cycles_after, noise_floor=noise_floor, least_effect=least_effect)
    if by_cycles.answer == verdict.answer:
        return Answered(verdict=verdict, clock_agrees=True)
    if by_cycles.answer == "inconclusive":
        return Answered(verdict=verdict, clock_why="clocks are read too coarsely to say whether they changed")
    said = f"in clock cycles it is {by_cycles.answer}: the clock changed, not the work"
    return Answered(verdict=verdict, clock_agrees=False, clock_why=said)


def _cycles(processes: list[Process]) -> list[float]:
    """Thousands of clock cycles of one inference."""
    return [process.p50_ms * process.clock_mhz for process in processes if process.clock_mhz]
