"""What a suite would do, before anything runs: its blocks, what each takes, and what of it cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scheduler.farm import Farm
from scheduler.suites.planning import PlannedBlock, Wishes, plan_block, refuse_nowhere, wanted_blocks
from scheduler.suites.suite import Suite
from scheduler.sweeps.checking import check_document


def suite_document(suite: Suite) -> dict[str, Any]:
    """A suite as its file has it."""
    return {
        "suite": suite.name,
        "title": suite.title,
        "description": suite.description,
        "source": suite.source,
        "quick": suite.quick,
        "blocks": [block.name for block in suite.blocks],
        "models": len({point.model for block in suite.blocks for point in block.points}),
        "published": len(suite.published),
    }


def plan_document(farm: Farm, suite: Suite, wishes: Wishes) -> dict[str, Any]:
    """Everything that `suite show` tells, as plain data.

    Raises:
        UsageError: something that is named cannot be.
    """
    blocks = wanted_blocks(suite, wishes)
    ground = farm.ground()
    refuse_nowhere(wishes, ground)
    planned = [plan_block(farm, block, wishes, ground) for block in blocks]
    told = [_block(item) for item in planned]
    return {
        **suite_document(suite),
        "blocks": told,
        **{name: sum(block[name] for block in told) for name in ("cases", "to_measure", "fresh", "evaluations")},
        "conversions_to_make": len(_missing(planned)),
        "expected_s": _expected_s(planned),
    }


def _block(planned: PlannedBlock) -> dict[str, Any]:
    block, prepared = planned.block, planned.prepared
    sweep = block.sweep
    document = None if prepared is None else check_document(prepared)
    found = document or dict.fromkeys(
        ("cases", "to_measure", "fresh", "evaluations", "conversions_to_make", "cases_guessed"), 0
    )
    return {
        "block": block.name,
        "title": block.title,
        "about": block.about,
        "models": [point.model for point in block.points],
        "recipes": None if sweep.recipes is None else list(sweep.recipes),
        "runtimes": sorted({row["runtime"] for row in document["matrix"]}) if document is not None else [],
        "devices": sorted({row["device"] for row in document["matrix"]}) if document is not None else [],
        "threads": [count for count in sweep.threads if count not in planned.threads_left_out],
        "threads_left_out": list(planned.threads_left_out),
        "processes_per_case": sweep.repeats,
        **{name: found[name] for name in ("cases", "to_measure", "fresh", "evaluations", "conversions_to_make")},
        "expected_s": 0.0 if document is None else document["finish_in_s"],
        "cases_guessed": found["cases_guessed"],
        "why_not": planned.why_not,
        "unsupported": [{k: v for k, v in one.items() if k != "artifact_key"} for one in planned.unsupported],
    }


def _missing(planned: Sequence[PlannedBlock]) -> dict[str, float]:
    """Keys of artifacts that blocks need and that do not stand, each once, with the seconds of its conversion."""
    return {
        key: seconds
        for item in planned
        if item.prepared is not None
        for key, seconds in item.prepared.expected.missing.items()
    }


def _expected_s(planned: Sequence[PlannedBlock]) -> float:
    """Seconds until all is done: what several blocks need is made once."""
    expected = [item.prepared.expected for item in planned if item.prepared is not None]
    slots = max([1, *(item.slots for item in expected)])
    return sum(item.busiest_s for item in expected) + sum(_missing(planned).values()) / slots
