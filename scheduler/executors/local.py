"""Calls the agent of this host directly: for tests, and for machines where Ray is not wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workers.agent import HostAgent

_HOST = "local"


class LocalExecutor:
    """One agent, in this process."""

    def __init__(self, home: Path, store_url: str, lease_s: float) -> None:
        """Take this host."""
        self._agent = HostAgent(home, store_url, lease_s)

    def hosts(self) -> list[str]:
        """See `Executor.hosts`."""
        return [_HOST]

    def hello(self, host: str) -> dict[str, Any]:
        """See `Executor.hello`."""
        return self._agent.hello()

    def start(self, host: str, order: dict[str, Any]) -> None:
        """See `Executor.start`."""
        self._agent.start(order)

    def poll(self, host: str, since: int, wait_s: float) -> dict[str, Any]:
        """See `Executor.poll`."""
        return self._agent.poll(since, wait_s)

    def cancel(self, host: str, attempt_id: int, why: str) -> None:
        """See `Executor.cancel`."""
        self._agent.cancel(attempt_id, why)

    def close(self) -> None:
        """See `Executor.close`."""
        self._agent.close()
