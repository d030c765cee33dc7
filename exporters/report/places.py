"""Cells of a model as pictures show them: by device where there are few, by model of device in a fleet."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporters.matrix_tables import age_text, answer_text, quantity, speedup_text, state_text, value_text
from exporters.numbers import NONE
from exporters.report.shapes import Cell

Row = Mapping[str, Any]
#: More devices than these are told by their models.
MOST_PLACES = 12
#: What is shown of many models of device, and of many variants.
MOST_COLUMNS = 40
MOST_VARIANTS = 80


@dataclass(frozen=True)
class Places:
    """The columns of a matrix."""

    names: tuple[str, ...]
    #: Whether a column is many devices.
    summed: bool
    left_out: int = 0

    def of(self, row: Row) -> str:
        """The column of a cell."""
        return _device_model(row) if self.summed else str(row["device_label"])

    @property
    def what(self) -> str:
        """What a column is."""
        return "model of device, the median of its units" if self.summed else "device"


def places_of(rows: Sequence[Row], most: int = MOST_PLACES) -> Places:
    """Devices; of more than `most` their models, the most measured ones first where even those are many."""
    devices = sorted({str(row["device_label"]) for row in rows})
    if len(devices) <= most:
        return Places(tuple(devices), summed=False)
    measured: dict[str, set[int]] = {}
    for row in rows:
        measured.setdefault(_device_model(row), set()).add(row["device_id"])
    models = sorted(measured, key=lambda name: (-len(measured[name]), name))
    kept = sorted(models[:MOST_COLUMNS])
    return Places(tuple(kept), summed=True, left_out=len(models) - len(kept))


def cell_of_one(rows: Sequence[Row]) -> Cell:
    """A device's cell; where two statistics of a case differ, medians come before means."""
    row = min(rows, key=lambda row: "mean_not_median" in (row["flags"] or ""))
    bare = row["value"] is None and row["state"] not in ("valid", "stale")
    flags = row["flags"] or ""
    notes = [row["note"] or "", row["why"] or "", f"flags: {flags}" if flags else ""]
    if row["answer"] is not None and row["not_alternated"]:
        notes.append("the two did not alternate in one hour")
    if row["detectable"] is not None:
        notes.append(f"could have shown {row['detectable']:.1%}")
    return Cell(
        value=NONE
        if bare and row["invalid_value"] is None
        else value_text(row) + (" (mean)" if "mean_not_median" in flags else ""),
        age="" if row["age_s"] is None else f"{age_text(row['age_s'])} old",
        ratio="" if row["speedup"] is None else speedup_text(row),
        answer=answer_text(row),
        kind=row["answer"] or "",
        state="" if row["state"] == "valid" else state_text(row),
        note="; ".join(note for note in notes if note and note != "baseline"),
    )


def cell_of_many(rows: Sequence[Row]) -> Cell:
    """A model of device: the median of its units, how far they lie apart, and how many answer what."""
    show = quantity(rows[0]["unit"])
    values = [row["value"] for row in rows if row["value"] is not None]
    ages = [row["age_s"] for row in rows if row["value"] is not None]
    ratios = [row["speedup"] for row in rows if row["speedup"] is not None and not row["is_baseline"]]
    answers = Counter(answer_text(row) for row in rows if row["answer"] is not None)
    states = Counter(row["state"] for row in rows if row["state"] != "valid")
    ratio = f"~{statistics.median(ratios):.2f}x" if ratios else ""
    if not ratios and any(row["is_baseline"] for row in rows):
        ratio = "baseline"
    return Cell(
        value=show(statistics.median(values)) if values else NONE,
        age=f"{age_text(statistics.median(ages))} old" if ages else "",
        ratio=ratio,
        answer=", ".join(f"{count} {answer}" for answer, count in answers.most_common()),
        state=", ".join(f"{count} {state}" for state, count in sorted(states.items())),
        note=f"{len(values)} units, {show(min(values))} to {show(max(values))}" if len(values) > 1 else "",
    )


def _device_model(row: Row) -> str:
    return str(row["device_model"] or row["device_kind"]) + (" (simulated)" if row["simulated"] else "")
