"""`benchfarm db`: the database's schema."""

from __future__ import annotations

import typer

app = typer.Typer(help="The database.", no_args_is_help=True)


@app.command("upgrade")
def upgrade() -> None:
    """Migrate the database to this version's schema."""
    from benchfarm.config import load_home
    from device_registry.database import open_engine
    from scheduler import schema

    home = load_home()
    home.prepare()
    engine = open_engine(home.database_url)
    before = schema.current_revision(engine)
    schema.upgrade(engine)
    typer.echo(f"schema {before or 'none'} -> {schema.current_revision(engine)}")
