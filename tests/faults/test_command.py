"""Faults at any moment: what a user breaks, the next command heals, and no process stays behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import Command, call, command_line, document, environment

FACTORY = """
import torch

def small():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8)), torch.randn(1, 64)
"""
#: One conversion of a tiny model and a few measurements on eager torch.
RUN = (
    "run",
    "tiny:small",
    "--allow-code",
    "--runtime",
    "torch",
    "--recipe",
    "fp32",
    "--max-seconds",
    "0.3",
    "--no-gate",
)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder with a factory of the user's own."""
    (tmp_path / "tiny.py").write_text(FACTORY)
    return tmp_path


@pytest.fixture
def start(home: Path, code: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command in a process group of its own, as a terminal would."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command_line(*arguments), env=environment(home), cwd=code, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def of_home(home: Path) -> dict[int, str]:
    """Processes that belong to a data directory: by their environment, or by a path in their command line."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            ours = process.environ().get("BENCHFARM_HOME") == str(home) or any(str(home) in word for word in words)
            if ours and process.pid != os.getpid():
                found[process.pid] = " ".join(words)
    return found


def wait_until(what: Callable[[], Any], timeout_s: float = 120) -> Any:
    """Poll until something is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"still not true: {what}"
        time.sleep(0.1)
    return value


def runners(home: Path) -> dict[int, str]:
    return {pid: words for pid, words in of_home(home).items() if "workers.runner" in words}


@pytest.mark.parametrize("executor", ["ray", "local"])
def test_interrupt_ends_everything_and_the_same_command_resumes(
    start: Callable[..., subprocess.Popen[str]], home: Path, code: Path, executor: str
) -> None:
    arguments = (*RUN, "--repeats", "3", "--executor", executor)
    process = start(*arguments)
    wait_until(lambda: runners(home))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command resumes run 1" in errors
    assert "Traceback" not in errors
    wait_until(lambda: not of_home(home), timeout_s=60)
    states = {job["state"] for job in document(call(home, "jobs", "list", "--json"))}
    assert "running" not in states

    again = call(home, *arguments, "--json", cwd=code)
    assert again.returncode == 0, again.stderr
    assert "resuming run 1" in again.stderr
    assert len(document(again)["results"][0]["processes"]) == 3
    jobs = document(call(home, "jobs", "list", "--json"))
    assert {job["run"] for job in jobs} == {1}
    assert {job["state"] for job in jobs} == {"succeeded"}


@pytest.mark.parametrize("executor", ["ray", "local"])
def test_a_killed_command_is_healed_by_the_next_and_leaves_no_process(
    start: Callable[..., subprocess.Popen[str]], home: Path, code: Path, executor: str
) -> None:
    arguments = (*RUN, "--executor", executor)
    process = start(*arguments)
    wait_until(lambda: runners(home))
    process.kill()
    process.communicate()

    again = call(home, *arguments, "--json", cwd=code)
    assert again.returncode == 0, again.stderr
    assert "resuming run 1" in again.stderr
    assert len(document(again)["results"]) == 1
    wait_until(lambda: not of_home(home), timeout_s=60)
    states = [job["state"] for job in document(call(home, "jobs", "list", "--json"))]
    assert set(states) == {"succeeded"}


def test_a_killed_runner_is_tried_again(start: Callable[..., subprocess.Popen[str]], home: Path) -> None:
    process = start(*RUN, "--executor", "local", "--json")
    pid = next(iter(wait_until(lambda: runners(home))))
    os.kill(pid, signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "try 2" in errors
    assert '"verdict"' in output


def test_a_run_beside_a_running_one_follows_it(
    start: Callable[..., subprocess.Popen[str]], home: Path, code: Path
) -> None:
    first = start(*RUN, "--repeats", "4", "--executor", "local", "--json")
    wait_until(lambda: runners(home))
    second = call(home, *RUN, "--repeats", "2", "--executor", "local", "--json", cwd=code)
    assert "following it" in second.stderr
    output, errors = first.communicate(timeout=120)
    assert first.returncode == second.returncode == 0, errors + second.stderr
    assert len(document(second)["results"][0]["processes"]) == 2
    jobs = document(call(home, "jobs", "list", "--json"))
    assert sum(job["kind"] == "convert" for job in jobs) == 1  # both used one artifact
    assert output


def test_a_full_disk_is_a_classified_failure(home: Path, code: Path) -> None:
    (code / "tiny.py").write_text(FACTORY.replace("64, 64", "64, 65536").replace("64, 8", "65536, 8"))
    limit = 4 * 2**20  # the program has 19 MB of weights

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    finished = subprocess.run(
        command_line(*RUN, "--executor", "local", "--json"), env=environment(home), cwd=code, capture_output=True,
        text=True, timeout=200, check=False, preexec_fn=small_disk,
    )  # fmt: skip
    assert finished.returncode == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    failed = document(finished)["failed"]
    assert "no space left" in failed[0]["why"]
    assert failed[0]["cause"] == "infrastructure"
    assert failed[0]["code"] == "gave_up"


def test_a_busy_machine_is_measured_and_named(home: Path, code: Path, benchfarm: Command) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        finished = benchfarm(*RUN, "--executor", "local", "--json", cwd=code)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert finished.returncode == 0, finished.stderr
    (row,) = document(finished)["results"]
    assert row["verdict"] == "contaminated"
    assert any(str(process.pid) in reason for process in busy for reason in row["reasons"])


def test_a_strict_gate_fails_on_a_busy_machine(home: Path, code: Path, benchfarm: Command) -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    strict = [argument for argument in RUN if argument != "--no-gate"]
    try:
        finished = benchfarm(*strict, "--strict-gate", "--executor", "local", "--json", cwd=code)
    finally:
        busy.kill()
        busy.wait()
    assert finished.returncode == 1
    (failed,) = document(finished)["failed"]
    assert failed["code"] == "gate_timeout"
    assert str(busy.pid) in failed["why"]


def test_a_bad_model_file_fails_alone(home: Path, code: Path, benchfarm: Command) -> None:
    (code / "broken.tflite").write_bytes(b"no flatbuffer at all")
    extra = ("--runtime", "litert", "--recipe", "original", "--executor", "local", "--json")
    finished = benchfarm("run", "broken.tflite", *RUN[1:], *extra, cwd=code)
    assert finished.returncode == 1
    outcome = document(finished)
    assert {row["model"] for row in outcome["results"]} == {"tiny:small"}
    causes = {(row["cause"], row["code"]) for row in outcome["failed"]}
    assert causes == {("user", "bad_model"), ("user", "upstream")}


def test_cancelled_jobs_do_not_run(start: Callable[..., subprocess.Popen[str]], home: Path) -> None:
    process = start(*RUN, "--repeats", "3", "--executor", "local", "--json")
    wait_until(lambda: runners(home))
    last = max(job["id"] for job in document(call(home, "jobs", "list", "--json")))
    assert call(home, "jobs", "cancel", str(last)).returncode == 0
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    shown = document(call(home, "jobs", "show", str(last), "--json"))
    assert shown["state"] == "cancelled"
    assert '"state": "cancelled"' in output
    refused = call(home, "jobs", "cancel", str(last))
    assert refused.returncode == 2
    assert "cancelled already" in refused.stderr


def test_a_missing_artifact_file_is_made_again(home: Path, code: Path, benchfarm: Command) -> None:
    arguments = (*RUN, "--executor", "local", "--json")
    assert benchfarm(*arguments, cwd=code).returncode == 0
    shutil.rmtree(home / "artifacts")
    again = benchfarm(*arguments, cwd=code)
    assert again.returncode == 0, again.stderr
    assert len(document(again)["results"]) == 1


def test_a_device_of_a_host_that_is_gone_keeps_nobody_waiting(home: Path, code: Path, benchfarm: Command) -> None:
    arguments = (*RUN, "--executor", "local", "--json")
    assert benchfarm("devices", "list").returncode == 0
    with sqlite3.connect(home / "benchfarm.db") as database:
        database.execute("UPDATE host SET key = 'gone'")
        database.execute("UPDATE device SET key = 'cpu:gone'")
    database.close()
    finished = benchfarm(*arguments, cwd=code)
    assert finished.returncode == 0, finished.stderr
    assert len(document(finished)["results"]) == 1


def test_an_empty_token_file_is_made_again(home: Path, code: Path, benchfarm: Command) -> None:
    home.mkdir()
    (home / "ray-token").touch()
    finished = benchfarm(*RUN, "--executor", "ray", "--json", cwd=code)
    assert finished.returncode == 0, finished.stderr


def test_a_command_whose_role_was_taken_follows_and_comes_to_its_end(
    start: Callable[..., subprocess.Popen[str]], home: Path
) -> None:
    process = start(*RUN, "--repeats", "2", "--executor", "local", "--json")
    wait_until(lambda: runners(home))
    with sqlite3.connect(home / "benchfarm.db") as database:
        taken = "UPDATE lease SET holder = 'thief', host_key = 'elsewhere', until = datetime('now', '+5 seconds')"
        database.execute(taken)
    database.close()
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "another benchfarm took over: following it" in errors
    assert '"verdict"' in output
