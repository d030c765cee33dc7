"""Cells that nobody measured lately: found, said once, and no false alarm while a night is at work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from device_registry.registry import devices
from scheduler.executors.scripted import Succeed
from scheduler.queue import sweep_runs
from scheduler.schedules.lookout import Lookout
from scheduler.schedules.missing import MissingCell, missing_cells
from scheduler.schedules.schedule import pause, schedules
from tests.unit.scheduler.builders import CRASHED, ONNX, TORCH, UNSUPPORTED, Farm, only, plan_of
from tests.unit.schedules.builders import add, messages
from tests.unit.schedules.conftest import BEGIN

NIGHT = BEGIN + timedelta(hours=2)
DAY = timedelta(days=1)


@pytest.fixture
def farm(make_farm: Callable[..., Farm]) -> Farm:
    """Two devices, and a schedule of every night at 2:00."""
    made = make_farm(devices=2)
    add(made, BEGIN)  # type: ignore[arg-type]
    return made


def start(
    farm: Farm,
    night: int,
    *,
    on: Sequence[str] = ("d0", "d1"),
    cases: Sequence[tuple[str, str, str]] = (TORCH, ONNX),
    budget_s: float | None = None,
) -> int:
    """The run of a night, at its due time."""
    due = NIGHT + night * DAY
    farm.clock.advance((due - farm.clock.now).total_seconds())
    made = plan_of([device for device in farm.devices() if device.name in on], *cases, salt=str(night))
    run_id = farm.submit(made).sweep_run_id
    with writing(farm.engine) as connection:
        run = {"schedule": "nightly", "due_at": due, "budget_s": budget_s}
        connection.execute(update(sweep_runs).where(sweep_runs.c.id == run_id).values(**run))
    return run_id


def measure(farm: Farm, night: int, **how: Any) -> None:
    """A whole night; arguments as `start`."""
    start(farm, night, **how)
    farm.settle()


def missing(farm: Farm, at: datetime | None = None) -> list[MissingCell]:
    """What is missing, now or at some time."""
    with reading(farm.engine) as connection:
        return missing_cells(connection, "nightly", at or farm.clock())


def whys(farm: Farm, at: datetime | None = None) -> dict[str, str]:
    """What is missing, and why."""
    return {cell.title: cell.why for cell in missing(farm, at)}


def test_nothing_is_expected_before_the_first_night_is_over(farm: Farm) -> None:
    assert missing(farm) == []
    start(farm, 0)
    assert missing(farm) == []
    farm.settle()
    assert missing(farm) == []


def test_what_a_night_failed_at_is_missing_when_it_is_over(farm: Farm) -> None:
    measure(farm, 0)
    farm.play(only("measure onnx", CRASHED))
    start(farm, 1)
    assert missing(farm) == []  # it is at work
    farm.settle()
    assert whys(farm) == {
        "net on onnxruntime fp32, d0": CRASHED.message,
        "net on onnxruntime fp32, d1": CRASHED.message,
    }
    last = missing(farm)[0].last_valid_at
    assert last is not None
    assert NIGHT <= last < NIGHT + timedelta(hours=1)


def test_a_result_that_is_not_valid_is_none(farm: Farm) -> None:
    farm.play(only("measure pt2", Succeed(verdict="contaminated")))
    measure(farm, 0)
    assert set(whys(farm).values()) == {"its results are not valid"}
    assert missing(farm)[0].last_valid_at is None


def test_a_device_that_is_away_is_missing_though_no_job_names_it(farm: Farm) -> None:
    measure(farm, 0)
    with writing(farm.engine) as connection:
        connection.execute(update(devices).where(devices.c.name == "d1").values(presence="offline"))
    measure(farm, 1, on=("d0",))
    assert whys(farm) == {
        "net on onnxruntime fp32, d1": "d1 is offline: run 2 has no job for it",
        "net on torch fp32, d1": "d1 is offline: run 2 has no job for it",
    }


def test_a_device_that_stays_away_stays_missing(farm: Farm) -> None:
    measure(farm, 0)
    for night in range(1, 18):
        measure(farm, night, on=("d0",), cases=(TORCH,))
    assert sorted(whys(farm)) == [
        "net on onnxruntime fp32, d0",
        "net on onnxruntime fp32, d1",
        "net on torch fp32, d1",
    ]


def test_a_night_that_was_never_run_is_missing_as_a_whole(farm: Farm) -> None:
    measure(farm, 0)
    assert missing(farm, NIGHT + DAY + timedelta(minutes=5)) == []  # its run is about to be made
    assert list(whys(farm, NIGHT + DAY + timedelta(minutes=11)).values()) == ["there was no run after run 1"] * 4
    with writing(farm.engine) as connection:  # it could not be made, and the schedule waits for the next night
        connection.execute(update(schedules).values(next_due_at=NIGHT + 2 * DAY))
    assert len(missing(farm, NIGHT + DAY + timedelta(minutes=1))) == 4


def test_a_run_that_never_ends_does_not_hide_what_is_missing(farm: Farm) -> None:
    farm.play(only("measure onnx", "silent"))
    start(farm, 0)
    for _ in range(20):
        farm.tick()
    assert missing(farm) == []
    assert set(whys(farm, NIGHT + DAY)) == {"net on onnxruntime fp32, d0", "net on onnxruntime fp32, d1"}
    assert len(missing(farm, NIGHT + 2 * DAY)) == 4


def test_what_cannot_be_had_is_not_missing(farm: Farm) -> None:
    farm.play(only("measure onnx", UNSUPPORTED))
    measure(farm, 0)
    assert missing(farm) == []


def test_a_paused_schedule_expects_nothing_and_a_changed_one_begins_anew(farm: Farm) -> None:
    farm.play(only("measure onnx", CRASHED))
    measure(farm, 0)
    assert len(missing(farm)) == 2
    with writing(farm.engine) as connection:
        pause(connection, "nightly", who="tester", now=farm.clock())
    assert missing(farm) == []
    with writing(farm.engine) as connection:
        connection.execute(update(schedules).values(paused=False, changed_at=farm.clock()))
    assert missing(farm, NIGHT + 2 * DAY) == []


def test_a_budget_gives_each_cell_its_turn(farm: Farm) -> None:
    measure(farm, 0, on=("d0",), budget_s=60)
    measure(farm, 1, on=("d1",), budget_s=60)
    assert missing(farm) == []
    measure(farm, 2, on=("d1",), budget_s=60)
    assert missing(farm) == []
    measure(farm, 3, on=("d1",), budget_s=60)
    assert {cell.device for cell in missing(farm)} == {"d0"}


def test_it_is_told_once_and_again_when_it_happens_again(farm: Farm) -> None:
    def tell() -> int:
        lookout = lookouts[len(messages(farm)) % 2]  # type: ignore[arg-type]  # two processes take turns
        assert lookout.step(lambda _: None, farm.clock()) == len(missing(farm))
        return int(farm.rows(schedules)[0].missing)

    lookouts = [Lookout(farm.engine), Lookout(farm.engine)]
    measure(farm, 0)
    assert tell() == 0
    farm.play(only("measure onnx", CRASHED))
    measure(farm, 1)
    assert (tell(), tell()) == (2, 2)
    measure(farm, 2)
    assert tell() == 2
    title = "Schedule nightly: 2 cells without a fresh valid point"
    assert messages(farm) == [title]  # type: ignore[arg-type]
    farm.play(Succeed())
    measure(farm, 3)
    assert tell() == 0
    farm.play(only("measure onnx", CRASHED))
    measure(farm, 4)
    tell()
    assert messages(farm) == [title, title]  # type: ignore[arg-type]


def test_what_comes_back_case_by_case_is_told_once(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(farm, 0)
    farm.play(only("measure onnx", CRASHED))
    measure(farm, 1)
    both, lookout = missing(farm), Lookout(farm.engine)
    assert len(both) == 2
    for left in (2, 1, 0):
        monkeypatch.setattr("scheduler.schedules.lookout.missing_cells", lambda *_, left=left: both[:left])
        lookout.step(lambda _: None, farm.clock())
        assert farm.rows(schedules)[0].missing == left
    assert messages(farm) == ["Schedule nightly: 2 cells without a fresh valid point"]  # type: ignore[arg-type]


def test_of_no_schedule_nothing_is_known(farm: Farm) -> None:
    with reading(farm.engine) as connection, pytest.raises(UsageError, match="no schedule 'weekly'"):
        missing_cells(connection, "weekly", farm.clock())
