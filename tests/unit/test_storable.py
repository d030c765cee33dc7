"""What no database takes, or takes and cannot read, is gone before it gets there; everything else is as it was."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from device_registry.storable import storable, text_of

_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))
_DATA = st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(_DATA)
def test_whatever_it_was_it_is_json_that_any_database_reads(value: Any) -> None:
    text = json.dumps(storable(value), allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")
    assert storable(storable(value)) == storable(value)


@given(
    st.recursive(st.integers() | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), st.lists)
)
def test_what_is_sound_is_left_alone(value: Any) -> None:
    assert storable(value) == value


def test_examples() -> None:
    told = {"board": "x\0y", "sizes": (1, 2.5, math.nan, math.inf), "file\0": {"name": "a\ud800b"}, "yes": True}
    assert storable(told) == {"board": "xy", "sizes": [1, 2.5, None, None], "file": {"name": "a?b"}, "yes": True}
    assert text_of("\0abc", 2) == "ab"
