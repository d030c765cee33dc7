"""From what two sides showed to the answers of a gate: speed, and whether the outputs are as right. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from scheduler.gates.case import Answer, Case, Evidence, Side
from scheduler.verdicts import LEAST_EFFECT, Verdict, compare
from workers.judge import OUTPUTS_WRONG
from workers.statistics import benjamini_hochberg

#: Of all cases that are called faster or slower at most this share is so by luck, however many a gate has.
FALSE_SHARE: Final = 0.05
#: A loss of so much is one bit of the outputs' precision.
LEAST_LOSS_DB: Final = 6.0
#: Above, outputs err by less than a thousandth of their own size: what is lost there nobody sees.
RIGHT_ENOUGH_DB: Final = 60.0
#: Names of versions that are told where they differ.
_MOST_DIFFERENCES = 6


def judged(evidence: Sequence[Evidence], *, least_effect: float = LEAST_EFFECT) -> tuple[Case, ...]:
    """The answer to each case. Benjamini-Hochberg over all whose processes were compared.

    Args:
        evidence: of all cases of one gate.
        least_effect: the least change of speed that is worth a name.
    """
    verdicts = [_verdict(one, least_effect) for one in evidence]
    tested = [index for index, verdict in enumerate(verdicts) if verdict is not None and verdict.p is not None]
    adjusted = dict(zip(tested, benjamini_hochberg([_p(verdicts[index]) for index in tested]), strict=True))
    return tuple(
        _case(one, verdict, adjusted.get(index), len(tested))
        for index, (one, verdict) in enumerate(zip(evidence, verdicts, strict=True))
    )


def less_right(baseline: Side, candidate: Side) -> tuple[Answer, str] | None:
    """Whether the candidate's outputs are less right than the baseline's, and how; None: they are as right.

    A baseline whose outputs are wrong is nobody's baseline: then nobody can say that the candidate is as good.
    """
    was_wrong, is_wrong = OUTPUTS_WRONG in baseline.flags, OUTPUTS_WRONG in candidate.flags
    if was_wrong:
        both = (
            "the outputs of both are wrong" if is_wrong else "the baseline's outputs are wrong, the candidate's are not"
        )
        return "inconclusive", f"{both}: that is no baseline"
    if is_wrong:
        how = "are not finite" if not candidate.finite else "differ from the reference by more than its own size"
        return "wrong", f"the candidate's outputs {how}"
    before, after = _precision_db(baseline), _precision_db(candidate)
    if before is None or after is None or after >= RIGHT_ENOUGH_DB or before - after < LEAST_LOSS_DB:
        return None
    said = "exact" if math.isinf(before) else f"{before:.0f} dB"
    return "wrong", f"the candidate's outputs are less right: SNR {after:.0f} dB, the baseline's {said}"


def _precision_db(side: Side) -> float | None:
    return math.inf if side.identical else side.snr_db


def _verdict(one: Evidence, least_effect: float) -> Verdict | None:
    if one.settled is not None or one.one_artifact or one.baseline is None or one.candidate is None:
        return None
    return compare(
        one.baseline.values_ms,
        one.candidate.values_ms,
        noise_floor=one.noise_floor,
        least_effect=least_effect,
        alternated=one.alternated,
    )


def _p(verdict: Verdict | None) -> float:
    assert verdict is not None
    assert verdict.p is not None
    return verdict.p


def _case(one: Evidence, verdict: Verdict | None, adjusted_p: float | None, tested: int) -> Case:
    if one.settled is not None:
        answer, why = one.settled
        return Case(evidence=one, answer=answer, why=why, notes=_notes(one))
    if one.one_artifact:
        return Case(evidence=one, answer="same", why="both are one artifact, byte by byte: not measured")
    assert verdict is not None
    assert one.baseline is not None
    assert one.candidate is not None
    answer, why = _speed(verdict, adjusted_p, tested, one.clock_agrees)
    notes = _notes(one)
    if (lost := less_right(one.baseline, one.candidate)) is not None:
        notes = (f"speed: {answer}, {why}", *notes)
        answer, why = lost
    return Case(evidence=one, answer=answer, verdict=verdict, adjusted_p=adjusted_p, why=why, notes=notes)


def _speed(verdict: Verdict, adjusted_p: float | None, tested: int, clock_agrees: bool | None) -> tuple[Answer, str]:
    """The verdict, unless so small a p is to be expected of one in so many cases, or it was the clock that changed."""
    if verdict.answer in ("faster", "slower") and clock_agrees is False:
        return (
            "inconclusive",
            f"{verdict.answer} {verdict.why}; but not in clock cycles: the clock changed, not the work",
        )
    if verdict.answer in ("faster", "slower") and adjusted_p is not None and adjusted_p >= FALSE_SHARE:
        luck = f"but of {tested} cases one may look so by luck (adjusted p {adjusted_p:.2g})"
        return "inconclusive", f"{verdict.answer} {verdict.why}; {luck}"
    return verdict.answer, verdict.why


def _notes(one: Evidence) -> tuple[str, ...]:
    notes = []
    if one.baseline is None or one.candidate is None:
        return ()
    for name, side in (("baseline", one.baseline), ("candidate", one.candidate)):
        if side.invalid:
            notes.append(f"{name}, not counted: {', '.join(f'{n} {verdict}' for verdict, n in side.invalid.items())}")
    if one.trial is not None and not one.alternated:
        notes.append("the two sides did not take turns within the hour")
    if differing := differences(one.baseline.environment, one.candidate.environment):
        notes.append(f"environment differs: {'; '.join(differing)}")
    return tuple(notes)


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs between two environments, in words."""
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    told = [f"{name} {before.get(name, 'absent')} → {after.get(name, 'absent')}" for name in names[:_MOST_DIFFERENCES]]
    return told + ([f"and {len(names) - len(told)} more"] if len(names) > len(told) else [])
