"""device_registry.selectors: what is printed can be typed again, and what cannot be read says where."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.capabilities import Attribute
from device_registry.selectors import Selector, SelectorError, Term, parse_selector

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,6}", fullmatch=True)
values = st.text(max_size=8) | st.text('ab ,"\\\\=<>~!\\n', max_size=6)
terms = st.builds(Term, names, st.sampled_from(["!=", ">=", "<=", "=", ">", "<", "~"]), values)
selectors = st.builds(Selector, st.lists(terms, max_size=4).map(tuple))
tags = st.lists(st.text(max_size=6), max_size=3).map(tuple)
actual_values = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.floats() | tags
attributes = st.dictionaries(names, actual_values, max_size=4)


@given(selector=selectors)
def test_a_printed_selector_is_read_as_it_was(selector: Selector) -> None:
    assert parse_selector(str(selector)) == selector


@given(text=st.text(max_size=30) | st.text('ab=<>~! ,.1-"\\\\\\n', max_size=20), device=attributes)
def test_any_text_is_a_selector_that_can_be_printed_or_an_error_that_points_into_it(
    text: str, device: dict[str, Attribute]
) -> None:
    refused = None
    try:
        selector = parse_selector(text)
    except SelectorError as error:
        refused = error
    if refused is None:
        assert selector.matches(device) in (True, False)
        assert parse_selector(str(selector)) == selector
        return
    said = str(refused).removeprefix(f"device selector {text!r}: ")
    assert said != str(refused)
    assert refused.exit_code == 2
    found = re.search(r"(cannot read .*|empty term) at position (\d+)", said)
    assert found is not None
    position = int(found[2])
    assert 1 <= position <= len(text) + 1
    if found[1] == "empty term":
        assert position == len(text) + 1 or text[position - 1] == ","
    else:
        assert not text[position - 1].isspace()
        assert parse_or_none(text[: position - 1].rstrip().removesuffix(",")) is not None  # all before it can be read


def parse_or_none(text: str) -> Selector | None:
    """A selector, where the text is one."""
    try:
        return parse_selector(text)
    except SelectorError:
        return None


def test_a_line_below_points_at_the_place() -> None:
    with pytest.raises(SelectorError) as refused:
        parse_selector("kind=cpu, 9x=1,name=a")
    assert str(refused.value).splitlines() == [
        (
            "device selector 'kind=cpu, 9x=1,name=a': cannot read '9x=1' at position 11; "
            "write terms such as kind=cpu, cores>=4 or model~epyc"
        ),
        "  kind=cpu, 9x=1,name=a",
        "            ^",
    ]


def test_a_value_with_a_comma_stands_in_quotes() -> None:
    selector = parse_selector(r'model="Xeon, 8 \"cores\"",kind = cpu')
    assert selector == Selector((Term("model", "=", 'Xeon, 8 "cores"'), Term("kind", "=", "cpu")))
    assert selector.matches({"model": 'Xeon, 8 "cores"', "kind": "cpu"})


def test_one_of_several_tags_satisfies_a_comparison_and_a_difference_needs_all() -> None:
    device = {"tag": ("canary", "rack-b")}
    matching = ["tag=canary", "tag=Rack-B", "tag~rack", "tag!=spare", "tag!=can", "canary!=tag"]
    others = ["tag=can", "tag!=canary", "tag!=rack-b", "tag~spare", "tag=canary,tag=spare"]
    assert [text for text in matching + others if parse_selector(text).matches(device)] == matching


def test_a_device_without_tags_satisfies_only_a_difference() -> None:
    matching = [op for op in ("=", "!=", "<", ">", "<=", ">=", "~") if parse_selector(f"tag{op}x").matches({"tag": ()})]
    assert matching == ["!="]


def test_a_very_long_number_is_compared_as_any_other() -> None:
    assert not parse_selector("cores=" + "9" * 5000).matches({"cores": 4})


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("kind=cpu,,os=x", 10),
        ("kind=cpu ,,os=x", 11),
        (",kind=cpu", 1),
        ("kind=cpu,", 10),
        ("kind=cpu,9x=1", 10),
        ("kind=cpu, os=,x=1", 11),
        ('model="Xeon, 8', 1),
        ('model="a"b,os=1', 1),
        ("  =x", 3),
        ("kind=", 1),
        ("a==b", 1),
    ],
)
def test_an_error_says_at_which_position(text: str, position: int) -> None:
    with pytest.raises(SelectorError, match=rf"at position {position}\b"):
        parse_selector(text)


def test_nothing_selects_every_device() -> None:
    for text in ("", "  "):
        assert parse_selector(text) == Selector()
    assert Selector().matches({})


def test_a_bare_word_is_a_name() -> None:
    assert parse_selector(" lab-2 ") == parse_selector("name=lab-2") == Selector((Term("name", "=", "lab-2"),))


def test_all_terms_must_match() -> None:
    device = {"kind": "cpu", "cores": 8}
    assert parse_selector("kind=cpu, cores>=4").matches(device)
    assert not parse_selector("kind=cpu,cores>=16").matches(device)


@pytest.mark.parametrize("actual", ["14", "14.0", 14, "14.0.0"])
def test_a_version_equals_itself_with_zeros_behind(actual: str | int) -> None:
    for text, matches in {"os=14": True, "os=14.0": True, "os!=14": False, "os>=14": True, "os>14.0": False}.items():
        assert parse_selector(text).matches({"os": actual}) is matches


def test_versions_are_ordered_by_their_numbers() -> None:
    for low, high in itertools.combinations(["9", "14", "14.1", "14.2", "14.10", "15", "100"], 2):
        assert parse_selector(f"os>{low}").matches({"os": high})
        assert parse_selector(f"os<{high}").matches({"os": low})
        assert not parse_selector(f"os>={high}").matches({"os": low})


def test_an_attribute_that_is_a_number_is_compared_as_a_number() -> None:
    assert parse_selector("clock_ghz>2.25").matches({"clock_ghz": 2.5})


def test_text_is_compared_without_case() -> None:
    device = {"model": "AMD EPYC 7763", "os": "Linux"}
    assert parse_selector("os=linux,model~epyc").matches(device)
    assert not parse_selector("model~xeon").matches(device)
    assert parse_selector("os!=darwin").matches(device)


def test_truth_is_compared_as_a_word() -> None:
    assert parse_selector("virtual=true").matches({"virtual": True})
    assert parse_selector("virtual=False").matches({"virtual": False})
    assert not parse_selector("virtual=1").matches({"virtual": True})


@pytest.mark.parametrize("device", [{}, {"soc": None}])
def test_an_absent_attribute_satisfies_only_a_difference(device: dict[str, None]) -> None:
    matching = [op for op in ("=", "!=", "<", ">", "<=", ">=", "~") if parse_selector(f"soc{op}x").matches(device)]
    assert matching == ["!="]


@given(device=attributes, name=names, value=values)
def test_equal_and_different_are_opposites(device: dict[str, Attribute], name: str, value: str) -> None:
    assert Term(name, "=", value).matches(device) != Term(name, "!=", value).matches(device)
