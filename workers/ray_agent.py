"""The agent's remote face: one Ray actor that carries calls to a HostAgent. One of two files that import Ray."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import ray

from workers.agent import HostAgent

#: The agent exits within 5 s of its raylet's death.
_PARENT_PERIOD_S = 1.0


class RemoteAgent:
    """Runs inside a Ray worker; ends itself when the raylet that started it dies, for Ray would let it live on."""

    def __init__(self, home: str, store_url: str, lease_s: float) -> None:
        """See `HostAgent`."""
        self._agent = HostAgent(Path(home), store_url, lease_s, own_pids=(os.getppid(),))
        threading.Thread(target=self._watch_raylet, args=(os.getppid(),), name="raylet-watch", daemon=True).start()

    def hello(self) -> dict[str, Any]:
        """See `HostAgent.hello`."""
        return self._agent.hello()

    def start(self, order: dict[str, Any]) -> None:
        """See `HostAgent.start`."""
        self._agent.start(order)

    def poll(self, since: int, wait_s: float) -> dict[str, Any]:
        """See `HostAgent.poll`."""
        return self._agent.poll(since, wait_s)

    def cancel(self, attempt_id: int, why: str) -> None:
        """See `HostAgent.cancel`."""
        self._agent.cancel(attempt_id, why)

    def close(self) -> None:
        """See `HostAgent.close`."""
        self._agent.close()

    def _watch_raylet(self, raylet: int) -> None:
        while os.getppid() == raylet:
            time.sleep(_PARENT_PERIOD_S)
        try:
            self._agent.close()
        finally:
            os._exit(1)


def launch(home: Path, store_url: str, lease_s: float) -> Any:
    """Start the agent of this host as an actor; it lives as long as its handle. Returns the handle."""
    # Polls wait inside the actor, so starts and cancels need threads of their own.
    actor = ray.remote(RemoteAgent).options(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=4)
    return actor.remote(str(home), store_url, lease_s)
