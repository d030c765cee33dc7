"""`benchfarm down`: end the Ray head that `benchfarm up` left."""

from __future__ import annotations

import typer


def down() -> None:
    """End the Ray head that runs from this data directory. Hosts end their work and wait for a new one."""
    from benchfarm.config import load_home
    from scheduler.head import end_head

    head = end_head(load_home().path)
    typer.echo("no head runs on this data directory" if head is None else f"the head at {head.address} ended")
