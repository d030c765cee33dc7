"""The matrix of variants and devices on a terminal: wide ones fold, fleets are summed up by device model."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.numbers import NONE, significant, size
from exporters.tables import PIPE_WIDTH, accuracy_notes, accuracy_text, simple_table
from scheduler.cells import METRICS, shared_options, variant_label

Row = Mapping[str, Any]
#: More devices of one kind are summed up by their model.
MOST_DEVICES = 12
#: Reasons of cells without a value that are printed below a matrix, and columns of one that folds.
_MOST_REASONS = 8
_ANSWER_STYLE = {"faster": "green", "slower": "red", "same": "cyan", "inconclusive": "yellow"}
_STATE_STYLE = {"stale": "yellow", "invalid": "red", "failed": "red", "unsupported": "dim", "missing": "magenta"}


def matrix_view(model: str, rows: Sequence[Row], *, width: int = PIPE_WIDTH) -> RenderableType:
    """One model: a matrix for each setting, simulated devices apart from real ones; then what has no value, and why.

    Args:
        model: its name.
        rows: its rows of `scheduler.cells`.
        width: characters per line.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (row["weights"], row["threads"], row["batch"], row["mode"], shared_options(row), row["simulated"])
        groups.setdefault(key, []).append(row)
    parts: list[RenderableType] = []
    for _, group in sorted(groups.items(), key=lambda item: (item[0][-1], item[0])):
        parts += _group_view(f"{model}: {setting_text(group[0])}", group, width)
    return Group(*parts, *_notes(rows), *_reasons(rows))


def value_text(row: Row) -> str:
    """A value with its interval; `~` where there is none between processes."""
    show = quantity(row["unit"])
    if row["value"] is None:
        if row["invalid_value"] is not None:
            return f"({show(row['invalid_value'])})"
        return str(row["why"] or NONE) if row["state"] in ("valid", "stale") else NONE
    if row["value_ci"] is not None:
        return f"{show(row['value'])} [{show(row['value_ci'][0])}, {show(row['value_ci'][1])}]"
    return ("" if row["metric"] == "size" else "~") + show(row["value"])


def speedup_text(row: Row) -> str:
    """How many times better than the baseline, with its interval; `~` where there is none."""
    if row["is_baseline"]:
        return "baseline"
    if row["speedup"] is None:
        return NONE
    if row["speedup_ci"] is not None:
        return f"{row['speedup']:.2f}x [{row['speedup_ci'][0]:.2f}, {row['speedup_ci'][1]:.2f}]"
    return f"{'' if row['metric'] == 'size' else '~'}{row['speedup']:.2f}x"


def answer_text(row: Row) -> str:
    """One of four answers in the words of the metric, with the bound of what is the same; empty where none is given."""
    if row["answer"] is None:
        return ""
    word = METRICS[row["metric"]].words[row["answer"]]
    return f"{word} (+-{row['bound']:.0%})" if row["answer"] == "same" else word


def state_text(row: Row) -> str:
    """What state a cell is in, in a word or two: an invalid one says which verdict its last result had."""
    return f"invalid: {row['verdict']}" if row["state"] == "invalid" and row["verdict"] else str(row["state"])


def age_text(age_s: float | None) -> str:
    """How old a value is, roughly: 40 s, 5 min, 3 h, 9 d."""
    if age_s is None:
        return NONE
    for unit, seconds in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if age_s >= seconds:
            return f"{age_s / seconds:.0f} {unit}"
    return f"{age_s:.0f} s"


def units_text(count: int) -> str:
    """So many devices of one model."""
    return f"{count:,} unit{'s' if count != 1 else ''}"


def quantity(unit: str) -> Callable[[float], str]:
    """How values of a unit are written."""
    return size if unit == "bytes" else significant


def setting_text(row: Row) -> str:
    """What all cells of a matrix have in common: weights, threads, batch, mode, and what is compared."""
    threads = f"{row['threads']} thread" + ("s" if row["threads"] != 1 else "")
    shared = f", {shared}" if (shared := shared_options(row)) else ""
    mode = "" if row["mode"] == "burst" else f", {row['mode']}"
    unit = "" if row["unit"] == "bytes" else f" ({row['unit']})"
    return (
        f"{row['weights']} weights, {threads}, batch {row['batch']}{mode}{shared}: {METRICS[row['metric']].title}{unit}"
    )


