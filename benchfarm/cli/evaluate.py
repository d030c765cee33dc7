"""`benchfarm evaluate`: how right a model answers over labelled data, variant by variant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchfarm.cli import requests
from benchfarm.cli.output import MOST, Json, print_json
from benchfarm.cli.profile import RunByDefault

app = typer.Typer(
    help="How right each variant answers: benchfarm evaluate MODEL, then list, show, compare.",
    no_args_is_help=True,
    cls=RunByDefault,
)


@app.command("run")
def run(
    models: requests.Models,
    runtime: requests.Runtimes = None,
    recipe: requests.Recipes = None,
    data: requests.Data = None,
    limit: Annotated[int | None, typer.Option(min=1, max=MOST, help="At most so many examples.")] = None,
    device: requests.Device = "",
    batch: requests.Batch = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime; answers do not depend on it.")] = 1,
    affinity: requests.Affinity = None,
    option: requests.Own = None,
    weights: requests.Weights = "random",
    seed: requests.Seed = 0,
    calibration: requests.Calibration = None,
    max_memory: requests.MaxMemory = None,
    allow_code: requests.AllowCode = False,
    executor: requests.Executor = "ray",
    json: Json = False,
) -> None:
    """Evaluate models on this machine: the default command. Latency is not measured.

    Exit codes: 0 done, 1 something failed, 2 wrong usage or something named that cannot be, 130 interrupted.
    """
    from device_registry.database import reading
    from exporters.evaluation_tables import evaluations_table
    from exporters.tables import outcomes_view, show
    from scheduler.comparisons import run_results
    from scheduler.evaluations import list_evaluations
    from scheduler.request import Request
    from workers.contract import Options

    request = Request(
        kind="evaluate",
        models=tuple(dict.fromkeys(models)),
        runtimes=tuple(dict.fromkeys(runtime)) if runtime else None,
        recipes=tuple(dict.fromkeys(recipe)) if recipe else None,
        selector=device,
        threads=requests.thread_counts(str(threads)),
        runtime_options=requests.own_options(option),
        options=Options(batch=batch, affinity=requests.cpus(affinity)),
        weights=weights,
        seed=seed,
        calibration=str(calibration.absolute()) if calibration is not None else None,
        data=requests.data_set(data),
        data_limit=limit,
        max_memory_bytes=requests.memory(max_memory),
        allow_code=allow_code,
        search_path=(str(Path.cwd()),) if allow_code else (),
        gate="none",
    )
    farm, run_id = requests.submit_and_wait(request, executor)
    with reading(farm.engine) as connection:
        outcome = run_results(connection, run_id)
        made = list_evaluations(connection, run_id=run_id)
    if json:
        print_json({"run": run_id, "evaluations": made, "failed": outcome.failed, "unsupported": outcome.unsupported})
    else:
        if made:
            show(evaluations_table(made))
        show(outcomes_view(outcome.failed, outcome.unsupported))
    if outcome.failed:
        raise typer.Exit(1)
    if not made:
        raise typer.Exit(2)


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="How many, newest first.")] = 30,
    json: Json = False,
) -> None:
    """List evaluations, newest first."""
    from exporters.evaluation_tables import evaluations_table
    from exporters.tables import show
    from scheduler.evaluations import list_evaluations

    found = _read(lambda connection: list_evaluations(connection, model=model, limit=limit))
    if json:
        print_json(found)
    else:
        show(evaluations_table(found))


@app.command("show")
def show_(
    evaluation: Annotated[
        int | None, typer.Argument(min=1, max=MOST, help="Number of an evaluation; default: the latest.")
    ] = None,
    json: Json = False,
) -> None:
    """Show one evaluation: its figures, and which examples were answered wrong."""
    from exporters.evaluation_tables import evaluation_view
    from exporters.tables import show
    from scheduler.evaluations import evaluation_record

    record = _read(lambda connection: evaluation_record(connection, evaluation))
    if json:
        print_json(record)
    else:
        show(evaluation_view(record))


@app.command("compare")
def compare(
    before: Annotated[int, typer.Argument(min=1, max=MOST, help="Number of an evaluation.")],
    after: Annotated[int, typer.Argument(min=1, max=MOST, help="Number of another over the same examples.")],
    json: Json = False,
) -> None:
    """Say whether two variants differ in how right they are: McNemar's exact test over the same examples.

    Exit codes: 0 done, whatever the answer; 2 they are over other examples, or there is no such evaluation.
    """
    from exporters.evaluation_tables import comparison_view
    from exporters.tables import show
    from scheduler.evaluations import compare_evaluations, evaluation_record

    comparison = _read(
        lambda connection: compare_evaluations(
            evaluation_record(connection, before), evaluation_record(connection, after)
        )
    )
    if json:
        print_json(comparison)
    else:
        show(comparison_view(comparison))


def _read(ask: Any) -> Any:
    from benchfarm.config import load_home
    from device_registry.database import reading
    from scheduler.farm import Farm

    with reading(Farm(load_home()).engine) as connection:
        return ask(connection)
