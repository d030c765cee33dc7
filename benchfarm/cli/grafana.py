"""`benchfarm grafana`: the dashboards, into a folder or into a Grafana."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

app = typer.Typer(help="Grafana dashboards.", no_args_is_help=True)
#: Holds the token where no file is named.
TOKEN_VARIABLE = "BENCHFARM_GRAFANA_TOKEN"  # noqa: S105  # the name of a variable
_DRY = {"created": "would be created", "updated": "would be updated", "unchanged": "unchanged"}


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write the dashboards' JSON into.")],
    json: Json = False,
) -> None:
    """Write the dashboards' JSON into a folder, for provisioning by files; what is the same is left alone."""
    from dashboards.documents import texts, write

    files = texts()
    changed = {path.name for path in write(files, folder)}
    if json:
        print_json([{"file": str(folder / name), "changed": name in changed} for name in files])
        return
    for name in files:
        typer.echo(f"{folder / name}{'' if name in changed else ' (unchanged)'}")


@app.command("publish")
def publish(
    url: Annotated[
        str, typer.Option(help="Address of the Grafana, with the path that it is served under.", metavar="URL")
    ],
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the service account's token; default: {TOKEN_VARIABLE}.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    json: Json = False,
) -> None:
    """Send the dashboards to a Grafana; only those that are not there, or not the same, are written."""
    from dashboards.documents import documents
    from exporters.grafana import Publisher, read_token

    publisher = Publisher(url, read_token(_token(token_file)))
    done = publisher.publish(documents(), dry_run=dry_run)
    if json:
        print_json([{"uid": one.uid, "title": one.title, "outcome": one.outcome, "dry_run": dry_run} for one in done])
        return
    for one in done:
        typer.echo(f"{one.title}: {_DRY[one.outcome] if dry_run else one.outcome}")


def _token(file: Path | None) -> str:
    if file is None:
        if (text := os.environ.get(TOKEN_VARIABLE)) is None:
            raise UsageError(f"no token: name a file with --token-file, or set {TOKEN_VARIABLE}")
        return text
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"cannot read the token file {file}: {why}") from error
