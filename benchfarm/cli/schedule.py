"""`benchfarm schedule`: sweeps that run by cron."""

from __future__ import annotations

import typer

app = typer.Typer(help="Schedules: sweeps that run by cron.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Schedules: sweeps that run by cron."""
