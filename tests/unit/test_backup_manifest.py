"""What a backup says of itself, which backups fit where, and which program copies which server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.errors import UsageError
from scheduler.backup import REVISIONS
from scheduler.backups.manifest import (
    DIGEST,
    BackupDamagedError,
    Manifest,
    Part,
    check_restorable,
    choose_tool,
    decode,
    decode_files,
    encode,
    encode_files,
    file_name,
    major,
)
from scheduler.backups.named_files import stored_paths
from workers.report import Report

MADE = Manifest(
    benchfarm="0.1.0",
    made_at="2026-11-30T20:00:00+00:00",
    database="postgresql",
    server="15.18 (Debian 15.18-0+deb12u1)",
    tool="15.18",
    schema_revision="0003",
    rows={"job": 3},
    parts=(Part(name="database.pgdump", bytes=1, sha256="0" * 64),),
    store="copied",
    files=1,
    files_bytes=2,
    files_missing=0,
)
digests = st.from_regex(DIGEST, fullmatch=True).filter(str.isascii)


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert decode(encode(MADE)) == MADE


def test_a_manifest_of_a_later_version_is_refused() -> None:
    with pytest.raises(BackupDamagedError, match="schema version 2, this code reads 1"):
        decode(json.dumps(json.loads(encode(MADE)) | {"schema_version": 2}))


@given(st.text() | st.binary())
def test_what_is_no_manifest_is_refused(text: str | bytes) -> None:
    with pytest.raises(BackupDamagedError):
        decode(text)


@pytest.mark.parametrize("change", [("benchfarm", 2), ("database", "oracle"), ("rows", {"job": "3"}), ("surprise", 1)])
def test_a_manifest_of_another_kind_is_refused(change: tuple[str, object]) -> None:
    with pytest.raises(BackupDamagedError, match=change[0]):
        decode(json.dumps(json.loads(encode(MADE)) | dict([change])))


@given(st.dictionaries(digests, st.integers(0, 2**50), max_size=4))
def test_a_list_of_files_is_read_as_it_was_written(files: dict[str, int]) -> None:
    assert decode_files(encode_files(files)) == files


@given(st.text(min_size=1).filter(str.strip))
def test_a_line_that_is_no_digest_and_size_is_refused(line: str) -> None:
    with pytest.raises(BackupDamagedError):
        decode_files(line)


@pytest.mark.parametrize("name", ["../" + "0" * 61 + " 1", "0" * 63 + "/ 1", "0" * 64 + " -1", "0" * 64 + " ²"])
def test_no_name_leads_out_of_the_archive(name: str) -> None:
    with pytest.raises(BackupDamagedError):
        decode_files(name)


def test_a_file_lies_as_it_does_in_the_store() -> None:
    assert file_name("ab" + "0" * 62) == "artifacts/ab/ab" + "0" * 62


@pytest.mark.parametrize(
    ("target", "server", "revision", "why"),
    [
        ("sqlite", None, "0003", "own kind"),
        ("postgresql", 15, "0099", "which made it"),
        ("postgresql", 14, "0003", "takes 15 or newer"),
    ],
)
def test_what_cannot_be_put_back_is_said(target: str, server: int | None, revision: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_restorable(replace(MADE, schema_revision=revision), target, REVISIONS, server)


@pytest.mark.parametrize("server", [15, 16, 18])
def test_a_newer_server_takes_an_older_backup(server: int) -> None:
    check_restorable(MADE, "postgresql", REVISIONS, server)


@pytest.mark.parametrize(
    ("found", "server", "chosen"),
    [
        ({"/a": 15, "/b": 16}, 15, "/a"),
        ({"/a": 17, "/b": 16}, 15, "/b"),
        ({"/a": 15, "/b": 17}, 16, "/b"),
    ],
)
def test_the_servers_own_program_goes_first(found: dict[str, int], server: int, chosen: str) -> None:
    assert choose_tool(found, "pg_dump", server) == chosen


def test_a_missing_or_old_program_is_told_with_what_to_install() -> None:
    with pytest.raises(UsageError, match=r"not installed here.*postgresql-client-16"):
        choose_tool({}, "pg_dump", 16)
    with pytest.raises(UsageError, match=r"server is PostgreSQL 16, the newest pg_dump here is of 15.*client-16"):
        choose_tool({"/a": 14, "/b": 15}, "pg_dump", 16)


def test_a_version_is_its_first_number() -> None:
    assert [major(text) for text in ("15.18 (Debian 15.18-0+deb12u1)", "17beta1", "", None, "none")] == [
        15,
        17,
        None,
        None,
        None,
    ]


def test_documents_say_where_they_name_stored_files() -> None:
    assert ("result", "measurement", "raw") in stored_paths(Report)
    assert all("conversion" not in path for path in stored_paths(Report))
