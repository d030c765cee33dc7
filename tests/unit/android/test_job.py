"""Jobs on a phone: started to outlive the connection, watched, ended, fetched."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.unit.android.local_phone import Cut, LocalPhone
from tests.unit.android.phone_runs import TOKEN, over, shell_job, until
from workers.android import job, preparation
from workers.android.job import Invocation, JobGoneError, JobState
from workers.android.job_loop import JobSpec
from workers.android.leftovers import clean
from workers.android.phone import PhoneLostError
from workers.errors import AttemptError, UnsupportedError


def test_every_invocation_is_told_with_its_output_its_exit_code_and_its_time(phone: LocalPhone) -> None:
    spec = shell_job("echo out; echo err >&2; sleep 0.2", least=3, most=3)
    job.start(phone, spec)
    first = until(phone, spec, lambda seen: len(seen.invocations) >= 1)
    assert first.state is JobState.RUNNING
    seen = until(phone, spec, over)
    assert seen.state is JobState.DONE
    assert [(each.number, each.exit_code, each.output) for each in seen.invocations] == [
        (number, 0, "out\nerr\n") for number in (1, 2, 3)
    ]
    times = [time_s for each in seen.invocations for time_s in (each.began_s, each.ended_s)]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]
    assert seen.uptime_s is not None
    assert seen.uptime_s >= times[-1]  # type: ignore[operator]
    # Only what is new is asked for.
    assert [each.number for each in job.progress(phone, spec, 2).invocations] == [3]


def test_words_and_variables_arrive_as_they_are(phone: LocalPhone) -> None:
    nasty = ["it's", "$HOME `id` $(id)", "a\nb", "*", "", "\\n", 'say "so"', "é ☃", "-n", "; rm -rf /"]
    spec = JobSpec(
        attempt_id=1,
        token=TOKEN,
        command=("sh", "-c", 'for word in "$@" "$NASTY"; do printf "<%s>" "$word"; done', "tool", *nasty),
        environment={"NASTY": " a 'b' $c "},
        least=1,
        most=1,
    )
    job.start(phone, spec)
    (invocation,) = until(phone, spec, over).invocations
    assert invocation.output == "".join(f"<{word}>" for word in [*nasty, " a 'b' $c "])


def test_a_job_outlives_the_connection_and_is_found_again(phone: LocalPhone, tmp_path: Path) -> None:
    spec = shell_job("sleep 0.2; echo said")
    phone.cut = Cut(len(phone.calls), "after")
    with pytest.raises(PhoneLostError):
        job.start(phone, spec)
    assert job.attached(phone, spec.attempt_id, spec.token) is JobState.RUNNING
    assert job.attached(phone, spec.attempt_id, "another") is None
    assert job.attached(phone, 8, spec.token) is None
    assert until(phone, spec, over).state is JobState.DONE
    assert job.attached(phone, spec.attempt_id, spec.token) is JobState.DONE
    files = job.fetch(phone, spec, tmp_path / "files")
    assert files["out.2"].read_text() == "said\n"
    clean(phone)
    assert job.attached(phone, spec.attempt_id, spec.token) is None
    with pytest.raises(JobGoneError):
        job.progress(phone, spec, 0)
    with pytest.raises(JobGoneError):
        job.fetch(phone, spec, tmp_path / "again")


def test_the_host_says_when_there_are_enough(phone: LocalPhone) -> None:
    spec = shell_job("sleep 0.05", least=2, most=1000)
    job.start(phone, spec)
    until(phone, spec, lambda seen: len(seen.invocations) >= 3)
    job.stop(phone, shell_job("true", token="another"))
    job.stop(phone, spec)
    seen = until(phone, spec, over)
    assert seen.state is JobState.DONE
    assert 3 <= len(seen.invocations) < 50


def test_nothing_begins_after_the_time_but_the_least_number_does(phone: LocalPhone) -> None:
    spec = shell_job("sleep 0.4", least=4, most=1000, seconds=1)
    job.start(phone, spec)
    assert len(until(phone, spec, over).invocations) == 4


def test_a_tool_that_fails_is_not_asked_again(phone: LocalPhone) -> None:
    spec = shell_job("echo no delegate; exit 3", least=5, most=5)
    job.start(phone, spec)
    seen = until(phone, spec, over)
    assert seen.state is JobState.DONE
    assert [(each.exit_code, each.output) for each in seen.invocations] == [(3, "no delegate\n")]


def test_a_tool_that_dies_shows_its_signal(phone: LocalPhone) -> None:
    spec = shell_job("kill -SEGV $$")
    job.start(phone, spec)
    assert until(phone, spec, over).invocations[0].exit_code == 128 + 11


def test_a_job_that_nobody_watches_ends_at_its_deadline(phone: LocalPhone) -> None:
    spec = shell_job("sleep 60", deadline_s=1)
    job.start(phone, spec)
    seen = until(phone, spec, over)
    assert seen.state is JobState.DEAD
    assert "its deadline passed" in seen.why
    assert phone.processes() == {}


def test_a_job_dies_with_its_phone_and_says_so(phone: LocalPhone) -> None:
    spec = shell_job("sleep 0.3")
    job.start(phone, spec)
    phone.reboot()
    seen = job.progress(phone, spec, 0)
    assert seen.state is JobState.DEAD
    assert "the phone has started again" in seen.why


def test_a_discarded_job_is_ended_whole_and_nothing_else(phone: LocalPhone) -> None:
    spec = shell_job("sleep 60 & setsid sleep 60 & sleep 60")
    preparation.prepare(phone, [preparation.FIXED_PERFORMANCE])
    job.start(phone, spec)
    job.discard(phone, shell_job("true", token="another"))
    assert job.attached(phone, spec.attempt_id, spec.token) is JobState.RUNNING
    job.discard(phone, spec)
    assert phone.processes() == {}
    assert job.attached(phone, spec.attempt_id, spec.token) is None
    job.discard(phone, spec)
    job.start(phone, spec)
    assert phone.setting("fixed_performance") == "true"


def test_a_job_that_is_done_leaves_nothing_running(phone: LocalPhone) -> None:
    spec = shell_job("sleep 60 > /dev/null 2>&1 &", deadline_s=60)
    job.start(phone, spec)
    until(phone, spec, over)
    deadline = time.monotonic() + 10
    while phone.processes():
        assert time.monotonic() < deadline, phone.processes()


def test_a_phone_has_one_job(phone: LocalPhone) -> None:
    job.start(phone, shell_job("sleep 60"))
    with pytest.raises(AttemptError, match=f"another job is on the phone: 7 {TOKEN}") as caught:
        job.start(phone, shell_job("true", token="second"))
    assert caught.value.code == "phone_busy"


def test_files_are_kept_for_each_invocation_and_proven(phone: LocalPhone, tmp_path: Path) -> None:
    script = r"printf 'a\0b' > small.bin; head -c 400000 /dev/urandom > large.bin"
    spec = shell_job(script, keep=("small.bin", "large.bin", "absent.csv"))
    job.start(phone, spec)
    until(phone, spec, over)
    phone.calls.clear()
    files = job.fetch(phone, spec, tmp_path / "all")
    assert sorted(files) == sorted(f"{name}.{n}" for name in ("out", "code", "small.bin", "large.bin") for n in (1, 2))
    assert files["small.bin.2"].read_bytes() == b"a\0b"
    assert files["large.bin.1"].stat().st_size == 400000
    assert phone.calls == ["run", "pull", "pull"]
    assert sorted(job.fetch(phone, spec, tmp_path / "one", names=["small.bin.1"])) == ["small.bin.1"]
    for name in ("small.bin.1", "large.bin.2"):
        (phone.root / "job" / name).write_bytes(b"rotten" * 100_000 if "large" in name else b"rotten")
        with pytest.raises(AttemptError) as caught:
            job.fetch(phone, spec, tmp_path / "rotten", names=[name])
        assert caught.value.code == "transfer_damaged"


def test_a_file_of_no_sensible_size_stays_on_the_phone(phone: LocalPhone, tmp_path: Path) -> None:
    spec = shell_job("head -c 17000000 /dev/zero > huge.bin; echo x > small.bin", keep=("huge.bin", "small.bin"))
    job.start(phone, spec)
    until(phone, spec, over)
    told: list[str] = []
    names = ["huge.bin.1", "small.bin.1"]
    assert list(job.fetch(phone, spec, tmp_path / "files", names, told.append)) == ["small.bin.1"]
    assert told == ["huge.bin.1 has 17000000 bytes, which is more than is fetched"]


def test_a_tool_that_prints_without_end_is_not_asked_again(phone: LocalPhone) -> None:
    spec = shell_job("head -c 12000000 /dev/zero", least=5, most=5)
    job.start(phone, spec)
    seen = until(phone, spec, over)
    assert seen.state is JobState.DONE
    assert [each.number for each in seen.invocations] == [1]


def test_a_job_that_is_not_done_has_no_files(phone: LocalPhone, tmp_path: Path) -> None:
    spec = shell_job("sleep 60")
    job.start(phone, spec)
    with pytest.raises(JobGoneError, match="not done"):
        job.fetch(phone, spec, tmp_path / "files")


def test_an_output_that_changed_after_its_end_is_not_believed(phone: LocalPhone) -> None:
    spec = shell_job("echo 12", least=1, most=1)
    job.start(phone, spec)
    until(phone, spec, over)
    said = phone.run

    def damaged(script: str, deadline_s: float):  # type: ignore[no-untyped-def]
        output = said(script, deadline_s)
        return type(output)(0, output.stdout.replace("MTIK", "MTMK"), "")

    phone.run = damaged  # type: ignore[method-assign]
    with pytest.raises(AttemptError, match="invocation 1 arrived damaged"):
        job.progress(phone, spec, 0)


def test_many_outputs_come_in_several_calls(phone: LocalPhone) -> None:
    spec = shell_job("echo x", least=40, most=40)
    job.start(phone, spec)
    until(phone, spec, over)
    seen = job.progress(phone, spec, 0)
    assert (len(seen.invocations), seen.more) == (32, True)
    rest = job.progress(phone, spec, 32)
    assert ([each.number for each in rest.invocations], rest.more) == (list(range(33, 41)), False)


def test_an_invocation_whose_end_is_not_written_out_is_not_over(phone: LocalPhone) -> None:
    spec = shell_job("sleep 60")
    job.start(phone, spec)
    (phone.root / "job" / "out.1").write_text("said\n")
    for line, ended in (("", 0), ("0 12.3 4", 0), ("0 12.3 45.6\n", 1)):
        (phone.root / "job" / "code.1").write_text(line)
        seen = job.progress(phone, spec, 0)
        assert (len(seen.invocations), seen.more) == (ended, False)
    assert (seen.invocations[0].output, seen.invocations[0].ended_s) == ("said\n", 45.6)


def test_outputs_of_any_size_come_apart_again_and_not_too_many_at_once(phone: LocalPhone) -> None:
    spec = shell_job("sleep 60")
    job.start(phone, spec)
    texts = ["", "no end", "a\nb\n", "x" * (5 << 20), "y" * 3, "z" * 10_000_001, "last"]
    for number, text in enumerate(texts, 1):
        (phone.root / "job" / f"out.{number}").write_text(text)
        (phone.root / "job" / f"code.{number}").write_text("0 1.0 2.0\n")
    found: list[Invocation] = []
    counts = []
    while (seen := job.progress(phone, spec, len(found))).invocations:
        found += seen.invocations
        counts.append((len(seen.invocations), seen.more))
    assert counts == [(4, True), (1, True), (1, True), (1, False)]
    assert [each.output for each in found] == [*texts[:5], texts[5][-(4 << 20) :], texts[6]]
    assert [each.cut_short for each in found] == [False] * 5 + [True, False]


def test_what_a_phone_keeps_of_a_job_is_said_when_it_is_done(phone: LocalPhone) -> None:
    for command, kept in (("echo x > file.txt", True), ("true", False)):
        spec = shell_job(command, least=1, most=1, keep=("file.txt",))
        job.start(phone, spec)
        assert until(phone, spec, over).kept is kept
        job.discard(phone, spec)


def test_of_an_output_without_end_the_end_is_read(phone: LocalPhone) -> None:
    spec = shell_job("head -c 12000000 /dev/zero; echo Inference took 5", least=1, most=1)
    job.start(phone, spec)
    until(phone, spec, lambda seen: seen.state is not JobState.RUNNING and not seen.more)
    (invocation,) = job.progress(phone, spec, 0).invocations
    assert invocation.cut_short
    assert invocation.output.endswith("Inference took 5\n")
    assert len(invocation.output) == 4 << 20


def test_a_tool_is_bound_to_cpus(phone: LocalPhone) -> None:
    spec = shell_job("grep Cpus_allowed_list /proc/self/status", affinity=(0,), least=1, most=1)
    job.start(phone, spec)
    assert until(phone, spec, over).invocations[0].output.split() == ["Cpus_allowed_list:", "0"]


def test_a_phone_that_cannot_bind_says_so(phone: LocalPhone) -> None:
    (phone.folder / "real" / "taskset").unlink()
    with pytest.raises(UnsupportedError, match="taskset"):
        job.start(phone, shell_job("true", affinity=(0, 1)))
    assert not clean(phone)


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "two words"},
        {"token": ""},
        {"keep": ("../id",)},
        {"keep": ("out.1",)},
        {"keep": ("-rf",)},
        {"environment": {"A B": "c"}},
    ],
)
def test_a_job_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"named|plain word"):
        shell_job("true", **wrong)
