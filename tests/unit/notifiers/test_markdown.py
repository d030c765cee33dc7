"""Markdown files: whole or not at all, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporters.notifiers.channel import DeliveryError
from exporters.notifiers.links import Links
from exporters.notifiers.markdown import MarkdownFolder
from tests.unit.notifiers.documents import digest, incident_document, message


def _folder(path: Path) -> MarkdownFolder:
    return MarkdownFolder(name="notes", folder=path, tells=frozenset({"incident", "digest"}), links=Links())


def test_a_digest_is_a_file(tmp_path: Path) -> None:
    channel = _folder(tmp_path / "notes")
    for _ in range(2):
        channel.send(message("digest", digest(), key="digest/341", incident_id=None))
    [file] = (tmp_path / "notes").iterdir()
    assert file.name == "digest-341.md"
    assert file.read_text().startswith("# sweep nightly, run 341 at 9b2d771: nothing changed\n")


def test_what_became_of_incidents_is_appended_once(tmp_path: Path) -> None:
    channel = _folder(tmp_path)
    opened = message("incident.opened", incident_document())
    resolved = message("incident.resolved", incident_document(), key="incident/12/resolved/1")
    for one in (opened, replace(opened, attempt=2), resolved):
        channel.send(one)
    text = (tmp_path / "incidents.md").read_text()
    assert text.count("## Regression: ") == 1
    assert text.count("## Resolved: ") == 1
    assert "2026-11-30 02:00 UTC" in text


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeliveryError, match="cannot be written"):
        _folder(tmp_path / "file").send(message("digest", digest()))
