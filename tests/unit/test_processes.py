"""workers.processes with real processes, and with made-up ones where every case is wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.builders import by_pid, make_process
from tests.unit.children import child, command_of, sleeper, started_of, wait_until
from workers import processes
from workers.processes import Process, descendants, end_group, is_alive, read_process, snapshot, with_environment

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture(params=["here", "darwin"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This system's own way, and the way of a system without /proc (psutil)."""
    if request.param != "here":
        monkeypatch.setattr(processes, "sys", SimpleNamespace(platform=request.param))


def gone_pid() -> int:
    """A pid that has just been used, and is not now."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.usefixtures("system")
def test_the_snapshot_contains_us_and_our_parent() -> None:
    found = snapshot()
    assert found[os.getpid()].parent == os.getppid()
    assert found[os.getpid()].cpu_s > 0
    assert all(process.pid == pid for pid, process in found.items())


@pytest.mark.usefixtures("system")
def test_a_child_is_read_as_in_the_snapshot() -> None:
    with sleeper() as process:
        read = read_process(process.pid)
        assert read is not None
        assert (read.pid, read.parent, read.name) == (process.pid, os.getpid(), "sleep")
        assert snapshot()[process.pid].started == read.started
        assert is_alive(process.pid, read.started)
        assert not is_alive(process.pid, read.started + 1)


def test_a_process_that_is_gone_is_not_alive() -> None:
    assert read_process(gone_pid()) is None


def test_a_process_that_is_gone_is_not_alive_without_proc_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "sys", SimpleNamespace(platform="darwin"))
    assert read_process(gone_pid()) is None


@pytest.mark.usefixtures("system")
def test_a_zombie_is_not_alive() -> None:
    with sleeper() as process:
        started = started_of(process.pid)
        process.kill()
        wait_until(lambda: not is_alive(process.pid, started), what="the child to become a zombie")
        assert process.pid not in snapshot()
        assert process.returncode is None  # nobody has waited for it: it is a zombie still


@linux_only
def test_a_name_cannot_forge_the_fields_beside_it() -> None:
    code = "import sys; open('/proc/self/comm', 'w').write('x) Z 1 (y'); print(flush=True); sys.stdin.read()"
    with child(sys.executable, "-c", code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        read = read_process(process.pid)
        assert read is not None
        assert (read.name, read.parent) == ("x) Z 1 (y", os.getpid())


@given(parents=st.lists(st.integers(0, 15), min_size=1, max_size=15), roots=st.sets(st.integers(1, 20), max_size=4))
def test_descendants_are_exactly_those_with_a_root_among_their_ancestors(parents: list[int], roots: set[int]) -> None:
    host = by_pid(make_process(pid, parent) for pid, parent in enumerate(parents, start=1))

    def below_a_root(pid: int) -> bool:
        seen: set[int] = set()
        while pid not in roots and pid in host and pid not in seen:
            seen.add(pid)
            pid = host[pid].parent
        return pid in roots

    assert descendants(host, roots) == roots | {pid for pid in host if below_a_root(pid)}


def test_descendants_of_real_processes() -> None:
    with child("sh", "-c", "sleep 300 & sleep 300 & wait") as process:
        wait_until(lambda: len(descendants(snapshot(), [process.pid])) == 3, what="two grandchildren")
        assert descendants(snapshot(), [process.pid]) <= descendants(snapshot(), [os.getpid()])


def members(leader: int) -> list[Process]:
    """What is alive of a tree that is all named sleep."""
    return [found for pid in descendants(snapshot(), [leader]) if (found := read_process(pid)) is not None]


def test_ending_a_group_ends_grandchildren_too() -> None:
    with child("sh", "-c", "sleep 300 & (sleep 300 & wait) & wait") as process:
        wait_until(lambda: len(members(process.pid)) == 4, what="the grandchildren")
        tree = members(process.pid)
        assert end_group(process.pid, started_of(process.pid))
        assert [found for found in tree if is_alive(found.pid, found.started)] == []


def test_ending_a_group_whose_leader_is_gone_ends_those_that_outlived_it() -> None:
    with child("sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!; read _") as process:
        assert process.stdout is not None
        started, orphan = started_of(process.pid), int(process.stdout.readline())
        wait_until(lambda: command_of(orphan) == "sleep", what="the grandchild")
        orphan_started = started_of(orphan)
        process.communicate("\n")  # the leader ends, and is waited for
        assert is_alive(orphan, orphan_started)
        assert end_group(process.pid, started)
        assert not is_alive(orphan, orphan_started)


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone() -> None:
    with sleeper() as process:
        started = started_of(process.pid)
        assert end_group(process.pid, started - 1)
        assert is_alive(process.pid, started)


def test_ending_a_group_that_is_gone_is_done_already() -> None:
    with sleeper() as process:
        started = started_of(process.pid)
        assert end_group(process.pid, started)
        assert end_group(process.pid, started)


def test_a_group_that_may_not_be_ended_is_reported_as_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_group: int, _signal: int) -> None:
        raise PermissionError

    with sleeper() as process:
        with monkeypatch.context() as patched:
            patched.setattr("workers.processes.os.killpg", refuse)
            assert not end_group(process.pid, started_of(process.pid))
        assert command_of(process.pid) == "sleep"


@pytest.mark.usefixtures("system")
def test_processes_are_found_by_the_whole_value_of_a_variable() -> None:
    with sleeper(BENCHFARM_TEST_MARK="one"), sleeper(BENCHFARM_TEST_MARK="one-more") as other:
        found = with_environment("BENCHFARM_TEST_MARK", "one-more")
        assert [process.pid for process in found] == [other.pid]
        assert with_environment("BENCHFARM_TEST_MARK", "on") == []


@linux_only
def test_what_is_becoming_another_program_is_found_all_the_time(tmp_path: Path) -> None:
    program = tmp_path / "again"
    program.write_text('#!/bin/sh\nexec "$0"\n')
    program.chmod(0o755)
    marked = {**os.environ, "BENCHFARM_TEST_MARK": "becoming"}
    with subprocess.Popen([program], env=marked) as process:
        try:
            found = [[one.pid for one in with_environment("BENCHFARM_TEST_MARK", "becoming")] for _ in range(60)]
        finally:
            process.kill()
    assert found == [[process.pid]] * 60
