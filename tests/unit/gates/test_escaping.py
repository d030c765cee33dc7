"""Text that others wrote does nothing where it is shown."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from exporters.escaping import markdown, markdown_code, visible, xml_text

#: All characters there are, halves of some included, and much of what has a meaning somewhere.
TEXTS = st.text(st.characters() | st.sampled_from("|<>&@#`*_[]()\\\x00\x1b\n\r\u202e\u2028"), max_size=60)
#: What is never left as it is.
_STRUCTURE = re.compile(r"[|<>`*\[\]{}\\~$\n\r]|\b_|_\b|\W_|_\W|^(\d+[.)]|[+=-])(\s|$)")


@given(TEXTS)
def test_visible_text_is_one_line_that_prints(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert visible(shown) == shown


@given(TEXTS)
def test_markdown_has_no_structure_of_the_texts_own(text: str) -> None:
    assert _STRUCTURE.search(markdown(text)) is None
    assert html.unescape(markdown(text)).replace("\u2060", "") == visible(text).replace("\u2060", "")


@given(TEXTS)
def test_code_has_no_structure_of_the_texts_own(text: str) -> None:
    inside = markdown_code(text).removeprefix("<code>").removesuffix("</code>")
    assert not set(inside) & set("|<>`*_[]{}\\~$\n\r")
    assert html.unescape(inside) == visible(text)


def test_nobody_is_called_and_nothing_links() -> None:
    said = markdown("@team see #12, www.example.org and http://example.org")
    for word in ("@team", "#12", "www.", "http:"):
        assert word not in said


def test_what_is_no_markup_is_read_as_it_is() -> None:
    assert markdown("mobilenet_v3_small: 5.1 % slower (+4.0 to +6.2 %)") == (
        "mobilenet_v3_small: 5.1 % slower (+4.0 to +6.2 %)"
    )
    assert markdown("_a_ __b__ c__d") == "&#95;a&#95; &#95;&#95;b&#95;&#95; c__d"
    assert [markdown(lead) for lead in ("1. x", "- x", "2)")] == ["1&#46; x", "&#45; x", "2&#41;"]


@given(TEXTS)
def test_xml_can_hold_any_text(text: str) -> None:
    element = ET.Element("a", b=xml_text(text))
    element.text = xml_text(text)
    read = ET.fromstring(ET.tostring(element, encoding="utf-8"))
    assert (read.text or "").replace("\r", "\n").split() == xml_text(text).split()
