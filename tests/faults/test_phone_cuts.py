"""A phone's scripts cut at every single command; the unit tests cut at some of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.android.phone_shells import SHELLS
from tests.unit.android.test_leftovers import cut_inside


@pytest.mark.parametrize("shell", SHELLS)
def test_a_phone_lost_at_any_command_is_clean_after_the_next_contact(tmp_path: Path, shell: str) -> None:
    assert cut_inside(tmp_path, shell, stride=1) > 50
