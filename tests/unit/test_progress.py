"""Progress: what a child says of itself, and exporters.progress on a pipe, where each end of a job is told once."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from exporters import progress as progress_module
from exporters.progress import RunProgress
from scheduler.status import JobStatus, RunStatus
from workers import progress as child_progress
from workers.errors import UNSUPPORTED, UPSTREAM
from workers.progress import PROGRESS_FILE, Seldom, read_progress, tell, tell_in

JOB = JobStatus(
    id=1,
    kind="measure",
    title="resnet on torch fp32",
    state="succeeded",
    since=None,
    took_s=3.2,
    failure_code=None,
    failure_message=None,
    retries=0,
    p50_ms=1.234,
    verdict="valid",
)


def told(capsys: pytest.CaptureFixture[str], *statuses: RunStatus) -> list[str]:
    with RunProgress() as progress:
        for status in statuses:
            progress.observe(status)
    captured = capsys.readouterr()
    assert captured.out == ""  # standard output is for the result
    return captured.err.splitlines()


def run_of(*jobs: JobStatus) -> RunStatus:
    return RunStatus(1, jobs, left_s=0.0, others_running=(), counts=Counter(job.state for job in jobs))


def test_a_measurement_is_told_once_with_its_latency(capsys: pytest.CaptureFixture[str]) -> None:
    status = run_of(JOB, replace(JOB, id=2, state="queued"))
    assert told(capsys, status, status) == ["[1/2] measured resnet on torch fp32 in 3 s: 1.23 ms"]


def test_a_doubtful_verdict_and_a_second_try_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = told(capsys, run_of(replace(JOB, verdict="contaminated", retries=1)))
    assert line.endswith("1.23 ms, contaminated (try 2)")


def test_a_failure_is_told_once_and_not_what_follows_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    failed = replace(JOB, state="failed", p50_ms=None, verdict=None, failure_message="no such operator")
    follows = replace(failed, id=2, failure_code=UPSTREAM)
    assert told(capsys, run_of(failed, follows)) == ["[2/2] failed: resnet on torch fp32: no such operator"]


def test_unsupported_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    odd = replace(JOB, state="failed", failure_code=UNSUPPORTED, failure_message="fp32 ran", p50_ms=None, verdict=None)
    assert told(capsys, run_of(odd)) == ["[1/1] unsupported: resnet on torch fp32: fp32 ran"]


def test_what_a_job_says_of_itself_is_told_when_it_is_news(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "_TOLD_PERIOD_S", 0.0)
    trains = replace(JOB, kind="convert", title="mlp on pt2 qat", state="running", progress="epoch 1/2, loss 0.5")
    silent = replace(JOB, id=2, state="running")
    later = replace(trains, progress="epoch 2/2, loss 0.4\x1b[2J")
    assert told(capsys, run_of(trains, silent), run_of(trains, silent), run_of(later, silent)) == [
        "  converting mlp on pt2 qat: epoch 1/2, loss 0.5",
        "  converting mlp on pt2 qat: epoch 2/2, loss 0.4\N{REPLACEMENT CHARACTER}[2J",
    ]


def test_plain_lines_are_not_told_more_often_than_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, run_of(replace(JOB, state="running", progress="epoch 1/2"))) == []


def test_the_latest_that_a_child_says_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_progress, "_folder", None)
    tell("before it does an attempt")
    tell_in(tmp_path)
    assert read_progress(tmp_path) is None
    for text in ("epoch 1", "epoch\n\x002 "):
        tell(text)
    assert read_progress(tmp_path) == "epoch 2"


def test_what_is_said_too_often_is_dropped() -> None:
    said: list[str] = []
    say = Seldom(said.append)
    for text in ("epoch 1", "epoch 2"):
        say(text)
    assert said == ["epoch 1"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"text": 1}', b'{"text": ""}', b'{"text": "' + b"a" * 9999])
def test_what_is_no_progress_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PROGRESS_FILE).write_bytes(content)
    assert read_progress(tmp_path) is None


def test_a_pipe_or_a_link_in_its_place_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / PROGRESS_FILE)
    assert read_progress(tmp_path) is None
    (tmp_path / PROGRESS_FILE).unlink()
    (tmp_path / "else").write_text('{"text": "a secret"}')
    (tmp_path / PROGRESS_FILE).symlink_to(tmp_path / "else")
    assert read_progress(tmp_path) is None
