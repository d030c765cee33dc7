"""A whole run on a phone, and what must hold of the phone after it, however it ended."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from tests.unit.android.local_phone import LocalPhone
from workers.android import cache, job, preparation
from workers.android.cache import Wanted
from workers.android.job import JobState, Progress
from workers.android.job_loop import JobSpec
from workers.android.leftovers import clean
from workers.android.settings import Prepare

ALL_STEPS = preparation.steps(Prepare(fixed_performance=True, screen="off", airplane=True))
LIMIT = 1 << 30
#: Jobs are known by it, and all phones of these tests are one machine: tests that run beside each other have others.
TOKEN = secrets.token_hex(8)


def wanted_file(folder: Path, content: bytes) -> Wanted:
    """A file on this host, as a job would want it."""
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / sha256
    path.write_bytes(content)
    return Wanted(sha256=sha256, local=path, bytes=len(content))


def shell_job(script: str, **more: object) -> JobSpec:
    """A job whose tool is a line of shell."""
    settings: dict[str, object] = {"attempt_id": 7, "token": TOKEN, "least": 2, "most": 2, **more}
    return JobSpec(command=("sh", "-c", script), **settings)  # type: ignore[arg-type]


def until(phone: LocalPhone, spec: JobSpec, enough: Callable[[Progress], bool], limit_s: float = 20.0) -> Progress:
    """Watch a job from its beginning until that is so."""
    deadline = time.monotonic() + limit_s
    while not enough(seen := job.progress(phone, spec, 0)):
        assert time.monotonic() < deadline, seen
        time.sleep(0.01)
    return seen


def over(seen: Progress) -> bool:
    """Whether a job has ended."""
    return seen.state is not JobState.RUNNING


def whole_run(phone: LocalPhone, file: Wanted, folder: Path) -> dict[str, Path]:
    """Everything that is done with a phone for one attempt."""
    spec = shell_job("cat > /dev/null; echo said; echo row > rows.csv", keep=("rows.csv",))
    cache.ensure(phone, [file], LIMIT)
    preparation.prepare(phone, ALL_STEPS)
    job.start(phone, spec)
    deadline = time.monotonic() + 20
    while not (phone.root / "job" / "done").exists():  # not through the phone: a run has the same calls every time
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert job.progress(phone, spec, 0).state is JobState.DONE
    files = job.fetch(phone, spec, folder)
    clean(phone)
    return files


def assert_clean(phone: LocalPhone, before: dict[str, str]) -> None:
    """Nothing of ours runs or lies there but whole files of the cache, and every setting is as it was."""
    assert phone.processes() == {}
    left = {path.name for path in phone.root.iterdir()} if phone.root.exists() else set()
    assert left <= {"cache", "undo", "tools"}
    assert list((phone.root / "undo").glob("*")) == []
    for path in (phone.root / "cache").glob("*"):
        assert path.suffix in ("", ".whole")
        if not path.suffix:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert phone.settings() == before
