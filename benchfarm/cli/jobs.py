"""`benchfarm jobs`: wanted work and what became of it."""

from __future__ import annotations

import getpass
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchfarm.cli import outcome, requests
from benchfarm.cli.output import MOST, Json, print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from scheduler.farm import Farm

app = typer.Typer(help="Jobs: conversions and measurements.", no_args_is_help=True)

JobId = Annotated[int, typer.Argument(min=1, max=MOST, help="Number of the job; see benchfarm jobs list.")]
JobIds = Annotated[
    list[int] | None, typer.Argument(metavar="[JOB...]", min=1, max=MOST, help="Numbers of jobs; or --run.")
]
OneJob = Annotated[
    int | None, typer.Argument(metavar="[JOB]", min=1, max=MOST, help="Number of a measurement; or --run.")
]
RunId = Annotated[int | None, typer.Option("--run", min=1, max=MOST, help="All jobs of this run.")]


def _farm() -> Farm:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home())


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    run: Annotated[int | None, typer.Option(min=1, max=MOST, help="Only jobs of this run.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only jobs of this owner.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="How many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List jobs, newest first; of those that wait, where in the queue and when they are expected to begin."""
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.farm_tables import jobs_table
    from exporters.tables import show
    from scheduler.records import list_jobs

    with reading(_farm().engine) as connection:
        found = list_jobs(connection, state, limit, utc_now(), run_id=run, owner=owner)
    if json:
        print_json(found)
    else:
        show(jobs_table(found, utc_now()))


@app.command("show")
def show_(job: JobId, json: Json = False) -> None:
    """Show one job: its attempts and every change of its state."""
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.farm_tables import job_view
    from exporters.tables import show
    from scheduler.records import job_record

    with reading(_farm().engine) as connection:
        found = job_record(connection, job, utc_now())
    if json:
        print_json(found)
    else:
        show(job_view(found))


@app.command("logs")
def logs(job: JobId) -> None:
    """Print what a job's attempts printed: everything that the native libraries say goes here."""
    from scheduler.records import job_logs

    farm = _farm()
    for attempt_id, text in job_logs(farm, job):
        typer.echo(f"--- attempt {attempt_id}", err=True)
        typer.echo(text, nl=not text.endswith("\n"))


@app.command("cancel")
def cancel(jobs: JobIds = None, run: RunId = None, json: Json = False) -> None:
    """Cancel jobs, all or none of those named; what waits for their artifacts is cancelled with them."""
    from device_registry.database import writing
    from device_registry.tables import utc_now
    from scheduler import interventions

    _one_of(jobs, run)
    who = getpass.getuser()
    with writing(_farm().engine) as connection:
        if run is not None:
            count = interventions.cancel_run(connection, run, who=who, now=utc_now())
        else:
            kept = interventions.cancel(connection, jobs or [], who=who, now=utc_now())
    if run is not None:
        print_json({"run": run, "cancelled": count}) if json else typer.echo(f"run {run}: {count} jobs are cancelled")
        return
    gone = [job for job in dict.fromkeys(jobs or []) if job not in kept]
    if json:
        print_json({"cancelled": gone, "kept": kept})
    else:
        lines = [f"job {job} is cancelled" for job in gone]
        lines += [f"job {job} goes on: other runs wait for it; what waited here is cancelled" for job in kept]
        typer.echo("\n".join(lines))


@app.command("retry")
def retry(jobs: JobIds = None, run: RunId = None, json: Json = False) -> None:
    """Try failed or cancelled jobs again, as new jobs of the same run; with --run all of it that failed."""
    from device_registry.database import writing
    from device_registry.tables import utc_now
    from scheduler import interventions

    _one_of(jobs, run)
    with writing(_farm().engine) as connection:
        wanted = jobs or interventions.failed_of(connection, run or 0)
        made = interventions.retry(connection, wanted, who=getpass.getuser(), now=utc_now())
    if json:
        print_json([{"job": old, "again": new} for old, new in made.items()])
    else:
        typer.echo("\n".join(f"job {old} is tried again as job {new}" for old, new in made.items()))


@app.command("wait")
def wait(
    jobs: JobIds = None,
    run: RunId = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Give up after 90s, 15m, 2h.")] = None,
    json: Json = False,
) -> None:
    """Wait until jobs are finished. Exit codes: 0 all succeeded, 1 one did not or the time ran out, 130 interrupted."""
    from device_registry.database import reading
    from scheduler.interventions import known_run

    _one_of(jobs, run)
    timeout_s = requests.seconds("--timeout", timeout)
    farm = _farm()
    if run is not None:
        with reading(farm.engine) as connection:
            known_run(connection, run)
        counts = {state: count for state, count in requests.wait_for_run(farm, run, timeout_s).counts.items() if count}
    else:
        counts = dict(Counter(requests.wait_for_jobs(farm, list(dict.fromkeys(jobs or [])), timeout_s).values()))
    if json:
        print_json(counts)
    else:
        typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()) or "no jobs")
    if set(counts) - {"succeeded"}:
        raise typer.Exit(1)


@app.command("clone")
def clone(
    job: Annotated[
        int | None, typer.Argument(metavar="[JOB]", min=1, max=MOST, help="A measurement; or --run.")
    ] = None,
    run: RunId = None,
    device: Annotated[str | None, typer.Option(metavar="SELECTOR", help="On other devices than before.")] = None,
    each: requests.Each = False,
    any_device: requests.AnyDevice = False,
    per_model: requests.PerModel = False,
    priority: Annotated[int | None, typer.Option(help="Another priority than before.")] = None,
    owner: requests.Owner = None,
    wait_for_device: requests.WaitForDevice = False,
    json: Json = False,
) -> None:
    """Submit the same again as a new run: all of a run, or the case of one measurement."""
    from device_registry.database import reading
    from scheduler import clones

    _one_of(job, run)
    farm = _farm()
    with reading(farm.engine) as connection:
        request = clones.request_of_job(connection, job) if job else clones.request_of_run(connection, run or 0)
    if each or any_device or per_model:
        request = replace(request, spread=requests.spread_of(each, any_device, per_model))
    request = replace(
        request,
        selector=request.selector if device is None else device,
        priority=request.priority if priority is None else priority,
        owner=owner,
        wait_for_device=wait_for_device or request.wait_for_device,
    )
    outcome.show_submitted(farm, farm.submit(request), json)


def _one_of(jobs: Any, run: int | None) -> None:
    if bool(jobs) == (run is not None):
        raise UsageError("name jobs, or a run with --run")
