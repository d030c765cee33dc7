"""A Prometheus of a test's own, from the installed binary: on loopback, in a folder, and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

#: A missing service skips on a laptop and fails in CI.
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None and "CI" not in os.environ, reason="Prometheus is not installed"
)


class PrometheusServer:
    """One server that scrapes one target every second."""

    def __init__(self, folder: Path, target: str) -> None:
        """Start, and wait until it answers.

        Args:
            folder: an empty one, for its data.
            target: HOST:PORT of the exporter.
        """
        binary = shutil.which("prometheus")
        assert binary is not None, "Prometheus is not installed"
        folder.mkdir(parents=True)
        config = folder / "prometheus.yml"
        job = {"job_name": "benchfarm", "static_configs": [{"targets": [target]}]}
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))  # YAML too
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [binary, *options, f"--web.listen-address={self._address}"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                with urlopen(f"http://{self._address}/-/ready", timeout=5):
                    return
            except (URLError, ConnectionError, TimeoutError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=60)

    def ask(self, path: str, **parameters: Any) -> Any:
        """The data of an answer.

        Raises:
            AssertionError: it refuses; with what it says.
        """
        query = urlencode(parameters, doseq=True)
        try:
            with urlopen(f"http://{self._address}/api/v1/{path}?{query}", timeout=30) as response:
                answer = json.load(response)
        except HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expr: str) -> float | None:
        """The value of an expression with one series now; None where there is none."""
        found = self.ask("query", query=expr)["result"]
        return float(found[0]["value"][1]) if found else None
