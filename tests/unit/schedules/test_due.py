"""Due runs: once each, whoever looks, whatever the clock does, and whatever becomes of other schedules."""

from __future__ import annotations

import multiprocessing
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from scheduler.farm import Farm
from scheduler.leases import LeaseLostError
from scheduler.queue import sweep_runs
from scheduler.schedules import due
from scheduler.schedules.cron import read_cron
from scheduler.schedules.due import run_due, run_now
from scheduler.schedules.schedule import list_schedules, pause, remove, resume, schedules, show_schedule
from scheduler.schedules.turns import Turn, turn_of
from scheduler.states import jobs
from tests.unit.schedules.builders import SWEEP, add, due_of, end, messages, row_of, rows, told
from tests.unit.schedules.conftest import BEGIN

NIGHT = BEGIN + timedelta(hours=2)
DAY = timedelta(days=1)


def test_a_schedule_runs_once_when_it_is_due_and_not_before(lab: Farm) -> None:
    assert add(lab, BEGIN)
    assert run_due(lab, NIGHT - timedelta(seconds=1)) == 0
    assert run_due(lab, NIGHT + timedelta(seconds=1)) == 1
    assert run_due(lab, NIGHT + timedelta(seconds=3)) == 0
    [run] = rows(lab, sweep_runs)
    assert (run.schedule, run.due_at, run.sweep, run.watched, run.owner) == ("nightly", NIGHT, "lab", True, "tester")
    assert run.followed_until is None
    assert len(rows(lab, jobs, jobs.c.kind == "measure")) == 2
    assert row_of(lab).next_due_at == NIGHT + DAY
    assert told(lab) == ["added", "started"]


def test_sixty_nights_are_sixty_runs(lab: Farm) -> None:
    add(lab, BEGIN, zone="Europe/Berlin", cron="30 2 * * *")
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    cron = read_cron("30 2 * * *", "Europe/Berlin")
    with writing(lab.engine) as connection:
        connection.execute(update(schedules).values(next_due_at=cron.after(begin)))
    now = begin
    while now < begin + 60 * DAY:
        run_due(lab, now)
        end(lab)
        now += timedelta(hours=8)
    found = due_of(lab)
    assert len(found) == len(set(found)) == 60
    assert messages(lab) == []


def test_the_run_before_is_not_overlapped(lab: Farm) -> None:
    add(lab, BEGIN)
    run_due(lab, NIGHT)
    assert run_due(lab, NIGHT + DAY) == 1
    assert due_of(lab) == [NIGHT]
    assert row_of(lab).note == "due 2026-01-02 02:00 UTC: run 1 was still at work, so none was started"
    assert messages(lab) == ["Schedule nightly: the run before is still at work"]
    end(lab)
    run_due(lab, NIGHT + 2 * DAY)
    assert due_of(lab) == [NIGHT, NIGHT + 2 * DAY]
    assert row_of(lab).note is None
    assert told(lab) == ["added", "started", "overlap", "started"]


def test_missed_due_times_are_made_up_for_by_one_run(lab: Farm) -> None:
    add(lab, BEGIN)
    assert run_due(lab, NIGHT + 5 * DAY + timedelta(hours=3)) == 1
    assert due_of(lab) == [NIGHT + 5 * DAY]
    assert row_of(lab).next_due_at == NIGHT + 6 * DAY
    with reading(lab.engine) as connection:
        [started, _] = show_schedule(connection, "nightly")["events"]
    assert started["why"] == "due 2026-01-06 02:00 UTC: also for due times before it, which were missed"


def test_or_skipped_and_said(lab: Farm) -> None:
    add(lab, BEGIN, missed="skip")
    run_due(lab, NIGHT + 5 * DAY + timedelta(hours=3))
    assert due_of(lab) == []
    assert row_of(lab).note == "due 2026-01-06 02:00 UTC: missed, the farm was down"
    assert row_of(lab).next_due_at == NIGHT + 6 * DAY
    assert messages(lab) == ["Schedule nightly: a due time was missed"]
    run_due(lab, NIGHT + 6 * DAY + timedelta(minutes=9))  # a restart is no miss
    assert due_of(lab) == [NIGHT + 6 * DAY]


