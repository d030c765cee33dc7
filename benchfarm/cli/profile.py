"""`benchfarm profile`: what each operation of a model costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from benchfarm.cli import requests
from benchfarm.cli.output import MOST, Json, print_json
from device_registry.errors import UsageError
from exporters.profile_tables import By

Top = Annotated[int, typer.Option(min=0, help="How many operations are shown; 0: all.")]


class RunByDefault(TyperGroup):
    """`benchfarm profile MODEL` is `benchfarm profile run MODEL`: what is no command is a model or an option of run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="What each operation costs: benchfarm profile MODEL, then show, compare.",
    no_args_is_help=True,
    cls=RunByDefault,
)


@app.command("run")
def run(
    models: requests.Models,
    runtime: requests.Runtimes = None,
    recipe: Annotated[list[str] | None, typer.Option(help="Recipe; repeat for more. Default: fp32.")] = None,
    device: requests.Device = "",
    batch: requests.Batch = 1,
    threads: requests.Threads = "1",
    affinity: requests.Affinity = None,
    option: requests.Own = None,
    weights: requests.Weights = "random",
    seed: requests.Seed = 0,
    calibration: requests.Calibration = None,
    allow_code: requests.AllowCode = False,
    no_gate: requests.NoGate = False,
    strict_gate: requests.StrictGate = False,
    executor: requests.Executor = "ray",
    top: Top = 10,
    json: Json = False,
) -> None:
    """Profile models on this machine: the default command. A model file is profiled as it is.

    Exit codes: 0 done, 1 something failed, 2 wrong usage or something named that cannot be, 130 interrupted.
    """
    from device_registry.database import reading
    from exporters.profile_tables import chosen_ops, profile_view, profiles_table
    from exporters.tables import outcomes_view, show
    from scheduler.comparisons import run_results
    from scheduler.profiles import list_profiles, profile_record
    from scheduler.request import Request
    from workers.contract import Options

    request = Request(
        kind="profile",
        models=tuple(dict.fromkeys(models)),
        runtimes=tuple(dict.fromkeys(runtime)) if runtime else None,
        recipes=tuple(dict.fromkeys(recipe)) if recipe else ("fp32", "original"),
        selector=device,
        threads=requests.thread_counts(threads),
        runtime_options=requests.own_options(option),
        options=Options(batch=batch, affinity=requests.cpus(affinity)),
        weights=weights,
        seed=seed,
        calibration=str(calibration.absolute()) if calibration is not None else None,
        allow_code=allow_code,
        search_path=(str(Path.cwd()),) if allow_code else (),
        gate=requests.gate_policy(no_gate, strict_gate),
    )
    farm, run_id = requests.submit_and_wait(request, executor)
    with reading(farm.engine) as connection:
        outcome = run_results(connection, run_id)
        made = list_profiles(connection, run_id=run_id)
        records = [profile_record(connection, row["profile"]) for row in made]
    if json:
        print_json({"run": run_id, "profiles": records, "failed": outcome.failed, "unsupported": outcome.unsupported})
    else:
        for record in records:
            show(profile_view(record, chosen_ops(record, "time", None), top or None))
        if made:
            show(profiles_table(made))
        show(outcomes_view(outcome.failed, outcome.unsupported))
    if outcome.failed:
        raise typer.Exit(1)
    if not made:
        raise typer.Exit(2)


@app.command("list")
def list_(limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30, json: Json = False) -> None:
    """List profiles, newest first."""
    from exporters.profile_tables import profiles_table
    from exporters.tables import show
    from scheduler.profiles import list_profiles

    found = _read(lambda connection: list_profiles(connection, limit=limit))
    if json:
        print_json(found)
    else:
        show(profiles_table(found))


@app.command("show")
def show_(
    profile: Annotated[
        int | None, typer.Argument(min=1, max=MOST, help="Number of a profile; default: the latest.")
    ] = None,
    top: Top = 20,
    by: Annotated[By, typer.Option(help="What to sort by; figures from the largest.")] = "time",
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TEXT", help="Only operations whose type holds this text.")
    ] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print every chosen operation as CSV.")] = False,
) -> None:
    """Show the operations of one profile."""
    from exporters.files import export_rows
    from exporters.profile_tables import chosen_ops, csv_rows, profile_view
    from exporters.tables import show
    from scheduler.profiles import profile_record

    if json and csv:
        raise UsageError("--json and --csv exclude each other")
    record = _read(lambda connection: profile_record(connection, profile))
    ops = chosen_ops(record, by, type_)
    if json:
        print_json({**record, "ops": ops})
    elif csv:
        export_rows(csv_rows(ops), "csv", None)
    else:
        show(profile_view(record, ops, top or None))


@app.command("compare")
def compare(
    before: Annotated[int, typer.Argument(min=1, max=MOST, help="Number of a profile.")],
    after: Annotated[int, typer.Argument(min=1, max=MOST, help="Number of another of the same model.")],
    top: Top = 20,
    json: Json = False,
) -> None:
    """Compare two profiles of one model: which operations gained, which lost, which were inserted."""
    from exporters.profile_tables import comparison_view
    from exporters.tables import show
    from scheduler.profiles import compare_profiles, profile_record

    comparison = _read(
        lambda connection: compare_profiles(profile_record(connection, before), profile_record(connection, after))
    )
    if json:
        print_json(comparison)
    else:
        show(comparison_view(comparison, top or None))


def _read(ask: Any) -> Any:
    from benchfarm.config import load_home
    from device_registry.database import reading
    from scheduler.farm import Farm

    with reading(Farm(load_home()).engine) as connection:
        return ask(connection)
