"""However a run ends, the next contact leaves the phone clean."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.unit.android.local_phone import Cut, LocalPhone
from tests.unit.android.phone_runs import ALL_STEPS, TOKEN, assert_clean, shell_job, wanted_file, whole_run
from tests.unit.android.phone_shells import SHELLS, local_phone
from workers.android import job, preparation
from workers.android.job import JobState
from workers.android.job_loop import JobSpec
from workers.android.leftovers import Leftovers, clean
from workers.android.phone import PhoneLostError
from workers.errors import AttemptError

#: The scripts are cut at every so manieth of their commands: at every single one in `make faults`.
_STRIDE = 9


def calls_of_a_run(folder: Path, shell: str) -> list[str]:
    """What calls a run makes."""
    phone = local_phone(folder / "rehearsal", shell)
    phone.set("global.airplane_mode_on", "0")
    before = phone.settings()
    files = whole_run(phone, wanted_file(folder / "files", b"model" * 1000), folder / "fetched")
    assert sorted(files) == ["code.1", "code.2", "out.1", "out.2", "rows.csv.1", "rows.csv.2"]
    assert_clean(phone, before)
    return phone.calls


def run_cut_at(folder: Path, shell: str, cut: Cut, *, reboot: bool = False) -> bool:
    """A run that loses its phone there, and the next contact; whether it was cut at all."""
    phone = local_phone(folder, shell)
    try:
        phone.set("global.airplane_mode_on", "0")
        before = phone.settings()
        phone.cut = cut
        try:
            whole_run(phone, wanted_file(folder / "files", b"model" * 1000), folder / "fetched")
        except PhoneLostError:
            phone.cut = None
        was_cut, phone.cut = phone.cut is None, None
        if reboot:
            phone.reboot()
        clean(phone)
        assert_clean(phone, before)
        assert not clean(phone)
    finally:
        phone.reboot()
    return was_cut


@pytest.mark.parametrize("shell", SHELLS)
def test_a_phone_lost_between_any_two_calls_is_clean_after_the_next_contact(tmp_path: Path, shell: str) -> None:
    for call, _ in enumerate(calls_of_a_run(tmp_path, shell)):
        for moment in ("before", "after"):
            assert run_cut_at(tmp_path / f"{call}-{moment}", shell, Cut(call, moment))


def cut_inside(folder: Path, shell: str, stride: int) -> int:
    """Runs that are cut at every so manieth command of every call; how many."""
    cuts = 0
    for call, kind in enumerate(calls_of_a_run(folder, shell)):
        # The first step moves from call to call: with a stride, other commands are hit in each.
        step = cuts % stride if kind == "run" else 0
        while run_cut_at(folder / f"{call}-{step}", shell, Cut(call, "inside", step)):
            cuts, step = cuts + 1, step + stride
            if kind == "push":
                break
    return cuts


@pytest.mark.parametrize("shell", SHELLS)
def test_a_phone_lost_inside_a_call_is_clean_after_the_next_contact(tmp_path: Path, shell: str) -> None:
    assert cut_inside(tmp_path, shell, _STRIDE) > 5


def test_a_phone_that_started_again_is_clean_after_the_next_contact(tmp_path: Path) -> None:
    for call, kind in enumerate(calls_of_a_run(tmp_path, "sh")):
        run_cut_at(tmp_path / f"{call}", "sh", Cut(call, "inside", 5 if kind == "run" else 0), reboot=True)


def test_cleaning_that_is_cut_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    step, was_cut = 0, True
    while was_cut:
        phone = local_phone(tmp_path / str(step), "sh")
        before = phone.settings()
        preparation.prepare(phone, ALL_STEPS)
        job.start(phone, shell_job("sleep 60"))
        phone.cut = Cut(len(phone.calls), "inside", step)
        try:
            clean(phone)
        except PhoneLostError:
            phone.cut = None
        was_cut, phone.cut = phone.cut is None, None
        clean(phone)
        # Airplane mode can be turned off, but not be unset again.
        assert_clean(phone, {**before, "global.airplane_mode_on": "0"})
        step += 3


def test_cleaning_says_what_it_found(phone: LocalPhone) -> None:
    assert clean(phone) == Leftovers()
    preparation.prepare(phone, ALL_STEPS)
    job.start(phone, shell_job("sleep 60"))
    (phone.root / "cache").mkdir()
    (phone.root / "cache" / f"{'a' * 64}.part-1234").write_bytes(b"half")
    found = clean(phone)
    assert found == Leftovers(
        jobs=(f"7 {TOKEN}",), undone=("fixed_performance", "screen", "stay_awake", "airplane"), half_files=1
    )
    assert found
    assert phone.processes() == {}


def test_a_job_that_is_waited_for_is_spared(phone: LocalPhone) -> None:
    preparation.prepare(phone, ALL_STEPS)
    spec = shell_job("sleep 60")
    job.start(phone, spec)
    assert clean(phone, spare=spec.id) == Leftovers()
    assert job.attached(phone, 7, TOKEN) is JobState.RUNNING
    assert phone.setting("fixed_performance") == "true"
    # Another job's phone is cleared up, whoever waits for his.
    assert clean(phone, spare="8 other").jobs == (f"7 {TOKEN}",)


def test_a_phone_that_is_being_made_ready_is_left_alone(phone: LocalPhone) -> None:
    preparation.prepare(phone, ALL_STEPS)
    assert not clean(phone, spare="9 next")  # a cable that wavers brings the phone back in the middle of it
    assert phone.setting("fixed_performance") == "true"
    (phone.root / "job").mkdir()
    assert not clean(phone, spare="9 next")


def test_what_left_its_group_and_ignores_requests_is_ended_too(phone: LocalPhone) -> None:
    job.start(phone, shell_job("trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 60; sleep 60' & sleep 60; sleep 60"))
    clean(phone)
    assert phone.processes() == {}


def test_another_process_under_the_number_of_a_job_is_left_alone(phone: LocalPhone) -> None:
    job.start(phone, shell_job("sleep 60"))
    folder = phone.root / "job"
    pid, start, boot = (folder / "pid").read_text().split()
    for wrong in (f"{pid} {int(start) + 1} {boot}", f"{pid} {start} another-boot", "rubbish", ""):
        folder.mkdir(exist_ok=True)
        (folder / "id").write_text("1 stranger\n")  # nothing carries this mark
        (folder / "pid").write_text(wrong + "\n")
        assert clean(phone).jobs == ("1 stranger",)
        assert int(pid) in phone.processes()


def test_a_job_whose_leader_died_is_ended_by_its_mark(phone: LocalPhone) -> None:
    job.start(phone, shell_job("sleep 60; sleep 60"))
    wait_for(lambda: any("sleep 60" in text and "sh -c" not in text for text in phone.processes().values()))
    pid = int((phone.root / "job" / "pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    assert clean(phone).jobs == (f"7 {TOKEN}",)
    assert phone.processes() == {}


def test_a_job_that_is_only_just_beginning_sees_that_it_is_not_wanted(phone: LocalPhone) -> None:
    held, free, ran = (phone.folder / name for name in ("held", "free", "ran"))
    # The phone hides the marks of processes, and the job says who it is just after it was asked for.
    phone.precede("mv", f'[ "$2" != .pid ] || {{ echo > {held}; while [ ! -e {free} ]; do sleep 0.01; done; }}')
    phone.precede("grep", 'case "$*" in *environ*) exit 2 ;; esac')
    phone.precede("rm", f'case "$*" in *gone*) echo > {free}; sleep 0.3 ;; esac')
    starting = threading.Thread(target=start_in_vain, args=(phone, shell_job(f"echo > {ran}; sleep 60")))
    starting.start()
    wait_for(held.exists)
    assert clean(phone).jobs == (f"7 {TOKEN}",)
    wait_for(lambda: not any(text.endswith(TOKEN) for text in phone.processes().values()))
    assert not ran.exists()
    phone.reboot()
    starting.join()


def start_in_vain(phone: LocalPhone, spec: JobSpec) -> None:
    """Start a job that is cleared away before it runs."""
    with suppress(AttemptError):
        job.start(phone, spec)


def wait_for(fact: Callable[[], bool]) -> None:
    """Until it is so."""
    deadline = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_preparation_that_cannot_be_undone_is_told_and_tried_again(phone: LocalPhone) -> None:
    preparation.prepare(phone, ALL_STEPS)
    phone.set("no_airplane", "yes")
    with pytest.raises(AttemptError, match="airplane Unknown command") as caught:
        clean(phone)
    assert caught.value.code == "undo_failed"
    assert phone.setting("fixed_performance") == "false"
    (phone.folder / "state" / "no_airplane").unlink()
    assert clean(phone).undone == ("airplane",)
    assert not clean(phone)
