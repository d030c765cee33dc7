"""`benchfarm db`: the database's schema."""

from __future__ import annotations

import typer

app = typer.Typer(help="The database.", no_args_is_help=True)


@app.command("upgrade")
def upgrade() -> None:
    """Migrate the database to this version's schema."""
    from benchfarm.config import load_home
    from scheduler import schema

    home = load_home()
    home.prepare()
    before = schema.migrate(home.database_url)
    typer.echo(f"schema {before or 'none'} -> {schema.HEAD}")