def test_a_clock_that_is_set_back_runs_nothing_twice(lab: Farm) -> None:
    add(lab, BEGIN)
    run_due(lab, NIGHT)
    end(lab)
    back = NIGHT - timedelta(minutes=30)
    run_due(lab, back)
    assert row_of(lab).next_due_at == NIGHT
    run_due(lab, NIGHT)
    assert due_of(lab) == [NIGHT]
    assert (row_of(lab).next_due_at, row_of(lab).note) == (NIGHT + DAY, None)
    assert told(lab) == ["added", "started"]


def test_a_clock_that_was_years_ahead_keeps_no_schedule_waiting(lab: Farm) -> None:
    add(lab, BEGIN)
    run_due(lab, NIGHT + 3000 * DAY)
    end(lab)
    for night in range(3):
        run_due(lab, NIGHT + night * DAY - timedelta(seconds=1))
        run_due(lab, NIGHT + night * DAY)
        end(lab)
    assert due_of(lab) == [NIGHT + 3000 * DAY, NIGHT, NIGHT + DAY, NIGHT + 2 * DAY]


def test_what_a_run_fails_for_is_noted_told_and_stops_no_other(lab: Farm, tmp_path: Path) -> None:
    add(lab, BEGIN, name="a", text=SWEEP.replace("sim/mobilenet", str(tmp_path / "gone.onnx")))
    add(lab, BEGIN, name="b", text=SWEEP.replace("kind=sim", "kind=cpu"))
    add(lab, BEGIN, name="c", text=SWEEP.replace("sim/mobilenet", "no.such:factory"), allow_code=True)
    add(lab, BEGIN, name="z")
    assert run_due(lab, NIGHT) == 4
    assert [run.schedule for run in rows(lab, sweep_runs)] == ["z"]
    assert "gone.onnx" in row_of(lab, "a").note
    assert "kind=cpu" in row_of(lab, "b").note
    assert "no module 'no'" in row_of(lab, "c").note
    assert messages(lab) == [f"Schedule {name}: its run could not be made" for name in "abc"]
    assert all(row_of(lab, name).next_due_at == NIGHT + DAY for name in "abcz")
    assert run_due(lab, NIGHT + timedelta(seconds=2)) == 0  # not again and again


