"""The seam of executors: carry orders to host agents.

Nothing here waits for an agent longer than it is told to: a host that hangs must not hold up the others. Calls are
handed over, answers are picked up by `poll`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from device_registry.errors import BenchfarmError


class HostLostError(BenchfarmError):
    """The host's agent does not answer."""


@dataclass(frozen=True)
class Lost:
    """A host that does not answer any more."""

    why: str
    #: Known to be dead, and with it all that it ran (its raylet is gone, its agent said so): no lease need run out.
    dead: bool = False
    #: It said goodbye: nothing went wrong.
    left: bool = False


class Executor(Protocol):
    """How a dispatcher reaches agents."""

    def arrivals(self) -> dict[str, dict[str, Any]]:
        """Agents that came up, or came back, since the last call: name to what `HostAgent.hello` said.

        A host that came back is here again before it is polled again: its cursor starts at 0.
        """

    def start(self, host: str, orders: Sequence[dict[str, Any]]) -> None:
        """Hand orders over (`HostAgent.start`). That they arrived shows in the next polls; a lost host loses them."""

    def cancel(self, host: str, attempt_ids: Sequence[int], why: str) -> None:
        """See `HostAgent.cancel`; handed over like orders."""

    def poll(self, cursors: Mapping[str, int], wait_s: float) -> dict[str, dict[str, Any] | Lost]:
        """Answers of `HostAgent.poll` that are in; one poll is kept outstanding with each host named.

        A host that is `Lost` is named once, and not polled again until it has arrived anew.

        Args:
            cursors: of each host, the last event that was taken.
            wait_s: how long to wait for the first answer.
        """

    def log(self, host: str, attempt_id: int, token: str) -> str:
        """What a running attempt has printed so far; empty where the host does not answer."""

    def recover(self, host: str, device: str, rung: int) -> None:
        """See `HostAgent.recover`; handed over like orders."""

    def close(self) -> None:
        """End the agents that this executor started for itself, and what they run; leave those of a cluster alone."""
