"""What is told of a gate, in words that its table, its Markdown and its JUnit file share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from exporters.numbers import NONE, duration, milliseconds, size
from scheduler.gates.case import FAILED, UNSURE, WORSE, Answer, Case, Gate, GateAnswer, Side

#: From what its reader must act on to what is well.
ORDER: Final[tuple[Answer, ...]] = (*WORSE, *FAILED, *UNSURE, "faster", "same")
_SAID: Final[Mapping[GateAnswer, str]] = {
    "worse": "worse",
    "failed": "failed: not every case could be measured",
    "inconclusive": "inconclusive: nothing is known to be worse, but not everything is known to be as good",
    "passed": "passed: the same or faster everywhere",
}


def worst_first(gate: Gate) -> list[Case]:
    """Cases in the order of what they ask of their reader."""
    return sorted(gate.cases, key=lambda case: (ORDER.index(case.answer), case.evidence.what.device))


def headline(gate: Gate) -> str:
    """The answer in a line: "worse (1 slower, 2 same of 3 cases)"."""
    counts = Counter(case.answer for case in gate.cases)
    told = ", ".join(f"{counts[answer]} {answer}" for answer in ORDER if counts[answer])
    return f"{_SAID[gate.answer]} ({told} of {len(gate.cases)} case{'s' if len(gate.cases) != 1 else ''})"


def how(gate: Gate) -> str:
    """What the answer rests on."""
    least = f"changes under {100 * gate.least_effect:g} % count as none"
    if not gate.measured:
        return f"stored results, not measured in turns: what drifted between them counts as a difference; {least}"
    if gate.run is None:
        return "both sides are the same artifacts throughout: nothing was measured, for nothing can differ"
    ran = f"; run {gate.run}, {duration(gate.device_s)} of devices"
    return f"measured in turns (ABBA), each time in a fresh process; {least}{ran}"


def title(case: Case) -> str:
    """The case without its device."""
    what = case.evidence.what
    return " ".join(part for part in (what.runtime, what.recipe, what.options) if part)


def speed_up(case: Case) -> str:
    """The ratio with its 99 % interval."""
    verdict = case.verdict
    if verdict is None or verdict.ratio is None:
        return NONE
    if verdict.interval is None:
        return f"~{verdict.ratio:.3f}x"
    return f"{verdict.ratio:.3f}x [{verdict.interval[0]:.3f}, {verdict.interval[1]:.3f}]"


def sees(case: Case) -> str:
    """The least effect that these processes could have shown."""
    if case.verdict is None:
        return NONE
    return "nothing" if case.verdict.detectable is None else f"{case.verdict.detectable:.1%}"


def processes(case: Case) -> str:
    """How many counted on each side."""
    one = case.evidence
    if one.baseline is None or one.candidate is None:
        return NONE
    return f"{len(one.baseline.values_ms)} + {len(one.candidate.values_ms)}"


def precision(side: Side) -> str:
    """SNR in dB."""
    if side.identical:
        return "exact"
    return NONE if side.snr_db is None else f"{side.snr_db:.0f}"


def agreement(side: Side) -> str:
    """Share of examples whose largest class is the reference's."""
    return NONE if side.top1_agreement is None else f"{side.top1_agreement:.0%}"


def _sides(tell: Callable[[Side], str]) -> Callable[[Case], str]:
    """Both sides, once where they are alike."""

    def cell(case: Case) -> str:
        told = [NONE if side is None else tell(side) for side in (case.evidence.baseline, case.evidence.candidate)]
        return told[0] if told[0] == told[1] else " → ".join(told)

    return cell


def _p50(side: Side | None) -> str:
    return NONE if side is None else milliseconds(side.p50_ms)


#: Columns of numbers, between what a case is and its answer.
COLUMNS: Final[Mapping[str, Callable[[Case], str]]] = {
    "baseline ms": lambda case: _p50(case.evidence.baseline),
    "candidate ms": lambda case: _p50(case.evidence.candidate),
    "speed-up (99 %)": speed_up,
    "processes": processes,
    "sees": sees,
    "size": _sides(lambda side: size(side.artifact_bytes)),
    "memory": _sides(lambda side: size(side.peak_rss_bytes)),
    "SNR dB": _sides(precision),
    "top-1": _sides(agreement),
}
#: Those that go first where there is no room.
LEAST_WANTED: Final = ("top-1", "memory", "size", "SNR dB", "processes")


def environments(gate: Gate) -> dict[str, dict[str, str]]:
    """By device what ran there: where its cases or sides differ, all values of a name."""
    found: dict[str, dict[str, list[str]]] = {}
    for case in gate.cases:
        one = case.evidence
        here = found.setdefault(one.what.device, {})
        for side in (one.baseline, one.candidate):
            for name, value in (side.environment if side is not None else {}).items():
                if value not in here.setdefault(name, []):
                    here[name].append(value)
    return {
        device: {name: " | ".join(values) for name, values in sorted(named.items())}
        for device, named in sorted(found.items())
    }
