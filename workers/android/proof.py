"""The end of a script on a phone, proven: a mark that nobody can know before, on each of its streams.

An exit status is no proof: of a phone that went, adb 29 and 34 report 0 (measured).
"""

from __future__ import annotations

import re
from typing import Protocol

from workers.android.phone import Output

#: A script that prints more is not one of ours: the agent's memory is not the phone's to fill.
_LONGEST_OUTPUT = 32 << 20
#: What a message quotes of a phone.
_MOST_QUOTED = 200
#: What nearly every tool prints.
_PLAIN = re.compile(r"[\n\t -~]*")
#: Packets of the shell protocol, version 2.
_STDOUT, _STDERR, _EXIT = 1, 2, 3


def printable(text: str) -> str:
    """A phone's text without characters that steer a terminal or break a database; lines stay lines."""
    return (
        text if _PLAIN.fullmatch(text) else "".join(one if one.isprintable() or one in "\n\t" else " " for one in text)
    )


def tidy(text: str) -> str:
    """A phone's words as a message may quote them: one line, printable, of bounded length."""
    return " ".join(printable(text[: 10 * _MOST_QUOTED]).split())[:_MOST_QUOTED]


class Wire(Protocol):
    """A connection to a shell; both calls keep to a deadline of their own."""

    def read_exact(self, n: int) -> bytes:
        """Receive exactly so many bytes; raises EOFError when there are no more."""

    def more(self) -> bytes:
        """Receive whatever comes next; nothing at the end."""


def marked(script: str, mark: str) -> str:
    """A script that shows its end and its exit code on both streams, which need not be in step.

    Args:
        script: runs in a subshell, so that an `exit` of its own ends nothing else.
        mark: of letters and digits, used once.
    """
    return f"(\n{script}\n)\nc=$?; echo; echo {mark}:$c; {{ echo; echo {mark}:$c; }} >&2"


def read_packets(wire: Wire, mark: str) -> Output:
    """Read what a marked script prints, by the shell protocol version 2.

    Returns as soon as both marks are seen: what the script left running in the background may print on.

    Raises:
        EOFError: it did not come to its end.
    """
    out, err = _Stream(mark), _Stream(mark)
    while not (out.ended and err.ended):
        head = wire.read_exact(5)
        kind, size = head[0], int.from_bytes(head[1:], "little")
        if size > _LONGEST_OUTPUT:
            raise EOFError("a packet of the shell is too long")
        data = wire.read_exact(size)
        if kind == _STDOUT:
            out.take(data)
        elif kind == _STDERR:
            err.take(data)
        elif kind == _EXIT:
            raise EOFError(f"the shell ended before the script did, with {data[0] if data else '?'}{err.last_line()}")
    return Output(out.code, out.text(), err.text())


def read_plain(wire: Wire, mark: str) -> Output:
    """The same from phones before Android 7: one stream for everything, and lines may end like a terminal's.

    Raises:
        EOFError: it did not come to its end.
    """
    out = _Stream(mark)
    while not out.ended:
        if not (data := wire.more()):
            raise EOFError(f"the shell ended before the script did{out.last_line()}")
        out.take(data)
    return Output(out.code, out.text().replace("\r\n", "\n"), "")


class _Stream:
    """What a script prints on one stream, up to the mark that proves its end."""

    def __init__(self, mark: str) -> None:
        self._mark = re.compile(rb"\r?\n" + mark.encode() + rb":(\d+)\r?\n")
        self._data = bytearray()
        self._end: int | None = None
        self._looked = 0
        self.code = 0

    @property
    def ended(self) -> bool:
        return self._end is not None

    def take(self, data: bytes) -> None:
        self._data += data
        if self._end is None and (match := self._mark.search(self._data, max(0, self._looked - 64))) is not None:
            self._end, self.code = match.start(), int(match[1])
        self._looked = len(self._data)
        if self._looked > _LONGEST_OUTPUT:
            raise EOFError(f"it printed more than {_LONGEST_OUTPUT >> 20} MiB")

    def text(self) -> str:
        return self._data[: self._end].decode(errors="replace")

    def last_line(self) -> str:
        lines = self.text().strip().splitlines()
        return f": {tidy(lines[-1])}" if lines else ""
