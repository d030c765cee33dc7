"""The seam of executors: carry orders to host agents. Calls are short; none lasts as long as a job."""

from __future__ import annotations

from typing import Any, Protocol

from device_registry.errors import BenchfarmError


class HostLostError(BenchfarmError):
    """The host's agent does not answer."""


class Executor(Protocol):
    """How a dispatcher reaches agents. Every call but `close` raises `HostLostError` when the agent does not answer."""

    def hosts(self) -> list[str]:
        """Names of the agents that can be reached."""

    def hello(self, host: str) -> dict[str, Any]:
        """See `HostAgent.hello`."""

    def start(self, host: str, order: dict[str, Any]) -> None:
        """See `HostAgent.start`."""

    def poll(self, host: str, since: int, wait_s: float) -> dict[str, Any]:
        """See `HostAgent.poll`."""

    def cancel(self, host: str, attempt_id: int, why: str) -> None:
        """See `HostAgent.cancel`."""

    def close(self) -> None:
        """End the agents that this executor started, and what they run."""
