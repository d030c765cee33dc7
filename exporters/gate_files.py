"""A gate's answer as files: Markdown for a pull request or a job's summary, JUnit for a CI server."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from exporters.escaping import markdown, markdown_code, visible, xml_text
from exporters.files import whole_file
from exporters.gate_words import COLUMNS, environments, headline, how, title, worst_first
from scheduler.gates.case import FAILED, UNSURE, WORSE, Case, Gate

#: GitHub cuts a comment at 65,536 characters; what is past this is left out, and said so.
MOST_CHARACTERS: Final = 60_000
_SIGN: Final = {"worse": "❌", "failed": "❌", "inconclusive": "⚠️", "passed": "✅"}


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises:
        BenchfarmError: it cannot be written.
    """
    with whole_file(path) as file:
        file.write(text.encode("utf-8", errors="replace"))


def markdown_of(gate: Gate) -> str:
    """GitHub's dialect: the answer, a table of cases, the worst first, why, and the environment."""
    heads = ["case", "device", *COLUMNS, "answer"]
    lines = [
        f"## {_SIGN[gate.answer]} benchfarm gate: {markdown(headline(gate))}",
        "",
        f"{markdown_code(gate.candidate)} against {markdown_code(gate.baseline)}: {markdown(how(gate))}.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * 2}{'--:|' * len(COLUMNS)}---|",
    ]
    cases = worst_first(gate)
    told = [_markdown_row(case) for case in cases]
    reasons = [_markdown_reason(case) for case in cases]
    ends = _markdown_end(gate)
    room = MOST_CHARACTERS - sum(map(len, (*lines, *ends))) - 200
    kept = 0
    while kept < len(told) and (room := room - len(told[kept]) - len(reasons[kept]) - 2) > 0:
        kept += 1
    lines += told[:kept]
    if kept < len(told):
        lines += ["", f"and {len(told) - kept} more cases, for which there is no room; the JSON document has them"]
    lines += ["", "<details><summary>Why</summary>", "", *reasons[:kept], "", "</details>", *ends]
    return "\n".join(lines) + "\n"


def junit_of(gate: Gate, at: datetime | None = None) -> str:
    """JUnit as CI servers read it: a suite per device, a test per case.

    Worse is a failure, what could not be measured an error. What is inconclusive is skipped, with its reason: no test
    said that it is worse. The exit code says all of it to who must not let that pass.
    """
    suites = ET.Element("testsuites", name="benchfarm gate")
    stamp = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S")
    devices = environments(gate)
    for number, (device, environment) in enumerate(devices.items()):
        cases = [case for case in worst_first(gate) if case.evidence.what.device == device]
        suite = _junit_suite(gate, cases, device, environment)
        suite.attrib |= {"id": str(number), "timestamp": stamp, "hostname": xml_text(socket.gethostname())}
        suites.append(suite)
    for name in ("tests", "failures", "errors", "skipped"):
        suites.set(name, str(sum(int(suite.attrib[name]) for suite in suites)))
    suites.set("time", f"{sum(float(suite.attrib['time']) for suite in suites):.3f}")
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _markdown_row(case: Case) -> str:
    cells = [markdown_code(title(case)), markdown_code(case.evidence.what.device)]
    cells += [markdown(cell(case)) for cell in COLUMNS.values()]
    strong = case.answer in (*WORSE, *FAILED)
    return f"| {' | '.join([*cells, f'**{case.answer}**' if strong else case.answer])} |"


def _markdown_reason(case: Case) -> str:
    what = f"{markdown_code(title(case))} on {markdown_code(case.evidence.what.device)}"
    return f"- {what}: {case.answer}: {'; '.join(markdown(said) for said in (case.why, *case.notes))}"


def _markdown_end(gate: Gate) -> list[str]:
    lines = []
    if gate.unpaired:
        lines += ["", "<details><summary>Not compared</summary>", ""]
        for one in gate.unpaired[:100]:
            what = f"{markdown_code(f'{one.runtime} {one.recipe}')} on {markdown_code(one.device)}"
            lines.append(f"- {what}: {one.side}: {markdown(one.why)}")
        lines += ["", "</details>"]
    told = [(device, named) for device, named in environments(gate).items() if named]
    if told:
        lines += ["", "<details><summary>Environment</summary>", ""]
        for device, named in told[:20]:
            pairs = ", ".join(f"{markdown(name)} {markdown(value)}" for name, value in named.items())
            lines.append(f"- {markdown_code(device)}: {pairs}")
        lines += ["", "</details>"]
    return lines


def _junit_suite(gate: Gate, cases: list[Case], device: str, environment: dict[str, str]) -> ET.Element:
    suite = ET.Element("testsuite", name=xml_text(f"benchfarm gate on {visible(device)}"), package="benchfarm.gate")
    properties = ET.SubElement(suite, "properties")
    facts = {"baseline": gate.baseline, "candidate": gate.candidate, "how": how(gate)}
    facts |= {f"environment.{name}": value for name, value in environment.items()}
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=_attribute(name), value=_attribute(value))
    counts = {"failures": WORSE, "errors": FAILED, "skipped": UNSURE}
    for case in cases:
        suite.append(_junit_case(case, device))
    suite.set("tests", str(len(cases)))
    for name, answers in counts.items():
        suite.set(name, str(sum(case.answer in answers for case in cases)))
    suite.set("time", f"{sum(case.evidence.device_s for case in cases):.3f}")
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err")
    return suite


def _junit_case(case: Case, device: str) -> ET.Element:
    what = case.evidence.what
    # CI servers part a class name at its dots.
    classname = f"benchfarm.{visible(device).replace('.', '_')}.{what.runtime}"
    name = f"{visible(what.model)} {visible(title(case))}"
    test = ET.Element("testcase", name=_attribute(name), classname=_attribute(classname))
    test.set("time", f"{case.evidence.device_s:.3f}")
    said = xml_text("; ".join(visible(one) for one in (case.why, *case.notes)))
    numbers = xml_text("\n".join(f"{head}: {cell(case)}" for head, cell in COLUMNS.items()))
    kind: dict[str, Any] = {"message": f"{case.answer}: {said}"}
    if case.answer in WORSE:
        ET.SubElement(test, "failure", type=case.answer, **kind).text = numbers
    elif case.answer in FAILED:
        ET.SubElement(test, "error", type=case.answer, **kind).text = numbers
    elif case.answer in UNSURE:
        ET.SubElement(test, "skipped", **kind)
    if case.answer not in (*WORSE, *FAILED):
        ET.SubElement(test, "system-out").text = f"{case.answer}: {said}\n{numbers}"
    return test


def _attribute(text: str) -> str:
    return xml_text(visible(text))
