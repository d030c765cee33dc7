"""Takes messages to their channels, each channel in a thread of its own: a slow one holds nobody up.

`step` looks what is due and returns at once. A thread sends what its channel has, one message after the other, until
nothing is due or the receiver is away; it ends then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from device_registry.database import reading, writing
from exporters.notifiers.channel import Channel, failure
from exporters.notifiers.settings import SettingsError, read_settings
from scheduler.home import Home
from scheduler.notifications import delivery
from scheduler.notifications.delivery import Message, pause_s
from workers.errors import first_line

log = logging.getLogger(__name__)

#: A try that takes longer is over, whatever its receiver does: the claim of its message runs out a little later.
_MOST_S = 120.0
#: Messages that a thread sends; the next step begins another.
_MOST_MESSAGES = 100


@dataclass(frozen=True)
class _Round:
    """A thread and when it began its last try."""

    thread: threading.Thread
    began_s: list[float]


class Courier:
    """Delivers what one farm has to tell."""

    def __init__(self, engine: Engine, home: Home, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Nothing is sent before `step`.

        Args:
            engine: of the farm's database.
            home: its data directory, where notifications.toml is.
            monotonic: seconds that never jump.
        """
        self._engine, self._home, self._monotonic = engine, home, monotonic
        self._rounds: dict[str, _Round] = {}
        self._said: set[str] = set()
        self._closed = False

    def step(self, now: datetime) -> int:
        """Begin to send what is due; returns how many channels were given something to do.

        Args:
            now: the time, also of what is sent in this step.
        """
        with reading(self._engine) as connection:
            if not delivery.anything_due(connection, now):
                return 0
        try:
            channels = read_settings(self._home).channels
        except SettingsError as error:  # what is to be told waits for whoever mends it
            self._say(str(error))
            return 0
        for channel in channels.values():
            for warning in channel.warnings():
                self._say(f"channel {channel.name}: {warning}")
        with writing(self._engine) as connection:
            delivery.address(connection, {name: channel.wants for name, channel in channels.items()}, now)
            delivery.give_up_strays(connection, list(channels), now)
            due = delivery.due(connection, now)
        return sum(self._begin(channels[name], now) for name in due if name in channels)

    def wait(self, timeout_s: float) -> bool:
        """Wait for what is being sent; returns whether all of it ended."""
        until = self._monotonic() + timeout_s
        for held in list(self._rounds.values()):
            held.thread.join(max(0.0, until - self._monotonic()))
        return not any(held.thread.is_alive() for held in self._rounds.values())

    def close(self) -> None:
        """Begin nothing more; what hangs is left to itself: its message is tried again, by whoever comes next."""
        self._closed = True
        self.wait(2.0)

    def _begin(self, channel: Channel, now: datetime) -> bool:
        held = self._rounds.get(channel.name)
        if held is not None and held.thread.is_alive() and self._monotonic() - held.began_s[0] < _MOST_S:
            return False
        began_s = [self._monotonic()]
        thread = threading.Thread(
            target=self._send_all, args=(channel, now, began_s), name=f"notify-{channel.name}", daemon=True
        )
        self._rounds[channel.name] = _Round(thread, began_s)
        thread.start()
        return True

    def _send_all(self, channel: Channel, now: datetime, began_s: list[float]) -> None:
        try:
            for _ in range(_MOST_MESSAGES):
                if self._closed:
                    return
                with writing(self._engine) as connection:
                    message = delivery.claim(connection, channel.name, now)
                if message is None:
                    return
                began_s[0] = self._monotonic()
                if not self._send(channel, message, now):
                    return
        except Exception as error:  # the database is away: the claim runs out, and the message is tried again
            log.warning(
                "channel %s: %s", channel.name, first_line(getattr(error, "orig", error)), extra={"action": "notify"}
            )

    def _send(self, channel: Channel, message: Message, now: datetime) -> bool:
        """Try a message; returns whether to go on with the next."""
        about = {"action": "notify", "channel": channel.name, "notification": message.id, "attempt": message.attempt}
        try:
            receipt = channel.send(message)
        except Exception as error:
            known = failure(error)
            pause = pause_s(message.attempt, asked_s=known.asked_s)
            with writing(self._engine) as connection:
                last = delivery.failed(connection, message, str(known), now, pause=pause, channel_is_away=known.away)
            ending = "given up" if last else f"tried again in {pause:.0f} s"
            log.warning("%s did not reach channel %s, %s: %s", message.key, channel.name, ending, known, extra=about)
            return not known.away
        with writing(self._engine) as connection:
            delivery.sent(connection, message, receipt, now)
        log.info("%s went to channel %s", message.key, channel.name, extra=about)
        return True

    def _say(self, text: str) -> None:
        """Say once what somebody should mend."""
        if text not in self._said:
            self._said.add(text)
            log.warning("notifications: %s", text, extra={"action": "notify"})
