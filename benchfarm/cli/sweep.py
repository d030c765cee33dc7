"""`benchfarm sweep`: files of cases to measure: check, run, resume, show."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchfarm.cli import notifications, requests
from benchfarm.cli.output import MOST, Json, print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from scheduler.embedded import EmbeddedFarm
    from scheduler.farm import Farm
    from scheduler.sweeps.file import SweepFile
    from scheduler.sweeps.running import SweepSubmitted
    from scheduler.sweeps.submission import Submission

app = typer.Typer(
    help="Sweeps: matrices of models, recipes, runtimes and devices, kept in files.", no_args_is_help=True
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file (YAML); benchfarm sweep init writes one.")]
Run = Annotated[int, typer.Argument(metavar="RUN", min=1, max=MOST, help="Number of a run.")]
Revision = Annotated[
    str | None,
    typer.Option(metavar="REV", help="What is measured, by its version control; auto: ask git about FILE's folder."),
]
Build = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="More about the build; repeat for more.")]
Model = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL",
        help="Measure only this model; NAME=MODEL: measure this where the sweep lists NAME. Repeat for more.",
    ),
]
All = Annotated[bool, typer.Option("--all", help="Measure cases with a fresh point, too.")]
Trim = Annotated[bool, typer.Option("--trim", help="Leave out what is beyond the budget, instead of refusing.")]
NoWatch = Annotated[
    bool, typer.Option("--no-watch", help="Keep its points out of the history that is watched for regressions.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done, or queue it for benchfarm up.")]


@app.callback()
def main() -> None:
    """Sweeps: matrices of models, recipes, runtimes and devices, kept in files."""


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path("sweep.yaml"),
    model: Annotated[list[str] | None, typer.Option(metavar="MODEL", help="To begin with; repeat for more.")] = None,
    device: Annotated[str, typer.Option(metavar="SELECTOR", help="Devices to measure on.")] = "kind=cpu",
    name: Annotated[str | None, typer.Option(help="What the sweep is called. Default: as the file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Write a commented sweep file that is valid as it stands, with a reference to its JSON schema for editors.

    Exit codes: 0 written, 2 wrong usage or the file exists.
    """
    from importlib.resources import files

    from scheduler.sweeps.file import read_sweep
    from scheduler.sweeps.schema import FILE
    from scheduler.sweeps.template import template

    schema = str(files("scheduler.sweeps").joinpath(FILE))
    models = model or ["torchvision/mobilenet_v3_small"]
    text = template(name or file.stem, models, device, file=file.name, schema=schema)
    read_sweep(text, file.absolute().parent, source=str(file))  # what the options say may be none
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise UsageError(f"{file} exists; --force writes over it") from error
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
    typer.echo(f"{file} is written; what it would measure says: benchfarm sweep check {file}")


@app.command()
def check(
    file: File,
    revision: Revision = None,
    build: Build = None,
    model: Model = None,
    measure_all: All = False,
    trim: Trim = False,
    allow_code: requests.AllowCode = False,
    json: Json = False,
) -> None:
    """Say what a sweep would measure, what it cannot and why, and what it takes. No job is made.

    Device times are those of the farm's history, else guesses. Exit codes: 0 sweep run would take it, 2 it would not:
    a mistake in the file (each with its line and column), something that cannot be, or more than its budget.
    """
    from benchfarm.config import load_home
    from exporters.sweep_tables import check_view
    from exporters.tables import show
    from scheduler.embedded import EmbeddedFarm
    from scheduler.sweeps.checking import check_document
    from scheduler.sweeps.running import prepare

    sweep = _sweep(file, model, allow_code)
    submission = _submission(
        file, revision, build, owner=None, allow_code=allow_code, watched=True, measure_all=measure_all, trim=trim
    )
    found = check_document(prepare(EmbeddedFarm(load_home()), sweep, submission))
    if json:
        print_json(found)
    else:
        show(check_view(found))
    if found["complaints"]:
        raise typer.Exit(2)


