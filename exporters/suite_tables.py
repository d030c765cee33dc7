"""Suites in the terminal: which there are, what one would do, and what became of its blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.numbers import NONE, duration
from exporters.tables import outcomes_view, simple_table

#: Reasons that one block shows; --json has all.
_MOST_WHYS = 8


def suites_table(suites: Sequence[Mapping[str, Any]]) -> Table:
    """Suites that come with the package."""
    rows = [
        [suite["suite"], suite["title"], str(len(suite["blocks"])), str(suite["models"]), str(suite["published"])]
        for suite in suites
    ]
    return simple_table("Suites", ["suite", "what it measures", "blocks", "models", "published figures"], rows)


def plan_view(found: Mapping[str, Any]) -> RenderableType:
    """What a suite would do."""
    blocks = found["blocks"]
    size = "quick size" if found["quick"] else "full size"
    columns = ["block", "what", "cases", "fresh", "to convert", "runtimes", "about"]
    parts: list[RenderableType] = [
        Text(f"{found['title']}\n{found['description']}" if found["description"] else found["title"]),
        simple_table(f"Suite {found['suite']}, {size}", columns, [_planned(block) for block in blocks]),
    ]
    for block in blocks:
        parts += _unsupported(block)
    cases = f"{found['cases']} cases, {found['fresh']} fresh, {found['to_measure']} to measure"
    if found["evaluations"]:
        cases += f", {found['evaluations']} evaluations"
    guessed = sum(block["cases_guessed"] for block in blocks)
    how = f"; {guessed} cases by a guess, nobody measured them yet" if guessed else ""
    parts.append(Text(f"{cases}; conversions to make: {found['conversions_to_make']}"))
    parts.append(Text(f"done in about {duration(found['expected_s'])}{how}"))
    if found["source"]:
        parts.append(Text(f"first done by: {found['source']}", style="dim"))
    return Group(*parts)


def outcome_view(suite: str, blocks: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What became of the blocks of a suite."""
    columns = ["block", "run", "cases", "fresh", "failed jobs", "unsupported", "note"]
    parts: list[RenderableType] = [
        simple_table(
            f"Suite {suite}",
            columns,
            [
                [
                    block["block"],
                    NONE if block["run"] is None else str(block["run"]),
                    str(block["cases"]),
                    str(block["fresh"] or NONE),
                    str(block["failed_jobs"] or NONE),
                    str(len(block["unsupported"]) or NONE),
                    _note(block),
                ]
                for block in blocks
            ],
        )
    ]
    failed = [entry for block in blocks for entry in block["failed"]]
    if failed:
        parts.append(outcomes_view(failed, []))
    return Group(*parts)


def _planned(block: Mapping[str, Any]) -> list[str]:
    if block["why_not"] is not None:
        return [block["block"], block["title"], "0", NONE, NONE, NONE, NONE]
    return [
        block["block"],
        block["title"],
        str(block["cases"]),
        str(block["fresh"] or NONE),
        str(block["conversions_to_make"] or NONE),
        ", ".join(block["runtimes"]),
        duration(block["expected_s"]),
    ]


def _unsupported(block: Mapping[str, Any]) -> list[RenderableType]:
    """Why of a block what cannot be had: each reason once, with what it is about."""
    if block["why_not"] is not None:
        return [Text(f"{block['block']}: nothing can be measured: {_short(block['why_not'])}", style="yellow")]
    lines: list[RenderableType] = []
    if block["threads_left_out"]:
        counts = ", ".join(map(str, block["threads_left_out"]))
        lines.append(Text(f"{block['block']}: no device has {counts} threads: left out", style="dim"))
    about: dict[str, dict[str, None]] = {}
    for entry in block["unsupported"]:
        about.setdefault(entry["why"], {})[_what(entry)] = None
    for why, whats in list(about.items())[:_MOST_WHYS]:
        some = ", ".join(list(whats)[:3]) + (f" and {len(whats) - 3} more" if len(whats) > 3 else "")
        lines.append(Text(f"{block['block']}: unsupported: {some}: {_short(why)}", style="dim"))
    if (more := len(about) - _MOST_WHYS) > 0:
        lines.append(Text(f"{block['block']}: and {more} more reasons; --json has every one", style="dim"))
    return lines


def _what(entry: Mapping[str, Any]) -> str:
    parts = [entry["runtime"], *([entry["recipe"]] if entry["recipe"] != "any" else [])]
    return " ".join(parts)


def _note(block: Mapping[str, Any]) -> str:
    if block["why_not"] is not None:
        return f"nothing can be measured: {_short(block['why_not'])}"
    return "all of it is fresh" if block["run"] is None else NONE


def _short(why: str) -> str:
    return why if len(why) <= 160 else why[:157] + "..."