def test_a_fault_of_ours_stops_no_other(lab: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    real = due.submit_sweep

    def submit(farm: Farm, sweep: Any, submission: Any, **how: Any) -> Any:
        if submission.schedule == "a":
            raise ZeroDivisionError("division by zero")
        return real(farm, sweep, submission, **how)

    monkeypatch.setattr(due, "submit_sweep", submit)
    add(lab, BEGIN, name="a")
    add(lab, BEGIN, name="b")
    run_due(lab, NIGHT)
    assert [run.schedule for run in rows(lab, sweep_runs)] == ["b"]
    assert row_of(lab, "a").note.endswith("a fault of benchfarm (ZeroDivisionError: division by zero)")


def test_a_database_that_goes_away_takes_no_due_time(lab: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: Any, **__: Any) -> Any:
        raise OperationalError("insert", None, ConnectionError("server closed the connection"), None, True)

    add(lab, BEGIN)
    with monkeypatch.context() as patched:
        patched.setattr(due, "submit_sweep", submit)
        with pytest.raises(OperationalError):
            run_due(lab, NIGHT)
    assert row_of(lab).next_due_at == NIGHT
    run_due(lab, NIGHT + timedelta(seconds=30))
    assert due_of(lab) == [NIGHT]


def test_a_paused_one_is_not_due_and_makes_nothing_up(lab: Farm) -> None:
    add(lab, BEGIN)
    with writing(lab.engine) as connection:
        pause(connection, "nightly", who="tester", now=BEGIN)
        pause(connection, "nightly", who="tester", now=BEGIN)
    assert run_due(lab, NIGHT + DAY) == 0
    assert not add(lab, NIGHT + DAY, cron="0 3 * * *")  # changed, and still paused
    assert row_of(lab).next_due_at is None
    with writing(lab.engine) as connection:
        resume(connection, "nightly", who="tester", now=NIGHT + 2 * DAY)
    assert row_of(lab).next_due_at == NIGHT + 2 * DAY + timedelta(hours=1)
    assert told(lab) == ["added", "paused", "changed", "resumed"]


def test_added_again_it_is_changed_and_the_same_again_changes_nothing(lab: Farm) -> None:
    add(lab, BEGIN)
    assert not add(lab, BEGIN + timedelta(hours=1))
    assert told(lab) == ["added"]
    assert not add(lab, BEGIN + timedelta(hours=1), cron="0 5 * * *", text=SWEEP + "seed: 3\n")
    run_due(lab, NIGHT)
    assert due_of(lab) == []
    run_due(lab, BEGIN + timedelta(hours=5))
    assert rows(lab, sweep_runs)[0].request["seed"] == 3


def test_a_change_meanwhile_wins(lab: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user pauses it while its run is planned."""
    real = due.submit_sweep

    def submit(farm: Farm, *given: Any, **how: Any) -> Any:
        with writing(farm.engine) as connection:
            pause(connection, "nightly", who="tester", now=NIGHT)
        return real(farm, *given, **how)

    monkeypatch.setattr(due, "submit_sweep", submit)
    add(lab, BEGIN)
    run_due(lab, NIGHT)
    assert due_of(lab) == []
    assert row_of(lab).paused


def test_removed_it_runs_no_more_and_its_runs_stay(lab: Farm) -> None:
    add(lab, BEGIN)
    run_due(lab, NIGHT)
    with writing(lab.engine) as connection:
        remove(connection, "nightly", who="tester", now=NIGHT)
        assert list_schedules(connection) == []
    assert run_due(lab, NIGHT + DAY) == 0
    assert due_of(lab) == [NIGHT]
    with pytest.raises(UsageError, match="no schedule 'nightly': see"):
        row_of(lab)


def test_run_now_is_a_run_beside_and_never_a_second_one_at_once(lab: Farm) -> None:
    add(lab, BEGIN)
    made = run_now(lab, "nightly", who="tester", now=BEGIN)
    assert made.sweep_run_id == 1
    with pytest.raises(UsageError, match="run 1 of nightly is still at work"):
        run_now(lab, "nightly", who="tester", now=BEGIN)
    end(lab)
    run_due(lab, NIGHT)
    assert due_of(lab) == [None, NIGHT]
    with pytest.raises(UsageError, match=r"no schedule 'nightli': did you mean nightly\?"):
        run_now(lab, "nightli", who="tester", now=BEGIN)


def test_runs_are_of_the_revision_of_a_folder(lab: Farm, tmp_path: Path) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for command in (("init", "--quiet"), (*who, "commit", "--quiet", "--allow-empty", "-m", "One")):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    add(lab, BEGIN, revision_of=str(tmp_path))
    run_due(lab, NIGHT)
    [run] = rows(lab, sweep_runs)
    assert len(run.revision) == 40
    assert run.build["subject"] == "One"


def test_a_night_without_a_revision_is_better_than_none(lab: Farm, tmp_path: Path) -> None:
    add(lab, BEGIN, revision_of=str(tmp_path / "gone"))
    run_due(lab, NIGHT)
    [run] = rows(lab, sweep_runs)
    assert run.revision is None
    assert "its run has no revision: no folder" in row_of(lab).note
    assert messages(lab) == ["Schedule nightly: its run has no revision"]


def test_a_cron_that_this_machine_cannot_read_is_told_once(lab: Farm) -> None:
    add(lab, BEGIN)
    with writing(lab.engine) as connection:
        connection.execute(update(schedules).values(timezone="Moon/Base"))
    for seconds in range(3):
        assert run_due(lab, NIGHT + timedelta(seconds=seconds)) == 0
    assert "unknown time zone 'Moon/Base'" in row_of(lab).note
    assert told(lab) == ["added", "failed"]


def test_who_has_lost_the_lease_starts_nothing(lab: Farm) -> None:
    def lost(_: object) -> None:
        raise LeaseLostError

    add(lab, BEGIN)
    with pytest.raises(LeaseLostError):
        run_due(lab, NIGHT, lost)
    assert due_of(lab) == []
    assert row_of(lab).next_due_at == NIGHT


def test_a_stalled_scheduler_that_wakes_up_runs_nothing_twice(lab: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had found a due time before it was stopped; another made up for it, by a later one, meanwhile."""
    real = due.submit_sweep
    add(lab, BEGIN)

    def submit(farm: Farm, *given: Any, **how: Any) -> Any:
        monkeypatch.setattr(due, "submit_sweep", real)
        run_due(farm, NIGHT + 3 * DAY)
        end(farm)
        return real(farm, *given, **how)

    monkeypatch.setattr(due, "submit_sweep", submit)
    run_due(lab, NIGHT)
    assert due_of(lab) == [NIGHT + 3 * DAY]
    assert row_of(lab).next_due_at == NIGHT + 4 * DAY


def test_many_schedulers_at_once_make_one_run(lab: Farm) -> None:
    """Threads, each with an engine of its own, all at the same due times."""
    add(lab, BEGIN)
    farms = [Farm(lab.home) for _ in range(4)]
    for night in range(3):
        barrier = threading.Barrier(len(farms))
        failed: list[BaseException] = []

        def look(farm: Farm, now: datetime, barrier: threading.Barrier, failed: list[BaseException]) -> None:
            barrier.wait()
            try:
                run_due(farm, now)
            except BaseException as error:
                failed.append(error)

        now = NIGHT + night * DAY
        threads = [threading.Thread(target=look, args=(farm, now, barrier, failed)) for farm in farms]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        end(lab)
    for farm in farms:
        farm.engine.dispose()
    assert due_of(lab) == [NIGHT + night * DAY for night in range(3)]
    assert messages(lab) == []


def _look_from_a_process(home: Any, nights: int, barrier: Any) -> None:
    farm = Farm(home)
    for night in range(nights):
        barrier.wait(60)
        run_due(farm, NIGHT + night * DAY)
    farm.engine.dispose()


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)  # to PostgreSQL threads with engines are the same
def test_two_processes_make_one_run_of_each_due_time(lab: Farm) -> None:
    """Nothing ends between the nights: of each due time there is a run, or the word that the one before is at work."""
    add(lab, BEGIN)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_look_from_a_process, args=(lab.home, 5, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert due_of(lab) == [NIGHT]
    assert told(lab) == ["added", "started", *["overlap"] * 4]


def test_what_a_look_asks_for() -> None:
    cron = read_cron("0 2 * * *", "UTC")
    assert turn_of(cron, None, "once", BEGIN) == Turn(None, NIGHT)
    assert turn_of(cron, NIGHT, "once", BEGIN) is None
    assert turn_of(cron, NIGHT, "once", NIGHT) == Turn(NIGHT, NIGHT + DAY)
    assert turn_of(cron, NIGHT, "once", NIGHT + DAY) == Turn(NIGHT + DAY, NIGHT + 2 * DAY, made_up=True)
    assert turn_of(cron, NIGHT, "skip", NIGHT + timedelta(hours=1)) == Turn(None, NIGHT + DAY, missed=NIGHT)
    # The zone's rules are others than when its due time was written down: it is kept.
    odd = NIGHT + timedelta(minutes=7)
    assert turn_of(cron, odd, "once", odd) == Turn(odd, NIGHT + DAY)
