"""What every command prints alike: one JSON document, or a table."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer

#: The largest number that a row of a database can have.
MOST = 2**31 - 1
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


def print_json(value: Any) -> None:
    """One JSON document on standard output, and nothing else."""
    typer.echo(json.dumps(value, indent=2, default=_plain, allow_nan=False))


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
