"""Metrics over HTTP: what is answered, to how many, and where."""

from __future__ import annotations

import gzip
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporters.server import _MOST_AT_ONCE, MetricsServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MetricsServer]:
    """Of a farm that does not exist yet."""
    made = MetricsServer(f"sqlite:///{tmp_path / 'none.db'}", tmp_path, "127.0.0.1", 0)
    yield made
    made.close()


def get(server: MetricsServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    request = urllib.request.Request(f"http://{server.address}{path}", headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_metrics_and_health(server: MetricsServer) -> None:
    status, headers, body = get(server, "/metrics?name[]=ignored")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"benchfarm_exporter_scrape_success 0.0\n" in body
    assert get(server, "/healthz")[::2] == (200, b"ok\n")
    assert get(server, "/metrics", "HEAD")[::2] == (200, b"")


def test_compressed_where_wanted(server: MetricsServer) -> None:
    _, headers, body = get(server, "/metrics", **{"Accept-Encoding": "gzip, deflate"})
    assert headers["Content-Encoding"] == "gzip"
    assert b"benchfarm_exporter_scrape_success" in gzip.decompress(body)


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/metrics", "POST", 501)])
def test_nothing_else_is_answered(server: MetricsServer, path: str, method: str, status: int) -> None:
    assert get(server, path, method)[0] == status


def test_it_listens_on_loopback_only(server: MetricsServer) -> None:
    assert server.address.startswith("127.0.0.1:")


def test_an_address_that_is_taken(server: MetricsServer, tmp_path: Path) -> None:
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        MetricsServer(f"sqlite:///{tmp_path / 'none.db'}", tmp_path, "127.0.0.1", port)


def test_clients_that_say_nothing_do_not_pile_up(server: MetricsServer) -> None:
    host, _, port = server.address.rpartition(":")
    silent = [socket.create_connection((host, int(port)), timeout=30) for _ in range(_MOST_AT_ONCE)]
    with pytest.raises(OSError):  # turned away, this way or that
        get(server, "/healthz")
    for connection in silent:
        connection.close()
    while True:
        try:
            assert get(server, "/healthz")[0] == 200
        except OSError:
            continue  # its place is not free yet
        break
