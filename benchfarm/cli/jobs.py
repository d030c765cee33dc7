"""`benchfarm jobs`: wanted work and what became of it."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from benchfarm.cli.output import MOST, Json, print_json

app = typer.Typer(help="Jobs: conversions and measurements.", no_args_is_help=True)

JobId = Annotated[int, typer.Argument(min=1, max=MOST, help="Number of the job; see benchfarm jobs list.")]


def _farm() -> Any:
    from benchfarm.config import load_home
    from scheduler.embedded import EmbeddedFarm

    return EmbeddedFarm(load_home())


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.tables import show, simple_table
    from scheduler.records import list_jobs

    with reading(_farm().engine) as connection:
        found = list_jobs(connection, state, limit, utc_now())
    if json:
        print_json(found)
        return
    rows = [
        [str(job["id"]), str(job["run"]), job["kind"], job["state"], job["title"], job["why"] or ""] for job in found
    ]
    show(simple_table("Jobs", ["job", "run", "kind", "state", "what", "why"], rows))


@app.command("show")
def show_(job: JobId, json: Json = False) -> None:
    """Show one job: its attempts and every change of its state."""
    from device_registry.database import reading
    from exporters.tables import show, simple_table
    from scheduler.records import job_record

    with reading(_farm().engine) as connection:
        found = job_record(connection, job)
    if json:
        print_json(found)
        return
    head = {key: value for key, value in found.items() if key not in ("attempts", "events", "payload")}
    show(
        simple_table(
            f"Job {job}", ["", ""], [[key, "" if value is None else str(value)] for key, value in head.items()]
        )
    )
    attempt_rows = [
        [str(a["id"]), a["state"], a["place"], str(a["started_at"]), a["message"] or ""] for a in found["attempts"]
    ]
    show(simple_table("Attempts", ["attempt", "state", "place", "started", "message"], attempt_rows))
    event_rows = [
        [str(e["at"]), f"{e['entity']} {e['entity_id']}", f"{e['before'] or ''} -> {e['after']}", e["why"] or ""]
        for e in found["events"]
    ]
    show(simple_table("Events", ["when", "what", "change", "why"], event_rows))


@app.command("logs")
def logs(job: JobId) -> None:
    """Print what a job's attempts printed: everything that the native libraries say goes here."""
    from scheduler.records import job_logs

    farm = _farm()
    for attempt_id, text in job_logs(farm, job):
        typer.echo(f"--- attempt {attempt_id}", err=True)
        typer.echo(text, nl=not text.endswith("\n"))


@app.command("cancel")
def cancel(job: JobId) -> None:
    """Cancel a job; what waits for its artifact is cancelled with it."""
    from device_registry.database import writing
    from device_registry.tables import utc_now
    from scheduler.queue import cancel_job

    with writing(_farm().engine) as connection:
        cancel_job(connection, job, who=getpass.getuser(), now=utc_now())
    typer.echo(f"job {job} is cancelled")
