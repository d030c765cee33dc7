"""A message as plain text, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from exporters import escaping
from exporters.escaping import one_line
from exporters.notifiers.words import Words


def text(words: Words) -> str:
    """For a terminal: no colours, no control characters."""
    return "\n".join(_text_lines(words)) + "\n"


def markdown(words: Words, *, level: int = 1) -> str:
    """As Markdown; whatever names hold is text there, not markup.

    Args:
        words: the message.
        level: of its heading.
    """
    return "\n".join(_markdown_lines(words, level)) + "\n"


def _text_lines(words: Words) -> Iterator[str]:
    yield words.title
    for paragraph in words.paragraphs:
        yield f"  {one_line(paragraph)}"
    for section in words.sections:
        yield ""
        yield f"{section.heading} ({section.count:,})"
        for line in section.lines:
            yield f"  {line.text}"
            if line.url is not None:
                yield f"    {line.url}"
        if section.left_out:
            yield f"  and {section.left_out:,} more"
    if words.commands or words.url:
        yield ""
    if words.url is not None:
        yield f"see {words.url}"
    for command in words.commands:
        yield f"see {command}"


def _markdown_lines(words: Words, level: int) -> Iterator[str]:
    yield f"{'#' * level} {escaping.markdown(words.title)}"
    for paragraph in words.paragraphs:
        yield ""
        yield escaping.markdown(paragraph)
    for section in words.sections:
        yield ""
        yield f"{'#' * (level + 1)} {escaping.markdown(section.heading)} ({section.count:,})"
        yield ""
        for line in section.lines:
            link = "" if line.url is None else f" ([more](<{line.url.replace('>', '%3E')}>))"
            yield f"- {escaping.markdown(line.text)}{link}"
        if section.left_out:
            yield f"- and {section.left_out:,} more"
    ends = [] if words.url is None else [f"[Dashboard](<{words.url.replace('>', '%3E')}>)"]
    ends += [f"`{one_line(command)}`" for command in words.commands]
    if ends:
        yield ""
        yield ", ".join(ends)