@app.command()
def run(
    file: File,
    revision: Revision = None,
    build: Build = None,
    model: Model = None,
    no_watch: NoWatch = False,
    measure_all: All = False,
    trim: Trim = False,
    owner: requests.Owner = None,
    allow_code: requests.AllowCode = False,
    wait: Wait = True,
    executor: requests.Executor = "ray",
    json: Json = False,
) -> None:
    """Measure what a sweep asks for and has no fresh point of; what may have changed is measured again to be sure.

    Where benchfarm up runs on this database, its devices do it and this command waits; else this machine does. An
    interrupted run is taken up by sweep resume. Exit codes: 0 done, 1 something failed, 2 wrong usage, a mistake in the
    file or something that cannot be, 130 interrupted.
    """
    from benchfarm.config import load_home
    from scheduler.embedded import EmbeddedFarm
    from scheduler.farm import Farm
    from scheduler.sweeps.running import insert_prepared, prepare

    sweep = _sweep(file, model, allow_code)
    submission = _submission(
        file,
        revision,
        build,
        owner=owner,
        allow_code=allow_code,
        watched=not no_watch,
        measure_all=measure_all,
        trim=trim,
    )
    farm = EmbeddedFarm(load_home()) if wait else Farm(load_home())
    prepared = prepare(farm, sweep, submission)
    here = wait and not prepared.ground.of_the_farm
    submitted = insert_prepared(farm, prepared, follow=here)
    _say_submitted(submitted, prepared.left_out_names)
    if submitted.sweep_run_id is None:
        if json:
            print_json({"run": None, "cells": [], "fresh": submitted.fresh, "left_out": submitted.left_out})
        return
    if wait:
        _work(farm, submitted.sweep_run_id, executor, here=here)
    _show_run(farm, submitted.sweep_run_id, json, outcome=wait)


@app.command()
def resume(
    number: Run,
    trim: Trim = False,
    wait: Wait = True,
    executor: requests.Executor = "ray",
    json: Json = False,
) -> None:
    """Take up a run again: what failed, was cancelled, is missing or was interrupted, in that same run.

    Its deadline begins again, and its budget is for what it does from now on. Exit codes: 0 done, 1 something failed, 2
    wrong usage or something that cannot be, 130 interrupted.
    """
    import getpass

    from benchfarm.config import load_home
    from scheduler.embedded import EmbeddedFarm
    from scheduler.farm import Farm
    from scheduler.sweeps.resuming import resume_sweep

    farm = EmbeddedFarm(load_home()) if wait else Farm(load_home())
    here = wait and not farm.ground().of_the_farm
    resumed = resume_sweep(farm, number, who=getpass.getuser(), follow=here, trim=trim)
    parts = [f"{resumed.still_open} jobs were open", f"{resumed.again} are tried again"]
    parts += [f"{resumed.missing} cases were missing"]
    typer.echo(f"run {number}: {', '.join(parts)}", err=True)
    for name in resumed.changed:
        typer.echo(f"{name} is another by now than when run {number} began: sweep run measures it", err=True)
    if resumed.why_not is not None:
        typer.echo(f"what is missing cannot be said now: {resumed.why_not}", err=True)
    if wait:
        _work(farm, number, executor, here=here)
    _show_run(farm, number, json, outcome=wait)


@app.command(name="show")
def show_run(number: Run, json: Json = False) -> None:
    """Show a run of a sweep cell by cell: how far it is, results so far, what may have changed.

    Exit codes: 0 shown, 2 there is no such run.
    """
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    _show_run(Farm(load_home()), number, json, outcome=False)


app.command(name="digest")(notifications.digest)


@app.command(name="list")
def list_them(
    sweep: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this sweep.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="So many at most.")] = 30,
    json: Json = False,
) -> None:
    """List runs of sweeps, newest first.

    Exit codes: 0 listed, 2 wrong usage.
    """
    from benchfarm.config import load_home
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.sweep_tables import runs_table
    from exporters.tables import show
    from scheduler.farm import Farm
    from scheduler.sweeps.listing import list_runs

    with reading(Farm(load_home()).engine) as connection:
        found = list_runs(connection, limit, utc_now(), sweep=sweep)
    if json:
        print_json(found)
    elif found:
        show(runs_table(found))
    else:
        typer.echo("no sweep was run yet: benchfarm sweep init, then benchfarm sweep run FILE")


@app.command()
def cancel(number: Run, json: Json = False) -> None:
    """Cancel what is open of a run of a sweep; what it measured stays.

    Exit codes: 0 cancelled, or nothing was open, 2 there is no such run.
    """
    import getpass

    from benchfarm.config import load_home
    from device_registry.database import writing
    from device_registry.tables import utc_now
    from scheduler.farm import Farm
    from scheduler.interventions import cancel_run
    from scheduler.sweeps.listing import sweep_run_row

    with writing(Farm(load_home()).engine) as connection:
        sweep_run_row(connection, number)
        count = cancel_run(connection, number, who=getpass.getuser(), now=utc_now())
    if json:
        print_json({"run": number, "cancelled": count})
    else:
        typer.echo(f"run {number}: {count} job{'s' if count != 1 else ''} cancelled")


