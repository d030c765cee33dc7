"""What the processes of a trial tell: the four answers, by time and by clock cycles. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from scheduler.trials.turns import Counted, Process
from scheduler.verdicts import LEAST_EFFECT, LEAST_PROCESSES, Verdict, compare

#: Of a suspected change: less than that is another thing than what was suspected. Not all of it, for what looks
#: suspicious looks larger than it is.
_SUSPECTED_SHARE: Final = 0.75


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The answer by time, and what the clocks say to it."""

    verdict: Verdict
    #: Whether time x clock tells the same; None: no clock is known, or nothing was told.
    clock_agrees: bool | None = None
    #: What the clocks say where they do not agree.
    clock_why: str | None = None
    #: More processes would not find what was suspected.
    ruled_out: bool = False


def ruled_out(interval: tuple[float, float] | None, suspected: float | None) -> float | None:
    """The change that an interval of the ratio rules out, where it is most of a suspected one; None: it does not.

    Args:
        interval: of the speed-up, as verdicts have it.
        suspected: new / old - 1.
    """
    if interval is None or not suspected:
        return None
    bound = max(LEAST_EFFECT, _SUSPECTED_SHARE * abs(suspected))
    beyond = 1 / interval[0] if suspected > 0 else interval[1]
    return bound if beyond < 1 + bound else None


def answer(
    counted: Counted,
    *,
    noise_floor: float | None = None,
    least_effect: float = LEAST_EFFECT,
    suspected: float | None = None,
) -> Answered:
    """Compare the two sides of a trial.

    Args:
        counted: its processes.
        noise_floor: relative noise of the series; None where it is not known.
        least_effect: the least that is worth a name to who asks.
        suspected: the change that it is to decide on; None: any.
    """
    before, after = counted.of("baseline"), counted.of("candidate")
    verdict = compare(
        [process.p50_ms for process in before],
        [process.p50_ms for process in after],
        noise_floor=noise_floor,
        least_effect=least_effect,
        alternated=not counted.not_alternated,
    )
    if verdict.answer == "inconclusive" and (bound := ruled_out(verdict.interval, suspected)) is not None:
        return Answered(verdict=_without(verdict, bound, suspected or 0.0), ruled_out=True)
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


def _without(verdict: Verdict, bound: float, suspected: float) -> Verdict:
    """The same where the interval lies inside the bound on both sides; else only the suspected side is told of."""
    assert verdict.interval is not None
    low, high = verdict.interval
    if 1 / (1 + bound) <= low and high <= 1 + bound:
        why = f"the 99 % interval lies inside +-{bound:.1%}; {suspected:+.1%} was suspected"
        return replace(verdict, answer="same", bound=bound, why=why)
    what = "slower" if suspected > 0 else "faster"
    why = f"{suspected:+.1%} was suspected, and {bound:.1%} {what} or more is ruled out"
    return replace(verdict, bound=bound, why=why)


def _cycles(processes: list[Process]) -> list[float]:
    """Thousands of clock cycles of one inference."""
    return [process.p50_ms * process.clock_mhz for process in processes if process.clock_mhz]
