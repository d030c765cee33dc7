"""A phone made of this machine's shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.android.local_phone import LocalPhone
from tests.unit.android.phone_shells import SHELLS, local_phone


@pytest.fixture(params=SHELLS)
def phone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalPhone]:
    """A clean phone; nothing of it runs on after the test."""
    made = local_phone(tmp_path / "phone", request.param)
    yield made
    made.reboot()
