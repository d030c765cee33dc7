"""Text that others wrote (names, messages of a model's code), made harmless where it is shown."""

from __future__ import annotations

import re
from typing import Final

#: What stands for a character that must not be shown.
_REPLACED: Final = "\ufffd"
#: What Markdown, GitHub's dialect of it or HTML gives a meaning; the rest stays as it is read.
_MARKDOWN: Final = {ord(character): f"&#{ord(character)};" for character in "\\`*{}[]<>|~&$"}
#: No @name calls anybody and no #12 links anywhere: a word joiner parts them, which nobody sees.
_MARKDOWN[ord("@")] = "@&#8288;"
_MARKDOWN[ord("#")] = "&#35;&#8288;"
#: What would be a link or a pictogram (https://..., :name:), and what would begin a list.
_COLON: Final = re.compile(r":(?=\S)")
#: Within a word Markdown leaves an underscore alone.
_UNDERSCORES: Final = re.compile(r"(?<![A-Za-z0-9_])_+|_+(?![A-Za-z0-9_])")
_LEAD: Final = re.compile(r"^(\d*)([+=-]|(?<=\d)[.)])(?=\s|[+=-]|$)")
#: Inside <code> nobody is called and nothing links.
_CODE: Final = {ord(character): f"&#{ord(character)};" for character in "\\`*_{}[]<>|~&$"}


def visible(text: str) -> str:
    """One line without what changes how other text is shown: controls, escapes, marks of direction, half characters."""
    return "".join(_shown(character) for character in " ".join(text.split()))


def one_line(text: str, most: int = 300) -> str:
    """The same, cut where it is longer than so many characters."""
    line = visible(text)
    return line if len(line) <= most else line[: most - 1] + "…"


def printable(text: str) -> str:
    """Lines without what changes how other text is shown: what a terminal would take for a command among them."""
    return "".join(character if character in "\n\t" else _shown(character) for character in text)


def markdown(text: str) -> str:
    """A sentence in Markdown, in a table or not: whatever it holds is text there."""
    plain = _COLON.sub("&#58;", visible(text).translate(_MARKDOWN))
    plain = _UNDERSCORES.sub(lambda found: "&#95;" * len(found[0]), plain)
    plain = _LEAD.sub(lambda lead: f"{lead[1]}&#{ord(lead[2])};", plain)
    return plain.replace("www.", "www&#46;")


def markdown_code(text: str) -> str:
    """A name in Markdown."""
    return f"<code>{visible(text).translate(_CODE)}</code>"


def xml_text(text: str) -> str:
    """Text that XML 1.0 can hold, its line ends kept; quoting is for who writes the XML."""
    return "".join(character if _is_xml(ord(character)) else _REPLACED for character in text)


def _shown(character: str) -> str:
    # What Python calls printable: no controls, no marks of direction, no halves of characters, no odd line ends.
    return character if character.isprintable() else _REPLACED


def _is_xml(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
