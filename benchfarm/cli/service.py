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

import typer

_FORMAT = "%(asctime)s %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"


def log_to_terminal() -> None:
    """Events that matter, a line each, on standard error."""
    logging.basicConfig(format=_FORMAT, datefmt=_TIME, level=logging.WARNING)
    for package in ("scheduler", "workers"):
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
