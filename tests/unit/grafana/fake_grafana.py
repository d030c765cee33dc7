"""A Grafana for tests: a real HTTP server with the few endpoints that the publisher uses, and whatever goes wrong."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "glsa_0123456789"
#: Status, body and headers of an answer that is given instead of the right one.
Answer = tuple[int, bytes, dict[str, str]]


def saying(status: int, message: str = "no reason") -> Answer:
    """A refusal as Grafana words it."""
    return status, json.dumps({"message": message}).encode(), {"Content-Type": "application/json"}


class FakeGrafana:
    """One server. Dashboards and folders are kept as Grafana keeps them: with ids and versions of its own."""

    def __init__(self, prefix: str = "") -> None:
        """Listen on loopback.

        Args:
            prefix: path that it is served under, such as /grafana.
        """
        self.prefix = prefix
        self.folders: dict[str, str] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.folder_of: dict[str, str] = {}
        self.annotations: dict[int, dict[str, Any]] = {}
        #: Method and path of every request, in order, and what it sent as authorisation.
        self.requests: list[tuple[str, str]] = []
        self.authorisations: list[str | None] = []
        #: What goes wrong, request by request; None: this one goes well.
        self.wrong: deque[Answer | None] = deque()
        #: Called before a dashboard is written: somebody else is faster.
        self.meanwhile: Callable[[], None] = lambda: None
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._http.server_address[1]}{self.prefix}"

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Requests that change something."""
        return [request for request in self.requests if request[0] != "GET"]

    def close(self) -> None:
        """Listen no more."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def save(self, body: dict[str, Any]) -> Answer:
        """What POST /api/dashboards/db does."""
        self.meanwhile()
        sent = dict(body["dashboard"])
        uid = sent["uid"]
        there = self.dashboards.get(uid)
        if there is not None and not body.get("overwrite") and sent.get("version") != there["version"]:
            return saying(412, "The dashboard has been changed by someone else")
        version = 1 if there is None else there["version"] + 1
        number = len(self.dashboards) + 1 if there is None else there["id"]
        self.dashboards[uid] = sent | {"id": number, "version": version}
        self.folder_of[uid] = body.get("folderUid", "")
        return _document({"id": number, "uid": uid, "status": "success", "version": version})

    def annotate(self, method: str, number: str, query: str, body: Any) -> Answer:
        """What /api/annotations does."""
        if method == "GET":
            wanted = set(parse_qs(query)["tags"])
            found = [one | {"id": key} for key, one in self.annotations.items() if wanted <= set(one["tags"])]
            return 200, json.dumps(found).encode(), {"Content-Type": "application/json"}
        if method == "POST":
            self.annotations[len(self.annotations) + 1] = body
            return _document({"message": "Annotation added", "id": len(self.annotations)})
        if int(number) not in self.annotations:
            return saying(404, "Could not find annotation")
        self.annotations[int(number)] = body
        return _document({"message": "Annotation updated"})

    def answer(self, method: str, path: str, body: Any) -> Answer:
        """The right answer."""
        path, _, query = path.partition("?")
        parts = path.removeprefix(f"{self.prefix}/api/").split("/")
        if not path.startswith(f"{self.prefix}/api/"):
            return 404, b"<html>not found</html>", {}
        if parts[0] == "annotations":
            return self.annotate(method, parts[-1], query, body)
        if method == "GET" and parts[0] == "folders":
            title = self.folders.get(parts[1])
            return saying(404, "folder not found") if title is None else _document({"uid": parts[1], "title": title})
        if (method, parts) == ("POST", ["folders"]):
            if body["uid"] in self.folders:
                return saying(412, "a folder with that uid already exists")
            self.folders[body["uid"]] = body["title"]
            return _document({"uid": body["uid"], "title": body["title"]})
        if method == "GET" and parts[:2] == ["dashboards", "uid"]:
            there = self.dashboards.get(parts[2])
            if there is None:
                return saying(404, "Dashboard not found")
            return _document({"dashboard": there, "meta": {"folderUid": self.folder_of[parts[2]], "url": "/d/x"}})
        if (method, parts) == ("POST", ["dashboards", "db"]):
            return self.save(body)
        return saying(404, "Not found")


def _document(value: Any) -> Answer:
    return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _handler(grafana: FakeGrafana) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "null")
            grafana.requests.append((self.command, self.path))
            grafana.authorisations.append(self.headers.get("Authorization"))
            wrong = grafana.wrong.popleft() if grafana.wrong else None
            if wrong is not None:
                status, text, headers = wrong
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, text, headers = saying(401, "Invalid API key")
            else:
                status, text, headers = grafana.answer(self.command, self.path, body)
            if status == 0:  # the connection breaks
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = _do  # noqa: N815 - the library's names

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    return Handler
