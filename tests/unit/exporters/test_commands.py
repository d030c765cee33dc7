"""`benchfarm exporter`, and the metrics of `benchfarm up`, before anything is served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import call, one_sentence


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


@pytest.mark.parametrize(("command", "option"), [("exporter", "--listen"), ("up", "--metrics")])
def test_an_address_that_is_taken_is_refused_before_anything_begins(
    home: Path, taken: int, command: str, option: str
) -> None:
    done = call(home, command, option, f"127.0.0.1:{taken}")
    assert done.returncode == 2
    said = one_sentence(done)
    assert said.startswith(f"benchfarm: metrics cannot be served at 127.0.0.1:{taken} (Address already in use): ")
    assert option in said
    assert not (home / "benchfarm.db").exists()


def test_an_address_that_is_none(home: Path) -> None:
    done = call(home, "exporter", "--listen", "127.0.0.1:http")
    assert done.returncode == 2
    assert "is no address" in one_sentence(done)
