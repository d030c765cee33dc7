"""workers.artifacts: bytes by their digest, checked at every load."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from pathlib import Path

import pytest

from workers.artifacts import ArtifactCorruptError, ArtifactStore
from workers.errors import Cause

DATA = b"weights"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file to store."""
    path = tmp_path / "model.onnx"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def local(tmp_path: Path) -> ArtifactStore:
    """A store in a folder."""
    return ArtifactStore(f"file://{tmp_path / 'store'}", tmp_path / "cache")


@pytest.fixture
def remote(tmp_path: Path) -> ArtifactStore:
    """A store that is not on this host's disk."""
    return ArtifactStore(f"memory://{uuid.uuid4().hex}", tmp_path / "cache")


@pytest.fixture(params=["local", "remote"])
def store(request: pytest.FixtureRequest) -> ArtifactStore:
    """Either."""
    found: ArtifactStore = request.getfixturevalue(request.param)
    return found


def files_in(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_put_is_fetched(store: ArtifactStore, source: Path) -> None:
    assert not store.has(SHA256)
    store.put(source, SHA256)
    assert store.has(SHA256)
    assert store.fetch(SHA256).read_bytes() == DATA
    assert store.fetch(SHA256).read_bytes() == DATA  # now from the cache, where there is one
    assert source.read_bytes() == DATA


def test_bytes_are_stored_under_their_digest_and_leave_nothing_behind(store: ArtifactStore, tmp_path: Path) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    assert store.put_bytes(DATA, folder) == SHA256
    assert store.fetch(SHA256).read_bytes() == DATA
    assert files_in(folder) == []


def test_a_local_store_is_read_in_place(local: ArtifactStore, source: Path, tmp_path: Path) -> None:
    local.put(source, SHA256)
    assert local.fetch(SHA256) == tmp_path / "store" / SHA256[:2] / SHA256
    assert not (tmp_path / "cache").exists()


def test_another_store_object_finds_the_same_artifact(local: ArtifactStore, source: Path, tmp_path: Path) -> None:
    local.put(source, SHA256)
    again = ArtifactStore(f"file://{tmp_path / 'store'}/", tmp_path / "cache")
    assert again.fetch(SHA256).read_bytes() == DATA


def test_a_digest_that_is_there_is_left_alone(local: ArtifactStore, source: Path, tmp_path: Path) -> None:
    local.put(source, SHA256)
    stored = local.fetch(SHA256).stat()
    local.put(source, SHA256)
    assert local.fetch(SHA256).stat().st_ino == stored.st_ino


def test_a_missing_artifact_says_so(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactCorruptError, match="is missing") as missing:
        store.fetch(SHA256)
    assert (missing.value.cause, missing.value.code) == (Cause.INFRASTRUCTURE, "artifact_corrupt")
    assert missing.value.sha256 == SHA256


def test_a_damaged_artifact_is_refused_and_deleted_so_that_it_can_be_made_again(
    store: ArtifactStore, source: Path
) -> None:
    source.write_bytes(b"something else")
    store.put(source, SHA256)
    with pytest.raises(ArtifactCorruptError, match="damaged"):
        store.fetch(SHA256)
    assert not store.has(SHA256)
    source.write_bytes(DATA)
    store.put(source, SHA256)
    assert store.fetch(SHA256).read_bytes() == DATA


def test_an_artifact_damaged_after_it_was_stored_is_found_at_load(local: ArtifactStore, source: Path) -> None:
    local.put(source, SHA256)
    local.fetch(SHA256).write_bytes(b"bit rot")
    with pytest.raises(ArtifactCorruptError, match="damaged"):
        local.fetch(SHA256)


def test_a_damaged_cached_copy_leaves_the_store_alone(remote: ArtifactStore, source: Path) -> None:
    remote.put(source, SHA256)
    remote.fetch(SHA256).write_bytes(b"bit rot")
    try:
        assert remote.fetch(SHA256).read_bytes() == DATA
    except ArtifactCorruptError:
        assert remote.has(SHA256)


def test_a_copy_that_fails_half_way_leaves_nothing(
    local: ArtifactStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_: Path, target: str) -> None:
        Path(target).write_bytes(DATA[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.artifacts.shutil.copyfile", half)
    with pytest.raises(OSError, match="No space"):
        local.put(source, SHA256)
    assert not local.has(SHA256)
    assert files_in(tmp_path / "store") == []


def test_a_part_is_never_seen_under_the_digest(
    local: ArtifactStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    copy = shutil.copyfile

    def watched(path: Path, target: str) -> None:
        copy(path, target)
        seen.append(local.has(SHA256))

    monkeypatch.setattr("workers.artifacts.shutil.copyfile", watched)
    local.put(source, SHA256)
    assert seen == [False]
    assert [path.name for path in files_in(tmp_path / "store")] == [SHA256]


def test_a_store_is_marked_once_and_everybody_reads_the_same(store: ArtifactStore, tmp_path: Path) -> None:
    assert store.marker() is None
    mark = store.mark()
    assert store.mark() == mark == store.marker()
    assert ArtifactStore(f"file://{tmp_path / 'another'}", tmp_path / "cache").mark() != mark
