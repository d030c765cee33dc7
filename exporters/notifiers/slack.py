"""A message as Slack's incoming webhooks take it: blocks within its limits, a text for the rest, markup escaped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from exporters.notifiers.words import Line, Section, Words

#: Slack's limits: characters of a header, of a section and of the text; blocks of a message.
_MOST_HEADER, _MOST_SECTION, _MOST_TEXT, _MOST_BLOCKS = 150, 3000, 4000, 50
#: Kept of a section for the line that says how many were left out.
_KEPT_CHARACTERS = 60


def slack_body(words: Words, key: str) -> dict[str, Any]:
    """The body.

    Args:
        words: the message.
        key: of the message, for whoever looks for it later.
    """
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(words.title, _MOST_HEADER), "emoji": False}}
    ]
    lead = "\n".join(escape(text) for text in words.paragraphs)
    if lead:
        blocks.append(_section(_cut_markup(lead)))
    blocks += [_section(_list(section)) for section in words.sections[: _MOST_BLOCKS - len(blocks) - 1]]
    last = [f"`{escape(command)}`" for command in words.commands]
    if words.url is not None:
        last.append(_link(words.url, "dashboard"))
    last.append(escape(key))
    blocks.append({"type": "context", "elements": [_markup(_cut_markup("  ".join(last)))]})
    return {"text": _cut_markup(escape(words.summary), _MOST_TEXT), "blocks": blocks}


def escape(text: str) -> str:
    """A text in which Slack finds no sequence of its own: no link, no mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _markup(text)}


def _markup(text: str) -> dict[str, Any]:
    # Verbatim: of a bare address or an @name Slack would make a link or a mention by itself.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _list(section: Section) -> str:
    """Lines as far as they fit; then how many did not."""
    text = f"*{escape(section.heading)}* ({section.count:,})"
    shown = 0
    for line in _lines(section):
        if len(text) + 1 + len(line) > _MOST_SECTION - _KEPT_CHARACTERS:
            break
        text += "\n" + line
        shown += 1
    left_out = section.count - shown
    return text + (f"\n… and {left_out:,} more" if left_out > 0 else "")


def _lines(section: Section) -> Iterator[str]:
    for line in section.lines:
        yield f"• {_linked(line)}"


def _linked(line: Line) -> str:
    return escape(line.text) if line.url is None else f"{escape(line.text)} {_link(line.url, 'more')}"


def _link(url: str, label: str) -> str:
    # Whatever could end a link early is percent-encoded.
    return f"<{escape(quote(url, safe=_IN_URLS))}|{label}>"


_IN_URLS = ":/?#[]@!$&'()*+,;=%-._~"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _cut_markup(text: str, most: int = _MOST_SECTION) -> str:
    """Cut, but not within an escaped character."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    start = cut.rfind("&")
    if start >= 0 and ";" not in cut[start:]:
        cut = cut[:start]
    return cut + "…"
