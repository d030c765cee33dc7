"""Tables for the terminal. Each renders the same rows that `--json` prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.harmless import Harmless
from exporters.numbers import NONE, milliseconds, significant, size
from workers.errors import UPSTREAM
from workers.judge import OUTPUTS_WRONG

_VERDICT_STYLE = {
    "valid": "green",
    "contaminated": "red",
    "throttled": "red",
    "unusable": "red",
    "not_converged": "yellow",
}

Row = Mapping[str, Any]
#: Rows of one table have these in common.
_ALIKE = ("model", "weights", "device", "threads", "batch", "mode", "rate_hz", "affinity")
#: With more, devices are rows of one table instead of tables.
_MOST_DEVICES = 3
#: Rows of one table.
_MOST_ROWS = 60
#: Reasons of doubtful rows printed below a table.
_MOST_REASONS = 6
#: Width of a line where no terminal says how wide it is.
PIPE_WIDTH = 160


def simple_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table of text."""
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def results_view(
    results: Sequence[Row],
    failed: Sequence[Row],
    unsupported: Sequence[Row],
    *,
    rerun: str | None = None,
    width: int = PIPE_WIDTH,
) -> RenderableType:
    """The end of a run: a table per model, device, threads and batch; then failures, and what cannot be had here.

    Args:
        results: rows of `scheduler.comparisons`.
        failed: what failed.
        unsupported: what cannot be had here.
        rerun: the command that would give intervals, shown where there are none.
        width: characters per line; columns that do not fit are left out by name, never cut.
    """
    parts: list[RenderableType] = []
    # Of many devices one table; simulated ones never share it with real ones.
    by_device = len({row["device"] for row in results}) > _MOST_DEVICES
    alike = [name for name in _ALIKE if not (by_device and name == "device")]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in results:
        key = tuple(str(row[name]) for name in (*alike, "simulated"))
        groups.setdefault(key, []).append(row)
    for rows in groups.values():
        if by_device:
            rows.sort(key=lambda row: row["p50_ms"])
        parts += _results_table(rows[:_MOST_ROWS], width, by_device)
        if len(rows) > _MOST_ROWS:
            parts.append(Text(f"and {len(rows) - _MOST_ROWS} more; --json has every row", style="dim"))
    if results:
        parts.append(_notes(results, rerun))
    return Group(*parts, outcomes_view(failed, unsupported))


def outcomes_view(failed: Sequence[Row], unsupported: Sequence[Row]) -> RenderableType:
    """What failed, and what cannot be had here; nothing where there is neither."""
    parts: list[RenderableType] = []
    if failed:
        own = [row for row in failed if row["code"] != UPSTREAM] or failed
        parts.append(simple_table("Failed", ["job", "what", "why"], [_failed_cells(row) for row in own[:_MOST_ROWS]]))
        if len(own) > _MOST_ROWS:
            parts.append(Text(f"and {len(own) - _MOST_ROWS} more; --json has every one", style="dim"))
        if len(own) < len(failed):
            parts.append(Text(f"Failed with them, for they needed one of these: {len(failed) - len(own)}", style="dim"))
    if unsupported:
        parts.append(_unsupported_table(unsupported))
    return Group(*parts)


def runtime_label(row: Row) -> str:
    """A runtime with those of its own options that are not at their defaults."""
    return " ".join([row["runtime"], *(f"{name}={value}" for name, value in row["runtime_options"].items())])


def device_label(row: Row) -> str:
    """A result's device, marked where it is made up."""
    return f"{row['device']} (simulated)" if row["simulated"] else str(row["device"])


def _title(row: Row, by_device: bool) -> str:
    """What all rows of a table have in common."""
    where = ("simulated devices" if row["simulated"] else "each device") if by_device else device_label(row)
    threads = f"{row['threads']} thread" + ("s" if row["threads"] != 1 else "")
    title = f"{row['model']} ({row['weights']} weights) on {where}, {threads}, batch {row['batch']}"
    title += "" if row["mode"] == "burst" else f", {row['mode']}"
    title += "" if row["rate_hz"] is None else f", {row['rate_hz']:g} per second"
    title += "" if row["affinity"] is None else f", on CPUs {','.join(map(str, row['affinity']))}"
    shapes = [f"{name} {'x'.join(map(str, shape[1:]))}" for name, shape in row["inputs"].items()]
    return f"{title}: {', '.join(shapes)}"


