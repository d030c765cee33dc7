"""`benchfarm sweep`: files of cases to measure: check, run, resume, show."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Sweeps: matrices of models, recipes, runtimes and devices, kept in files.", no_args_is_help=True
)


@app.callback()
def main() -> None:
    """Sweeps: matrices of models, recipes, runtimes and devices, kept in files."""
