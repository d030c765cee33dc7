"""What an agent has to tell and nobody took yet."""

from __future__ import annotations

from collections import deque
from typing import Any

#: Kinds of event that an attempt ends with.
_ENDS = ("finished", "lost")
#: Events of kind readings that are kept.
_MOST_READINGS = 5


class Outbox:
    """Events in the order they came, numbered from 1. Not locked: that is its owner's to do."""

    def __init__(self) -> None:
        """Nothing to tell."""
        self._events: deque[dict[str, Any]] = deque()
        self._sequence = 0
        #: Attempts, by id and token, whose end was not taken yet.
        self._ends: set[tuple[int, str]] = set()

    def __len__(self) -> int:
        """How many events there are."""
        return len(self._events)

    def add(self, kind: str, **details: Any) -> None:
        """Add an event. `spooled` of an end: whether there is a folder to free once it was taken."""
        self._sequence += 1
        event = {"sequence": self._sequence, "kind": kind, **details}
        if kind in _ENDS:
            event.setdefault("spooled", True)
            self._ends.add((event["attempt_id"], event["token"]))
        elif kind == "readings":  # of devices between attempts: what nobody takes for minutes is missed by nobody
            older = [known for known in self._events if known["kind"] == kind]
            if len(older) >= _MOST_READINGS:
                self._events.remove(older[0])
        elif kind == "devices":  # each lists all there are: the newest is enough, however often a device comes and goes
            self._events = deque(known for known in self._events if known["kind"] != kind)
        self._events.append(event)

    def take(self, since: int) -> list[dict[str, Any]]:
        """Drop the events up to a number, which were taken; returns those that leave a folder to free."""
        folders = []
        while self._events and self._events[0]["sequence"] <= since:
            event = self._events.popleft()
            if event["kind"] in _ENDS:
                self._ends.discard((event["attempt_id"], event["token"]))
                if event["spooled"]:
                    folders.append(event)
        return folders

    def events(self) -> list[dict[str, Any]]:
        """All that there is to tell."""
        return list(self._events)

    def tells_of(self, attempt_id: int, token: str) -> bool:
        """Whether the end of an attempt is to be told."""
        return (attempt_id, token) in self._ends
