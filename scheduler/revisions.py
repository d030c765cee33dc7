"""The revision of what is measured: asked of git, which is trusted no further than the folder that it is asked about.

A repository that somebody unpacked can name programs for git to run: monitors, hooks, filters, transports. None of
them runs here. Nothing is written either, not even the index.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from device_registry.errors import BenchfarmError

#: A large working tree on a slow disk takes its time.
_TIMEOUT_S = 30.0
_LONGEST_SUBJECT = 200
#: All that git is told of this process' environment; HOME and XDG_CONFIG_HOME, for there its user's safe.directory is.
_KEPT = ("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR")
_ENVIRONMENT: Final = {
    "LC_ALL": "C",  # messages are read
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    # An object that is missing is not fetched, which would run what the repository names for it.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
_SETTINGS: Final = {
    "core.fsmonitor": "",
    "core.hooksPath": "/dev/null",
    "safe.bareRepository": "explicit",
}
_PROGRAMS = ("clean", "smudge", "process")


class RevisionError(BenchfarmError):
    """The revision of a folder cannot be told."""


@dataclass(frozen=True)
class Revision:
    """What a folder holds, by its version control."""

    #: The commit, with "-dirty" where tracked files differ from it; None: no repository, or no commit in it.
    revision: str | None = None
    #: More about it: vcs, branch, committed_at, subject, dirty.
    build: dict[str, Any] = field(default_factory=dict)


def revision_of(folder: Path) -> Revision:
    """The revision that a folder is at. Untracked files do not make it dirty, as in `git describe`.

    Raises:
        RevisionError: it is a repository, and git does not say.
    """
    if not folder.is_dir():
        raise RevisionError(f"no folder {folder}, so its revision is unknown")
    found = _Git(folder)
    if not found.is_repository():
        return Revision()
    commit = found.line("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if commit is None:
        return Revision(None, {"vcs": "git"})
    dirty = found.is_dirty()
    build = {
        "vcs": "git",
        "branch": found.line("symbolic-ref", "--quiet", "--short", "HEAD"),
        "dirty": dirty,
        **_described(found.run("cat-file", "commit", commit).stdout),
    }
    return Revision(commit + ("-dirty" if dirty else ""), build)


class _Git:
    """Questions about one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = dict(_SETTINGS)

    def is_repository(self) -> bool:
        """Whether the folder is part of a working tree; from then on its own filters are off.

        Raises:
            RevisionError: it is one that git refuses, or there is no git.
        """
        try:
            done = self._run("rev-parse", "--is-inside-work-tree")
        except FileNotFoundError:
            if any((parent / ".git").exists() for parent in (self._folder, *self._folder.absolute().parents)):
                raise RevisionError(f"no git on this machine, so the revision of {self._folder} is unknown") from None
            return False
        if "dubious ownership" in done.stderr:
            raise RevisionError(
                f"git does not read {self._folder}, which belongs to another user; if you trust it: "
                f"git config --global --add safe.directory {self._folder.resolve()}"
            )
        if "not a git repository" in done.stderr or "cannot use bare repository" in done.stderr:
            return False
        if done.returncode != 0:
            raise RevisionError(f"git does not read {self._folder}: {_said(done)}")
        if done.stdout.strip() != "true":
            return False
        self._disarm()
        return True

    def is_dirty(self) -> bool:
        """Whether tracked files differ from the commit; submodules only by the commit that they are at."""
        return bool(self.run("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty").stdout)

    def line(self, *command: str) -> str | None:
        """The one line that a command answers; None: it has no answer."""
        done = self._run(*command)
        return done.stdout.strip() or None if done.returncode == 0 else None

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command.

        Raises:
            RevisionError: it failed.
        """
        done = self._run(*command)
        if done.returncode != 0:
            raise RevisionError(f"git does not tell the revision of {self._folder}: {_said(done)}")
        return done

    def _disarm(self) -> None:
        """Turn off the filters that the repository itself defines: git would run them to compare files."""
        pattern = rf"^filter\..*\.({'|'.join(_PROGRAMS)}|required)$"
        for scope in ("--local", "--worktree"):
            done = self._run("config", scope, "--includes", "--name-only", "-z", "--get-regexp", pattern)
            for name in done.stdout.split("\0"):
                if name:
                    driver = name.rpartition(".")[0]
                    self._settings |= {f"{driver}.{program}": "" for program in _PROGRAMS}
                    self._settings[f"{driver}.required"] = "false"

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _ENVIRONMENT
        # Not as -c, whose names must not hold a "=".
        environment["GIT_CONFIG_COUNT"] = str(len(self._settings))
        for number, (name, value) in enumerate(self._settings.items()):
            environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        try:
            return subprocess.run(
                ["git", "--no-pager", "-C", str(self._folder), *command],  # noqa: S607 - git is where PATH says
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=_TIMEOUT_S,
                check=False,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            raise RevisionError(
                f"git did not answer within {_TIMEOUT_S:.0f} s, so the revision of {self._folder} is unknown"
            ) from None
        except PermissionError as error:
            raise RevisionError(f"git cannot be run: {error.strerror}") from error


def _described(commit: str) -> dict[str, Any]:
    """When a commit was made and its first line, from the object itself: `git log` would run what its settings name."""
    head, _, message = commit.partition("\n\n")
    committer = next((line for line in head.splitlines() if line.startswith("committer ")), "")
    seconds = committer.rsplit(" ", 2)[1:2]
    found: dict[str, Any] = {"subject": _first_line(message)[:_LONGEST_SUBJECT]}
    try:
        found["committed_at"] = datetime.fromtimestamp(int(seconds[0]), UTC).isoformat()
    except (IndexError, ValueError, OverflowError, OSError):
        found["committed_at"] = None
    return found


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return _first_line(done.stderr).removeprefix("fatal: ") or f"exit status {done.returncode}"


def _first_line(text: str) -> str:
    """Without what would move a terminal's cursor: others wrote it."""
    line = next(iter(text.strip().splitlines()), "")
    return "".join(character for character in line if character.isprintable())
