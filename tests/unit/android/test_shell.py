"""The one quoting function: whatever the text, a shell sees it as it is."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.android.shell import quote, words

SHELLS = [path for name in ("sh", "bash", "mksh") if (path := shutil.which(name)) is not None]
NASTY = [
    "",
    " ",
    "'",
    "''",
    "a'b\"c`d$e\\f",
    "$(reboot)",
    "; rm -rf /",
    "a\nb\n",
    "-n",
    "A=b",
    "~",
    "*",
    "!x",
    "#no comment",
    "{a,b}",
    "ünïcode 電話 📱",
    "\r\x1b[31m\x7f",
]
#: Text that can be told: no NUL, no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


def heard(shell: str, line: str) -> list[str]:
    """The words that a shell makes of a line."""
    script = f'for word in {line}; do printf "%s\\0" "$word"; done'
    done = subprocess.run([shell, "-c", script], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_hears_what_was_said(shell: str) -> None:
    assert heard(shell, words(*NASTY)) == NASTY


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=20))
def test_any_text_is_heard(texts: list[str]) -> None:
    assert heard(SHELLS[0], words(*texts)) == texts


def test_a_quoted_word_is_no_assignment() -> None:
    done = subprocess.run(["sh", "-c", quote("A=b")], capture_output=True, check=False)
    assert done.returncode == 127  # a command that there is not


def test_plain_words_stay_readable() -> None:
    assert words("rm", "-rf", "/data/local/tmp/benchfarm/job", "a b") == "rm -rf /data/local/tmp/benchfarm/job 'a b'"


@pytest.mark.parametrize("text", ["a\0b", "a\udc80b"])
def test_what_cannot_be_told_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        quote(text)