def _results_table(rows: Sequence[Row], width: int, by_device: bool) -> list[RenderableType]:
    """The widest table that fits, and the names of the columns that did not."""
    title = _title(rows[0], by_device)
    ranks = _ranks(rows)
    hidden: list[str] = []
    # Few runtimes compile apart from their load.
    empty = [] if any(row["compile_ms"] is not None for row in rows) else ["compile ms"]
    empty += [] if any(row["accuracy"] is not None for row in rows) else ["accuracy"]
    left_out = [name for name in _LEAST_WANTED if name not in empty]
    while True:
        table = _table_without([*empty, *hidden], title, rows, ranks, by_device)
        wanted = Console(width=1000).measure(table).maximum
        if wanted <= width or len(hidden) == len(left_out):
            break
        hidden.append(left_out[len(hidden)])
    note = Text(f"no room for {', '.join(hidden)}: widen the terminal or use --json", style="dim")
    return [table, note] if hidden else [table]


def _table_without(
    hidden: Sequence[str], title: str, rows: Sequence[Row], ranks: Sequence[int | None], by_device: bool
) -> Table:
    columns = {name: cell for name, cell in _COLUMNS.items() if name not in hidden}
    ranked = any(rank is not None for rank in ranks)
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_style="bold"
    )
    for name in (*(["device"] if by_device else []), "runtime", "recipe"):
        table.add_column(name)
    for name in (["rank"] if ranked else []) + list(columns):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row, rank in zip(rows, ranks, strict=True):
        flags = f" ({', '.join(row['flags'])})" if row["flags"] else ""
        verdict = Text(row["verdict"], style=_VERDICT_STYLE.get(row["verdict"], "red")).append(flags, style="dim")
        cells = [str(rank or NONE)] if ranked else []
        cells += [cell(row) for cell in columns.values()]
        heads = [device_label(row)] if by_device else []
        heads += [runtime_label(row), row["recipe"]]
        table.add_row(*(Text(cell) for cell in (*heads, *cells)), verdict)
    return table


def _notes(results: Sequence[Row], rerun: str | None) -> RenderableType:
    doubted = [row for row in results if row["verdict"] != "valid"]
    lines = [
        Text(f"{runtime_label(row)} {row['recipe']}: {row['verdict']}: {'; '.join(row['reasons'])}", style="red")
        for row in doubted[:_MOST_REASONS]
    ]
    if len(doubted) > _MOST_REASONS:
        lines.append(Text(f"and {len(doubted) - _MOST_REASONS} more; --json has every reason", style="red"))
    if any(row["speedup"] == 1.0 for row in doubted):
        lines.append(Text("the baseline of the speed-ups is itself not valid", style="red"))
    lines += accuracy_notes(results)
    if whys := {row["energy_why"] for row in results if row["energy_why"]}:
        lines.append(Text(f"energy: {'; '.join(sorted(whys))}", style="dim"))
    if any(row["p50_ci_ms"] is None for row in results):
        text = "~ fewer than 5 valid processes: no interval between processes, no ranks"
        lines.append(Text(text + (f"; for both: {rerun}" if rerun else ""), style="dim"))
    return Group(*lines)


def _ranks(rows: Sequence[Row]) -> list[int | None]:
    """Ranks by p50 among rows with an interval; an interval that overlaps that of a rank's first shares the rank."""
    ranks: list[int | None] = []
    first: Row | None = None
    rank = 0
    place = 0
    for row in rows:
        if row["p50_ci_ms"] is None or row["verdict"] != "valid" or OUTPUTS_WRONG in row["flags"]:
            ranks.append(None)
            continue
        place += 1
        if first is None or row["p50_ci_ms"][0] > first["p50_ci_ms"][1]:
            first, rank = row, place
        ranks.append(rank)
    return ranks


