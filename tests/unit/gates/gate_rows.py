"""Evidence and gates as tests need them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scheduler.gates.case import Answer, Case, Evidence, Gate, Side, What

WHAT = What(model="net", runtime="onnxruntime", format="onnx", recipe="fp32", options="", device="d0")


def values(ratio: float = 1.0, *, seed: int = 0, count: int = 10, noise: float = 0.005) -> tuple[float, ...]:
    """Process medians about 10 ms times a ratio."""
    random_ = random.Random(seed)
    return tuple(10 * ratio * (1 + random_.gauss(0, noise)) for _ in range(count))


def side(ratio: float = 1.0, **changes: Any) -> Side:
    """One side, whose values follow from the ratio."""
    seed = changes.pop("seed", 0)
    given = values(ratio, seed=seed)
    return replace(Side(model="net", values_ms=given, p50_ms=10 * ratio, snr_db=90.0), **changes)


def evidence(candidate: Side | None = None, baseline: Side | None = None, **changes: Any) -> Evidence:
    """What two sides showed; alike but for chance by default."""
    made = Evidence(what=WHAT, baseline=baseline or side(seed=1), candidate=candidate or side(seed=2), alternated=True)
    return replace(made, **changes)


def case(answer: Answer, **changes: Any) -> Case:
    """A case with that answer."""
    what = replace(WHAT, **{name: changes.pop(name) for name in ("model", "device", "options") if name in changes})
    one = evidence(what=what, device_s=12.5)
    return Case(evidence=one, answer=answer, **{"why": f"it is {answer}", **changes})


def gate(cases: Sequence[Case], **changes: Any) -> Gate:
    """A gate of cases."""
    made = Gate(baseline="base", candidate="head", measured=True, run=7, least_effect=0.02, cases=tuple(cases))
    return replace(made, **changes)
