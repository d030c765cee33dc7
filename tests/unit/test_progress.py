"""exporters.progress on a pipe: each end of a job is one line, told once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from exporters.progress import RunProgress
from scheduler.status import JobStatus, RunStatus
from workers.errors import UNSUPPORTED, UPSTREAM

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
