"""Columns of a suite's readings, and of what was published: titles with units, and values by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporters.numbers import NONE, significant
from scheduler.suites.readings import Row
from workers.calls import CallError, parse_call

TITLES = {
    "p50_ms": "latency p50, ms",
    "mean_ms": "latency mean, ms",
    "std_ms": "standard deviation, ms",
    "p90_ms": "latency p90, ms",
    "p95_ms": "latency p95, ms",
    "p99_ms": "latency p99, ms",
    "throughput_per_s": "inferences per second",
    "first_minute_p50_ms": "p50 of the first minute, ms",
    "last_minute_p50_ms": "p50 of the last minute, ms",
    "real_time_factor": "real-time factor",
    "size_mb": "size, MB",
    "smaller_percent": "smaller than fp32, %",
    "memory_mb": "peak memory, MB",
    "parameters_m": "parameters, millions",
    "nonzero_parameters_m": "parameters other than 0, millions",
    "nodes": "graph nodes",
    "gflop": "GFLOP of an inference",
    "gmac": "GMAC of an inference",
    "moved_mb": "least that is moved, MB",
    "gflops_per_s": "GFLOP/s achieved",
    "gb_per_s": "GB/s achieved",
    "flops_per_byte": "FLOP per byte",
    "energy_mj": "energy of an inference, mJ",
    "accuracy_percent": "accuracy, top-1 %",
    "top5": "accuracy, top-5",
    "f1_macro": "macro F1",
    "wer": "word error rate",
    "snr_db": "SNR, dB",
    "top1_agreement": "agreement with fp32, top-1",
    "speed_up": "speed-up",
    "speed_up_own": "speed-up over fp32 of the same runtime",
}
#: Other words for columns, as files of suites may have them.
_ALIASES = {
    "speedup": "speed_up",
    "latency_ms": "p50_ms",
    "gmacs": "gmac",
    "gflops": "gflop",
    "top1": "accuracy_percent",
}
#: What was published of a column, the first that there is; studies often do not say which statistic theirs is.
_PUBLISHED = {
    "p50_ms": ("p50_ms", "latency_ms", "mean_ms"),
    "mean_ms": ("mean_ms", "latency_ms"),
    "gmac": ("gmacs", "gmac"),
    "speed_up_own": ("speed_up",),
}
#: Columns that are worse when larger.
LOWER_IS_BETTER = frozenset(("p50_ms", "mean_ms", "size_mb", "energy_mj", "memory_mb", "wer", "nodes"))


def known(column: str) -> str:
    """A column by the name that readings have for it."""
    return _ALIASES.get(column, column)


def title_of(column: str) -> str:
    """What an axis is called; a word of a grid is called as it is."""
    return TITLES.get(known(column), column.replace("_", " "))


def value_of(row: Row, column: str) -> Any:
    """A column of a reading: a place in the grid, a figure, or a parameter of the model's name; None: none of these."""
    column = known(column)
    if column in row["values"]:
        return row["values"][column]
    if column == "model":
        return row["listed"]
    if column == "operator":
        return operator_of(row["model"])
    return row[column] if column in row else arguments_of(row["listed"]).get(column)


def operator_of(model: str) -> str:
    """A model's name without its sizes."""
    return model.partition("(")[0].rpartition("/")[2]


def arguments_of(model: str) -> dict[str, int | str]:
    """What a model's name says of its parameters; those that it leaves out are not here."""
    try:
        named = parse_call(model).named
    except CallError:
        return {}
    return {name: int(text) if text.isdigit() else text for name, text in named.items()}


def published_value(figures: Mapping[str, Any], column: str) -> Any:
    """A column of a published row: a number, a pair of bounds, or None."""
    column = known(column)
    return next((figures[name] for name in _PUBLISHED.get(column, (column,)) if name in figures), None)


def published_text(figures: Mapping[str, Any], column: str) -> str:
    """A figure of others with the digits that it was published with, a range of two, or a dash."""
    value = published_value(figures, column)
    if value is None:
        return NONE
    return " to ".join(f"{bound:g}" for bound in (value if isinstance(value, tuple | list) else (value,)))


def figure_text(value: Any) -> str:
    """A figure of a table, or a dash."""
    if value is None:
        return NONE
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else significant(float(value))


def with_interval(value: float | None, interval: Any, suffix: str = "") -> str:
    """A figure with its interval; `~` where there is none."""
    if value is None:
        return NONE
    if interval is None:
        return f"~{significant(value)}{suffix}"
    return f"{significant(value)}{suffix} [{significant(interval[0])}, {significant(interval[1])}]"
