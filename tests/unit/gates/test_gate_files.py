"""Markdown, JUnit, the table and the document of a gate."""

from __future__ import annotations

import html
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from device_registry.errors import BenchfarmError
from exporters.gate_files import MOST_CHARACTERS, junit_of, markdown_of, write_text
from exporters.gate_tables import gate_view
from exporters.gate_words import headline
from scheduler.gates.case import Answer, Gate, Unpaired
from scheduler.gates.document import gate_document
from scheduler.gates.judging import judged
from tests.unit.gates.gate_rows import case, evidence, gate, side
from tests.unit.gates.junit_schema import read_junit

ANSWERS: tuple[Answer, ...] = get_args(Answer)
TEXTS = st.text(st.characters() | st.sampled_from("|<>&@#`*_[]\\\x00\x1b\n\u202e"), min_size=1, max_size=30)
AT = datetime(2026, 11, 30, 12, tzinfo=UTC)


def shown(made: Gate, width: int = 200) -> str:
    """The table as text."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(gate_view(made, width))
    return console.export_text()


@pytest.fixture
def slower() -> Gate:
    """A gate whose only case is slower, in another environment."""
    head = side(1.05, seed=3, environment={"onnxruntime": "1.31"}, artifact_bytes=301_000)
    base = side(1.0, seed=1, environment={"onnxruntime": "1.30"}, artifact_bytes=264_000)
    return gate(judged([evidence(head, base, device_s=61.0)]))


def test_markdown_tells_the_answer_the_numbers_and_why(slower: Gate) -> None:
    text = html.unescape(markdown_of(slower))
    first, *rest = text.splitlines()
    assert first == "## ❌ benchfarm gate: worse (1 slower of 1 case)"
    [row] = [line for line in rest if line.startswith("| <code>")]
    for part in ("<code>onnxruntime fp32</code>", "<code>d0</code>", "10.0", "10.5", "10 + 10", "264 kB → 301 kB"):
        assert part in row
    assert row.endswith("| **slower** |")
    assert re.search(r"0\.95\dx \[0\.\d+, 0\.\d+\]", row)
    assert "environment differs: onnxruntime 1.30 → 1.31" in text
    assert "run 7, 1 min 1 s of devices" in text


@given(name=TEXTS, why=TEXTS, device=TEXTS, answers=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4))
def test_no_text_breaks_out_of_its_cell(name: str, why: str, device: str, answers: list[Answer]) -> None:
    cases = [case(answer, model=name, device=device, options=name, why=why) for answer in answers]
    lacking = Unpaired(side="candidate", runtime="r", recipe="x", device=device, why=why)
    made = gate(cases, baseline=name, candidate=name, unpaired=(lacking,))
    text = markdown_of(made)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(answers)
    assert len({line.count("|") for line in rows}) == 1
    tags = set(re.findall(r"</?[a-z]+", text))
    assert tags <= {"<code", "</code", "<details", "</details", "<summary", "</summary"}
    root = read_junit(junit_of(made, AT))
    assert int(root.attrib["tests"]) == len(answers)
    json.dumps(gate_document(made), allow_nan=False)
    assert "\x1b" not in shown(made)


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_answer_has_its_place_in_junit(answer: Answer) -> None:
    root = read_junit(junit_of(gate([case(answer)]), AT))
    [test] = root.iter("testcase")
    expected = {
        **dict.fromkeys(("slower", "wrong", "lost"), "failure"),
        "failed": "error",
        **dict.fromkeys(("inconclusive", "missing"), "skipped"),
    }.get(answer)
    tags = {child.tag for child in test} & {"failure", "error", "skipped"}
    assert tags == ({expected} if expected else set())
    if expected is not None:
        assert test.find(expected).attrib["message"] == f"{answer}: it is {answer}"  # type: ignore[union-attr]
    assert test.attrib["time"] == "12.500"


def test_junit_has_a_suite_per_device_with_its_environment(slower: Gate) -> None:
    other = replace(slower.cases[0].evidence, what=replace(slower.cases[0].evidence.what, device="d1"))
    made = replace(slower, cases=(*slower.cases, replace(slower.cases[0], evidence=other)))
    root = read_junit(junit_of(made, AT))
    assert [suite.attrib["name"] for suite in root] == ["benchfarm gate on d0", "benchfarm gate on d1"]
    properties = {one.attrib["name"]: one.attrib["value"] for one in root[0].iter("property")}
    assert properties["environment.onnxruntime"] == "1.30 | 1.31"
    assert (properties["baseline"], properties["candidate"]) == ("base", "head")
    [failure] = root[0].iter("failure")
    assert "sees: 2.0%" in (failure.text or "")
    assert "speed-up (99 %): 0.95" in (failure.text or "")


def test_a_gate_without_cases_makes_files_too() -> None:
    read_junit(junit_of(gate([]), AT))
    assert "inconclusive" in markdown_of(gate([]))


def test_a_comment_is_never_cut_by_github() -> None:
    cases = [case("slower" if number % 100 == 99 else "same", options=f"o={number}") for number in range(2000)]
    text = markdown_of(gate(cases))
    assert len(text) <= MOST_CHARACTERS
    assert "more cases, for which there is no room" in text
    rows = [line for line in text.splitlines() if line.startswith("| <code>")]
    assert sum(line.endswith("| **slower** |") for line in rows) == 20  # the worst come first
    assert int(read_junit(junit_of(gate(cases), AT)).attrib["tests"]) == 2000


def test_the_table_leaves_out_columns_by_name_where_there_is_no_room(slower: Gate) -> None:
    wide, narrow = shown(slower), shown(slower, 90)
    assert "top-1" in wide
    assert "no room for top-1, memory" in narrow
    for text in (wide, narrow):
        assert "slower" in text
        assert "d0: onnxruntime 1.30 | 1.31" in text
        assert f"answer: {headline(slower)}" in text


def test_the_document_holds_what_the_answer_rests_on(slower: Gate) -> None:
    document = json.loads(json.dumps(gate_document(slower), allow_nan=False))
    assert (document["answer"], document["exit_code"], document["run"]) == ("worse", 4, 7)
    [one] = document["cases"]
    assert (one["answer"], one["alternated"], one["device_s"]) == ("slower", True, 61.0)
    assert one["verdict"]["processes"] == [10, 10]
    assert len(one["candidate"]["values_ms"]) == 10
    assert one["adjusted_p"] < 0.01


def test_stored_results_say_that_they_took_no_turns(slower: Gate) -> None:
    stored = replace(slower, measured=False, run=None)
    for text in (markdown_of(stored), shown(stored)):
        assert "not measured in turns" in text
    assert "nothing was measured" in markdown_of(replace(slower, run=None))


def test_files_stand_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a.md", "half \ud800 character")
    assert (tmp_path / "a.md").read_text() == "half ? character"
    with pytest.raises(BenchfarmError):
        write_text(tmp_path / "none" / "a.md", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.md"]
