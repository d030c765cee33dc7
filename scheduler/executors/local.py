"""Calls the agent of this host directly: for tests, and for machines where Ray is not wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scheduler.executors.executor import Lost
from workers.agent import HostAgent

_HOST = "local"


class LocalExecutor:
    """One agent, in this process: it is there as long as the executor is."""

    def __init__(self, home: Path, store_url: str, lease_s: float) -> None:
        """Take this host.

        Raises:
            AttemptError: another agent holds it.
        """
        self._agent = HostAgent(home, store_url, lease_s)
        self._greeted = False

    def arrivals(self) -> dict[str, dict[str, Any]]:
        """See `Executor.arrivals`."""
        if self._greeted:
            return {}
        self._greeted = True
        return {_HOST: self._agent.hello()}

    def start(self, host: str, orders: Sequence[dict[str, Any]]) -> None:
        """See `Executor.start`."""
        self._agent.start(list(orders))

    def cancel(self, host: str, attempt_ids: Sequence[int], why: str) -> None:
        """See `Executor.cancel`."""
        self._agent.cancel(list(attempt_ids), why)

    def poll(self, cursors: Mapping[str, int], wait_s: float) -> dict[str, dict[str, Any] | Lost]:
        """See `Executor.poll`."""
        return {host: self._agent.poll(cursor, wait_s) for host, cursor in cursors.items()}

    def log(self, host: str, attempt_id: int, token: str) -> str:
        """See `Executor.log`."""
        return self._agent.log(attempt_id, token)

    def recover(self, host: str, device: str, rung: int) -> None:
        """See `Executor.recover`."""
        self._agent.recover(device, rung)

    def close(self) -> None:
        """See `Executor.close`."""
        self._agent.close()
