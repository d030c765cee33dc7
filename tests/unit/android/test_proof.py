"""A script's end is proven by its mark, on either protocol, or it is not the end."""

from __future__ import annotations

import random
import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.android.phone import Output
from workers.android.proof import marked, printable, read_packets, read_plain, tidy

MARK = "3f2a"


def test_a_phone_s_words_are_quoted_without_what_steers_a_terminal() -> None:
    assert tidy("\x1b[31mred\0\r\nnext\u202e \x9bé") == "[31mred next é"
    assert len(tidy("x" * 10_000)) == 200
    assert printable("a\0b\n\tc") == "a b\n\tc"


class Played:
    """A connection that gives what was recorded, in pieces of any size."""

    def __init__(self, data: bytes, piece: int = 1 << 20) -> None:
        self._data, self._piece = data, piece

    def read_exact(self, n: int) -> bytes:
        if len(self._data) < n:
            raise EOFError("no more")
        taken, self._data = self._data[:n], self._data[n:]
        return taken

    def more(self) -> bytes:
        taken, self._data = self._data[: self._piece], self._data[self._piece :]
        return taken


def packet(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(4, "little") + data


def ran(script: str) -> tuple[bytes, bytes]:
    done = subprocess.run(["sh", "-c", marked(script, MARK)], capture_output=True, check=False)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("echo out; echo err >&2; exit 3", Output(3, "out\n", "err\n")),
        ("printf 'no newline'", Output(0, "no newline", "")),
        ("true # a comment", Output(0, "", "")),
        (f"echo {MARK}", Output(0, f"{MARK}\n", "")),
        ("printf '\\n\\n'", Output(0, "\n\n", "")),
    ],
)
def test_what_a_script_printed_is_exact(script: str, output: Output) -> None:
    out, err = ran(script)
    assert read_packets(Played(packet(1, out) + packet(2, err) + packet(3, b"\0")), MARK) == output
    plain = read_plain(Played(out, piece=3), MARK)
    assert plain == Output(output.exit_code, output.stdout, "")
    assert read_plain(Played(out.replace(b"\n", b"\r\n")), MARK) == plain


def test_streams_may_be_out_of_step() -> None:
    out, err = ran("echo out; echo err >&2")
    mixed = packet(2, err[:2]) + packet(1, out[:-3]) + packet(2, err[2:]) + packet(1, out[-3:])
    assert read_packets(Played(mixed), MARK) == Output(0, "out\n", "err\n")


@pytest.mark.parametrize("script", ["kill -9 $$", "if"])
def test_a_shell_that_died_is_no_success(script: str) -> None:
    out, err = ran(f"echo out; {script}")
    with pytest.raises(EOFError, match="before the script did"):
        read_packets(Played(packet(1, out) + packet(2, err) + packet(3, b"\0")), MARK)
    with pytest.raises(EOFError, match="before the script did"):
        read_plain(Played(out), MARK)


@given(st.integers(0, 200))
def test_a_cut_anywhere_is_no_success(at: int) -> None:
    out, err = ran_once
    whole = packet(1, out) + packet(2, err)
    if at < len(whole):
        with pytest.raises(EOFError):
            read_packets(Played(whole[:at]), MARK)
    if at < len(out):
        with pytest.raises(EOFError):
            read_plain(Played(out[:at]), MARK)


ran_once = ran("echo " + "x" * 100)


def test_a_packet_longer_than_any_is_refused_before_it_is_read() -> None:
    with pytest.raises(EOFError, match="too long"):
        read_packets(Played(bytes([1]) + b"\xff" * 4), MARK)


def test_damaged_streams_end() -> None:
    chance = random.Random(20261120)
    out, err = ran_once
    whole = packet(1, out) + packet(2, err) + packet(3, b"\0")
    for _ in range(10_000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        for read in (read_packets, read_plain):
            with suppress(EOFError):
                read(Played(bytes(data)), MARK)
