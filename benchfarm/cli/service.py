"""What the commands that stay have in common: lines that say when, and an end that is in order."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from scheduler.home import Home

_FORMAT = "%(asctime)s %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"


class _Printable(logging.Formatter):
    """Lines that command no terminal, whatever the names in them hold."""

    def format(self, record: logging.LogRecord) -> str:
        from exporters.escaping import printable

        return printable(super().format(record))


def log_to_terminal() -> None:
    """Events that matter, a line each, on standard error."""
    logging.basicConfig(format=_FORMAT, datefmt=_TIME, level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Printable(_FORMAT, _TIME))
    for package in ("exporters", "scheduler", "workers"):
        logging.getLogger(package).setLevel(logging.INFO)


def say(text: str) -> None:
    """One line of what happens."""
    typer.echo(f"{datetime.now().astimezone().strftime(_TIME)} {text}", err=True)


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second one ends the process at once."""
    stop = threading.Event()

    def end(signal_number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def serve_metrics(home: Home, address: str, *, option: str) -> Iterator[str]:
    """Serve metrics meanwhile; the address that they are served at.

    Args:
        home: the data directory, with the database.
        address: HOST or HOST:PORT.
        option: where another address can be named.

    Raises:
        UsageError: it cannot be listened at.
    """
    from device_registry.errors import UsageError
    from exporters.server import DEFAULT_PORT, MetricsServer
    from workers.ray_environment import parse_address

    host, port = parse_address(address, DEFAULT_PORT)
    try:
        server = MetricsServer(home.database_url, home.path, host, port)
    except OSError as error:
        raise UsageError(
            f"metrics cannot be served at {host}:{port} ({error.strerror or error}): name another with {option}"
        ) from error
    try:
        yield server.address
    finally:
        server.close()
