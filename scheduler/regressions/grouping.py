"""Findings of one run that are one incident, and units that stand alone. Pure, whatever the order of its inputs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from scheduler.regressions.attribution import Cause


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A series that became slower, for one cause."""

    series_id: int
    device_id: int
    #: Units of one class are alike: (kind, model of device); None: this one is like no other.
    device_class: tuple[str, str] | None
    case_key: str
    model: str
    cause: Cause
    why: str
    change: float
    low: float | None
    high: float | None
    #: history, or trial: who found it.
    found_by: str
    trial_id: int | None
    baseline_point_id: int
    candidate_point_id: int
    #: What differs between the environments of the two points: {name: (before, after)}.
    environment: tuple[tuple[str, str | None, str | None], ...] = ()
    revision_good: str | None = None
    revision_bad: str | None = None


@dataclass(frozen=True, kw_only=True)
class Steady:
    """A series of the same run that was screened and found well."""

    device_id: int
    device_class: tuple[str, str] | None
    case_key: str
    #: Its own change, and the noise that it was seen against.
    change: float
    noise: float


#: A steady unit speaks against a step only if it would have shown it: by so many sigma.
_WOULD_SHOW = 3.0


def with_lone_units(findings: Sequence[Finding], steady: Iterable[Steady]) -> list[Finding]:
    """Findings put down to code that only one unit shows, while others of its class would have shown them: the unit's.

    Args:
        findings: of one run.
        steady: of the same run.
    """
    calm: dict[Hashable, list[Steady]] = {}
    for one in steady:
        calm.setdefault((one.device_class, one.case_key), []).append(one)
    units: dict[Hashable, set[int]] = {}
    for finding in findings:
        units.setdefault((finding.device_class, finding.case_key), set()).add(finding.device_id)
    judged = []
    for finding in findings:
        key = (finding.device_class, finding.case_key)
        others = {
            one.device_id
            for one in calm.get(key, ())
            if one.device_id != finding.device_id
            and one.change + max(_WOULD_SHOW * one.noise, finding.change / 2) < finding.change
        }
        alone = finding.device_class is not None and len(units[key]) == 1
        if finding.cause == "code" and alone and others:
            on = "another unit" if len(others) == 1 else f"{len(others)} other units"
            why = f"only this unit shows it: the same case stayed steady on {on} of its class"
            finding = replace(finding, cause="device", why=why)
        judged.append(finding)
    return judged


def group(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that are one incident, in a fixed order.

    What the code did: all of one model, for one revision brought it. What a unit or its clock did: all of the unit.
    What an environment did: the same difference on units of one class, or on one unit. What nobody knows the cause of:
    one case on units of one class, and cases of one model on one unit.
    """
    ordered = sorted(findings, key=lambda one: (one.series_id, one.cause, one.change, one.baseline_point_id))
    parents = list(range(len(ordered)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    first: dict[Hashable, int] = {}
    for number, finding in enumerate(ordered):
        for tie in ties_of(finding):
            other = root(first.setdefault(tie, number))
            own = root(number)
            parents[max(own, other)] = min(own, other)
    groups: dict[int, list[Finding]] = {}
    for number, finding in enumerate(ordered):
        groups.setdefault(root(number), []).append(finding)
    return list(groups.values())


def ties_of(finding: Finding) -> list[Hashable]:
    """What two findings must have in common, one of these, to be of one incident."""
    cause, unit, kind = finding.cause, finding.device_id, finding.device_class
    if cause in ("device", "clock"):
        return [(cause, unit)]
    if cause == "environment":
        ties: list[Hashable] = [(cause, "unit", unit, finding.environment)]
        return ties if kind is None else [*ties, (cause, "class", kind, finding.environment)]
    if cause == "code":
        return [(cause, finding.model)]
    ties = [(cause, "unit", unit, finding.model)]
    return ties if kind is None else [*ties, (cause, "class", kind, finding.case_key)]
