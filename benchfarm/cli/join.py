"""`benchfarm join`: this machine as a host of a farm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def join(
    head: Annotated[str, typer.Argument(metavar="HEAD", help="Address of the farm's head: HOST or HOST:PORT.")],
    name: Annotated[str, typer.Option(help="What this host is called in the farm.")],
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Said of the host; selectors see it as host.KEY.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="The farm's token; default: ray-token in the data directory.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="DRIVERS", help="Only these kinds of device: cpu,sim; default: all.")
    ] = None,
    simulate: Annotated[
        Path | None, typer.Option(metavar="FLEET.json", help="Simulated devices, marked so wherever they appear.")
    ] = None,
    own_address: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Where the others reach this host; default: what it reaches the head from."),
    ] = None,
) -> None:
    """Join a farm with this machine's devices, in the foreground, until told to end.

    The host and the head must have the same versions of benchfarm, Ray and Python. Exit codes: 1 the head could not
    be reached, 2 this host cannot join as it is.
    """
    from benchfarm.cli.service import say, until_told
    from benchfarm.config import load_home
    from workers import join as joining

    with until_told() as stop:
        home = load_home()
        home.prepare()
        joining.join(
            home.path,
            head,
            name,
            token_file or home.path / "ray-token",
            labels=joining.parse_labels(label or ()),
            drivers=[driver.strip() for driver in only.split(",")] if only is not None else None,
            fleet=simulate,
            own_ip=own_address,
            say=say,
            stop=stop,
        )
        say("left the farm")
