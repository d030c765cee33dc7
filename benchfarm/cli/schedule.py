"""`benchfarm schedule`: sweeps that run by cron."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import BenchfarmError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from scheduler.farm import Farm
    from scheduler.sweeps.file import SweepFile

app = typer.Typer(help="Schedules: sweeps that run by cron, while benchfarm up runs.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the schedule; see benchfarm schedule list.")]
#: Due times that `show` and `add` list.
_NEXT = 3


@app.callback()
def main() -> None:
    """Schedules: sweeps that run by cron, while benchfarm up runs.

    Exit codes: 0 done; 1 it could not be done now; 2 wrong usage or something named that cannot be.
    """


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of the sweep; see benchfarm sweep init.")],
    cron: Annotated[
        str, typer.Option(metavar="CRON", help='Minute, hour, day, month, weekday: "0 2 * * *" is every night at 2:00.')
    ],
    timezone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Whose clock that is, for example Europe/Berlin. Default: this machine's."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Default: the sweep's.")] = None,
    missed: Annotated[
        Literal["once", "skip"],
        typer.Option(help="Due times while the farm was down: one run makes up for all, or they are skipped."),
    ] = "once",
    owner: Annotated[
        str | None, typer.Option(help="Whose share it counts against; a label, no proof. Default: your user name here.")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Let package.module:factory run code of yours, every night.")
    ] = False,
    revision_of: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder whose git revision runs are of. Default: the file's, if it has one."),
    ] = None,
    no_revision: Annotated[bool, typer.Option("--no-revision", help="Runs are of no revision.")] = False,
    json: Json = False,
) -> None:
    """Run a sweep by cron. The farm keeps the file as it is now: add it again, by the same name, once it is changed.

    Models that the file names as files are looked for when a run is due, where the service runs.
    """
    from getpass import getuser

    from benchfarm.config import load_home
    from device_registry.database import reading, writing
    from device_registry.tables import utc_now
    from scheduler.farm import Farm
    from scheduler.leases import is_led
    from scheduler.schedules.cron import local_zone, read_cron
    from scheduler.schedules.schedule import Definition, save
    from scheduler.sweeps.file import load_sweep

    if revision_of is not None and no_revision:
        raise UsageError("--revision-of and --no-revision exclude each other")
    sweep = load_sweep(file)
    wanted = Definition(
        name=name or sweep.name,
        sweep=sweep.name,
        sweep_text=sweep.text,
        folder=str(sweep.folder),
        cron=read_cron(cron, timezone or local_zone()),
        missed=missed,
        owner=owner or getuser(),
        options={
            "file": str(file.absolute()),
            "allow_code": allow_code,
            "revision_of": None if no_revision else _repository(revision_of, sweep.folder),
        },
    )
    farm, now = Farm(load_home()), utc_now()
    if (why_not := _why_not(farm, sweep, owner=wanted.owner, allow_code=allow_code)) is not None:
        typer.echo(f"as the farm is now, its run could not be made: {why_not}", err=True)
    with writing(farm.engine) as connection:
        new = save(connection, wanted, who=getuser(), now=now)
    with reading(farm.engine) as connection:
        found, led = _described(connection, wanted.name, now), is_led(connection, now)
    if json:
        print_json({**found, "new": new})
        return
    from exporters.schedule_tables import due_text

    typer.echo(f"schedule {wanted.name} {'added' if new else 'changed'}: sweep {sweep.name}, {wanted.cron.text}")
    typer.echo("; then ".join(due_text(due, wanted.cron.zone.key) for due in found["due"]) or "it is paused")
    typer.echo("schedules run while benchfarm up runs" + ("; it does" if led else "; it does not now"))


@app.command("list")
def list_(json: Json = False) -> None:
    """List schedules: when each is due next, what its last run was, and what is to know of it."""
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.schedule_tables import schedules_table
    from exporters.tables import show
    from scheduler.leases import is_led
    from scheduler.schedules.schedule import list_schedules

    farm, now = _farm(), utc_now()
    with reading(farm.engine) as connection:
        found = list_schedules(connection)
        for one in found:
            one["missing"] = len(cells) if (cells := _missing(connection, one["name"], now)) is not None else None
        led = is_led(connection, now)
    if json:
        print_json(found)
        return
    if not found:
        typer.echo("no schedules; benchfarm schedule add makes one")
        return
    show(schedules_table(found))
    if not led:
        typer.echo("benchfarm up does not run: nothing is started until it does", err=True)


@app.command("show")
def show_(name: Name, json: Json = False) -> None:
    """Show a schedule: when it is due, which cells lack a fresh valid point, and what became of its due times."""
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.schedule_tables import schedule_view
    from exporters.tables import show

    with reading(_farm().engine) as connection:
        found = _described(connection, name, utc_now())
    if json:
        print_json(found)
    else:
        show(schedule_view(found))


@app.command("pause")
def pause_(name: Name) -> None:
    """Let a schedule be due no more, until it is resumed; a run that it has begun goes on."""
    from scheduler.schedules.schedule import pause

    _change(pause, name)
    typer.echo(f"schedule {name} is paused")


@app.command("resume")
def resume_(name: Name) -> None:
    """Let a paused schedule be due again, from now on."""
    from exporters.schedule_tables import due_text
    from scheduler.schedules.schedule import resume

    row = _change(resume, name)
    assert row is not None
    due = due_text(row.next_due_at, row.timezone)
    typer.echo(f"schedule {name} is due {due}")


@app.command("run-now")
def run_now_(name: Name, json: Json = False) -> None:
    """Start a schedule's sweep at once, beside its due times; the farm works on it."""
    from getpass import getuser

    from device_registry.database import reading
    from device_registry.tables import utc_now
    from scheduler.leases import is_led
    from scheduler.schedules.due import run_now

    farm = _farm()
    made = run_now(farm, name, who=getuser(), now=utc_now())
    with reading(farm.engine) as connection:
        led = is_led(connection, utc_now())
    if json:
        print_json({"run": made.sweep_run_id, "cases": made.cases, "reused": made.reused})
        return
    typer.echo(f"run {made.sweep_run_id}: {made.cases} case" + ("s" if made.cases != 1 else ""))
    if not led:
        typer.echo("nobody dispatches for this farm now: its jobs wait until benchfarm up runs", err=True)


