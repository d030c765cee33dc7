"""`benchfarm head`: the Ray head of a farm, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer


def head(
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST[:PORT]",
            help="Where hosts reach it: an address of this machine. With any but 127.0.0.1 Ray listens on all"
            " addresses of the machine: firewall it.",
        ),
    ] = "127.0.0.1:6379",
) -> None:
    """Run the Ray head that hosts join and `benchfarm up --address` uses, until told to end."""
    from benchfarm.cli.service import say, until_told
    from benchfarm.config import load_home
    from scheduler.head import run_head

    with until_told() as stop:
        home = load_home()
        home.prepare()
        run_head(home.path, address, say, stop)
