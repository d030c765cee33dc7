"""The seam: what a channel is. A new kind is one small file, and a line in `settings`."""

from __future__ import annotations

from typing import Protocol

from device_registry.errors import BenchfarmError
from scheduler.notifications.delivery import Message


class DeliveryError(BenchfarmError):
    """A message did not arrive. The text goes into the database and the logs: it never holds a secret."""

    def __init__(self, why: str, *, away: bool = True, asked_s: float | None = None) -> None:
        """Say why.

        Args:
            why: in words that follow the channel's name.
            away: any other message would have failed, too.
            asked_s: how long the receiver asked to be left alone.
        """
        super().__init__(why)
        self.away = away
        self.asked_s = asked_s


def failure(error: Exception) -> DeliveryError:
    """What a channel raised, in words: what is no DeliveryError is a fault of ours, and its text may hold anything."""
    return error if isinstance(error, DeliveryError) else DeliveryError(f"a fault: {type(error).__name__}")


class Channel(Protocol):
    """Where messages go."""

    @property
    def name(self) -> str:
        """As the settings call it."""

    def wants(self, kind: str) -> bool:
        """Whether messages of a kind (incident.opened, digest, ...) go here."""

    def warnings(self) -> list[str]:
        """What its user should know of its settings, a sentence each."""

    def send(self, message: Message) -> str | None:
        """Deliver a message; returns what the receiver calls it, if it matters later.

        Raises:
            DeliveryError: it did not arrive, as far as anybody knows.
        """