@app.command("remove")
def remove_(name: Name) -> None:
    """Forget a schedule; its runs and their results stay."""
    from scheduler.schedules.schedule import remove

    _change(remove, name)
    typer.echo(f"schedule {name} is removed")


def _farm() -> Farm:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home())


def _change(change: Any, name: str) -> Row[Any] | None:
    """Change a schedule; returns its row afterwards, if it has one."""
    from getpass import getuser

    from sqlalchemy import select

    from device_registry.database import writing
    from device_registry.tables import utc_now
    from scheduler.schedules.schedule import schedules

    with writing(_farm().engine) as connection:
        change(connection, name, who=getuser(), now=utc_now())
        return connection.execute(select(schedules).where(schedules.c.name == name)).one_or_none()


def _described(connection: Connection, name: str, now: datetime) -> dict[str, Any]:
    """A schedule as `show` shows it, with its next due times and the cells that it lacks."""
    from scheduler.schedules.cron import read_cron
    from scheduler.schedules.schedule import show_schedule

    found = show_schedule(connection, name)
    due = [found["next_due_at"]] if found["next_due_at"] is not None else []
    try:
        cron = read_cron(found["cron"], found["timezone"])
        while due and len(due) < _NEXT:
            due.append(cron.after(due[-1]))
    except UsageError as error:
        found["note"] = str(error)
    cells = _missing(connection, name, now)
    return {**found, "due": due, "missing_cells": None if cells is None else [asdict(cell) for cell in cells]}


def _missing(connection: Connection, name: str, now: datetime) -> list[Any] | None:
    from scheduler.schedules.missing import missing_cells

    try:
        return list(missing_cells(connection, name, now))
    except UsageError:  # its cron cannot be read here: its note says so
        return None


def _repository(wanted: Path | None, folder: Path) -> str | None:
    """The folder whose revision is asked for; of a file's own folder only if it has one.

    Raises:
        UsageError: the folder that was named has none, or it cannot be told.
    """
    from scheduler.revisions import RevisionError, revision_of

    try:
        found = revision_of(wanted or folder)
    except RevisionError as error:
        if wanted is not None:
            raise UsageError(f"--revision-of: {error}") from error
        typer.echo(f"runs will be of no revision: {error}", err=True)
        return None
    if found.build:
        return str((wanted or folder).absolute())
    if wanted is not None:
        raise UsageError(f"--revision-of {wanted}: no git repository")
    return None


def _why_not(farm: Farm, sweep: SweepFile, *, owner: str, allow_code: bool) -> str | None:
    """Why a run of a sweep could not be made now: better said by day than in its first night."""
    from scheduler.sweeps.running import prepare
    from scheduler.sweeps.submission import Submission

    try:
        prepare(farm, sweep, Submission(owner=owner, allow_code=allow_code, trim=True))
    except BenchfarmError as error:
        return str(error)
    return None
