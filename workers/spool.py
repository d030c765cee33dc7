"""The agent's memory on disk: a folder per attempt, so that a successor finds, ends and reports what it left."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.codec import ContractError, read_document, write_document
from workers.contract import Order
from workers.errors import AttemptError, Cause
from workers.processes import end_group, end_marked, is_alive, read_process, this_process
from workers.report import Report

#: Every process of an embedded Ray carries this variable with the session's own value.
RAY_SESSION_VARIABLE = "BENCHFARM_RAY_SESSION"
#: Every process of an attempt carries this variable with the name of the attempt's folder.
ATTEMPT_VARIABLE = "BENCHFARM_ATTEMPT"


@dataclass(frozen=True)
class LeftOver:
    """What a predecessor left of one attempt."""

    attempt_id: int
    token: str
    #: Its report, if it got that far.
    report: Report | None


class Spool:
    """One folder on the host; one agent at a time holds its lock."""

    def __init__(self, root: Path) -> None:
        """Take the spool; end the predecessor if it still holds it.

        Raises:
            AttemptError: another live agent holds it and would not end.
        """
        self.root = root
        self._attempts = root / "attempts"
        self._attempts.mkdir(parents=True, exist_ok=True)
        self._lock = (root / "agent.lock").open("a+")
        self._take_lock()

    def close(self) -> None:
        """Give the spool back."""
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.flush()
        self._lock.close()

    def open_attempt(self, order: Order) -> Path:
        """Make the folder of an attempt, with its order in it."""
        folder = self.folder(order.attempt_id, order.token)
        folder.mkdir()
        (folder / "tmp").mkdir()
        write_document(order, folder / "order.json")
        return folder

    def folder(self, attempt_id: int, token: str) -> Path:
        """The folder of an attempt; the token in its name keeps two tries of a database apart."""
        return self._attempts / f"{attempt_id}-{token[:8]}"

    def record_process(self, folder: Path, pid: int) -> None:
        """Write down the group that runs an attempt, before anything else can happen to us."""
        process = read_process(pid)
        if process is not None:
            _write_json(folder / "process.json", {"pid": pid, "started": process.started})

    def finish(self, folder: Path, report: Report) -> None:
        """Keep a report until it was taken; free what is no longer needed."""
        write_document(report, folder / "report.json")
        for name in ("out", "tmp"):
            shutil.rmtree(folder / name, ignore_errors=True)

    def forget(self, attempt_id: int, token: str) -> None:
        """Drop an attempt whose report was taken."""
        shutil.rmtree(self.folder(attempt_id, token), ignore_errors=True)

    def sweep(self) -> list[LeftOver]:
        """End everything a predecessor left, and say what it was. The first act of an agent."""
        found = []
        for folder in sorted(self._attempts.iterdir()):
            if (running := _read_json(folder / "process.json")) is not None:
                end_group(int(running["pid"]), float(running["started"]))
            end_marked(ATTEMPT_VARIABLE, folder.name)
            try:
                order = read_document(Order, folder / "order.json")
            except (OSError, ContractError):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            report = None
            with suppress(OSError, ContractError):
                report = read_document(Report, folder / "report.json")
            found.append(LeftOver(order.attempt_id, order.token, report))
        return found

    def _take_lock(self) -> None:
        deadline = time.monotonic() + 10
        killed = False
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._lock.close()
                    raise AttemptError(
                        Cause.INFRASTRUCTURE, "agent_running", f"another agent holds {self.root}; end it first"
                    ) from None
            if not killed and time.monotonic() > deadline - 8:  # two seconds to end by itself
                killed = True
                if (holder := agent_of(self.root.parent)) is not None and holder != os.getpid():
                    with suppress(OSError):  # gone meanwhile, or another user's: then it is an agent that runs
                        os.kill(holder, 9)
            time.sleep(0.05)
        me = this_process()
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(json.dumps({"pid": me.pid, "started": me.started}))
        self._lock.flush()


def agent_of(home: Path) -> int | None:
    """The process of the agent that holds a data directory; None where none does."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads((home / "spool" / "agent.lock").read_text(encoding="ascii"))
        if is_alive(holder["pid"], holder["started"]):
            return int(holder["pid"])
    return None


def leaving_note(home: Path) -> Path:
    """Where a host that leaves asks its agent to end; the agent removes it once it has, and has told the farm."""
    return home / "spool" / "leaving"


def record_ray_session(root: Path, session: str, folder: Path) -> Path:
    """Write down an embedded Ray before it starts: its driver, its mark and its folder. Returns the record."""
    sessions = root / "ray"
    sessions.mkdir(parents=True, exist_ok=True)
    me = this_process()
    record = sessions / f"{session}.json"
    _write_json(record, {"pid": me.pid, "started": me.started, "folder": str(folder)})
    return record


def sweep_ray_sessions(root: Path) -> int:
    """End the processes of embedded Rays whose driver died, by their mark; returns how many were ended."""
    ended = 0
    for record in _files(root / "ray"):
        session = _read_json(record)
        if session is None or is_alive(int(session["pid"]), float(session["started"])):
            continue
        ended += end_marked(RAY_SESSION_VARIABLE, record.stem)
        shutil.rmtree(str(session["folder"]), ignore_errors=True)
        record.unlink(missing_ok=True)
    return ended


def _files(folder: Path) -> Iterator[Path]:
    return folder.glob("*.json") if folder.exists() else iter(())


def _write_json(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value), encoding="ascii")
    partial.replace(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