def _group_view(title: str, rows: Sequence[Row], width: int) -> list[RenderableType]:
    devices = list(dict.fromkeys(row["device_label"] for row in rows))
    if len(devices) == 1:
        return [_heading(f"{title}, on {devices[0]}"), _one_device(rows)]
    if len(devices) > MOST_DEVICES:
        made_up = ", simulated" if rows[0]["simulated"] else ""
        columns = sorted({_device_model(row) for row in rows})
        title = f"{title}, {len(devices)} devices{made_up} by model"
        return [_heading(title), *_folded(rows, columns, _device_model, _summed_cell, width)]
    return [_heading(title), *_folded(rows, devices, lambda row: str(row["device_label"]), _cell, width)]


def _device_model(row: Row) -> str:
    return f"{row['device_model'] or row['device_kind']}" + (" (simulated)" if row["simulated"] else "")


def _one_device(rows: Sequence[Row]) -> Table:
    """Variants of one device: everything has a column."""
    table = _table()
    evaluated = any(row.get("accuracy") is not None for row in rows)
    names = ["variant", METRICS[rows[0]["metric"]].title, "speed-up", "verdict", "could show", "state", "age"]
    for name in names + ["accuracy"] * evaluated:
        table.add_column(name, overflow="fold", justify="right" if name == "age" else "left")
    for row in rows:
        table.add_row(
            Text(variant_label(row)),
            Text(value_text(row)),
            Text(speedup_text(row)),
            Text(answer_text(row) or NONE, style=_ANSWER_STYLE.get(row["answer"] or "", "")),
            Text(NONE if row["detectable"] is None else f"{row['detectable']:.1%}"),
            Text(state_text(row), style=_STATE_STYLE.get(row["state"], "")),
            Text(age_text(row["age_s"])),
            *([Text(accuracy_text(row["accuracy"]))] if evaluated else ()),
        )
    return table


def _folded(
    rows: Sequence[Row],
    columns: Sequence[str],
    column_of: Callable[[Row], str],
    cell: Callable[[Sequence[Row]], Text],
    width: int,
) -> list[RenderableType]:
    """Variants down, devices across; what does not fit goes into a table below it."""
    variants = list(dict.fromkeys(variant_label(row) for row in rows))
    inside: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        inside.setdefault((variant_label(row), column_of(row)), []).append(row)
    found = {
        column: [cell(inside[variant, column]) if (variant, column) in inside else Text(NONE) for variant in variants]
        for column in columns
    }
    widths = {column: max(len(column), *(_text_width(text) for text in found[column])) + 2 for column in columns}
    first = max(len("variant"), *(len(variant) for variant in variants)) + 3
    tables: list[RenderableType] = []
    left = list(columns)
    while left:
        taken = [left.pop(0)]
        while left and first + sum(widths[column] for column in (*taken, left[0])) <= width:
            taken.append(left.pop(0))
        whole = len(taken) == len(columns)
        shown = len(columns) - len(left)
        table = _table("" if whole else f"columns {shown - len(taken) + 1} to {shown} of {len(columns)}")
        table.add_column("variant", overflow="fold")
        for column in taken:
            table.add_column(Text(column), overflow="fold")
        for number, variant in enumerate(variants):
            table.add_row(Text(variant), *(found[column][number] for column in taken), end_section=True)
        tables.append(table)
    return tables


def _cell(rows: Sequence[Row]) -> Text:
    """One device's value; below it how it compares, and what is wrong with it. Two where their statistics differ."""
    lines: list[Text] = []
    for row in rows:
        if row["value"] is None and row["state"] not in ("valid", "stale"):
            measured = value_text(row) + "  " if row["invalid_value"] is not None else ""
            lines.append(Text(measured, style="dim").append(state_text(row), style=_STATE_STYLE.get(row["state"], "")))
            continue
        of_means = " (mean)" if "mean_not_median" in (row["flags"] or "") else ""
        lines.append(Text(value_text(row) + of_means).append(f"  {age_text(row['age_s'])}", style="dim"))
        if row.get("accuracy") is not None:
            lines.append(Text(f"right {accuracy_text(row['accuracy'])}"))
        if row["speedup"] is not None:
            answer = answer_text(row)
            lines.append(Text(speedup_text(row)).append(f" {answer}", style=_ANSWER_STYLE.get(row["answer"] or "", "")))
        if row["state"] != "valid":
            lines.append(Text(state_text(row), style=_STATE_STYLE.get(row["state"], "")))
    return Text("\n").join(lines)


