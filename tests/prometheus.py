"""Debian's Prometheus for tests: a server with a folder and a port of its own, and promtool."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hosts import wait_until

#: A missing service skips on a laptop and fails in CI.
needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None and "CI" not in os.environ, reason="Prometheus is not installed"
)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def promtool(*arguments: str) -> str:
    """What `promtool ARGUMENTS` says; it must not fail."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class PrometheusServer:
    """One server that scrapes what its configuration says."""

    def __init__(self, folder: Path, configuration: str) -> None:
        """Start it with this configuration, its data in `folder`, and wait until it answers."""
        folder.mkdir()
        file = folder / "prometheus.yml"
        file.write_text(configuration)
        self.address = f"127.0.0.1:{free_port()}"
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.address}",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 60, doing="Prometheus")

    def query(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """Labels, without the name, to values now."""
        answer = self.get("query", query=expression)
        return {
            frozenset((name, text) for name, text in row["metric"].items() if name != "__name__"): float(
                row["value"][1]
            )
            for row in answer["result"]
        }

    def value(self, expression: str) -> float | None:
        """The one value of an expression; None where there is none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return next(iter(found.values()), None)

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of the HTTP API."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=60)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
