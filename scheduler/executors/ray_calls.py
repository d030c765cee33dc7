"""Calls to agents that are Ray actors: none waits for a host that is slow. Imports no Ray: it is handed in."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scheduler.executors.executor import Lost

log = logging.getLogger(__name__)

#: How long a poll waits inside the agent for something to tell.
_POLL_WAIT_S = 1.0
#: A poll that is out for longer means a host that hangs, or cannot be reached.
_CALL_S = 15.0
#: An agent begins by ending what its predecessor left and finding its devices; one that takes longer hangs.
_HELLO_S = 60.0
#: A log is wanted by a person, who can ask again.
_LOG_S = 5.0


@dataclass
class _Agent:
    """An agent that has said hello."""

    actor: Any
    session: str
    #: When it was last polled; before that, when it said hello.
    polled_at: float
    #: The poll that is out.
    poll: Any = None


class RayCalls:
    """What executors through Ray have in common: everything but where agents come from.

    An agent is greeted, then polled; one that is lost is forgotten, and greeted again when it is found again.
    """

    def __init__(self, ray: Any, lease_s: float) -> None:
        """Call through this Ray, to which this process is connected; agents have that lease."""
        self._ray = ray
        #: A host must be out of reach before its attempts are given up: nothing may begin there.
        self._silence_s = min(_CALL_S, lease_s)
        self._agents: dict[str, _Agent] = {}
        #: Hellos that are out: the reference by host, with its actor, and since when.
        self._greeted: dict[str, tuple[Any, Any, float]] = {}
        #: Calls whose answer says nothing, watched for errors: the reference, and what it was.
        self._sent: dict[Any, str] = {}

    def arrivals(self) -> dict[str, dict[str, Any]]:
        """See `Executor.arrivals`."""
        came = {}
        now = time.monotonic()
        for ref in self._ready([ref for ref, _, _ in self._greeted.values()], 0):
            name = next(name for name, (out, _, _) in self._greeted.items() if out == ref)
            _, actor, _ = self._greeted.pop(name)
            try:
                hello = dict(self._ray.get(ref, timeout=_CALL_S))
            except self._ray.exceptions.RayError as error:
                self._no_hello(name, actor, _said(error))
                continue
            if self._welcome(name, actor, hello):
                self._agents[name] = _Agent(actor, str(hello["session"]), now)
                came[name] = hello
        for name, (_, actor, since) in list(self._greeted.items()):
            if now - since > _HELLO_S:
                del self._greeted[name]
                self._no_hello(name, actor, f"it has said nothing for {_HELLO_S:.0f} s")
        return came

    def start(self, host: str, orders: Sequence[dict[str, Any]]) -> None:
        """See `Executor.start`."""
        self._send(host, "start", list(orders))

    def cancel(self, host: str, attempt_ids: Sequence[int], why: str) -> None:
        """See `Executor.cancel`."""
        self._send(host, "cancel", list(attempt_ids), why)

    def recover(self, host: str, device: str, rung: int) -> None:
        """See `Executor.recover`."""
        self._send(host, "recover", device, rung)

    def poll(self, cursors: Mapping[str, int], wait_s: float) -> dict[str, dict[str, Any] | Lost]:
        """See `Executor.poll`."""
        answers: dict[str, dict[str, Any] | Lost] = {}
        now = time.monotonic()
        names: dict[Any, str] = {}
        for name, cursor in cursors.items():
            agent = self._agents.get(name)
            if agent is None:
                continue
            if agent.poll is None:
                agent.poll = agent.actor.poll.remote(agent.session, cursor, _POLL_WAIT_S)
                agent.polled_at = now
            names[agent.poll] = name
        for ref in self._ready(list(names), wait_s):
            answer = self._answer(names.pop(ref), ref)
            if answer is not None:
                answers.update(answer)
        for name in names.values():
            if now - self._agents[name].polled_at > _POLL_WAIT_S + self._silence_s:
                answers[name] = self._drop(name, f"it does not answer (for {self._silence_s:.0f} s)")
        self._check_sent()
        return answers

    def log(self, host: str, attempt_id: int, token: str) -> str:
        """See `Executor.log`."""
        if (agent := self._agents.get(host)) is None:
            return ""
        try:
            return str(self._ray.get(agent.actor.log.remote(attempt_id, token), timeout=_LOG_S))
        except self._ray.exceptions.RayError:
            return ""

    # Below: what a way of finding agents adds.

    def greet(self, name: str, actor: Any) -> None:
        """Ask an agent who it is; its answer makes it an arrival. Does not wait, and renews no lease."""
        self._greeted[name] = (actor.hello.remote(), actor, time.monotonic())

    def _welcome(self, name: str, actor: Any, hello: dict[str, Any]) -> bool:
        """Whether an agent that said hello is taken; else whoever refuses it sees to what comes next."""
        return True

    def _no_hello(self, name: str, actor: Any, why: str) -> None:
        """An agent could not be asked."""

    def _gone(self, name: str, why: str) -> Lost | None:
        """An agent's process is gone. What that says of its host, if it can be said at once."""
        return self._drop(name, why)

    def _drop(self, name: str, why: str, *, dead: bool = False, left: bool = False) -> Lost:
        """Forget an agent until it is found again."""
        self._agents.pop(name, None)
        return Lost(why, dead, left)

    # Below: answers.

    def _answer(self, name: str, ref: Any) -> dict[str, dict[str, Any] | Lost] | None:
        agent = self._agents[name]
        agent.poll = None
        try:
            answer = self._ray.get(ref, timeout=_CALL_S)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError) as error:
            lost = self._gone(name, f"its agent does not answer ({_said(error)})")
            return None if lost is None else {name: lost}
        except self._ray.exceptions.RayError as error:
            # It answers with an error: a thread of it died, and it will not heal. Ray starts it anew where it may.
            self._ray.kill(agent.actor, no_restart=False)
            return {name: self._drop(name, f"its agent broke: {_said(error)}")}
        if answer["session"] != agent.session:
            return {name: self._drop(name, "its agent was started anew")}
        if "closed" in answer:
            why = "it left the farm" if answer["left"] else "its Ray node ended"
            return {name: self._drop(name, why, dead=answer["closed"], left=answer["left"])}
        return {name: answer}

    def _send(self, host: str, method: str, *arguments: Any) -> None:
        agent = self._agents.get(host)
        if agent is not None:  # else it was lost a moment ago, and the next poll says so
            self._sent[getattr(agent.actor, method).remote(*arguments)] = f"{method} on {host}"

    def _check_sent(self) -> None:
        for ref in self._ready(list(self._sent), 0):
            what = self._sent.pop(ref)
            try:
                self._ray.get(ref, timeout=_CALL_S)
            except self._ray.exceptions.RayActorError:
                pass  # the agent is gone: its poll says so
            except self._ray.exceptions.RayError as error:
                log.error("%s: %s", what, _said(error), extra={"action": "call_failed"})

    def _ready(self, refs: list[Any], wait_s: float) -> list[Any]:
        """Those that are in; waits for the first only, then takes all there are."""
        if not refs:
            if wait_s > 0:
                time.sleep(wait_s)
            return []
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=wait_s)
        if ready and len(refs) > 1:
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return list(ready)


def _said(error: Exception) -> str:
    """One line of an error that came through Ray: the agent's own where there is one."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {str(cause).strip()}".splitlines()[0]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # An agent whose constructor failed: Ray prints its traceback, which ends with what went wrong.
    if lines and "creation task" in lines[0]:
        return lines[-1]
    return type(error).__name__
