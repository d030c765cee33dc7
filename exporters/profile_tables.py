"""Tables of profiles for the terminal, and their operations as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from device_registry.errors import UsageError
from exporters.numbers import NONE, milliseconds, significant, size
from exporters.tables import device_label, runtime_label

Row = Mapping[str, Any]
By = Literal["time", "order", "flops", "bytes", "gflops", "name", "type"]
_KEYS: dict[str, str] = {"time": "time_us", "flops": "flops", "bytes": "bytes", "gflops": "gflops_per_s"}
#: Layers of one operation or part that are printed.
_MOST_LAYERS = 3


def chosen_ops(record: Row, by: By, type_: str | None) -> list[Row]:
    """A profile's operations filtered by type and sorted: figures from the largest, names alphabetically.

    Raises:
        UsageError: no operation is of that type.
    """
    ops: list[Row] = list(record["ops"])
    if type_ is not None:
        wanted = type_.casefold()
        ops = [op for op in ops if wanted in op["type"].casefold()]
        if not ops:
            types = ", ".join(sorted({op["type"] for op in record["ops"]}))
            raise UsageError(f"no operation of type {type_!r}; this profile has {types}")
    if by in _KEYS:
        return sorted(ops, key=lambda op: -(op[_KEYS[by]] or 0))
    return sorted(ops, key=lambda op: op[by])


def csv_rows(ops: Sequence[Row]) -> list[dict[str, Any]]:
    """Operations as flat rows: several layers joined by a blank."""
    return [{**op, "layers": " ".join(op["layers"])} for op in ops]


def profiles_table(profiles: Sequence[Row]) -> RenderableType:
    """One line per profile."""
    table = _table("Profiles: what one inference spends, operation by operation")
    for name in ("profile", "model", "runtime", "recipe", "device"):
        table.add_column(name)
    for name in (
        "threads",
        "batch",
        "operations",
        "their sum ms",
        "profiled run ms",
        "sum / run",
        "without profiler ms",
    ):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in profiles:
        table.add_row(
            str(row["profile"]),
            Text(row["model"]),
            Text(runtime_label(row)),
            Text(row["recipe"]),
            Text(device_label(row)),
            str(row["threads"]),
            str(row["batch"]),
            str(row["operations"]),
            milliseconds(row["sum_ms"]),
            milliseconds(row["profiled_run_ms"]),
            f"{row['sum_over_profiled_run']:.2f}",
            milliseconds(row["unprofiled_run_ms"]),
            row["verdict"],
        )
    return table


def profile_view(record: Row, ops: Sequence[Row], top: int | None) -> RenderableType:
    """One profile: its operations, and how far they may be believed.

    Args:
        record: a record of `scheduler.profiles`.
        ops: its operations, filtered and sorted.
        top: how many are shown; None: all.
    """
    title = f"profile {record['profile']}: {record['model']} on {runtime_label(record)} {record['recipe']}, "
    title += f"{device_label(record)}, {record['threads']} thread" + ("s" if record["threads"] != 1 else "")
    title += f", batch {record['batch']}"
    table = _table(title)
    for name in ("order", "time us", "share"):
        table.add_column(name, justify="right")
    for name in ("type", "layer", "source"):
        table.add_column(name, overflow="fold")
    for name in ("precision", "FLOP", "GFLOP/s", "bytes", "GB/s"):
        table.add_column(name, justify="right")
    shown = ops if top is None else ops[:top]
    for op in shown:
        table.add_row(
            str(op["order"]),
            significant(op["time_us"]),
            NONE if op["share"] is None else f"{op['share']:.1%}",
            Text(op["type"]),
            Text(_layers(op["layers"]) if op["layers"] else f"({op['name']})"),
            Text((op["source"] or NONE).rpartition("/")[2]),
            op["precision"] or NONE,
            _amount(op["flops"]),
            milliseconds(op["gflops_per_s"]),
            size(op["bytes"]),
            milliseconds(op["gbytes_per_s"]),
        )
    lines: list[RenderableType] = [table]
    if len(shown) < len(ops):
        rest_us = sum(op["time_us"] for op in ops[len(shown) :])
        lines.append(
            Text(f"and {len(ops) - len(shown)} more, {significant(rest_us)} us; --top shows more", style="dim")
        )
    lines.append(Text(_how(record), style="dim"))
    if record["verdict"] != "valid":
        lines.append(Text(f"{record['verdict']}: {'; '.join(record['reasons'])}", style="red"))
    return Group(*lines)


def comparison_view(comparison: Row, top: int | None) -> RenderableType:
    """Two profiles side by side, the largest changes first; then what was inserted."""
    before, after = comparison["before"], comparison["after"]
    names = [f"{row['profile']} ({runtime_label(row)} {row['recipe']})" for row in (before, after)]
    parts = comparison["parts"] if top is None else comparison["parts"][:top]
    table = _change_table(f"{before['model']}: profile {names[0]} against {names[1]}", "layer")
    for part in parts:
        _add_change(table, _layers(part["layers"]), part)
    views: list[RenderableType] = [table]
    views += [
        Text(f"not alike in {item['what']}: {item['before']} and {item['after']}", style="red")
        for item in comparison["differences"]
    ]
    if left := len(comparison["parts"]) - len(parts):
        views.append(Text(f"and {left} parts that changed less; --top shows more", style="dim"))
    if comparison["inserted"]:
        table = _change_table("Of no layer: inserted by runtime or quantiser", "type")
        for part in comparison["inserted"]:
            _add_change(table, part["type"], part)
        views.append(table)
    for row, name in ((before, names[0]), (after, names[1])):
        views.append(Text(f"{name}: {_how(row)}", style="dim"))
    return Group(*views)


def _how(record: Row) -> str:
    return (
        f"{record['method']}; operations sum to {milliseconds(record['sum_ms'])} ms, "
        f"{record['sum_over_profiled_run']:.2f} of a profiled run ({milliseconds(record['profiled_run_ms'])} ms, "
        f"median of {record['runs']}); without the profiler a run took {milliseconds(record['unprofiled_run_ms'])} ms. "
        "Profilers cost time: benchfarm run measures latency"
    )


def _change_table(title: str, what: str) -> Table:
    table = _table(title)
    table.add_column(what, overflow="fold")
    for name in ("before us", "after us", "change us", "after / before"):
        table.add_column(name, justify="right")
    for name in ("before", "after"):
        table.add_column(name, overflow="fold")
    return table


def _add_change(table: Table, what: str, part: Row) -> None:
    change = part["change_us"]
    table.add_row(
        Text(what),
        milliseconds(part["before_us"]),
        milliseconds(part["after_us"]),
        Text(f"{'+' if change > 0 else ''}{significant(change)}", style="red" if change > 0 else "green"),
        NONE if part["ratio"] is None else f"{part['ratio']:.2f}",
        Text(_counted(part["before"])),
        Text(_counted(part["after"])),
    )


def _counted(types: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for name in types:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items()) or NONE


def _layers(layers: Sequence[str]) -> str:
    shown = ", ".join(layers[:_MOST_LAYERS])
    return shown + (f" and {len(layers) - _MOST_LAYERS} more" if len(layers) > _MOST_LAYERS else "")


def _amount(value: int | None) -> str:
    """FLOPs in decimal units."""
    return NONE if value is None else size(value).replace("B", "").strip()


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_style="bold")
