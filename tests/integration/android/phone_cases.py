"""What holds of any phone that a real adb server reaches: the same over played phones and over Debian's adbd."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from tests.android import wait_until
from workers.android import cache, job
from workers.android.adb import AdbPhone, AdbServer
from workers.android.job import JobState
from workers.android.job_loop import JobSpec
from workers.android.leftovers import clean
from workers.android.phone import ROOT, PhoneFullError, PhoneLostError
from workers.android.preparation import AIRPLANE, prepare
from workers.android.presence import Presence
from workers.errors import AttemptError

_SOON_S = 20.0
_LIMIT_BYTES = 1 << 30
_FOLDER = "/data/local/tmp"
#: Attempts have numbers of their own over all phones: a phone finds what is its by them.
_numbers = itertools.count(os.getpid() * 1000)


class Cable(Protocol):
    """Connects a phone with its host."""

    def plug(self) -> None:
        """Connect it."""

    def unplug(self) -> None:
        """Pull it."""


class Site:
    """A phone, the way to it, and its cable."""

    def __init__(self, server: AdbServer, serial: str, cable: Cable) -> None:
        """The phone is there."""
        self.server, self.serial, self.cable = server, serial, cable
        self.phone = self.way()

    def way(self) -> AdbPhone:
        """The way to it, once it is there."""
        return wait_until(self._way, 30, doing=f"{self.serial} is there")

    def _way(self) -> AdbPhone | None:
        for listed in self.server.devices():
            if listed.serial == self.serial and listed.presence is Presence.ONLINE:
                phone = self.server.phone(listed)
                with suppress(PhoneLostError):  # the server may not have seen yet that its cable was pulled
                    if phone.run("echo here", _SOON_S).stdout.strip() == "here":
                        return phone
        return None

    def says(self, script: str) -> str:
        """What a script prints."""
        return self.phone.run(script, _SOON_S).stdout.strip()


def spec(command: str, **more: int | float) -> JobSpec:
    """A job of shell text."""
    number = next(_numbers)
    given = {"least": 2, "most": 2, "seconds": 0.0, "deadline_s": 60.0, **more}
    return JobSpec(attempt_id=number, token=f"t{number}", command=("sh", "-c", command), **given)  # type: ignore[arg-type]


def watch(phone: AdbPhone, wanted: JobSpec) -> None:
    """Look at a job until the phone is lost."""
    while True:
        job.progress(phone, wanted, 0)


def until_over(phone: AdbPhone, wanted: JobSpec) -> job.Progress:
    """Watch a job to its end."""

    def over() -> job.Progress | None:
        seen = job.progress(phone, wanted, 0)
        return seen if seen.state != JobState.RUNNING else None

    return wait_until(over, 30, doing="the job is over")


class PhoneCases:
    """Collected in the classes that say which phone `site` is."""

    def test_a_script_runs_to_its_end(self, site: Site) -> None:
        done = site.phone.run("echo out; echo 'ünicode $HOME' ; echo err >&2; exit 3", _SOON_S)
        assert (done.exit_code, done.stdout, done.stderr) == (3, "out\nünicode $HOME\n", "err\n")
        assert site.phone.run("head -c 300000 /dev/zero | base64", _SOON_S).stdout.count("A") > 390_000
        assert site.phone.run("printf nothing-ends-this-line", _SOON_S).stdout == "nothing-ends-this-line"

    def test_a_script_that_takes_too_long_is_given_up(self, site: Site) -> None:
        began = time.monotonic()
        with pytest.raises(PhoneLostError) as lost:
            site.phone.run("sleep 20", 0.5)
        assert lost.value.code == "device_no_answer"
        assert time.monotonic() - began < 15
        assert site.says("echo well") == "well"

    def test_files_arrive_whole(self, site: Site, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(os.urandom((2 << 20) + 5))
        site.phone.push(file, f"{_FOLDER}/it's a $file", _SOON_S)
        site.phone.pull(f"{_FOLDER}/it's a $file", tmp_path / "back", _SOON_S)
        assert (tmp_path / "back").read_bytes() == file.read_bytes()
        with pytest.raises(AttemptError) as missing:
            site.phone.pull(f"{_FOLDER}/nothing", tmp_path / "nothing", _SOON_S)
        assert not isinstance(missing.value, PhoneLostError)
        assert not (tmp_path / "nothing").exists()

    def test_an_artifact_is_pushed_once(self, site: Site, tmp_path: Path) -> None:
        wanted = artifact(tmp_path, 3 << 20)
        assert cache.ensure(site.phone, [wanted], _LIMIT_BYTES) == wanted.bytes
        assert cache.ensure(site.phone, [wanted], _LIMIT_BYTES) == 0
        assert site.says(f"sha256sum < {wanted.remote}").startswith(wanted.sha256)

    def test_what_does_not_fit_is_refused(self, site: Site, tmp_path: Path) -> None:
        free_kb = int(site.says("df -k /data | tail -n 1").split()[3])
        wanted = artifact(tmp_path, (free_kb << 10) + (4 << 20))
        with pytest.raises(PhoneFullError):
            cache.ensure(site.phone, [wanted], 1 << 40)

    def test_a_job_runs_and_comes_home(self, site: Site, tmp_path: Path) -> None:
        wanted = spec("echo said; echo made > result")
        job.start(site.phone, wanted)
        seen = until_over(site.phone, wanted)
        assert seen.state == JobState.DONE
        assert [one.output for one in seen.invocations] == ["said\n", "said\n"]
        fetched = job.fetch(site.phone, wanted, tmp_path / "home")
        assert fetched["out.1"].read_text() == "said\n"
        assert clean(site.phone).jobs == (wanted.id,)
        assert site.says(f"ls {ROOT}") == "cache" or "job" not in site.says(f"ls {ROOT}").split()

    def test_a_job_that_is_cleared_away_leaves_nobody(self, site: Site) -> None:
        wanted = spec("sleep 1000 & setsid sleep 1000 & wait")
        job.start(site.phone, wanted)
        wait_until(lambda: len(alive(site, wanted)) >= 3, 20)
        assert clean(site.phone).jobs == (wanted.id,)
        assert alive(site, wanted) == []

    def test_lost_during_a_script(self, site: Site) -> None:
        pulled = threading.Timer(0.5, site.cable.unplug)
        pulled.start()
        began = time.monotonic()
        with pytest.raises(PhoneLostError):
            site.phone.run("sleep 20; echo done", 20)
        assert time.monotonic() - began < 15
        pulled.join()
        site.cable.plug()
        site.phone = site.way()
        assert site.says("echo well") == "well"

    def test_lost_during_a_push(self, site: Site, tmp_path: Path, slow: Callable[[bool], None]) -> None:
        wanted = artifact(tmp_path, 16 << 20)
        slow(True)
        pulled = threading.Timer(0.3, site.cable.unplug)
        pulled.start()

        def push_again_and_again() -> None:
            while True:  # the cable may be faster than the timer
                site.says(f"rm -rf {ROOT}/cache")
                cache.ensure(site.phone, [wanted], _LIMIT_BYTES)

        with pytest.raises(PhoneLostError):
            push_again_and_again()
        pulled.join()
        slow(False)
        site.cable.plug()
        site.phone = site.way()
        cache.ensure(site.phone, [wanted], _LIMIT_BYTES)
        assert site.says(f"sha256sum < {wanted.remote}").startswith(wanted.sha256)

    def test_a_job_goes_on_while_nobody_can_see_it(self, site: Site, tmp_path: Path) -> None:
        wanted = spec("sleep 1; echo made > result")
        job.start(site.phone, wanted)
        site.cable.unplug()
        with pytest.raises(PhoneLostError):
            watch(site.phone, wanted)
        site.cable.plug()
        site.phone = site.way()
        assert job.attached(site.phone, wanted.attempt_id, wanted.token) is not None
        assert until_over(site.phone, wanted).state == JobState.DONE
        assert job.attached(site.phone, wanted.attempt_id + 1, wanted.token) is None
        clean(site.phone)

    def test_the_next_agent_clears_up(self, site: Site) -> None:
        wanted = spec("sleep 1000")
        prepare(site.phone, [AIRPLANE])
        job.start(site.phone, wanted)
        site.cable.unplug()
        site.cable.plug()
        site.phone = site.way()
        left = clean(site.phone)
        assert left.jobs == (wanted.id,)
        assert left.undone == ("airplane",)
        assert alive(site, wanted) == []
        assert site.says("settings get global airplane_mode_on") == "0"
        assert not clean(site.phone)


def artifact(folder: Path, size: int) -> cache.Wanted:
    """A file as the store would name it."""
    path = folder / "artifact"
    with path.open("wb") as file:
        file.write(os.urandom(64))
        file.truncate(size)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return cache.Wanted(sha256=digest, local=path, bytes=size)


def alive(site: Site, wanted: JobSpec) -> list[str]:
    """Processes of a job, by the mark that they carry."""
    return site.says(f'grep -lszxF "BENCHFARM_JOB={wanted.id}" /proc/[0-9]*/environ; true').split()
