"""What a host says of itself, and what keeps it out, before anything is started."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.errors import UsageError
from workers import join
from workers.join import check_name, parse_labels
from workers.ray_environment import find_token, make_token, parse_address
from workers.ray_node import mismatch, versions
from workers.spool import Spool, leaving_note


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 6379)),
        ("lab-head:7000", ("lab-head", 7000)),
        ("localhost", ("127.0.0.1", 6379)),
    ],
)
def test_an_address_has_a_port_that_may_be_left_out(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", ":6379", "host:http", "host:80", "host:65536", "a:1:2"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        parse_address(text)


@given(st.text(max_size=70))
def test_a_name_is_refused_or_kept_as_it_is(text: str) -> None:
    try:
        assert check_name(text) == text
    except UsageError:
        return
    assert 1 <= len(text) <= 63
    assert text.isascii()
    assert "/" not in text
    assert " " not in text


def test_labels() -> None:
    assert parse_labels(["rack=a", "note=x=y", "empty="]) == {"rack": "a", "note": "x=y", "empty": ""}
    for wrong in ("rack", "=a", "Rack=a", "1=a"):
        with pytest.raises(UsageError, match="write key=value"):
            parse_labels([wrong])


def test_a_token_is_its_owners_alone(tmp_path: Path) -> None:
    path = make_token(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    assert make_token(tmp_path).read_text() == before
    assert find_token(path) == path
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        find_token(path)
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(UsageError, match="is empty"):
        find_token(path)
    with pytest.raises(UsageError, match="no token of a farm"):
        find_token(tmp_path / "none")


def test_a_host_that_leaves_waits_until_its_agent_has_said_goodbye(tmp_path: Path) -> None:
    note = leaving_note(tmp_path)
    join._take_leave(tmp_path)  # there is no agent to wait for
    assert not note.exists()
    spool = Spool(tmp_path / "spool")
    goodbye: list[bool] = []

    def agent() -> None:
        while not note.exists():
            time.sleep(0.01)
        goodbye.append(True)
        note.unlink()

    thread = threading.Thread(target=agent)
    thread.start()
    join._take_leave(tmp_path)
    assert goodbye == [True]
    thread.join()
    spool.close()


def test_only_equal_versions_join() -> None:
    ours = versions()
    assert mismatch(ours, ours) is None
    why = mismatch({**ours, "Python": "3.11.0", "Ray": "2.59.0"}, ours)
    assert why is not None
    assert f"Ray is {ours['Ray']} here and 2.59.0 on the head" in why
    assert "Python is" in why
    assert "benchfarm is" not in why
