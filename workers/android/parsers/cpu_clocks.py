"""`/sys/devices/system/cpu/cpufreq`: clocks by policy, that is by cluster of cores. Offline clusters are not there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.android.parsers.files import entries
from workers.android.parsers.value import Value, absent, integer, plain_lines, shortened

_LEAVES = frozenset({"scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq"})
_POLICY = re.compile(r"policy[0-9]{1,4}")
#: No phone's core is slower or faster; in kilohertz.
_PLAUSIBLE_KHZ = (10_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Policy:
    """One cluster: its clock now, what it may reach now, what it can reach, in kilohertz."""

    name: str
    current_khz: Value
    limit_khz: Value
    top_khz: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuClocks:
    """One look."""

    policies: tuple[Policy, ...]
    #: Why there is none, where there is none.
    missing: Value | None = None
    unread: tuple[str, ...] = ()


def read_cpu_clocks(text: str) -> CpuClocks:
    """Read lines `.../policyN/FILE:VALUE`."""
    unread: list[str] = []
    told: dict[str, dict[str, Value]] = {}
    refusal: Value | None = None
    for entry in entries(plain_lines(text), _LEAVES, unread):
        if entry.refused:
            refusal = refusal or Value(None, entry.quality, entry.text)
        if not _POLICY.fullmatch(entry.folder):
            continue
        if entry.refused:
            told.setdefault(entry.folder, {})[entry.leaf] = Value(None, entry.quality, entry.text)
        else:
            told.setdefault(entry.folder, {})[entry.leaf] = _khz(entry.text)
    policies = [
        Policy(
            name,
            values.get("scaling_cur_freq", absent("no scaling_cur_freq")),
            values.get("scaling_max_freq", absent("no scaling_max_freq")),
            values.get("cpuinfo_max_freq", absent("no cpuinfo_max_freq")),
        )
        for name, values in sorted(told.items(), key=lambda item: int(item[0].removeprefix("policy")))
    ]
    missing = None if policies else refusal or absent("the phone shows no cpufreq policies")
    return CpuClocks(policies=tuple(policies), missing=missing, unread=shortened(unread))


def _khz(text: str) -> Value:
    raw = integer(text)
    if raw is None or not _PLAUSIBLE_KHZ[0] <= raw <= _PLAUSIBLE_KHZ[1]:
        return Value(None, "implausible", f"{text[:40]!r} is no clock in kHz")
    return Value(raw)
