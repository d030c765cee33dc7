"""Rows of the views that cells of a matrix are made of, with sensible values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.cells import Row, Wanted, cells
from scheduler.repeats import Repeat

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
_CASE = {
    "model": "net",
    "weights": "random",
    "format": "pt2",
    "recipe": "fp32",
    "runtime": "torch",
    "threads": 1,
    "batch": 1,
    "mode": "burst",
    "options_text": "",
}
_DEVICE = {
    "device_id": 1,
    "device": "d0",
    "device_kind": "cpu",
    "device_model": "EPYC",
    "host": "here",
    "simulated": False,
}


def make_latest(**changed: Any) -> Row:
    """A row of `latest_result`: a valid value of an hour ago, from one process."""
    row = {
        **_DEVICE,
        **_CASE,
        "statistic": "median of process medians",
        "point_id": 1,
        "sweep_run_id": 1,
        "at": NOW - timedelta(hours=1),
        "p50_ms": 10.0,
        "p50_ci_low_ms": None,
        "p50_ci_high_ms": None,
        "processes": 1,
        "p99_ms": None,
        "throughput_per_s": 100.0,
        "energy_per_inference_mj": None,
        "energy_quality": "unsupported",
        "peak_rss_bytes": 1_000_000,
        "artifact_bytes": 4_000_000,
        "artifact_sha256": "a" * 64,
        "snr_db": None,
        "top1_agreement": None,
        "temperature_c": None,
        "flags": "",
        "precision": "fp32",
        "compute_unit": "cpu",
        "environment_digest": "e1",
        "protocol_version": "1",
        "unconverted": True,
    }
    return row | changed


def make_coverage(**changed: Any) -> Row:
    """A row of `coverage`: a case that failed an hour ago."""
    row = {
        **_DEVICE,
        **_CASE,
        "state": "failed",
        "verdict": None,
        "why": "no such op",
        "at": NOW - timedelta(hours=1),
        "age_s": 3600.0,
    }
    return row | changed


#: What points keep of processes: (median, verdict, ...) of each.
Kept = dict[int, list[list[Any]]]
BASELINE = ("torch", "fp32")


def kept(*medians: float, verdict: str = "valid", **times: float) -> list[list[Any]]:
    """Processes with these medians; `energy_per_inference_mj=3.0` makes another figure three times each median."""
    return [
        list(Repeat(p50_ms=median, verdict=verdict, **{name: value * median for name, value in times.items()}))  # type: ignore[arg-type]
        for median in medians
    ]


def made(
    latest: list[Row],
    coverage: list[Row] | None = None,
    processes: Kept | None = None,
    spoilt: list[Row] | None = None,
    **wanted: Any,
) -> list[Row]:
    """Cells of one model, against eager torch unless it says otherwise."""
    asked = Wanted(**({"baseline": BASELINE} | wanted))
    return cells(latest, coverage or [], {}, processes or {}, asked, NOW, spoilt or [])
