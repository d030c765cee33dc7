"""workers.calls: names with arguments, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.calls import Call, CallError, parse_call, split_outside

_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_./-]{0,12}", fullmatch=True)
_VALUES = st.from_regex(r"[A-Za-z0-9_./:-]{1,8}(\([a-z0-9=,.]{0,6}\))?", fullmatch=True)
_CALLS = st.builds(
    Call,
    _NAMES,
    st.lists(_VALUES, max_size=2).map(tuple),
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True), _VALUES, max_size=3),
)


@given(_CALLS)
def test_what_was_written_is_read(call: Call) -> None:
    assert parse_call(call.text) == call


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_call(text)
    except CallError:
        return
    assert parse_call(found.text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin with a name"),
        ("op/linear(m=1", "after op/linear comes nothing, or arguments in brackets"),
        ("op/linear)m(", "comes nothing, or arguments"),
        ("a(m=1,m=2)", "m stands twice"),
        ("a(m=1,2)", "'2' comes after a named argument"),
        ("a(m=;)", "'m=;' is no argument"),
        ("a(b(c)", "a bracket is not closed"),
    ],
)
def test_what_is_no_call_is_told(text: str, said: str) -> None:
    with pytest.raises(CallError) as caught:
        parse_call(text)
    assert said in str(caught.value)


def test_a_value_may_be_a_call() -> None:
    assert parse_call("distill(teacher=op/linear(m=1,k=2), alpha=0.5)").named == {
        "teacher": "op/linear(m=1,k=2)",
        "alpha": "0.5",
    }


def test_splitting_looks_at_brackets() -> None:
    assert split_outside("a(1+2)+b", "+") == ["a(1+2)", "b"]
    with pytest.raises(CallError, match="closes that was never opened"):
        split_outside("a)", "+")
