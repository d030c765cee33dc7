"""Keeps the last good picture of a farm, and has it taken anew when somebody wants it: in a thread of its own.

A scrape waits for the new one for a moment only; when the database is slow or away, it gets the old one with its age.
Between scrapes nothing is read at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from workers.errors import first_line

log = logging.getLogger(__name__)

#: A picture this young is not taken anew: somebody who scrapes without pause costs no more than a scrape every 5 s.
FRESH_S = 5.0

Picture = TypeVar("Picture", covariant=True)


class Reader(Protocol[Picture]):
    """Where pictures come from."""

    def read(self) -> Picture:
        """Take one; any exception says that there is none now."""

    def close(self) -> None:
        """No more are wanted."""


@dataclass(frozen=True)
class Held(Generic[Picture]):
    """A picture, and how far it can be trusted."""

    picture: Picture
    age_s: float
    #: How long it took.
    took_s: float
    #: Whether it shows the farm as it is now.
    current: bool


class Keeper(Generic[Picture]):
    """Takes pictures on demand, one at a time."""

    def __init__(
        self, reader: Reader[Picture], *, fresh_s: float = FRESH_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the thread; the first picture is taken when it is wanted."""
        self._reader, self._fresh_s, self._monotonic = reader, fresh_s, monotonic
        self._changed = threading.Condition()
        self._wanted, self._closed = False, False
        #: Looks that ended, well or not.
        self._ended = 0
        self._last: tuple[Picture, float, float] | None = None
        self._why: str | None = None
        self._thread = threading.Thread(target=self._serve, name="exporter", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether pictures can be had at all."""
        return self._thread.is_alive()

    def latest(self, wait_s: float) -> Held[Picture] | None:
        """The picture as it is now, or, after waiting, the last good one; None where there never was any.

        Args:
            wait_s: for the new one.
        """
        with self._changed:
            if not self._fresh():
                before = self._ended
                self._wanted = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._ended > before or self._closed, timeout=wait_s)
            if self._last is None:
                return None
            picture, at_s, took_s = self._last
            return Held(picture, max(0.0, self._monotonic() - at_s), took_s, self._fresh())

    def close(self) -> None:
        """End the thread; a look that hangs is left to itself."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=1.0)

    def _fresh(self) -> bool:
        return self._last is not None and self._why is None and self._monotonic() - self._last[1] <= self._fresh_s

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    break
                self._wanted = False
            self._take()
        self._reader.close()

    def _take(self) -> None:
        began = self._monotonic()
        try:
            picture = self._reader.read()
        except Exception as error:  # whatever it is: what is exported says so, and a service goes on
            self._note(first_line(getattr(error, "orig", None) or error))
            found = None
        else:
            self._note(None)
            found = (picture, began, self._monotonic() - began)
        with self._changed:
            self._last = found or self._last
            self._ended += 1
            self._changed.notify_all()

    def _note(self, why: str | None) -> None:
        """Say once what is wrong, and once that it is over."""
        if why is not None and why != self._why:
            log.warning("metrics show the last good state: %s", why, extra={"action": "snapshot_failed"})
        elif why is None and self._why is not None:
            log.info("metrics show the farm again", extra={"action": "snapshot_back"})
        self._why = why
