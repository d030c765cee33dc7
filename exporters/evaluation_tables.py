"""Tables of evaluations for the terminal: how right variants are, and whether two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.numbers import NONE, significant
from exporters.tables import accuracy_text, device_label, runtime_label

Row = Mapping[str, Any]
_COLUMNS = ("top-1 [95 %]", "top-5", "F1", "WER", "right", "of", "skipped", "seconds")


def evaluations_table(evaluations: Sequence[Row]) -> RenderableType:
    """One line per evaluation; columns that say nothing of any of them are left out."""
    cells = [_figures(row) for row in evaluations]
    shown = [name for name in _COLUMNS if any(row[name] != NONE for row in cells)]
    table = _table()
    for name in ("evaluation", "model", "runtime", "recipe", "device", "data"):
        table.add_column(name, overflow="fold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for row, figures in zip(evaluations, cells, strict=True):
        heads = [str(row["evaluation"]), row["model"], runtime_label(row), row["recipe"], device_label(row)]
        table.add_row(*(Text(text) for text in (*heads, row["data"], *(figures[name] for name in shown))))
    heading = _heading("Evaluations: how right each variant answers over labelled data")
    return Group(heading, table, *(note for row in evaluations for note in _doubts(row)))


def evaluation_view(record: Row) -> RenderableType:
    """One evaluation: what was asked, of what, and how it was answered."""
    title = f"evaluation {record['evaluation']}: {record['model']} on {runtime_label(record)} {record['recipe']}, "
    title += device_label(record)
    table = _table()
    table.show_header = False
    table.add_column("")
    table.add_column("", overflow="fold")
    inputs = ", ".join(f"{name} {'x'.join(map(str, shape[1:]))}" for name, shape in record["inputs"].items())
    lines = {
        "task": record["task"],
        "data": f"{record['data']}, {record['examples']} examples ({record['data_sha256'][:12]})",
        **{name: text for name, text in _figures(record).items() if text != NONE and name != "of"},
        "arithmetic": f"{record['precision']} on {record['compute_unit']}",
        "weights": record["weights"],
        "inputs": inputs,
        "artifact": str(record["artifact_sha256"])[:12],
    }
    for name, text in lines.items():
        table.add_row(Text(name), Text(str(text)))
    wrong = [number for number, right in enumerate(record["outcomes"]) if right == "0"]
    some = ", ".join(map(str, wrong[:20])) + (f" and {len(wrong) - 20} more" if len(wrong) > 20 else "")
    told = Text(f"answered wrong, counted from 0: {some}" if wrong else "every example was answered right", style="dim")
    return Group(_heading(title), table, *_doubts(record), told)


def comparison_view(comparison: Row) -> RenderableType:
    """Two evaluations over the same examples: the four counts, the difference with its interval, and the answer."""
    before, after = comparison["before"], comparison["after"]
    names = [f"{row['evaluation']} ({row['model']}, {runtime_label(row)} {row['recipe']})" for row in (before, after)]
    table = _table()
    for name in ("", f"{after['evaluation']} right", f"{after['evaluation']} wrong", "top-1 [95 %]"):
        table.add_column(name, justify="left" if not name else "right")
    rights = (comparison["both_right"], comparison["only_before_right"])
    wrongs = (comparison["only_after_right"], comparison["neither_right"])
    for head, counts, row in (("right", rights, before), ("wrong", wrongs, after)):
        shown = f"{row['evaluation']}: {accuracy_text(row)}"
        table.add_row(f"{before['evaluation']} {head}", *(str(count) for count in counts), shown)
    low, high = comparison["difference_ci"]
    differ = comparison["answer"] == "differ"
    answer = Text(f"{comparison['answer']}: ", style="red" if differ else "cyan")
    size = f"{after['evaluation']} is right {_points(comparison['difference'])} points more often than "
    size += f"{before['evaluation']} [{_points(low)}, {_points(high)}], p {_p(comparison['p'])} ({comparison['test']})"
    if not differ:
        size += f"; one of {100 * max(abs(low), abs(high)):.2f} points may be there all the same"
    answer.append(size, style="default")
    heading = f"{before['data']}, {comparison['examples']} examples: {names[0]} against {names[1]}"
    return Group(_heading(heading), table, answer)


def _figures(row: Row) -> dict[str, str]:
    return {
        "top-1 [95 %]": accuracy_text(row) if row["top1"] is not None else NONE,
        "top-5": _share(row["top5"]),
        "F1": NONE if row["f1_macro"] is None else f"{row['f1_macro']:.3f}",
        "WER": _share(row["wer"]),
        "right": NONE if row["top1"] is None else str(row["correct"]),
        "of": str(row["examples"]),
        "skipped": str(row["skipped"]) if row["skipped"] else NONE,
        "seconds": significant(row["seconds"]),
    }


def _doubts(row: Row) -> list[RenderableType]:
    lines = []
    if row["not_finite"]:
        what = f"{row['not_finite']} of {row['examples']} answers held NaN or infinity and count as wrong"
        lines.append(Text(f"evaluation {row['evaluation']}: {what}", style="red"))
    if row["skipped"]:
        what = f"{row['skipped']} files of {row['data']} could not be read and are in no figure"
        lines.append(Text(f"evaluation {row['evaluation']}: {what}", style="yellow"))
        lines += [Text(f"  {named}", style="yellow") for named in row.get("skipped_files", ())]
    return list(lines)


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def _p(value: float) -> str:
    return "below 0.0001" if value < 0.0001 else significant(value, 2)


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
