"""Revisions of folders: what git says, and what a repository of somebody else's must not do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scheduler import revisions
from scheduler.revisions import Revision, RevisionError, revision_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

_CLEAN = {"PATH": os.environ.get("PATH", ""), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has settings of their own."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository of one commit."""
    made = tmp_path / "models"
    made.mkdir()
    git(made, "init", "--quiet", "--initial-branch=main")
    (made / "model.py").write_text("slow = False\n")
    git(made, "add", ".")
    commit(made, "A model\n\nwith more to say")
    return made


def git(folder: Path, *command: str) -> str:
    """Run git as its user."""
    done = subprocess.run(["git", "-C", folder, *command], env=_CLEAN, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, message: str) -> None:
    """Commit what is staged."""
    who = ("-c", "user.name=Someone", "-c", "user.email=someone@example.org")
    git(folder, *who, "commit", "--quiet", "--message", message)


def test_a_commit_its_branch_and_its_subject(folder: Path) -> None:
    found = revision_of(folder)
    assert found.revision == git(folder, "rev-parse", "HEAD")
    assert found.build.pop("committed_at").endswith("+00:00")
    assert found.build == {"vcs": "git", "branch": "main", "dirty": False, "subject": "A model"}


def test_a_folder_inside_of_it_has_the_same(folder: Path) -> None:
    (folder / "inner").mkdir()
    assert revision_of(folder / "inner").revision == revision_of(folder).revision


def test_changed_files_make_it_dirty_and_untracked_ones_do_not(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert revision_of(folder).build["dirty"] is False
    (folder / "model.py").write_text("slow = True\n")
    found = revision_of(folder)
    assert (found.revision, found.build["dirty"]) == (git(folder, "rev-parse", "HEAD") + "-dirty", True)


def test_a_touched_file_is_not_dirty_and_the_index_is_left_alone(folder: Path) -> None:
    os.utime(folder / "model.py", (1, 1))
    before = (folder / ".git" / "index").read_bytes()
    assert revision_of(folder).build["dirty"] is False
    assert (folder / ".git" / "index").read_bytes() == before


def test_a_commit_that_no_branch_points_to(folder: Path) -> None:
    git(folder, "checkout", "--quiet", "--detach")
    assert revision_of(folder).build["branch"] is None


def test_no_repository_and_no_commit(tmp_path: Path, folder: Path) -> None:
    assert revision_of(tmp_path / "home") == Revision(None, {})
    git(tmp_path / "home", "init", "--quiet")
    assert revision_of(tmp_path / "home") == Revision(None, {"vcs": "git"})
    assert revision_of(folder / ".git") == Revision(None, {})


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RevisionError, match=r"no folder .*gone"):
        revision_of(tmp_path / "gone")


def test_what_git_finds_in_our_environment_does_not_count(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(folder / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(folder))
    assert revision_of(tmp_path / "home") == Revision(None, {})


def test_a_repository_runs_nothing_of_its_own(tmp_path: Path, folder: Path) -> None:
    ran = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f'#!/bin/sh\necho "$0 $@" >> {ran}\ncat\n')
    evil.chmod(0o755)
    (folder / ".gitattributes").write_text("*.py filter=a=b diff=evil\n")
    git(folder, "add", ".")
    commit(folder, "Attributes")
    included = folder / ".git" / "more"
    included.write_text(f'[filter "a=b"]\n\tclean = {evil} clean\n\tprocess = {evil} process\n\trequired = true\n')
    for name, value in {
        "core.fsmonitor": f"{evil} monitor",
        "core.pager": f"{evil} pager",
        "core.sshCommand": f"{evil} ssh",
        "log.showSignature": "true",
        "gpg.program": f"{evil} gpg",
        "diff.evil.textconv": f"{evil} textconv",
        "alias.status": f"!{evil} alias",
        "include.path": str(included),
    }.items():
        git(folder, "config", name, value)
    hooks = folder / ".git" / "hooks"
    shutil.rmtree(hooks, ignore_errors=True)
    hooks.mkdir()
    for name in ("post-index-change", "post-checkout", "pre-auto-gc"):
        shutil.copy(evil, hooks / name)
    (folder / "model.py").write_text("slow = True \n")
    assert revision_of(folder).build["dirty"] is True
    os.utime(folder / "model.py", (1, 1))
    assert revision_of(folder).build["dirty"] is True
    assert not ran.exists()
    # The bait is real: as git comes, it is taken.
    subprocess.run(["git", "-C", folder, "status"], env=_CLEAN, check=False, capture_output=True)
    assert "monitor" in ran.read_text()
    assert "process" in ran.read_text() or "clean" in ran.read_text()


def test_a_missing_object_is_not_fetched(tmp_path: Path, folder: Path) -> None:
    ran = tmp_path / "ran"
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": f"ext::sh -c 'touch {ran}'",
        "remote.origin.promisor": "true",
        "protocol.allow": "always",
    }.items():
        git(folder, "config", name, value)
    tree = git(folder, "rev-parse", "HEAD^{tree}")
    (folder / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(RevisionError, match="git does not tell the revision of"):
        revision_of(folder)
    assert not ran.exists()


def test_a_repository_of_another_user_is_refused_in_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(revisions._ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(RevisionError, match=r"belongs to another user.*safe\.directory"):
        revision_of(folder)


def test_without_git_only_a_repository_is_worth_a_word(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "home"))
    assert revision_of(tmp_path / "home") == Revision(None, {})
    with pytest.raises(RevisionError, match="no git on this machine"):
        revision_of(folder)


def test_a_git_that_hangs_is_given_up(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "home" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'home'}:{os.environ['PATH']}")
    monkeypatch.setattr(revisions, "_TIMEOUT_S", 0.2)
    with pytest.raises(RevisionError, match="git did not answer within"):
        revision_of(folder)


def test_a_damaged_repository_is_told(folder: Path) -> None:
    (folder / ".git" / "config").write_text("[core\n")
    with pytest.raises(RevisionError, match=r"git does not read .*bad config"):
        revision_of(folder)


def test_a_subject_moves_no_cursor(folder: Path) -> None:
    (folder / "model.py").write_text("x")
    git(folder, "add", ".")
    commit(folder, "red \x1b[31m alert")
    assert revision_of(folder).build["subject"] == "red [31m alert"
