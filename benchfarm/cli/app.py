"""The command line as a whole: each noun has a file of its own, imported when it is used."""

from __future__ import annotations

from typing import Annotated

import typer

from benchfarm import __version__
from benchfarm.cli import (
    android,
    backup,
    compare,
    db,
    devices,
    doctor,
    down,
    evaluate,
    exporter,
    grafana,
    head,
    hosts,
    jobs,
    join,
    models,
    noise,
    notifications,
    profile,
    prune,
    regressions,
    report,
    results,
    run,
    runtimes,
    schedule,
    status,
    submit,
    suite,
    sweep,
    telemetry,
    up,
)

app = typer.Typer(
    name="benchfarm",
    help="Benchmark machine-learning models on real hardware: how fast, how hot, how hungry and how right.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("submit")(submit.submit)
app.command("status")(status.status)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.add_typer(sweep.app, name="sweep")
app.add_typer(suite.app, name="suite")
app.add_typer(schedule.app, name="schedule")
app.add_typer(regressions.app, name="regressions")
app.command("noise")(noise.noise)
app.add_typer(notifications.app, name="notifications")
app.command("up")(up.up)
app.command("exporter")(exporter.exporter)
app.add_typer(grafana.app, name="grafana")
app.command("join")(join.join)
app.command("head")(head.head)
app.command("down")(down.down)
app.add_typer(profile.app, name="profile")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(models.app, name="models")
app.add_typer(runtimes.app, name="runtimes")
app.add_typer(devices.app, name="devices")
app.add_typer(android.app, name="android")
app.add_typer(hosts.app, name="hosts")
app.add_typer(jobs.app, name="jobs")
app.add_typer(results.app, name="results")
app.add_typer(telemetry.app, name="telemetry")
app.command("prune")(prune.prune)
app.command("doctor")(doctor.doctor)
app.add_typer(db.app, name="db")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"benchfarm {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Benchmark machine-learning models on real hardware: how fast, how hot, how hungry and how right."""
