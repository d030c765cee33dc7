"""Starts a Ray node as a child process, hears what it says, and ends it with all that it started."""

from __future__ import annotations

import json
import os
import queue
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from device_registry.errors import BenchfarmError, UsageError
from workers.processes import end_marked, with_environment
from workers.ray_environment import LOOPBACK, set_ray_environment
from workers.spool import RAY_SESSION_VARIABLE, record_ray_session

#: A raylet and its first worker, on a machine that is busy.
_READY_S = 90.0
#: An agent ends within 5 s of its raylet.
_GONE_S = 7.0


class RayNodeError(BenchfarmError):
    """A Ray node did not come up."""


class RayNodeRefusedError(UsageError):
    """A host cannot join as it is."""


class RayNode:
    """One Ray node. Its processes carry a mark, so that whoever comes after a kill -9 of this one ends them."""

    def __init__(
        self,
        home: Path,
        token: Path,
        address: tuple[str, int],
        *,
        head: bool,
        labels: Mapping[str, str] | None = None,
        own_ip: str | None = None,
        log_name: str,
    ) -> None:
        """Begin to start it.

        Args:
            home: data directory: the record of the session and the log are kept there.
            token: file of the farm's token.
            address: of the head.
            head: whether this is the head itself.
            labels: of the node.
            own_ip: the address of this machine that others reach it at; None: the one the head is reached from.
            log_name: file for what Ray prints.
        """
        self._session = secrets.token_hex(16)
        # Short: the path of a unix socket below it must fit 107 bytes. Not the head's: hosts may share a machine.
        self._folder = Path(tempfile.mkdtemp(prefix="bf-"))
        self._record = record_ray_session(home / "spool", self._session, self._folder)
        host, port = address
        loopback = host in LOOPBACK
        set_ray_environment(token, loopback=loopback, session=self._session)
        task = {
            "head": head,
            "host": host,
            "port": port,
            "own_ip": host if head or loopback else own_ip,
            "folder": str(self._folder),
            "labels": dict(labels or {}),
            "with_parent": True,
        }
        # What reaches the database is no business of a host's processes.
        environment = {name: value for name, value in os.environ.items() if name != "BENCHFARM_DATABASE_URL"}
        with (home / log_name).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.ray_node", json.dumps(task)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, name="ray-node", daemon=True).start()

    def wait_ready(self) -> None:
        """Wait until it is up.

        Raises:
            RayNodeRefusedError: it cannot join as it is; the reason says what to change.
            RayNodeError: it did not come up.
        """
        try:
            said = self._said.get(timeout=_READY_S)
        except queue.Empty:
            said = {"failed": f"Ray did not come up within {_READY_S:.0f} s; if the head is up, is the token its own?"}
        if "ready" in said:
            return
        self.end()
        if "refused" in said:
            raise RayNodeRefusedError(said["refused"])
        raise RayNodeError(said["failed"])

    def why_ended(self, wait_s: float) -> str | None:
        """Why it ended, waiting a while; None while it runs."""
        try:
            self._process.wait(timeout=wait_s)
        except subprocess.TimeoutExpired:
            return None
        with suppress(queue.Empty):
            return str(self._said.get(timeout=1).get("failed"))
        return "it was killed"

    def end(self) -> None:
        """End it, and wait until the agent on it has ended its work and itself."""
        self._process.terminate()
        deadline = time.monotonic() + _GONE_S
        while self._process.poll() is None or with_environment(RAY_SESSION_VARIABLE, self._session):
            if time.monotonic() > deadline:
                self._process.kill()
                break
            time.sleep(0.1)
        self._process.wait()
        end_marked(RAY_SESSION_VARIABLE, self._session)
        self._record.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):  # Ray prints there too
                said = json.loads(line)
                if isinstance(said, dict):
                    self._said.put(said)
        self._said.put({"failed": "its process ended"})
