"""`benchfarm regressions`: what became slower, and who knows of it."""

from __future__ import annotations

import typer

app = typer.Typer(help="Regressions: incidents, with their series, sizes and suspected causes.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Regressions: incidents, with their series, sizes and suspected causes."""