def _sweep(file: Path, model: list[str] | None, allow_code: bool) -> SweepFile:
    from scheduler.sweeps.file import load_sweep
    from scheduler.sweeps.submission import with_models

    return with_models(load_sweep(file), model or (), Path.cwd(), allow_code=allow_code)


def _submission(
    file: Path,
    revision: str | None,
    build: list[str] | None,
    *,
    owner: str | None,
    allow_code: bool,
    watched: bool,
    measure_all: bool,
    trim: bool,
) -> Submission:
    from scheduler.sweeps.submission import Submission

    facts: dict[str, Any] = {}
    if revision == "auto":
        from scheduler.revisions import revision_of

        folder = file.absolute().parent
        found = revision_of(folder)
        if found.revision is None:
            raise UsageError(f"--revision auto: {folder} is in no git repository with a commit")
        revision, facts = found.revision, dict(found.build)
    for text in build or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"--build {text!r}: write KEY=VALUE")
        facts[name] = value
    return Submission(
        revision=revision,
        build=facts or None,
        owner=owner,
        allow_code=allow_code,
        watched=watched,
        fresh_only=not measure_all,
        trim=trim,
    )


def _say_submitted(submitted: SweepSubmitted, left_out: list[str]) -> None:
    for one in submitted.absent:
        typer.echo(f"{one.device} is {one.why}: left out", err=True)
    if submitted.fresh:
        typer.echo(f"{submitted.fresh} cases have a fresh point and are not measured again; --all does", err=True)
    if left_out:
        some = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        typer.echo(f"the budget has no room for {submitted.left_out} cases: {some}", err=True)
    if submitted.sweep_run_id is None:
        typer.echo("nothing is left to measure", err=True)
    elif submitted.resumed:
        typer.echo(f"run {submitted.sweep_run_id} of the same sweep was interrupted, and is taken up", err=True)
    else:
        reused = f"; {submitted.reused} artifacts stand already" if submitted.reused else ""
        evaluated = f", {submitted.evaluations} evaluations" if submitted.evaluations else ""
        typer.echo(f"run {submitted.sweep_run_id}: {submitted.cases} cases{evaluated}{reused}", err=True)


def _work(farm: Farm | EmbeddedFarm, run_id: int, executor: Any, *, here: bool) -> None:
    """Wait until a run is done; on this machine also until it is known whether anything changed.

    Raises:
        typer.Exit: interrupted (130).
    """
    from device_registry.tables import utc_now
    from exporters.notifiers.deliver import deliver_unless_up
    from exporters.progress import RunProgress
    from scheduler.embedded import EmbeddedFarm
    from scheduler.status import RunStatus
    from scheduler.sweeps.following import Chores

    if not here:
        requests.wait_for_run(farm, run_id)
        return
    assert isinstance(farm, EmbeddedFarm)
    with RunProgress() as progress:
        chores = Chores(farm.engine, run_id, progress.say)

        def observe(status: RunStatus) -> None:
            progress.observe(status)
            chores.observe()

        signal.signal(signal.SIGTERM, requests.interrupt)
        try:
            farm.work(run_id, executor, observe, progress.say, more=chores.more)
        except KeyboardInterrupt:
            progress.say(f"interrupted; go on with: benchfarm sweep resume {run_id}")
            raise typer.Exit(130) from None
    deliver_unless_up(farm.engine, farm.home, utc_now())


def _show_run(farm: Farm, run_id: int, json: bool, *, outcome: bool) -> None:
    """Print a run; with `outcome` its failures are this command's, too.

    Raises:
        typer.Exit: 1 where something failed.
    """
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.sweep_tables import run_view
    from exporters.tables import show
    from scheduler.sweeps.cells import cell_counts, run_cells
    from scheduler.sweeps.listing import run_document

    with reading(farm.engine) as connection:
        document = run_document(connection, run_id, utc_now())
        cells = run_cells(connection, run_id)
    counts = cell_counts(cells)
    if json:
        print_json({**document, "counts": counts, "cells": cells})
    else:
        show(run_view(document, cells))
    if outcome and (counts.get("failed") or counts.get("cancelled")):
        raise typer.Exit(1)
