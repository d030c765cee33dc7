"""`benchfarm suite`: published experiments, each one command."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchfarm.cli import requests
from benchfarm.cli.output import Json, print_json

if TYPE_CHECKING:
    from scheduler.farm import Farm
    from scheduler.suites.planning import PlannedBlock, Wishes
    from scheduler.suites.running import BlockRun
    from scheduler.suites.suite import Suite

app = typer.Typer(
    help="Suites: published experiments that run here, their figures beside the published ones.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a suite (benchfarm suite list), or its file: NAME.yaml.")]
Quick = Annotated[bool, typer.Option("--quick", help="The bounded size: minutes on two cores.")]
Device = Annotated[
    str, typer.Option(metavar="SELECTOR", help="Only on these devices, for example kind=cpu. Default: every device.")
]
Runtime = Annotated[
    list[str] | None, typer.Option(help="Only this runtime; repeat for more. Default: as each block has it.")
]
OnlyBlock = Annotated[list[str] | None, typer.Option("--block", help="Only this block; repeat for more.")]
Again = Annotated[bool, typer.Option("--again", help="Measure what has a fresh point, too.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done, or queue it for benchfarm up.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Write the report here, too.")]


@app.callback()
def main() -> None:
    """Suites: published experiments that run here, their figures beside the published ones."""


@app.command(name="list")
def list_them(json: Json = False) -> None:
    """List the suites that come with the package.

    Exit codes: 0 listed, 2 wrong usage.
    """
    from exporters.suite_tables import suites_table
    from exporters.tables import show
    from scheduler.suites.shipped import load_named, shipped_names
    from scheduler.suites.showing import suite_document

    found = [suite_document(load_named(name)) for name in shipped_names()]
    if json:
        print_json(found)
    else:
        show(suites_table(found))


@app.command(name="show")
def show_plan(
    name: Name,
    quick: Quick = False,
    device: Device = "",
    runtime: Runtime = None,
    block: OnlyBlock = None,
    data: requests.Data = None,
    again: Again = False,
    allow_code: requests.AllowCode = False,
    json: Json = False,
) -> None:
    """Say what a suite would measure here, what it takes, and what cannot be had and why. No job is made.

    Exit codes: 0 shown, 2 wrong usage, a mistake in the file, or something named that is not there.
    """
    from benchfarm.config import load_home
    from exporters.suite_tables import plan_view
    from exporters.tables import show
    from scheduler.embedded import EmbeddedFarm
    from scheduler.suites.shipped import load_named
    from scheduler.suites.showing import plan_document

    wishes = _wishes(device, runtime, block, data, again=again, allow_code=allow_code)
    found = plan_document(EmbeddedFarm(load_home()), load_named(name, quick=quick), wishes)
    if json:
        print_json(found)
    else:
        show(plan_view(found))


@app.command()
def run(
    name: Name,
    quick: Quick = False,
    device: Device = "",
    runtime: Runtime = None,
    block: OnlyBlock = None,
    data: requests.Data = None,
    again: Again = False,
    owner: requests.Owner = None,
    allow_code: requests.AllowCode = False,
    wait: Wait = True,
    executor: requests.Executor = "ray",
    output: Output = None,
    json: Json = False,
) -> None:
    """Measure what a suite has no fresh point of, block by block, and show it beside what was published.

    Where benchfarm up runs on this database, its devices do it and this command waits; else this machine does. The
    same command goes on where an interrupted one stopped. Exit codes: 0 done, 1 something failed, 2 wrong usage, a
    mistake in the file or nothing that can be measured, 130 interrupted.
    """
    from benchfarm.config import load_home
    from exporters.progress import RunProgress
    from exporters.suite_tables import outcome_view
    from exporters.tables import show
    from scheduler.embedded import EmbeddedFarm
    from scheduler.farm import Farm
    from scheduler.suites.running import run_suite, submit_suite
    from scheduler.suites.shipped import load_named

    suite = load_named(name, quick=quick)
    wishes = _wishes(device, runtime, block, data, again=again, allow_code=allow_code, owner=owner)
    if output is not None:
        _refuse_output(output, wait=wait)
    if not wait:
        with RunProgress() as progress:
            made = submit_suite(Farm(load_home()), suite, wishes, _Audience(progress))
        if json:
            runs_made = [{"block": planned.block.name, "run": run_id} for planned, run_id in made]
            print_json({"suite": suite.name, "runs": runs_made})
        return
    farm = EmbeddedFarm(load_home())
    with RunProgress() as progress:
        signal.signal(signal.SIGTERM, requests.interrupt)
        try:
            done = list(run_suite(farm, suite, wishes, executor, _Audience(progress)))
        except KeyboardInterrupt:
            goes_on = "its runs go on; the same command waits for them again"
            here = "the same command goes on where this one stopped"
            progress.say(f"interrupted; {goes_on if farm.waits_for_others else here}")
            raise typer.Exit(130) from None
    runs = [_told(one) for one in done]
    if output is not None:
        _write_report(farm, suite, output)
    if json:
        print_json({**_readings(farm, suite), "runs": runs})
    else:
        _show_readings(farm, suite)
        show(outcome_view(suite.name, runs))
    if any(one.failed_jobs for one in done):
        raise typer.Exit(1)


@app.command()
def report(
    name: Name,
    quick: Quick = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Show what a suite found so far, beside what was published; with -o as one HTML file, JSON and CSV beside it.

    Exit codes: 0 shown, 2 wrong usage, or nothing of it was run yet.
    """
    from benchfarm.config import load_home
    from scheduler.farm import Farm
    from scheduler.suites.shipped import load_named

    suite, farm = load_named(name, quick=quick), Farm(load_home())
    if output is not None:
        _write_report(farm, suite, output)
    if json:
        print_json(_readings(farm, suite))
    elif output is None:
        _show_readings(farm, suite)


