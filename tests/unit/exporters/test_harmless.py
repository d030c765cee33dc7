"""Names of devices and models come from phones and files of anybody: none commands the terminal that shows it."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from benchfarm.cli.service import log_to_terminal
from exporters.escaping import printable
from exporters.harmless import Harmless
from exporters.tables import show, simple_table

EVIL = "pixel\x1b[2J\x1b]0;owned\x07\u202e\x9b31m"


def test_what_is_shown_holds_no_escape(capsys: pytest.CaptureFixture[str]) -> None:
    show(simple_table("Devices", ["name"], [[EVIL]]))
    shown = capsys.readouterr().out
    assert "pixel" in shown
    assert printable(shown) == shown


def test_colours_of_ours_stay() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=80)
    console.print(Harmless(simple_table("Devices", ["name"], [[EVIL]])))
    shown = out.getvalue()
    assert "\x1b[1m" in shown  # a bold title
    assert not any(part in shown for part in ("\x1b[2J", "\x1b]0", "\x07", "\x9b", "\u202e"))


def test_what_is_logged_holds_no_escape(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    log_to_terminal()
    logging.getLogger("scheduler.example").warning("incident 1 opened: %s", EVIL)
    logged = capsys.readouterr().err
    assert "incident 1 opened: pixel" in logged
    assert printable(logged) == logged
