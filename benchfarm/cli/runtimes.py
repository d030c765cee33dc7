"""`benchfarm runtimes`: what can be measured on what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

app = typer.Typer(help="Runtimes, their recipes and their own options.", no_args_is_help=True)


@app.command("list")
def list_(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown, for a README.")] = False,
    json: Json = False,
) -> None:
    """List which recipes each runtime computes on which platform, and the options that are its own.

    benchfarm doctor says what of it this host has installed.
    """
    from exporters.support_tables import markdown_table, support_view
    from exporters.tables import show
    from scheduler.support import support
    from workers.plugins import plugins

    if markdown and json:
        raise UsageError("--markdown and --json exclude each other")
    found = support()
    options = {name: dict(plugin.load().options) for name, plugin in plugins("runtimes").items()}
    if json:
        print_json({"support": [asdict(item) for item in found], "options": options})
    elif markdown:
        typer.echo(markdown_table(found), nl=False)
    else:
        show(support_view(found, options))
