"""Metrics over HTTP, on loopback unless told otherwise: /metrics for Prometheus, /healthz for whoever watches."""

from __future__ import annotations

import gzip
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from exporters.budget import DEFAULT_SERIES
from exporters.keeper import Keeper
from exporters.prometheus import CONTENT_TYPE, Exposition
from exporters.reader import FarmReader

DEFAULT_PORT = 9464
#: Scrapes at one time; more are turned away.
_MOST_AT_ONCE = 8
#: A client that says or takes nothing for so long is given up.
_CLIENT_S = 10.0


class MetricsServer:
    """The exporter as a whole: a thread that reads the database when asked, and one that listens."""

    def __init__(self, url: str, home: Path, host: str, port: int, *, budget: int = DEFAULT_SERIES) -> None:
        """Listen; the database is looked at when somebody asks.

        Args:
            url: of the database.
            home: the data directory.
            host: to listen at.
            port: to listen at; 0: any that is free.
            budget: series at most.

        Raises:
            UsageError: the URL cannot be used.
            OSError: the address cannot be listened at.
        """
        reader = FarmReader(url, home, budget=budget)
        self._http = _Server((host, port))
        self._keeper = Keeper(reader)
        self._http.exposition = Exposition(self._keeper, budget=budget)
        self._thread = threading.Thread(target=self._http.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT that it listens at."""
        host, port = self._http.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        """Listen no more."""
        self._http.shutdown()
        self._http.server_close()
        self._keeper.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    exposition: Exposition

    def __init__(self, address: tuple[str, int]) -> None:
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks the name service what this machine is called.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "benchfarm"
    sys_version = ""
    timeout = _CLIENT_S

    def do_GET(self) -> None:
        """/metrics, /healthz."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE, self.server.exposition.text())
        elif path == "/healthz":
            alive = self.server.exposition.keeper.alive
            self._answer(200 if alive else 503, "text/plain", b"ok\n" if alive else b"the exporter's thread ended\n")
        else:
            self._answer(404, "text/plain", b"see /metrics\n")

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """A line for each scrape would tell nothing."""
