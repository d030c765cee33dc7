"""workers.bundle: the same folder gives the same bytes, and no archive leaves its folder."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.bundle import pack, unpack
from workers.errors import BadModelError

CONTENTS = {"Manifest.json": b"{}", "Data/weights.bin": b"\x00" * 2000, f"Data/{'long' * 40}": b"1"}


def fill(folder: Path, contents: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def archive_of(path: Path, *members: tarfile.TarInfo) -> Path:
    """A tar with these members, each with one byte."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            member.size = 1 if member.isreg() else 0
            archive.addfile(member, io.BytesIO(b"x"))
    return path


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """One member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    pack(fill(tmp_path / "model.mlpackage", CONTENTS), tmp_path / "packed.tar")
    unpack(tmp_path / "packed.tar", tmp_path / "again")
    assert read(tmp_path / "again") == CONTENTS


def test_bytes_depend_on_contents_only(tmp_path: Path) -> None:
    first = fill(tmp_path / "first", CONTENTS)
    second = fill(tmp_path / "second", dict(reversed(CONTENTS.items())))
    (second / "Manifest.json").chmod(0o600)
    os.utime(second / "Manifest.json", (1, 1))
    pack(first, tmp_path / "first.tar")
    pack(second, tmp_path / "second.tar")
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_members_are_in_the_order_of_their_names_whatever_that_of_the_folder(tmp_path: Path) -> None:
    names = [f"{hashlib.sha256(bytes([number])).hexdigest()[:6]}/{number}" for number in range(30)]
    pack(fill(tmp_path / "folder", dict.fromkeys(names, b"")), tmp_path / "packed.tar")
    with tarfile.open(tmp_path / "packed.tar") as archive:
        assert archive.getnames() == sorted(names)


def test_another_name_or_byte_gives_other_bytes(tmp_path: Path) -> None:
    packed = set()
    for number, contents in enumerate(({"a": b"1"}, {"a": b"2"}, {"b": b"1"})):
        pack(fill(tmp_path / str(number), contents), tmp_path / "packed.tar")
        packed.add((tmp_path / "packed.tar").read_bytes())
    assert len(packed) == 3


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside"),
        member("inside/../../outside"),
        member("link", kind=tarfile.SYMTYPE, link="../outside"),
        member("link", kind=tarfile.SYMTYPE, link="/etc/hostname"),
        member("link", kind=tarfile.LNKTYPE, link="../outside"),
        member("device", kind=tarfile.CHRTYPE),
        member("pipe", kind=tarfile.FIFOTYPE),
    ],
)
def test_a_member_that_would_leave_the_folder_is_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    archive = archive_of(tmp_path / "hostile.tar", member("good"), hostile)
    with pytest.raises(BadModelError, match="cannot unpack the artifact"):
        unpack(archive, tmp_path / "folder")
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert set(read(tmp_path / "folder")) <= {"good"}


def test_an_absolute_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match="is no file below it"):
        unpack(archive_of(tmp_path / "hostile.tar", member(f"{tmp_path}/outside")), tmp_path / "folder")
    assert not (tmp_path / "outside").exists()


def test_writing_through_a_link_of_the_archive_is_refused(tmp_path: Path) -> None:
    hostile = archive_of(
        tmp_path / "hostile.tar", member("door", kind=tarfile.SYMTYPE, link=str(tmp_path)), member("door/outside")
    )
    with pytest.raises(BadModelError):
        unpack(hostile, tmp_path / "folder")
    assert not (tmp_path / "outside").exists()


@given(data=st.binary(max_size=600))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_no_archive_is_a_bad_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "damaged.tar"
    path.write_bytes(b"\x01" + data)
    with pytest.raises(BadModelError):
        unpack(path, tmp_path / "folder")


def test_a_truncated_archive_is_a_bad_model(tmp_path: Path) -> None:
    pack(fill(tmp_path / "folder", CONTENTS), tmp_path / "packed.tar")
    (tmp_path / "packed.tar").write_bytes((tmp_path / "packed.tar").read_bytes()[:1000])
    with pytest.raises(BadModelError):
        unpack(tmp_path / "packed.tar", tmp_path / "again")


def test_a_truncated_compressed_archive_is_a_bad_model(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        info = member("weights")
        info.size = 100_000
        archive.addfile(info, io.BytesIO(os.urandom(100_000)))
    (tmp_path / "packed.tar").write_bytes((tmp_path / "packed.tar").read_bytes()[:50_000])
    with pytest.raises(BadModelError):
        unpack(tmp_path / "packed.tar", tmp_path / "again")