def _summed_cell(rows: Sequence[Row]) -> Text:
    """All units of a device model: the median of their values, how far they lie apart, and how many answer what."""
    show = quantity(rows[0]["unit"])
    values = [row["value"] for row in rows if row["value"] is not None]
    lines = []
    if values:
        lines.append(Text(f"{show(statistics.median(values))}").append(f"  {units_text(len(values))}", style="dim"))
    if len(values) > 1:
        lines.append(Text(f"{show(min(values))} to {show(max(values))}", style="dim"))
    ratios = [row["speedup"] for row in rows if row["speedup"] is not None and not row["is_baseline"]]
    if ratios:
        lines.append(Text(f"~{statistics.median(ratios):.2f}x"))
    elif any(row["is_baseline"] for row in rows):
        lines.append(Text("baseline"))
    answers = Counter(answer_text(row) for row in rows if row["answer"] is not None)
    lines += [Text(f"{count} {answer}", style=_ANSWER_STYLE.get(answer, "")) for answer, count in answers.most_common()]
    states = Counter(row["state"] for row in rows if row["state"] != "valid")
    lines += [Text(f"{count} {state}", style=_STATE_STYLE[state]) for state, count in sorted(states.items())]
    return Text("\n").join(lines)


def _notes(rows: Sequence[Row]) -> Iterable[RenderableType]:
    if any(row["invalid_value"] is not None for row in rows):
        text = "() measured, but judged invalid: not compared unless you say --invalid"
        yield Text(text, style="dim")
    yield from accuracy_notes(rows)
    if not any(row["value"] is not None for row in rows):
        return
    metric = rows[0]["metric"]
    if metric != "size" and any(row["value"] is not None and row["value_ci"] is None for row in rows):
        yield Text("~ fewer than 5 valid processes: no interval, so inconclusive; --repeats 5 tells", style="dim")
    if any(row["not_alternated"] for row in rows if row["answer"] is not None):
        yield Text(
            "verdicts of repeats from different runs did not alternate in one hour: what drifted between them counts "
            "as a difference",
            style="dim",
        )
    if unsure := [row for row in rows if row["answer"] == "inconclusive" and row["speedup_ci"] is not None]:
        row = unsure[0]
        more = f" (and {len(unsure) - 1} more)" if len(unsure) > 1 else ""
        yield Text(f"{variant_label(row)} on {row['device_label']}{more}: {row['note']}", style="dim")
    if blind := [row for row in rows if row["sees_5_percent"] is False]:
        row = blind[0]
        more = f" (and {len(blind) - 1} more)" if len(blind) > 1 else ""
        noise = f"its processes scatter by {row['noise_floor']:.1%} by themselves"
        yield Text(f"{variant_label(row)} on {row['device_label']}{more} cannot see 5 %: {noise}", style="dim")


def _reasons(rows: Sequence[Row]) -> Iterable[RenderableType]:
    """Why cells have no value, each reason once; failed, unsupported, invalid and missing stay apart."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["state"] not in ("valid", "stale") and (row["why"] or row["state"] != "missing"):
            grouped.setdefault((state_text(row), row["why"] or NONE), []).append(row)
    lines = []
    for (state, why), members in grouped.items():
        variants = list(dict.fromkeys(variant_label(row) for row in members))
        devices = {row["device_label"] for row in members}
        where = next(iter(devices)) if len(devices) == 1 else f"{len(devices)} devices"
        named = ", ".join(variants[:4]) + (f" and {len(variants) - 4} more" if len(variants) > 4 else "")
        lines.append([state, named, where, why])
    if lines:
        yield simple_table("Without a valid value", ["state", "variant", "device", "why"], lines[:_MOST_REASONS])
    if len(lines) > _MOST_REASONS:
        yield Text(f"and {len(lines) - _MOST_REASONS} more reasons; --json has every one", style="dim")


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _table(caption: str = "") -> Table:
    return Table(
        caption=Text(caption, style="dim") if caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 2, 0, 0),
    )


def _text_width(text: Text) -> int:
    return Console(width=1000).measure(text).maximum
