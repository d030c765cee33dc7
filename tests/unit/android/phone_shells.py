"""The shells that play a phone's: this machine's, and what phones have, mksh with toybox and nothing beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.unit.android.local_phone import LocalPhone

_TOYBOX, _MKSH = shutil.which("toybox"), shutil.which("mksh")
#: A missing program skips on a laptop and fails in CI.
_needs_mksh = pytest.mark.skipif(
    (_TOYBOX is None or _MKSH is None) and "CI" not in os.environ, reason="mksh and toybox are not installed"
)
SHELLS = [pytest.param("sh", id="sh"), pytest.param("mksh", id="mksh", marks=_needs_mksh)]


def local_phone(folder: Path, shell: str) -> LocalPhone:
    """A phone with one of `SHELLS`; a test that makes it ends with its `reboot()`, which ends all that runs on it."""
    if shell == "mksh":
        assert _MKSH is not None
        assert _TOYBOX is not None
        return LocalPhone(folder, shell=(_MKSH,), box=_TOYBOX)
    return LocalPhone(folder)
