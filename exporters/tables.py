"""Tables for the terminal. Each renders the same rows that `--json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.numbers import NONE, milliseconds, significant, size
from scheduler.queue import UPSTREAM

_VERDICT_STYLE = {
    "valid": "green",
    "contaminated": "red",
    "throttled": "red",
    "unusable": "red",
    "not_converged": "yellow",
}

Row = Mapping[str, Any]


def simple_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table of text."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def results_view(
    results: Sequence[Row], failed: Sequence[Row], unsupported: Sequence[Row], *, rerun: str | None
) -> RenderableType:
    """The end of a run: a table per model, device, threads and batch; then failures, and what cannot be had here.

    Args:
        results: rows of `scheduler.comparisons`.
        failed: what failed.
        unsupported: what cannot be had here.
        rerun: the command that would give intervals, shown where there are none.
    """
    parts: list[RenderableType] = []
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in results:
        groups.setdefault(tuple(row[k] for k in ("model", "weights", "device", "threads", "batch", "mode")), []).append(
            row
        )
    for group, rows in groups.items():
        parts.append(_results_table(group, rows))
    if results:
        parts.append(_notes(results, rerun))
    if failed:
        own = [row for row in failed if row["code"] != UPSTREAM]
        parts.append(simple_table("Failed", ["job", "what", "why"], [_failed_cells(row) for row in own]))
        if len(own) < len(failed):
            parts.append(Text(f"{len(failed) - len(own)} jobs that needed one of these failed with it", style="dim"))
    if unsupported:
        parts.append(_unsupported_table(unsupported))
    return Group(*parts)


def _results_table(group: tuple[Any, ...], rows: Sequence[Row]) -> Table:
    model, weights, device, threads, batch, mode = group
    title = f"{model} ({weights} weights) on {device}, {threads} thread{'s' if threads != 1 else ''}, batch {batch}"
    table = Table(
        title=title + ("" if mode == "burst" else f", {mode}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        padding=(0, 1, 0, 0),
    )
    for name in ("runtime", "recipe"):
        table.add_column(name)
    ranked = all(row["p50_ci_ms"] for row in rows)
    if ranked:
        table.add_column("rank", justify="right")
    for name in (
        "size",
        "load ms",
        "first ms",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "per s",
        "memory",
        "energy mJ",
        "SNR dB",
        "top-1",
        "speed-up",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    ranks = _ranks(rows) if ranked else []
    for index, row in enumerate(rows):
        fidelity = row["fidelity"] or {}
        cells = [
            row["runtime"],
            row["recipe"],
            *([str(ranks[index])] if ranked else []),
            size(row["artifact_bytes"]),
            milliseconds(row["load_ms"]),
            milliseconds(row["first_inference_ms"]),
            _with_interval(row["p50_ms"], row["p50_ci_ms"]),
            milliseconds(row["p90_ms"]),
            milliseconds(row["p99_ms"]),
            significant(row["throughput_per_s"]),
            size(row["peak_rss_bytes"]),
            milliseconds(row["energy_per_inference_mj"])
            if row["energy_quality"] in ("ok", "partial")
            else str(row["energy_quality"] or NONE),
            _snr(fidelity),
            f"{fidelity['top1_agreement']:.0%}" if fidelity.get("top1_agreement") is not None else NONE,
            _speedup(row),
        ]
        flags = f" ({', '.join(row['flags'])})" if row["flags"] else ""
        verdict = Text(row["verdict"], style=_VERDICT_STYLE.get(row["verdict"], "red")).append(flags, style="dim")
        table.add_row(*(Text(cell) for cell in cells), verdict)
    return table


def _notes(results: Sequence[Row], rerun: str | None) -> RenderableType:
    contaminated = {reason for row in results if row["verdict"] == "contaminated" for reason in row["reasons"]}
    lines = [Text(f"contaminated: {reason}", style="red") for reason in sorted(contaminated)[:5]]
    if whys := {row["energy_why"] for row in results if row["energy_why"]}:
        lines.append(Text(f"energy: {'; '.join(sorted(whys))}", style="dim"))
    if any(row["p50_ci_ms"] is None for row in results):
        text = "~ one process each: no interval between processes, no ranks"
        lines.append(Text(text + (f"; for both: {rerun}" if rerun else ""), style="dim"))
    return Group(*lines)


def _ranks(rows: Sequence[Row]) -> list[int]:
    """Ranks by p50; rows whose intervals overlap that of the rank's first share it."""
    ranks: list[int] = []
    for index, row in enumerate(rows):
        if ranks and row["p50_ci_ms"][0] <= rows[ranks[-1] - 1]["p50_ci_ms"][1]:
            ranks.append(ranks[-1])
        else:
            ranks.append(index + 1)
    return ranks


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    if interval is None:
        return "~" + significant(value)
    return f"{significant(value)} [{significant(interval[0])}, {significant(interval[1])}]"


def _snr(fidelity: Mapping[str, Any]) -> str:
    if not fidelity:
        return NONE
    if fidelity["identical"]:
        return "exact"
    return NONE if fidelity["snr_db"] is None else f"{fidelity['snr_db']:.0f}"


def _speedup(row: Row) -> str:
    if row["speedup"] is None:
        return NONE
    if row["speedup_ci"] is not None:
        return f"{row['speedup']:.2f}x [{row['speedup_ci'][0]:.2f}, {row['speedup_ci'][1]:.2f}]"
    return f"{'' if row['p50_ci_ms'] else '~'}{row['speedup']:.2f}x"


def _failed_cells(row: Row) -> list[str]:
    what = f"{row['model']}: {row['runtime']} {row['recipe']}"
    return [str(row["job"]), what, f"{row['why']} ({row['code']})"]


def _unsupported_table(unsupported: Sequence[Row]) -> Table:
    """Recipes of one runtime that cannot be had for one reason share a line."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for row in unsupported:
        stored = f" (converted, {size(row['artifact_bytes'])})" if "artifact_bytes" in row else ""
        grouped.setdefault((row["model"], row["runtime"], row["why"]), []).append(row["recipe"] + stored)
    rows = [
        [model, runtime, ", ".join(dict.fromkeys(recipes)), why] for (model, runtime, why), recipes in grouped.items()
    ]
    return simple_table("Unsupported here", ["model", "runtime", "recipe", "why"], rows)


def show(renderable: RenderableType) -> None:
    """Print to standard output; as wide as it needs where no terminal says how wide it is."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(renderable)
