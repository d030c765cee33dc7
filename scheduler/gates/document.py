"""A gate as one JSON document."""

from __future__ import annotations

from typing import Any

from scheduler.gates.case import Case, Gate
from workers.codec import to_dict


def gate_document(gate: Gate) -> dict[str, Any]:
    """The answer first, then every case with all that it rests on."""
    return {
        "answer": gate.answer,
        "exit_code": gate.exit_code,
        "baseline": gate.baseline,
        "candidate": gate.candidate,
        "measured": gate.measured,
        "run": gate.run,
        "least_effect": gate.least_effect,
        "device_s": gate.device_s,
        "cases": [_case(case) for case in gate.cases],
        "unpaired": [to_dict(one) for one in gate.unpaired],
    }


def _case(case: Case) -> dict[str, Any]:
    one = case.evidence
    return {
        **to_dict(one.what),
        "answer": case.answer,
        "why": case.why,
        "notes": list(case.notes),
        "verdict": None if case.verdict is None else to_dict(case.verdict),
        "adjusted_p": case.adjusted_p,
        "alternated": one.alternated,
        "one_artifact": one.one_artifact,
        "noise_floor": one.noise_floor,
        "trial": one.trial,
        "device_s": one.device_s,
        "baseline": None if one.baseline is None else to_dict(one.baseline),
        "candidate": None if one.candidate is None else to_dict(one.candidate),
    }
