"""A suite's readings for programs: one JSON document, and flat rows for CSV; ours and published are told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from exporters.suites.gather import BlockFound, SuiteFound, gather
from exporters.suites.tables import OURS, PUBLISHED
from scheduler.suites.suite import FIGURES, Published, Suite

#: What of a published row is no figure.
_ABOUT = ("hardware", "model", "recipe", "note")
#: Columns of CSV that readings have.
_OF_READINGS = (
    *("listed", "device", "runtime", "recipe", "format", "threads", "batch", "mode", "rate_hz", "options", "verdict"),
    *("processes", "p50_ms", "mean_ms", "std_ms", "p90_ms", "p95_ms", "p99_ms", "throughput_per_s"),
    *("real_time_factor", "size_mb", "smaller_percent", "memory_mb", "parameters_m", "nonzero_parameters_m", "nodes"),
    *("gmac", "gflop", "moved_mb", "gflops_per_s", "gb_per_s", "flops_per_byte", "bound", "energy_mj"),
    *("energy_quality", "accuracy_percent", "examples", "top5", "f1_macro", "wer", "snr_db", "identical"),
    *("top1_agreement", "speed_up", "speed_up_own", "run"),
)
#: Intervals of readings, by what the columns of their two ends begin with.
_INTERVALS = {"p50_ms": "p50_ci_ms", "top1": "top1_ci", "speed_up": "speed_up_ci", "speed_up_own": "speed_up_own_ci"}


def suite_document(connection: Connection, suite: Suite) -> dict[str, Any]:
    """The JSON document of a suite.

    Raises:
        UsageError: no block of it was ever run.
    """
    return document_of(gather(connection, suite))


def document_of(found: SuiteFound) -> dict[str, Any]:
    """The JSON document of what was gathered."""
    suite = found.suite
    return {
        "suite": suite.name,
        "title": suite.title,
        "source": suite.source,
        "quick": suite.quick,
        "blocks": [_block(block) for block in found.blocks],
        "roofs": [
            {
                **dict(zip(("device", "runtime", "threads", "batch", "options"), key, strict=True)),
                "gflops_per_s": roof.gflops_per_s and {"value": roof.gflops_per_s.value, "by": roof.gflops_per_s.by},
                "gb_per_s": roof.gb_per_s and {"value": roof.gb_per_s.value, "by": roof.gb_per_s.by},
                "ridge_flops_per_byte": roof.ridge_flops_per_byte,
            }
            for key, roof in found.roofs.items()
        ],
    }


def suite_rows(found: SuiteFound) -> Iterator[dict[str, Any]]:
    """Flat rows, all with the same columns: what is not of a row's kind is None."""
    for block in found.blocks:
        of_block = {"suite": found.suite.name, "block": block.block.name}
        nothing: dict[str, Any] = dict.fromkeys(_OF_READINGS) | dict.fromkeys(_ends({}))
        nothing |= dict.fromkeys((*(f"published_{name}" for name in FIGURES), "hardware", "note"))
        for row in block.readings.rows:
            ours = {name: row[name] for name in _OF_READINGS} | _ends(row)
            yield {**of_block, "whose": OURS, **nothing, **ours}
        for theirs in block.published:
            figures = {f"published_{name}": _flat(theirs.figures.get(name)) for name in FIGURES}
            about = {"hardware": theirs.hardware, "listed": theirs.model, "recipe": theirs.recipe, "note": theirs.note}
            yield {**of_block, "whose": PUBLISHED, **nothing, **figures, **about}


def _ends(row: Mapping[str, Any]) -> dict[str, Any]:
    """The two ends of each interval."""
    ends = {}
    for name, interval in _INTERVALS.items():
        ends[f"{name}_low"], ends[f"{name}_high"] = row.get(interval) or (None, None)
    return ends


def _block(found: BlockFound) -> dict[str, Any]:
    return {
        "block": found.block.name,
        "title": found.block.title,
        "about": found.block.about,
        "runs": found.readings.run_ids,
        OURS: found.readings.rows,
        PUBLISHED: [_published(theirs) for theirs in found.published],
        "failed": found.readings.failed,
        "unsupported": found.readings.unsupported,
    }


def _published(theirs: Published) -> dict[str, Any]:
    return {**{name: getattr(theirs, name) for name in _ABOUT}, **theirs.figures}


def _flat(value: Any) -> Any:
    """A range as text; anything else as it is."""
    return " to ".join(map(str, value)) if isinstance(value, list | tuple) else value
