"""JUnit files as CI servers read them: the rules of the schema that Jenkins, GitLab and others share.

Elements in their order, attributes that must be there and of what kind, and none that they do not know.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

_COUNT, _TIME = re.compile(r"\d+"), re.compile(r"\d+(\.\d+)?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_ANY = re.compile(r".*", re.DOTALL)
#: Element to its attributes, (name, must be there) to form, and to what it may hold, in order.
_RULES: dict[str, tuple[dict[tuple[str, bool], re.Pattern[str]], tuple[str, ...]]] = {
    "testsuites": (
        {
            **{(name, False): _COUNT for name in ("tests", "failures", "errors", "skipped")},
            ("name", False): _ANY,
            ("time", False): _TIME,
        },
        ("testsuite",),
    ),
    "testsuite": (
        {
            **{(name, True): _COUNT for name in ("tests", "failures", "errors", "skipped", "id")},
            ("name", True): _ANY,
            ("package", True): _ANY,
            ("hostname", True): _ANY,
            ("timestamp", True): _MOMENT,
            ("time", True): _TIME,
        },
        ("properties", "testcase", "system-out", "system-err"),
    ),
    "properties": ({}, ("property",)),
    "property": ({("name", True): re.compile(r".+", re.DOTALL), ("value", True): _ANY}, ()),
    "testcase": (
        {("name", True): re.compile(r".+", re.DOTALL), ("classname", True): _ANY, ("time", True): _TIME},
        ("skipped", "error", "failure", "system-out", "system-err"),
    ),
    "skipped": ({("message", False): _ANY}, ()),
    "error": ({("message", False): _ANY, ("type", True): _ANY}, ()),
    "failure": ({("message", False): _ANY, ("type", True): _ANY}, ()),
    "system-out": ({}, ()),
    "system-err": ({}, ()),
}


def read_junit(text: str) -> ET.Element:
    """The root of a valid file; the sums of its suites are right, too."""
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        _check(element)
    for suite in root:
        cases = suite.findall("testcase")
        told = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
        found = {"tests": len(cases)}
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            found[name] = sum(case.find(tag) is not None for case in cases)
        assert told == found
    for name in ("tests", "failures", "errors", "skipped"):
        assert int(root.attrib[name]) == sum(int(suite.attrib[name]) for suite in root)
    return root


def _check(element: ET.Element) -> None:
    attributes, children = _RULES[element.tag]
    known = {name: form for (name, _), form in attributes.items()}
    assert set(element.attrib) <= set(known), (element.tag, element.attrib)
    for (name, needed), form in attributes.items():
        value = element.attrib.get(name)
        assert value is not None or not needed, (element.tag, name)
        assert value is None or form.fullmatch(value), (element.tag, name, value)
    order = [children.index(child.tag) for child in element]
    assert order == sorted(order), (element.tag, [child.tag for child in element])
