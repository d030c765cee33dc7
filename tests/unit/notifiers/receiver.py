"""A webhook's receiver: a real HTTP server on loopback that keeps what it gets, and whatever goes wrong with one."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What it says: a status of 0 hangs up at once, `hang` says nothing until the test is over."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    hang: bool = False
    #: Promise more than is sent.
    cut: bool = False


class Receiver:
    """One server."""

    def __init__(self) -> None:
        """Listen on loopback."""
        self.got: list[Got] = []
        #: What goes wrong, request by request; afterwards, and where None is, all is well.
        self.wrong: deque[Answer | None] = deque()
        #: Said to every request that `wrong` says nothing about.
        self.usual = Answer()
        self.over = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where messages go; the path is a secret, as Slack's is."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/services/s3cr3t-p4th"

    def close(self) -> None:
        """Listen no more."""
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            receiver.got.append(Got(self.path, dict(self.headers.items()), body))
            said = (receiver.wrong.popleft() if receiver.wrong else None) or receiver.usual
            if said.hang:
                receiver.over.wait(30)
                return
            if said.status == 0:
                self.connection.close()
                return
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body) + (100 if said.cut else 0)))
            self.end_headers()
            self.wfile.write(said.body)

        def do_GET(self) -> None:
            receiver.got.append(Got(self.path, dict(self.headers.items()), b""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):  # hung up
                self.close_connection = True

        def finish(self) -> None:
            with suppress(OSError, ValueError):
                super().finish()

    return Handler
