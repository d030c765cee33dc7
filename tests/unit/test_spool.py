"""workers.spool: one agent at a time, and a successor ends and reports what its predecessor left."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.builders import make_order, make_report
from tests.unit.children import child, sleeper, started_of
from workers import spool as spool_module
from workers.codec import read_document
from workers.contract import Order
from workers.errors import AttemptError, Cause
from workers.processes import is_alive
from workers.spool import ATTEMPT_VARIABLE, RAY_SESSION_VARIABLE, Spool, record_ray_session, sweep_ray_sessions

HOLD = """
import sys
from pathlib import Path
from workers.spool import Spool
spool = Spool(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
spool.close()
print("given back", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The spool's folder."""
    return tmp_path / "spool"


@contextmanager
def opened(root: Path) -> Iterator[Spool]:
    """A spool that is closed in the end."""
    spool = Spool(root)
    try:
        yield spool
    finally:
        spool.close()


def pass_time_while_waiting(monkeypatch: pytest.MonkeyPatch, each_s: float, also: Callable[[], None]) -> None:
    """Whoever waits for the lock sees so many seconds pass with each look."""
    now = [0.0]

    def sleep(_seconds: float) -> None:
        now[0] += each_s
        time.sleep(0.01)
        also()

    monkeypatch.setattr(spool_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))


def refusal(root: Path) -> tuple[str, str] | str:
    """Cause and code that a spool is refused with, or the name of what was raised instead."""
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # the lock file is left to the collector
        try:
            Spool(root).close()
        except AttemptError as error:
            answer: tuple[str, str] | str = (error.cause, error.code)
        except OSError as error:
            answer = type(error).__name__
        else:
            answer = "not refused"
        gc.collect()
    return answer


# Attempts


def test_an_attempt_has_a_folder_with_its_order(root: Path) -> None:
    order = make_order(3)
    with opened(root) as spool:
        folder = spool.open_attempt(order)
        assert folder == spool.folder(3, order.token)
        assert (folder / "tmp").is_dir()
        assert read_document(Order, folder / "order.json") == order


def test_attempts_of_one_number_and_two_tokens_are_kept_apart(root: Path) -> None:
    with opened(root) as spool:
        first = spool.open_attempt(make_order(1, "a" * 32))
        second = spool.open_attempt(make_order(1, "b" * 32))
    assert first != second


def test_a_finished_attempt_keeps_its_report_until_it_is_forgotten(root: Path) -> None:
    order = make_order()
    report = make_report(order)
    with opened(root) as spool:
        folder = spool.open_attempt(order)
        (folder / "out").mkdir()
        (folder / "out" / "model.onnx").write_bytes(b"large")
        spool.finish(folder, report)
        assert not (folder / "out").exists()
        assert not (folder / "tmp").exists()
        assert [left.report for left in spool.sweep()] == [report]
        spool.forget(order.attempt_id, order.token)
        assert spool.sweep() == []


def test_a_sweep_ends_the_process_that_was_left_and_says_of_which_attempt(root: Path) -> None:
    order = make_order(5)
    with sleeper() as process:
        started = started_of(process.pid)
        with opened(root) as predecessor:
            folder = predecessor.open_attempt(order)
            predecessor.record_process(folder, process.pid)
        with opened(root) as successor:
            (left,) = successor.sweep()
        assert not is_alive(process.pid, started)
    assert (left.attempt_id, left.token, left.report) == (5, order.token, None)


def test_a_sweep_finds_a_process_that_was_never_written_down(root: Path) -> None:
    order = make_order(5)
    with opened(root) as predecessor:
        folder = predecessor.open_attempt(order)
    with sleeper(**{ATTEMPT_VARIABLE: folder.name}) as process:
        started = started_of(process.pid)
        with opened(root) as successor:
            successor.sweep()
        assert not is_alive(process.pid, started)


def test_a_sweep_leaves_a_later_process_of_the_same_pid_alone(root: Path) -> None:
    with sleeper() as process, opened(root) as spool:
        started = started_of(process.pid)
        folder = spool.open_attempt(make_order())
        (folder / "process.json").write_text(json.dumps({"pid": process.pid, "started": started - 1}))
        assert len(spool.sweep()) == 1
        assert is_alive(process.pid, started)


def test_a_sweep_drops_what_no_order_can_be_read_of(root: Path) -> None:
    with opened(root) as spool:
        folder = spool.open_attempt(make_order())
        (folder / "order.json").write_text("{")
        assert spool.sweep() == []
        assert not folder.exists()


def test_a_damaged_report_is_no_report(root: Path) -> None:
    with opened(root) as spool:
        folder = spool.open_attempt(make_order())
        (folder / "report.json").write_text("{")
        assert [left.report for left in spool.sweep()] == [None]


# The lock


def test_a_second_agent_waits_until_the_first_gives_the_spool_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(sys.executable, "-c", HOLD, str(root)) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        told: list[str] = []

        def ask_back() -> None:
            if not told:
                holder.stdin.write("\n")
                holder.stdin.flush()
                told.append(holder.stdout.readline())

        pass_time_while_waiting(monkeypatch, 0.0, ask_back)
        with opened(root):
            assert told == ["given back\n"]
            assert holder.poll() is None  # it was not killed for it


def test_a_second_agent_ends_a_first_that_does_not_give_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(sys.executable, "-c", HOLD, str(root)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        pass_time_while_waiting(monkeypatch, 1.0, lambda: None)
        with opened(root):
            assert holder.wait() == -9
            assert json.loads((root / "agent.lock").read_text())["pid"] == os.getpid()


@contextmanager
def held(root: Path, content: str) -> Iterator[None]:
    """A lock that somebody holds who says this of himself."""
    root.mkdir()
    with (root / "agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(content)
        lock.flush()
        yield


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 1, "started": -1.0}'])
def test_a_holder_that_cannot_be_told_is_never_killed(
    root: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    pass_time_while_waiting(monkeypatch, 1.0, lambda: None)
    monkeypatch.setattr("workers.spool.os.kill", lambda pid, _signal: killed.append(pid))
    with held(root, content):
        assert refusal(root) == (Cause.INFRASTRUCTURE, "agent_running")
    assert killed == []


def test_a_holder_of_another_user_is_an_agent_that_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    pass_time_while_waiting(monkeypatch, 1.0, lambda: None)
    monkeypatch.setattr("workers.spool.os.kill", refuse)
    with sleeper() as process:
        content = json.dumps({"pid": process.pid, "started": started_of(process.pid)})
        with held(root, content):
            assert refusal(root) == (Cause.INFRASTRUCTURE, "agent_running")


def test_a_process_that_holds_the_spool_already_does_not_kill_itself(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    pass_time_while_waiting(monkeypatch, 1.0, lambda: None)
    monkeypatch.setattr("workers.spool.os.kill", lambda pid, _signal: killed.append(pid))
    with opened(root):
        assert refusal(root) == (Cause.INFRASTRUCTURE, "agent_running")
    assert killed == []


# Embedded Rays


def left_by_a_dead_driver(root: Path, session: str, folder: Path) -> Path:
    """The record of an embedded Ray whose driver is gone."""
    record = record_ray_session(root, session, folder)
    said = json.loads(record.read_text())
    assert said["pid"] == os.getpid()
    record.write_text(json.dumps({**said, "started": said["started"] - 1}))  # that was another process of our pid
    return record


def test_an_embedded_ray_of_a_dead_driver_is_ended_by_its_mark(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ray-session"
    folder.mkdir()
    record = left_by_a_dead_driver(root, "dead", folder)
    with sleeper(**{RAY_SESSION_VARIABLE: "dead"}) as marked, sleeper() as bystander:
        started = started_of(marked.pid)
        assert sweep_ray_sessions(root) == 1
        assert marked.wait() == -9
        assert not is_alive(marked.pid, started)
        assert bystander.poll() is None
    assert not record.exists()
    assert not folder.exists()


def test_an_embedded_ray_of_a_live_driver_is_left_alone(root: Path, tmp_path: Path) -> None:
    record = record_ray_session(root, "alive", tmp_path)
    with sleeper(**{RAY_SESSION_VARIABLE: "alive"}) as marked:
        assert sweep_ray_sessions(root) == 0
        assert marked.poll() is None
    assert record.exists()
    assert tmp_path.exists()


def test_sweeping_one_session_leaves_another_alone(root: Path, tmp_path: Path) -> None:
    left_by_a_dead_driver(root, "dead", tmp_path / "gone")
    record_ray_session(root, "dead-but-alive", tmp_path)
    with sleeper(**{RAY_SESSION_VARIABLE: "dead-but-alive"}) as marked:
        assert sweep_ray_sessions(root) == 0
        assert marked.poll() is None


def test_where_no_ray_ever_ran_there_is_nothing_to_sweep(root: Path) -> None:
    assert sweep_ray_sessions(root) == 0