class _Audience:
    """Tells of a suite on the lines and in the view that tell of a run."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress

    def begins(self, planned: PlannedBlock, number: int, count: int) -> None:
        head = f"block {number} of {count}, {planned.block.name}: "
        if planned.prepared is None:
            self._progress.tell(f"{head}nothing can be measured: {planned.why_not}")
            return
        cases = planned.prepared.measured(planned.prepared.times)
        fresh = planned.prepared.measured(planned.prepared.fresh)
        self._progress.tell(f"{head}{cases} cases to measure" + (f", {fresh} fresh" if fresh else ""))

    def observe(self, status: Any) -> None:
        self._progress.observe(status)

    def say(self, text: str) -> None:
        self._progress.say(text)


def _wishes(
    device: str,
    runtime: list[str] | None,
    block: list[str] | None,
    data: str | None,
    *,
    again: bool,
    allow_code: bool,
    owner: str | None = None,
) -> Wishes:
    from scheduler.suites.planning import Wishes

    return Wishes(
        selector=device,
        runtimes=tuple(dict.fromkeys(runtime)) if runtime else None,
        blocks=tuple(dict.fromkeys(block)) if block else None,
        data=requests.data_set(data),
        again=again,
        allow_code=allow_code,
        owner=owner,
    )


def _told(one: BlockRun) -> dict[str, Any]:
    document = asdict(one)
    return {"block": document.pop("block"), "run": document.pop("sweep_run_id"), **document}


def _refuse_output(path: Path, *, wait: bool) -> None:
    from device_registry.errors import UsageError
    from exporters.suites.page import refuse_report

    if not wait:
        raise UsageError("-o writes what was found, and --no-wait does not wait for it: benchfarm suite report NAME -o")
    refuse_report(path)


def _write_report(farm: Farm, suite: Suite, path: Path) -> None:
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.suites.page import write_suite_report

    with reading(farm.engine) as connection:
        written = write_suite_report(connection, suite, path, utc_now())
    typer.echo(f"{', '.join(map(str, written))}: written", err=True)


def _readings(farm: Farm, suite: Suite) -> dict[str, Any]:
    """What the suite found, as plain data."""
    from device_registry.database import reading
    from exporters.suites.document import suite_document

    with reading(farm.engine) as connection:
        return suite_document(connection, suite)


def _show_readings(farm: Farm, suite: Suite) -> None:
    from device_registry.database import reading
    from exporters.suites.terminal import suite_view
    from exporters.tables import show

    with reading(farm.engine) as connection:
        view = suite_view(connection, suite)
    show(view)
