"""A gate's answer on the terminal."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.escaping import visible
from exporters.gate_words import COLUMNS, LEAST_WANTED, environments, headline, how, title, worst_first
from exporters.tables import PIPE_WIDTH, simple_table
from scheduler.gates.case import FAILED, UNSURE, WORSE, Answer, Case, Gate

_STYLE: Final[dict[Answer, str]] = {
    **dict.fromkeys(WORSE, "red"),
    **dict.fromkeys(FAILED, "red"),
    **dict.fromkeys(UNSURE, "yellow"),
    "faster": "green",
    "same": "green",
}
#: Rows of the table, and reasons below it; the files have all.
_MOST_ROWS = 60
_MOST_REASONS = 20
_MOST_ENVIRONMENTS = 4


def gate_view(gate: Gate, width: int = PIPE_WIDTH) -> RenderableType:
    """Cases, the worst first; why those that are not simply the same or faster are what they are; and the answer."""
    cases = worst_first(gate)
    parts: list[RenderableType] = _widest(gate, cases[:_MOST_ROWS], width)
    if len(cases) > _MOST_ROWS:
        parts.append(Text(f"and {len(cases) - _MOST_ROWS} more; --json has every case", style="dim"))
    telling = [case for case in cases if case.answer not in ("same", "faster") or case.notes]
    parts += [_reason(case) for case in telling[:_MOST_REASONS]]
    if gate.unpaired:
        rows = [
            [one.runtime, one.recipe, visible(one.device), f"{one.side}: {visible(one.why)}"] for one in gate.unpaired
        ]
        parts.append(simple_table("Not compared", ["runtime", "recipe", "device", "why"], rows[:_MOST_REASONS]))
    parts.append(Text(f"answer: {headline(gate)}", style="bold"))
    parts.append(Text(how(gate), style="dim"))
    told = [(device, named) for device, named in environments(gate).items() if named]
    for device, named in told[:_MOST_ENVIRONMENTS]:
        pairs = ", ".join(f"{name} {value}" for name, value in named.items())
        parts.append(Text(f"{visible(device)}: {visible(pairs)}", style="dim"))
    return Group(*parts)


def _widest(gate: Gate, cases: list[Case], width: int) -> list[RenderableType]:
    """The widest table that fits, and the names of the columns that did not."""
    hidden: list[str] = []
    while True:
        table = _table(gate, cases, hidden)
        if Console(width=1000).measure(table).maximum <= width or len(hidden) == len(LEAST_WANTED):
            break
        hidden.append(LEAST_WANTED[len(hidden)])
    note = Text(f"no room for {', '.join(hidden)}: widen the terminal or use --json", style="dim")
    return [table, note] if hidden else [table]


def _table(gate: Gate, cases: list[Case], hidden: list[str]) -> Table:
    heading = Text(f"{visible(gate.baseline)} → {visible(gate.candidate)}")
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", padding=(0, 1, 0, 0))
    shown = {name: cell for name, cell in COLUMNS.items() if name not in hidden}
    table.add_column("case")
    table.add_column("device")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("answer")
    for case in cases:
        heads = [visible(title(case)), visible(case.evidence.what.device)]
        cells = [Text(text) for text in (*heads, *(cell(case) for cell in shown.values()))]
        table.add_row(*cells, Text(case.answer, style=_STYLE[case.answer]))
    return table


def _reason(case: Case) -> Text:
    line = Text(f"{visible(title(case))} on {visible(case.evidence.what.device)}: ", style="dim")
    line.append(case.answer, style=_STYLE[case.answer])
    for said in (case.why, *case.notes):
        line.append(f"; {visible(said)}" if said is not case.why else f": {visible(said)}", style="dim")
    return line
