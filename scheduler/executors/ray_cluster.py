"""The agents of a Ray cluster: found by the label of their node, started where there is none, called by name."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_registry.errors import BenchfarmError
from scheduler.executors.executor import Lost
from scheduler.executors.ray_calls import RayCalls
from workers.agent import AGENT_VERSION
from workers.ray_environment import LOOPBACK, NAMESPACE, find_token, parse_address, set_ray_environment
from workers.ray_node import HOST_LABEL, listens

log = logging.getLogger(__name__)

#: Nodes are looked for so often.
_LOOK_S = 1.0
#: An agent that cannot be asked, or that the dispatcher refused, is asked again after so long.
_AGAIN_S = 5.0
_CONNECT_S = 30.0
_PROBE_S = 1.0
#: An agent ends within 5 s of its raylet: until then its work may go on.
_DYING_S = 6.0


class HeadLostError(BenchfarmError):
    """The head of the Ray cluster does not answer."""


def connect(address: str, token_path: Path) -> Any:
    """Connect this process to a cluster, once; returns Ray.

    Raises:
        UsageError: the address or the token file cannot be used.
        HeadLostError: no head answers there, or not to this token.
    """
    host, port = parse_address(address)
    token = find_token(token_path)
    if listens(host, port, 5.0) is not True:
        raise HeadLostError(f"no Ray head answers at {host}:{port}: start one with `benchfarm head`")
    set_ray_environment(token, loopback=host in LOOPBACK)
    import ray

    # Ray would print the last lines of a dead host's log among ours, and greet signals with a stack.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    logging.getLogger("ray").setLevel(logging.ERROR)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    failure: list[Exception] = []

    def attach() -> None:
        try:
            ray.init(
                address=f"{host}:{port}",
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
            )
        except Exception as error:
            failure.append(error)

    # With a wrong token Ray tries for minutes.
    attaching = threading.Thread(target=attach, name="ray-connect", daemon=True)
    attaching.start()
    attaching.join(_CONNECT_S)
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if failure or attaching.is_alive():
        said = type(failure[0]).__name__ if failure else f"no answer in {_CONNECT_S:.0f} s"
        raise HeadLostError(
            f"the Ray head at {host}:{port} does not take this process in ({said}): is {token} its token?"
        )
    return ray


@dataclass
class _Found:
    """What the look-out has seen, and what it is asked for; shared under its lock."""

    #: Node id to the address of its raylet.
    nodes: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: Ids of the live nodes of each host.
    alive: dict[str, set[str]] = field(default_factory=dict)
    #: Agents to greet.
    fresh: dict[str, Any] = field(default_factory=dict)
    #: Hosts whose agent is in use or was asked; others are looked for. To when.
    known: dict[str, float] = field(default_factory=dict)
    #: What the probe of a raylet said: True, False where it is dead, None without an answer.
    probed: dict[str, bool | None] = field(default_factory=dict)


class ClusterRayExecutor(RayCalls):
    """Finds and calls the agents of a cluster. They outlive it: closing it disturbs nothing."""

    def __init__(self, ray: Any, address: str, store_url: str, lease_s: float) -> None:
        """Look for hosts from now on.

        Args:
            ray: as `connect` returned it.
            address: of the head.
            store_url: where artifacts live, as agents are told.
            lease_s: without a poll for so long, an agent ends its work.
        """
        super().__init__(ray, lease_s)
        self._address = parse_address(address)
        self._store_url, self._lease_s = store_url, lease_s
        self._lock = threading.Lock()
        self._found = _Found()
        #: Node of each agent in use.
        self._node_of: dict[str, str] = {}
        #: Agents that are gone: since when, and why; until the probe of their raylet has answered.
        self._doubtful: dict[str, tuple[float, str]] = {}
        #: Hosts whose agent said that nothing runs there.
        self._idle: set[str] = set()
        #: Agents that were of no use and were replaced, by node: once.
        self._replaced: set[str] = set()
        self._said: set[str] = set()
        self._failure: Exception | None = None
        self._closed = threading.Event()
        self._look_out = threading.Thread(target=self._watch, name="ray-look-out", daemon=True)
        self._look_out.start()

    def arrivals(self) -> dict[str, dict[str, Any]]:
        """See `Executor.arrivals`.

        Raises:
            HeadLostError: the head is gone.
        """
        if self._failure is not None:
            raise HeadLostError(f"the Ray head at {self._address[0]}:{self._address[1]} is gone") from self._failure
        with self._lock:
            fresh, self._found.fresh = self._found.fresh, {}
        for name, actor in fresh.items():
            self.greet(name, actor)
        return super().arrivals()

    def poll(self, cursors: Mapping[str, int], wait_s: float) -> dict[str, dict[str, Any] | Lost]:
        """See `Executor.poll`."""
        answers = super().poll({name: at for name, at in cursors.items() if name not in self._doubtful}, wait_s)
        for name in self._agents.keys() - cursors.keys():
            if time.monotonic() - self._agents[name].polled_at > _AGAIN_S:
                self._refused(name)
        for name, (since, why) in list(self._doubtful.items()):
            with self._lock:
                if name not in self._found.probed:
                    continue
                answered = self._found.probed[name]
            if answered is not False:
                answers[name] = self._drop(name, why)
            elif time.monotonic() - since > _DYING_S:
                answers[name] = self._drop(name, f"{why}; its raylet is dead", dead=True)
        return answers

    def close(self) -> None:
        """See `Executor.close`."""
        self._closed.set()
        self._look_out.join(timeout=_AGAIN_S)

    def _welcome(self, name: str, actor: Any, hello: dict[str, Any]) -> bool:
        node = str(hello["node"])
        self._node_of[name] = node
        self._doubtful.pop(name, None)
        if hello["running"]:
            self._idle.discard(name)
        else:
            self._idle.add(name)
        if hello["version"] != AGENT_VERSION:
            return not self._replace(name, actor, f"its agent is of version {hello['version']}")
        log.info("%s is here, with %d devices", name, len(hello["devices"]), extra={"action": "arrival"})
        return True

    def _refused(self, name: str) -> None:
        """The dispatcher does not poll it: whatever it objects to may be mended by now."""
        agent = self._agents.pop(name)
        if not self._replace(name, agent.actor, "it is refused"):
            self._look_again(name, 0.0)

    def _replace(self, name: str, actor: Any, why: str) -> bool:
        """Start an idle agent anew, once: its code, and the store it was told, are those of the day it was started."""
        node = self._node_of[name]
        if name not in self._idle or node in self._replaced:
            return False
        self._replaced.add(node)
        self._say(f"{name}: {why}; its agent is started anew")
        self._ray.kill(actor, no_restart=True)
        self._look_again(name, 1.0)
        return True

    def _no_hello(self, name: str, actor: Any, why: str) -> None:
        self._say(f"{name}: its agent does not come up: {why}")
        self._look_again(name, _AGAIN_S)

    def _gone(self, name: str, why: str) -> Lost | None:
        """Whether its raylet is dead as well decides: a thread asks, for that machine may not answer."""
        self._doubtful[name] = (time.monotonic(), why)
        with self._lock:
            self._found.probed.pop(name, None)
            address = self._found.nodes.get(self._node_of.get(name, ""))
        threading.Thread(target=self._probe, args=(name, address), name=f"probe-{name}", daemon=True).start()
        return None

    def _drop(self, name: str, why: str, *, dead: bool = False, left: bool = False) -> Lost:
        log.warning("%s is %s: %s", name, "gone" if left else "lost", why, extra={"action": "lost"})
        self._doubtful.pop(name, None)
        # Who left is there for a moment more: it is looked for once it is there on another node.
        self._look_again(name, math.inf if left else 0.0)
        return super()._drop(name, why, dead=dead, left=left)

    def _probe(self, name: str, address: tuple[str, int] | None) -> None:
        answered = None if address is None else listens(*address, _PROBE_S)
        with self._lock:
            self._found.probed[name] = answered

    def _look_again(self, name: str, after_s: float) -> None:
        with self._lock:
            self._found.known[name] = time.monotonic() + after_s

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text, extra={"action": "host"})

    # Below: the look-out's thread.

    def _watch(self) -> None:
        from workers.ray_agent import find_or_launch

        try:
            while not self._closed.wait(_LOOK_S):
                if listens(*self._address, _PROBE_S) is False:
                    raise ConnectionRefusedError("nothing listens there")
                self._look(lambda name: find_or_launch(name, self._store_url, self._lease_s))
        except Exception as error:  # the head is gone, or Ray broke: the loop that calls us ends with it
            self._failure = error

    def _look(self, launch: Callable[[str], Any]) -> None:
        now = time.monotonic()
        alive: dict[str, set[str]] = {}
        nodes = {}
        for node in self._ray.nodes():
            nodes[node["NodeID"]] = (node["NodeManagerAddress"], int(node["NodeManagerPort"]))
            if node["Alive"] and (name := node["Labels"].get(HOST_LABEL)):
                alive.setdefault(name, set()).add(node["NodeID"])
        for name, ids in alive.items():
            if len(ids) > 1:
                addresses = ", ".join(sorted(nodes[known][0] for known in ids))
                self._say(
                    f"{name}: two live hosts have this name ({addresses}); one of them gets no work:"
                    " give it another --name"
                )
        with self._lock:
            for name in self._found.known.keys() - self._agents.keys():  # one in use is polled, and missed where it is
                if alive.get(name) != self._found.alive.get(name):
                    del self._found.known[name]
            self._found.nodes, self._found.alive = nodes, alive
            wanted = [name for name in alive if self._found.known.get(name, 0.0) <= now]
        for name in wanted:
            actor = launch(name)
            with self._lock:
                self._found.fresh[name] = actor
                self._found.known[name] = math.inf
