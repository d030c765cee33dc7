"""`benchfarm backup` and `restore`: the database as it was at one moment, and the stored files that its rows name."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchfarm.cli.output import Json, print_json


def backup(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="A name that nothing has yet: one file if it ends in .tar, else a folder."
        ),
    ],
    artifacts: Annotated[
        bool, typer.Option("--artifacts/--no-artifacts", help="Whether to take the artifact store's files too.")
    ] = True,
    json: Json = False,
) -> None:
    """Back up the farm, which may go on meanwhile: the database, then the stored files that its rows name.

    PostgreSQL needs pg_dump of the server's major version; the rights of a reader suffice. A store in a bucket is
    left to the bucket's own versioning. The Ray token and android.toml are not part of it.
    """
    from benchfarm.config import load_home
    from exporters.copying import CopyProgress
    from scheduler.backup import back_up
    from workers.codec import to_dict

    with _ended_in_order(), CopyProgress() as shown:
        made = back_up(load_home(), target.expanduser().absolute(), with_files=artifacts, observe=shown.observe)
    if json:
        print_json({"backup": str(target), **to_dict(made)})
        return
    typer.echo(f"backed up {_said(made)} to {target}")
    if made.store == "elsewhere":
        typer.echo("the artifact store is not on this machine's disks: rely on the versioning of what holds it")
    elif made.files_missing:
        typer.echo(f"{made.files_missing:,} stored files that rows name are gone or damaged, and not in it")


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `benchfarm backup` made.")],
    force: Annotated[
        bool, typer.Option("--force", help="Put a SQLite database that is there aside, under another name.")
    ] = False,
    json: Json = False,
) -> None:
    """Put a backup back where no farm is yet. All of it is checked before anything is touched.

    The database goes where BENCHFARM_HOME or BENCHFARM_DATABASE_URL says; a server's must exist and be empty. Stored
    files go into the store; what it has already is left alone.
    """
    from benchfarm.config import load_home
    from exporters.copying import CopyProgress
    from scheduler import schema
    from scheduler.backup import restore as put_back
    from workers.codec import to_dict

    with _ended_in_order(), CopyProgress() as shown:
        held, aside = put_back(load_home(), source.expanduser().absolute(), force=force, observe=shown.observe)
    if json:
        print_json({"backup": str(source), "put_aside": None if aside is None else str(aside), **to_dict(held)})
        return
    typer.echo(f"restored {_said(held)}, as it was at {held.made_at}")
    if aside is not None:
        typer.echo(f"what was there is {aside} now")
    if held.database == "postgresql":
        typer.echo("give the roles their rights again: psql -f deploy/postgres/roles.sql")
    if held.schema_revision != schema.HEAD:
        typer.echo(f"its schema is {held.schema_revision}: benchfarm up or benchfarm db upgrade migrates it")


def _said(manifest: Any) -> str:
    rows = f"{sum(manifest.rows.values()):,} rows of {len(manifest.rows)} tables (schema {manifest.schema_revision})"
    files = "1 stored file" if manifest.files == 1 else f"{manifest.files:,} stored files"
    if manifest.store != "copied":
        return f"{rows} without stored files"
    return f"{rows} and {files} ({manifest.files_bytes / 1e6:,.1f} MB)"


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does: what was begun is cleared away."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
