"""A rack in a process of its own, and its phones as whoever started it sees them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

#: A command takes no longer, a restart included.
_ANSWER_S = 60.0


class FakeRackError(Exception):
    """The rack does not play, or cannot do what it was told."""


class PlayedPhone:
    """One phone of a rack, for whoever pulls its cable."""

    def __init__(self, rack: FakeRack, name: str, port: int, root: str) -> None:
        """`root` is its / as this process sees it."""
        self._rack, self.name, self.port = rack, name, port
        self._root = Path(root)

    @property
    def address(self) -> str:
        """What `adb connect` takes."""
        return f"127.0.0.1:{self.port}"

    @property
    def emulator(self) -> str:
        """adb's serial of a phone that was plugged into its server: always the port below."""
        return f"emulator-{self.port - 1}"

    def path(self, path: str) -> Path:
        """A file of the phone's, from outside."""
        return self._root / path.lstrip("/")

    def actions(self) -> list[str]:
        """What Android was told, one line for each call."""
        actions = self.path("/fake/actions")
        return actions.read_text().splitlines() if actions.exists() else []

    def plug(self) -> None:
        """Connect the cable."""
        self.port = int(self._tell("plug")["port"])

    def unplug(self) -> None:
        """Pull the cable."""
        self._tell("unplug")

    def cut(self) -> None:
        """Break the connection; the phone stays plugged."""
        self._tell("cut")

    def restart(self) -> None:
        """Restart it, and wait until it is up."""
        self._tell("restart")

    def break_(self, **faults: Any) -> None:
        """Set faults: fields of `workers.android.fake.wire.Faults`."""
        self._tell("break", **faults)

    def become(self, **condition: Any) -> None:
        """Change charge, heat or load: fields of `workers.android.fake.condition.Condition`."""
        self._tell("become", **condition)

    def leave_free(self, free_bytes: int | None) -> None:
        """Fill its storage up to so many bytes; None: as it was."""
        self._tell("leave_free", bytes=free_bytes)

    def _tell(self, what: str, **how: Any) -> dict[str, Any]:
        return self._rack.tell(self.name, what, how)


class FakeRack:
    """Plays phones while it is open; by name."""

    def __init__(
        self, phones: Sequence[dict[str, Any]], *, adb_port: int | None = None, unplugged: bool = False
    ) -> None:
        """Start it and wait until it plays.

        Args:
            phones: entries of `workers.android.fake.description.Description`.
            adb_port: the adb server on 127.0.0.1 that finds them by itself; None: it is told by `adb connect`.
            unplugged: none is plugged in yet.

        Raises:
            FakeRackError: it cannot be played here, or an entry cannot be read.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.android.fake", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._write({"phones": list(phones), "adb_port": adb_port, "unplugged": unplugged})
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if not first:
            self._end()
            self._process.stdout.close()
            raise FakeRackError(f"the rack ended with {self._process.returncode}: see what it printed")
        self.phones = {name: PlayedPhone(self, name, **where) for name, where in json.loads(first).items()}
        self._reader = threading.Thread(target=self._read, name="fake-rack", daemon=True)
        self._reader.start()

    def __getitem__(self, name: str) -> PlayedPhone:
        """A phone by its name."""
        return self.phones[name]

    def __enter__(self) -> FakeRack:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take it down."""
        self.close()

    @property
    def pid(self) -> int:
        """Of the process that plays."""
        return self._process.pid

    def tell(self, phone: str, what: str, how: dict[str, Any]) -> dict[str, Any]:
        """Give a command and wait for its answer.

        Raises:
            FakeRackError: it says no.
        """
        number = next(self._numbers)
        answer: Future[dict[str, Any]] = Future()
        self._waiting[number] = answer
        self._write({"id": number, "phone": phone, "do": what, "with": how})
        told = answer.result(timeout=_ANSWER_S)
        if "error" in told:
            raise FakeRackError(told["error"])
        state: dict[str, Any] = told["state"]
        return state

    def close(self) -> None:
        """End it, once or again: its phones' processes end with it."""
        self._end()
        self._reader.join()

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=_ANSWER_S)

    def _write(self, document: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._lock, suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(document) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._waiting.pop(answer["id"]).set_result(answer)
        self._process.stdout.close()
        for waiting in self._waiting.values():
            waiting.set_result({"error": "the rack ended"})
