"""What submitting and waiting end with: numbers, a table or document, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from benchfarm.cli.output import print_json

if TYPE_CHECKING:
    from scheduler.farm import Farm
    from scheduler.request import Request
    from scheduler.runs import Submitted


def show_submitted(farm: Farm, submitted: Submitted, json: bool) -> None:
    """Print what submitting did: the numbers of the run and of its jobs."""
    from device_registry.database import reading
    from scheduler.records import run_job_ids

    run_id = submitted.sweep_run_id
    with reading(farm.engine) as connection:
        ids = run_job_ids(connection, run_id)
    if json:
        print_json({"run": run_id, "jobs": ids, "reused": submitted.reused})
        return
    numbers = f", {ids[0]} to {ids[-1]}" if len(ids) > 1 else f", {ids[0]}" if ids else ""
    reused = f"; {submitted.reused} artifacts stand already" if submitted.reused else ""
    typer.echo(f"run {run_id}: {len(ids)} job" + ("s" if len(ids) != 1 else "") + numbers + reused)


def show_outcome(farm: Farm, run_id: int, request: Request, json: bool, rerun: str | None) -> None:
    """Print what a run yielded.

    Args:
        farm: where it ran.
        run_id: the run.
        request: what it was asked for.
        json: one document instead of tables.
        rerun: the command that would give intervals.

    Raises:
        typer.Exit: 1 where something failed, 2 where what was asked for by name could not be had.
    """
    from device_registry.database import reading
    from exporters.tables import console_width, results_view, show
    from scheduler.comparisons import run_results

    with reading(farm.engine) as connection:
        found = run_results(connection, run_id)
    if json:
        print_json({"run": run_id, "results": found.results, "failed": found.failed, "unsupported": found.unsupported})
    else:
        show(results_view(found.results, found.failed, found.unsupported, rerun=rerun, width=console_width()))
    if found.failed:
        raise typer.Exit(1)
    named = set(request.runtimes or ()) | set(request.recipes or ())
    if any({entry["runtime"], entry["recipe"]} & named for entry in found.unsupported) and not found.results:
        raise typer.Exit(2)
