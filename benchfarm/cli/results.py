"""`benchfarm results`: what was measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from benchfarm.cli.output import MOST, Json, print_json
from device_registry.errors import UsageError

#: Between two lines of progress, the first included; in a log they would only pile up.
_TELL_EVERY_S = 2.0
_LOG_EVERY_S = 15.0

app = typer.Typer(help="Results of runs.", no_args_is_help=True)


def _engine() -> Any:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home()).engine


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many cases, newest run first.")] = 30, json: Json = False
) -> None:
    """List measured cases, newest run first."""
    from device_registry.database import reading
    from exporters.numbers import significant
    from exporters.tables import device_label, show, simple_table
    from scheduler.comparisons import latest_results

    with reading(_engine()) as connection:
        found = latest_results(connection, limit)
    if json:
        print_json(found)
        return
    rows = [
        [
            str(r["run"]),
            r["model"],
            r["runtime"],
            r["recipe"],
            device_label(r),
            str(r["threads"]),
            significant(r["p50_ms"]),
            r["verdict"],
        ]
        for r in found
    ]
    show(simple_table("Results", ["run", "model", "runtime", "recipe", "device", "threads", "p50 ms", "verdict"], rows))


@app.command("show")
def show_(
    run: Annotated[int | None, typer.Argument(min=1, max=MOST, help="Number of a run; default: the latest.")] = None,
    json: Json = False,
) -> None:
    """Show the table of one run again."""
    from device_registry.database import reading
    from exporters.tables import console_width, results_view, show
    from scheduler.comparisons import run_results
    from scheduler.status import known_run

    with reading(_engine()) as connection:
        number = known_run(connection, run)
        outcome = run_results(connection, number)
    if json:
        print_json(
            {"run": number, "results": outcome.results, "failed": outcome.failed, "unsupported": outcome.unsupported}
        )
    else:
        show(results_view(outcome.results, outcome.failed, outcome.unsupported, width=console_width()))


@app.command("export")
def export(
    format_: Annotated[Literal["csv", "json", "parquet"], typer.Option("--format", help="Format of the file.")] = "csv",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; default: standard output (parquet needs a file)."),
    ] = None,
    run: Annotated[int | None, typer.Option(min=1, max=MOST, help="Only this run; default: all.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeat for more.")] = None,
    device: Annotated[str, typer.Option(metavar="SELECTOR", help="Only these devices, for example kind=android.")] = "",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only runs submitted since then: 2026-11-30, or 12h, 7d ago.")
    ] = None,
) -> None:
    """Export one row per case and device, newest run first."""
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.files import export_rows
    from scheduler.exports import count_results, stream_rows
    from scheduler.matrix import matching_devices, matrix_models
    from scheduler.status import known_run

    if format_ == "parquet" and output is None:
        raise UsageError("parquet is not text: give a file with --output")
    begin = None if since is None else _since(since, utc_now())
    with reading(_engine()) as connection:
        run = None if run is None else known_run(connection, run)
        models = matrix_models(connection, model) if model else ()
        devices = matching_devices(connection, device)
        rows = stream_rows(connection, run_id=run, models=models, device_ids=devices, since=begin)
        export_rows(_with_progress(rows, count_results(connection, run, begin)), format_, output)


def _since(text: str, now: datetime) -> datetime:
    """A day, a time, or how long ago.

    Raises:
        UsageError: it is none of them.
    """
    from benchfarm.cli.requests import seconds

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - timedelta(seconds=seconds("--since", text) or 0.0)
        except (UsageError, OverflowError):
            raise UsageError(f"--since {text!r}: write 2026-11-30, 2026-11-30T08:00, 12h or 7d") from None
    return moment if moment.tzinfo is not None else moment.astimezone()


def _with_progress(rows: Iterable[dict[str, Any]], results: int) -> Iterator[dict[str, Any]]:
    """The rows as they are; what takes over two seconds is told on standard error."""
    told_at, done, seen, told = time.monotonic(), 0, 0, False
    live = sys.stderr.isatty()
    line_end = "\r" if live else "\n"
    for row in rows:
        yield row
        done += 1
        seen += len(row["processes"])
        if time.monotonic() - told_at > (_TELL_EVERY_S if live or not told else _LOG_EVERY_S):
            told_at, told = time.monotonic(), True
            print(f"{done:,} rows, {seen:,} of at most {results:,} results", end=line_end, file=sys.stderr, flush=True)
    if told:
        print(f"{done:,} rows{' ' * 40}", file=sys.stderr)
