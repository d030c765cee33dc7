"""`benchfarm models`: what can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from benchfarm.cli.output import Json, print_json

app = typer.Typer(help="Models that can be named.", no_args_is_help=True)


@app.command("list")
def list_models(
    filter_: Annotated[str, typer.Argument(metavar="[TEXT]", help="Only names that contain this.")] = "",
    json: Json = False,
) -> None:
    """List the models of every zoo. Files and package.module:factory can be given too."""
    from scheduler.plan import all_models

    names = [name for name in all_models() if filter_ in name]
    if json:
        print_json(names)
    else:
        typer.echo("\n".join(names))
