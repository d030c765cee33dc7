"""Text on its way to a phone's shell: everything passes here, so that no text of anybody's is ever code."""

from __future__ import annotations

import re

#: What no shell reads anything into; an unquoted "=" can make a word an assignment.
_PLAIN = re.compile(r"[A-Za-z0-9@%_+:,./-]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def quote(text: str) -> str:
    """One word of a POSIX shell that means exactly this text.

    Newlines, quotes, dollars and bytes of any language are kept; lone surrogates (bytes that were no UTF-8) are not
    text that a phone could be told.

    Raises:
        ValueError: it holds a NUL, which no argument of a program can, or a lone surrogate.
    """
    if "\0" in text:
        raise ValueError("a word with a NUL in it cannot be told to a shell")
    if _SURROGATE.search(text):
        raise ValueError("a word with a lone surrogate in it cannot be told to a shell")
    if _PLAIN.fullmatch(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def words(*texts: str) -> str:
    """A command line of these words, each quoted.

    Raises:
        ValueError: see `quote`.
    """
    return " ".join(quote(text) for text in texts)