def _latency(row: Row) -> str:
    value, interval = row["p50_ms"], row["p50_ci_ms"]
    if interval is None:
        return "~" + significant(value)
    return f"{significant(value)} [{significant(interval[0])}, {significant(interval[1])}]"


def _energy(row: Row) -> str:
    """A number, or why there is none: "unsupported" and "no permission" are no zeros."""
    if row["energy_quality"] in ("ok", "partial"):
        return milliseconds(row["energy_per_inference_mj"])
    return str(row["energy_quality"] or NONE)


def accuracy_text(row: Row | None) -> str:
    """Of an evaluation: top-1 with its 95 % interval; else the word error rate; else a dash."""
    if row is None:
        return NONE
    if row["top1"] is not None:
        low, high = row["top1_ci"]
        return f"{row['top1']:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
    return NONE if row["wer"] is None else f"WER {row['wer']:.1%}"


def accuracy_notes(rows: Sequence[Row]) -> list[Text]:
    """Over what accuracies are; nothing where there are none."""
    told = [row["accuracy"] for row in rows if row.get("accuracy") is not None]
    over = sorted({f"{one['data']} ({one['examples']} examples)" for one in told})
    return [Text(f"accuracy over {', '.join(over)}", style="dim")] if over else []


def _top1(row: Row) -> str:
    agreement = (row["fidelity"] or {}).get("top1_agreement")
    return NONE if agreement is None else f"{agreement:.0%}"


def _snr(row: Row) -> str:
    fidelity = row["fidelity"]
    if fidelity is None:
        return NONE
    if not fidelity["finite"]:
        return "not finite"
    if fidelity["identical"]:
        return "exact"
    return NONE if fidelity["snr_db"] is None else f"{fidelity['snr_db']:.0f}"


def _speedup(row: Row) -> str:
    if row["speedup"] is None:
        return NONE
    if row["speedup_ci"] is not None:
        return f"{row['speedup']:.2f}x [{row['speedup_ci'][0]:.2f}, {row['speedup_ci'][1]:.2f}]"
    is_baseline = row["speedup"] == 1.0 and row["p50_ci_ms"] is not None
    return f"{'' if is_baseline else '~'}{row['speedup']:.2f}x"


def _failed_cells(row: Row) -> list[str]:
    how = f"conversion to {row['format']}" if row["kind"] == "convert" else row["runtime"]
    what = f"{row['model']}: {how} {row['recipe']}"
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


#: Columns of the comparison between recipe and verdict, and those that go first where there is no room.
_COLUMNS: dict[str, Callable[[Row], str]] = {
    "size": lambda row: size(row["artifact_bytes"]),
    "load ms": lambda row: milliseconds(row["load_ms"]),
    "compile ms": lambda row: milliseconds(row["compile_ms"]),
    "first ms": lambda row: milliseconds(row["first_inference_ms"]),
    "p50 ms": _latency,
    "p90 ms": lambda row: milliseconds(row["p90_ms"]),
    "p99 ms": lambda row: milliseconds(row["p99_ms"]),
    "per s": lambda row: significant(row["throughput_per_s"]),
    "memory": lambda row: size(row["peak_rss_bytes"]),
    "energy mJ": _energy,
    "SNR dB": _snr,
    "top-1": _top1,
    "accuracy": lambda row: accuracy_text(row["accuracy"]),
    "speed-up": _speedup,
}
_LEAST_WANTED = ("p99 ms", "first ms", "per s", "compile ms", "p90 ms", "memory", "load ms", "energy mJ", "top-1")


def console_width() -> int:
    """Characters per line of standard output; wide where it is no terminal."""
    console = Console()
    return console.width if console.is_terminal else PIPE_WIDTH


def show(renderable: RenderableType) -> None:
    """Print to standard output."""
    Console(width=console_width()).print(Harmless(renderable))
