"""What a trial shows of a suspected step, and what it puts the step down to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scheduler.verdicts import LEAST_EFFECT, LEAST_PROCESSES, Verdict, compare
from workers.statistics import benjamini_hochberg

Cause = Literal["code", "environment", "device", "clock", "unknown"]
#: Of the artifacts, measured side by side; of the baseline, then and now; of the history alone.
Kind = Literal["artifacts", "unit", "history"]

#: A unit's own change is told from a passing spell only beyond so many sigma of the series' points: they were not
#: measured side by side.
_UNIT_SIGMAS = 3.0
#: A unit that is slower on so many nights in a row is no spell.
LASTING_NIGHTS = 3
#: False discoveries among all that the confirmations of one run tell.
_FALSE_DISCOVERIES = 0.05


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known when a trial ended."""

    #: Its answer on the artifacts; None where they are the same one.
    answer: Verdict | None
    #: Processes of the baseline artifact before the step and in the trial, each as it would read today.
    then: Sequence[float]
    now: Sequence[float]
    #: `then` are of the very artifact, not only of its level.
    same_artifact_then: bool
    #: Relative sigma of the series' points; the least change of the unit that is cared for, where history shows one.
    noise: float
    step: float | None = None
    #: Time x clock tells another thing than time.
    clock_differs: bool = False
    #: MHz of the unit before the step and in the trial; None: it tells none.
    clocks: tuple[float, float] | None = None
    #: Names of what changed in the run environment and in the conversion's, between the two points.
    environment: Sequence[str] = ()
    conversion: Sequence[str] = ()
    #: Whether the model itself is another: by its program and by its revision; None: nothing tells.
    other_model: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One thing that a trial tests, and its outcome; changes are new / old - 1."""

    kind: Kind
    answer: str
    change: float | None
    low: float | None
    high: float | None
    p: float | None
    cause: Cause
    why: str
    #: It holds beside all others of its run, and is believed.
    held: bool = False


def shown_by(evidence: Evidence) -> list[Shown]:
    """What a trial that ended shows: of the artifacts, and of the unit since the baseline's own time.

    The two are apart: a slower artifact on a unit that is as it was is the code's; an artifact that takes longer than
    it took itself is the unit's or its environment's, whatever the other artifact does.
    """
    found = []
    if evidence.answer is not None:
        cause, why = _of_artifacts(evidence)
        found.append(_test("artifacts", evidence.answer, cause, why))
    least = max(LEAST_EFFECT, _UNIT_SIGMAS * evidence.noise)
    explained = evidence.answer is not None and evidence.answer.answer in ("slower", "faster")
    if evidence.step is not None and not explained:  # four points showed it: this only asks whether it is still so
        least = max(LEAST_EFFECT, min(least, abs(evidence.step) / 2))
    if min(len(evidence.then), len(evidence.now)) >= LEAST_PROCESSES:
        verdict = compare(evidence.then, evidence.now, least_effect=least)
        found.append(_test("unit", verdict, *_of_unit(evidence, change_of(verdict.ratio))))
    return found


def history_test(change: float, why: str) -> Shown:
    """What the history alone shows, where no trial could be made."""
    answer = "slower" if change > 0 else "faster"
    return Shown(kind="history", answer=answer, change=change, low=None, high=None, p=None, cause="unknown", why=why)


def sure(tests: Sequence[Shown]) -> list[bool]:
    """Which of the tests of one run hold when all are looked at together (Benjamini-Hochberg at 5 %)."""
    tested = [number for number, test in enumerate(tests) if test.p is not None]
    adjusted = benjamini_hochberg([p for test in tests if (p := test.p) is not None])
    holds = dict(zip(tested, (p <= _FALSE_DISCOVERIES for p in adjusted), strict=True))
    return [test.answer in ("slower", "faster") and holds.get(number, True) for number, test in enumerate(tests)]


def believed(tests: Sequence[Shown], *, history: bool, epoch: bool, lasting: Sequence[Sequence[Shown]]) -> list[Shown]:
    """Those of the tests of one series that are told at once; the rest waits for later nights.

    Two artifacts in turns share their hour. A unit is compared with its own past, and what lasts a night (a warm room,
    a job of somebody else) looks like a change of it: so its change must be in the history already, begin with a new
    environment that most of its class feel, or be found on three nights in a row.

    Args:
        tests: of one series that hold beside all others of the run.
        history: whether the history showed the step.
        epoch: whether the environment is new and most series that have it are found to have changed.
        lasting: tests of the series of the runs before, the latest first.
    """

    def lasts(test: Shown) -> bool:
        before = [any(one.kind == "unit" and one.answer == test.answer for one in night) for night in lasting]
        return len(before) >= LASTING_NIGHTS - 1 and all(before[: LASTING_NIGHTS - 1])

    history = history and not any(test.kind == "artifacts" for test in tests)  # those explain the step
    return [test for test in tests if test.kind != "unit" or history or epoch or lasts(test)]


def as_rows(tests: Sequence[Shown]) -> list[dict[str, Any]]:
    """As they are stored."""
    return [asdict(test) for test in tests]


def read_rows(rows: Sequence[dict[str, Any]]) -> list[Shown]:
    """As they were stored."""
    return [Shown(**row) for row in rows]


def _of_artifacts(evidence: Evidence) -> tuple[Cause, str]:
    if evidence.clock_differs:
        return "clock", "time x clock tells another thing than time: the clock ran otherwise in the two"
    if evidence.conversion and not evidence.other_model:
        changed = ", ".join(evidence.conversion)
        if evidence.other_model is None:
            return "unknown", f"the artifact was made by another {changed}, and nothing tells whether of another model"
        return "environment", f"the same model, converted by another {changed}"
    also = f"; it was also converted by another {', '.join(evidence.conversion)}" if evidence.conversion else ""
    return "code", f"the two artifacts, measured in turns on one unit, differ{also}"


def _of_unit(evidence: Evidence, change: float | None) -> tuple[Cause, str]:
    if evidence.clocks is not None and change is not None:
        then, now = evidence.clocks
        left = (1 + change) * now / then - 1  # in clock cycles
        if abs(change) >= LEAST_EFFECT and abs(left) < max(LEAST_EFFECT / 2, abs(change) / 3):
            return "clock", f"the unit's clock was {then:.0f} MHz and is {now:.0f} MHz: in cycles nothing changed"
    if evidence.environment:
        return "environment", f"the same artifact takes another time since {', '.join(evidence.environment)} changed"
    if not evidence.same_artifact_then:
        return "unknown", "an artifact of the old level takes another time now; too few processes tell of its own past"
    return "device", "the same artifact in the same environment takes another time on this unit than it did"


def _test(kind: Kind, verdict: Verdict, cause: Cause, why: str) -> Shown:
    low, high = verdict.interval or (None, None)
    return Shown(
        kind=kind,
        answer=verdict.answer,
        change=change_of(verdict.ratio),
        low=change_of(high),
        high=change_of(low),
        p=verdict.p,
        cause=cause,
        why=why,
    )


def change_of(ratio: float | None) -> float | None:
    """A speed-up as a change of the time: 0.95 times as fast is 5.3 % slower."""
    return None if not ratio else 1 / ratio - 1


def together(changes: Sequence[float]) -> float:
    """Changes one after the other."""
    product = 1.0
    for change in changes:
        product *= 1 + change
    return product - 1
