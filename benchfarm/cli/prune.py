"""`benchfarm prune`: delete readings and bulky files that are old."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from scheduler.retention import Pruned

#: Between two lines of progress.
_TELL_EVERY_S = 2.0
_MOST_S = 36_500 * 86_400.0


def prune(
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Of what is deleted: 90d, 12h; 0d deletes all of it.")
    ] = "90d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing: say what would be.")] = False,
    json: Json = False,
) -> None:
    """Delete old telemetry, raw times and logs; never results, points, or artifacts.

    `benchfarm up` does so by itself once a day (BENCHFARM_TELEMETRY_DAYS, 90 unless set; 0: never). Ctrl-C ends it
    between two portions; the next one goes on.
    """
    from benchfarm.config import load_home
    from device_registry.tables import utc_now
    from exporters.numbers import size
    from scheduler import retention
    from scheduler.farm import Farm

    before = utc_now() - timedelta(seconds=_span_s(older_than))
    farm = Farm(load_home())
    progress = _Progress()
    try:
        done = retention.prune(farm.engine, farm.store, before, dry_run=dry_run, observe=progress)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {_said(progress.done, size(progress.done.bytes))} so far", err=True)
        raise typer.Exit(130) from None
    if json:
        print_json({"before": before, "dry_run": dry_run, **vars(done)})
    else:
        verb = "would delete" if dry_run else "deleted"
        typer.echo(f"{verb} {_said(done, size(done.bytes))}")


def _span_s(text: str) -> float:
    """Seconds of a span; of 0 as well, with or without a unit."""
    from benchfarm.cli.requests import seconds

    if text.strip() in ("0", "0s", "0m", "0h", "0d"):
        return 0.0
    found = seconds("--older-than", text) or 0.0
    if found > _MOST_S:
        raise UsageError(f"--older-than {text!r}: nothing of this farm is older than a hundred years")
    return found


def _said(done: Pruned, bytes_: str) -> str:
    return f"{done.rows} readings and {done.files} files of {done.attempts} attempts ({bytes_})"


class _Progress:
    """A line every two seconds on standard error."""

    def __init__(self) -> None:
        from scheduler.retention import Pruned

        self.done = Pruned()
        self._told = time.monotonic()

    def __call__(self, done: Pruned) -> None:
        """See `scheduler.retention.prune`."""
        self.done = done
        if time.monotonic() - self._told >= _TELL_EVERY_S:
            self._told = time.monotonic()
            typer.echo(f"{done.rows} readings, {done.files} files", err=True)
