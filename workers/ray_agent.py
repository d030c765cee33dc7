"""The agent's remote face: one Ray actor that carries calls to a HostAgent."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from workers.agent import HostAgent
from workers.processes import read_process
from workers.ray_environment import NAMESPACE
from workers.ray_node import HOST_LABEL
from workers.spool import leaving_note

#: The agent exits within 5 s of its raylet's death: seen within the first, work ended within the second, and the rest
#: is for the dispatcher to hear of it.
_PARENT_PERIOD_S = 0.5
_CLOSE_S = 3.0
_GOODBYE_S = 1.0
#: Polls wait inside the actor, of a dispatcher and of its successor: other calls need threads of their own.
_THREADS = 8


class RemoteAgent:
    """Runs inside a Ray worker; ends itself when the raylet that started it dies, for Ray would let it live on."""

    def __init__(self, store_url: str, lease_s: float, home: str | None = None) -> None:
        """See `HostAgent`. On a host that joined, `benchfarm join` has set the rest in the raylet's environment.

        Args:
            store_url: where artifacts live, unless this host was told another way to the same store.
            lease_s: without a poll for so long, the agent ends its work.
            home: data directory; None: as the environment says.
        """
        raylet = os.getppid()
        node = read_process(raylet)
        own_pids = (raylet,) if node is None else (raylet, node.parent)
        where = Path(home or os.environ["BENCHFARM_HOME"])
        self._leaving = leaving_note(where)
        if home is not None:
            self._agent = HostAgent(where, store_url, lease_s, own_pids)
        else:
            drivers = os.environ.get("BENCHFARM_DRIVERS")
            self._agent = HostAgent(
                where,
                os.environ.get("BENCHFARM_STORE_URL") or store_url,
                lease_s,
                own_pids,
                name=os.environ["BENCHFARM_HOST_NAME"],
                labels=json.loads(os.environ.get("BENCHFARM_HOST_LABELS", "{}")),
                drivers=drivers.split(",") if drivers else None,
            )
        self._session = str(self._agent.hello()["session"])
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._said_goodbye = threading.Event()
        #: Its host leaves in order, rather than that its raylet died.
        self._leaves = False
        gc.freeze()  # Ray's modules stay as long as this process: no search for garbage need look at them again
        threading.Thread(target=self._watch_raylet, args=(raylet,), name="raylet-watch", daemon=True).start()

    def hello(self) -> dict[str, Any]:
        """See `HostAgent.hello`; and the Ray node it runs on."""
        return {**self._agent.hello(), "node": ray.get_runtime_context().get_node_id()}

    def start(self, orders: Sequence[dict[str, Any]]) -> None:
        """See `HostAgent.start`."""
        self._agent.start(orders)

    def poll(self, session: str, since: int, wait_s: float) -> dict[str, Any]:
        """See `HostAgent.poll`. When the host leaves or its raylet is dead, the last says whether all was ended here.

        A caller that takes this agent for its predecessor gets the session and nothing else: with the other's cursor
        it would drop what it never saw.
        """
        if session != self._session:
            return {"session": self._session}
        answer = self._agent.poll(since, wait_s) if not self._closing.is_set() else {}
        if not self._closing.is_set():
            return answer
        # No events: the place would be given to the next job before the caller hears that it is gone.
        self._closed.wait(_CLOSE_S)
        self._said_goodbye.set()
        return {"session": self._session, "closed": self._closed.is_set(), "left": self._leaves}

    def cancel(self, attempt_ids: Sequence[int], why: str) -> None:
        """See `HostAgent.cancel`."""
        self._agent.cancel(attempt_ids, why)

    def log(self, attempt_id: int, token: str) -> str:
        """See `HostAgent.log`."""
        return self._agent.log(attempt_id, token)

    def recover(self, device: str, rung: int) -> None:
        """See `HostAgent.recover`."""
        self._agent.recover(device, rung)

    def close(self) -> None:
        """See `HostAgent.close`."""
        self._agent.close()

    def _watch_raylet(self, raylet: int) -> None:
        while os.getppid() == raylet and not self._leaves:
            self._leaves = self._leaving.exists()
            time.sleep(_PARENT_PERIOD_S)
        self._closing.set()
        closing = threading.Thread(target=self._agent.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if not closing.is_alive():  # else something still runs: whoever comes next ends it
            self._closed.set()
        if self._said_goodbye.wait(_GOODBYE_S):
            time.sleep(_PARENT_PERIOD_S / 2)  # for the answer to leave this machine
        self._leaving.unlink(missing_ok=True)
        while os.getppid() == raylet:  # else Ray would start another agent
            time.sleep(_PARENT_PERIOD_S)
        os._exit(1)


def launch(home: Path, store_url: str, lease_s: float) -> Any:
    """Start the agent of an embedded Ray as an actor; it lives as long as its handle. Returns the handle."""
    actor = ray.remote(RemoteAgent).options(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=_THREADS)
    return actor.remote(store_url, lease_s, str(home))


def find_or_launch(name: str, store_url: str, lease_s: float) -> Any:
    """The agent of a host of this cluster, started there unless it is. Returns a handle.

    It is detached: it outlives whoever started it, and is started again, empty, when its process or its host dies.
    """
    actor = ray.remote(RemoteAgent).options(
        name=f"benchfarm-agent-{name}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=_THREADS,
        label_selector={HOST_LABEL: name},
    )
    return actor.remote(store_url, lease_s)
