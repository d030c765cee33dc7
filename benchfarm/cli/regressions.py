"""`benchfarm regressions`: what became slower, what it is put down to, and who knows of it."""

from __future__ import annotations

import getpass
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchfarm.cli import requests
from benchfarm.cli.output import MOST, Json, print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from scheduler.embedded import EmbeddedFarm
    from scheduler.farm import Farm
    from scheduler.status import RunStatus

app = typer.Typer(help="Regressions: incidents, with their series, sizes and suspected causes.", no_args_is_help=True)

State = Literal["open", "acknowledged", "resolved"]
#: As in scheduler.regressions.attribution, which a command line that only prints its help does without.
Cause = Literal["code", "environment", "device", "clock", "unknown"]
IncidentId = Annotated[
    int, typer.Argument(metavar="INCIDENT", min=1, max=MOST, help="Its number; see benchfarm regressions list.")
]
Note = Annotated[str | None, typer.Option(metavar="TEXT", help="For other people.")]
#: Trials are looked at so often while a command waits for them.
_STEP_S = 2.0


@app.callback()
def main() -> None:
    """Regressions: incidents, with their series, sizes and suspected causes."""


@app.command("list")
def list_(
    state: Annotated[State | None, typer.Option(help="Only in this state. Default: open and acknowledged.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Resolved ones, too.")] = False,
    cause: Annotated[Cause | None, typer.Option(help="Only put down to this.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="How many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List incidents, newest first: those that are not resolved. Exit codes: 0 done, 2 wrong usage."""
    from device_registry.database import reading
    from exporters.regression_tables import incidents_table
    from exporters.tables import show
    from scheduler.regressions.records import list_incidents

    if state and all_:
        raise UsageError("--state and --all exclude each other")
    states: Sequence[str] = () if all_ else ((state,) if state else ("open", "acknowledged"))
    with reading(_farm().engine) as connection:
        found = list_incidents(connection, states=states, cause=cause, limit=limit)
    if json:
        print_json(found)
    elif found:
        show(incidents_table(found))
    else:
        of_all = "no incident" if all_ else f"no incident is {' or '.join(states)}"
        typer.echo(of_all + ("" if all_ else "; --all lists every one"))


@app.command("show")
def show_(
    incident: IncidentId,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Write a picture of its series, too.")
    ] = None,
    json: Json = False,
) -> None:
    """Show an incident: series, sizes with intervals, processes before and after, environments, suspected revisions.

    Exit codes: 0 done, 2 wrong usage or no such incident.
    """
    from device_registry.database import reading
    from exporters.regression_tables import incident_view
    from exporters.tables import show
    from scheduler.regressions.records import incident_record

    with reading(_farm().engine) as connection:
        found = incident_record(connection, incident)
    if png is not None:
        from exporters.incident_plot import write_png

        write_png(found, png)
        typer.echo(f"{png} is written", err=True)
    if json:
        print_json(found)
    else:
        show(incident_view(found))


@app.command()
def ack(incident: IncidentId, note: Note = None, json: Json = False) -> None:
    """Say that you know of an incident; it stays until it is resolved. Exit codes: 0 done, 2 it is not open."""
    _change(incident, "acknowledged", note, json)


@app.command()
def resolve(incident: IncidentId, note: Note = None, json: Json = False) -> None:
    """Say that an incident is over, or that its new level is meant: the same step raises no other.

    Exit codes: 0 done, 2 it is resolved already.
    """
    _change(incident, "resolved", note, json)


@app.command()
def reopen(incident: IncidentId, note: Note = None, json: Json = False) -> None:
    """Open a resolved incident again; the farm closes it when its series are back. Exit codes: 0 done, 2 it is open."""
    _change(incident, "open", note, json)


@app.command()
def confirm(
    incident: IncidentId,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for it, or queue it for benchfarm up.")] = True,
    executor: requests.Executor = "ray",
    json: Json = False,
) -> None:
    """Measure the comparison of an incident again: its two artifacts, in turns, on its units; the incident stays as is.

    Where benchfarm up runs on this database, its devices do it; else this machine's. Exit codes: 0 nothing is slower,
    1 something could not be measured, 2 wrong usage, 3 inconclusive, 4 still slower, 130 interrupted.
    """
    from benchfarm.config import load_home
    from device_registry.database import reading, writing
    from device_registry.tables import utc_now
    from exporters.regression_tables import trials_table
    from exporters.tables import show
    from scheduler.embedded import EmbeddedFarm
    from scheduler.regressions.again import confirm_again, trials_of

    farm = EmbeddedFarm(load_home())
    ground = farm.ground() if wait else None
    with writing(farm.engine) as connection:
        run_id, lost = confirm_again(connection, incident, owner=getpass.getuser(), now=utc_now())
    for why in lost:
        typer.echo(f"cannot be measured again: {why}", err=True)
    if ground is None:
        print_json({"run": run_id}) if json else typer.echo(f"run {run_id} measures it when benchfarm up has time")
        return
    farm.stands_on(ground, run_id)
    _work(farm, run_id, executor)
    with reading(farm.engine) as connection:
        found = trials_of(connection, run_id)
    print_json({"run": run_id, "trials": found, "lost": lost}) if json else show(trials_table(found))
    answers = [one["answer"] for one in found]
    if "slower" in answers:
        raise typer.Exit(4)
    if lost or any(one["state"] != "done" for one in found):
        raise typer.Exit(1)
    if "inconclusive" in answers:
        raise typer.Exit(3)


def _work(farm: EmbeddedFarm, run_id: int, executor: Literal["ray", "local"]) -> None:
    """Wait for the trials of a run, judging them meanwhile."""
    import time

    from device_registry.database import reading, writing
    from device_registry.tables import utc_now
    from exporters.progress import RunProgress
    from scheduler.regressions.again import trials_of
    from scheduler.trials import step_trials

    stepped_at = 0.0

    def step() -> None:
        with writing(farm.engine) as connection:
            step_trials(connection, utc_now())

    def more() -> bool:
        step()
        with reading(farm.engine) as connection:
            return any(one["state"] == "running" for one in trials_of(connection, run_id))

    with RunProgress() as progress:

        def observe(status: RunStatus) -> None:
            nonlocal stepped_at
            progress.observe(status)
            if time.monotonic() - stepped_at >= _STEP_S:
                step()
                stepped_at = time.monotonic()

        signal.signal(signal.SIGTERM, _interrupt)
        try:
            farm.work(run_id, executor, observe, progress.say, more)
        except KeyboardInterrupt:
            progress.say("interrupted; its trials rest, and benchfarm up ends them")
            raise typer.Exit(130) from None


def _change(incident: int, after: str, note: str | None, json: bool) -> None:
    from device_registry.database import reading, writing
    from device_registry.tables import utc_now
    from exporters.notifiers.deliver import deliver_unless_up
    from scheduler.regressions.incidents import change_state
    from scheduler.regressions.records import incident_record

    farm = _farm()
    with writing(farm.engine) as connection:
        change_state(connection, incident, after, who=getpass.getuser(), note=note, now=utc_now())
    deliver_unless_up(farm.engine, farm.home, utc_now())
    if json:
        with reading(farm.engine) as connection:
            found: dict[str, Any] = incident_record(connection, incident)
        print_json({name: value for name, value in found.items() if name != "series"})
    else:
        typer.echo(f"incident {incident} is {after}")


def _farm() -> Farm:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home())


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
