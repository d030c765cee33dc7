"""Sweeps in the terminal: what one would do, how far a run is, and the list of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.numbers import NONE, duration, significant
from exporters.tables import accuracy_text, outcomes_view, simple_table

_MOST_ROWS = 200
#: Characters of a reason; --json has all.
_LONGEST_WHY = 120
_STATE_STYLE = {"done": "green", "failed": "red", "cancelled": "red", "running": "bold", "unsupported": "dim"}


def check_view(found: Mapping[str, Any]) -> RenderableType:
    """What a sweep would do."""
    parts: list[RenderableType] = [_matrix_table(found)]
    if found["unsupported"]:
        parts.append(outcomes_view([], found["unsupported"]))
    parts += [Text(line) for line in _sentences(found)]
    parts += [
        Text(f"{rule['at']}: this {rule['kind']} rule matches no case: {rule['rule']}", style="yellow")
        for rule in found["unused_rules"]
    ]
    if found["left_out"]:
        parts.append(_left_out_table(found["left_out"]))
    parts += [Text(line, style="red") for line in found["complaints"]]
    return Group(*parts)


def run_view(run: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> RenderableType:
    """A run of a sweep, cell by cell."""
    told = [cell for cell in cells if cell["state"] != "unsupported"]
    evaluated = any(cell["evaluation"] is not None for cell in told)
    table = simple_table(
        _run_title(run),
        ["model", "runtime", "recipe", "options", "device", "state", "p50 ms", "verdict", "change"]
        + ["accuracy"] * evaluated,
        [[*_cell(cell), *[_accuracy(cell)] * evaluated] for cell in told[:_MOST_ROWS]],
    )
    parts: list[RenderableType] = [table]
    if len(told) > _MOST_ROWS:
        parts.append(Text(f"and {len(told) - _MOST_ROWS} more; --json has every one", style="dim"))
    whys = dict.fromkeys(f"{_what(cell)}: {_short(cell['why'])}" for cell in told if cell["why"])
    parts += [Text(why, style="red") for why in list(whys)[:10]]
    if len(whys) > 10:
        parts.append(Text(f"and {len(whys) - 10} more; --json has every one", style="red"))
    if any(cell["verdict"] not in (None, "valid") for cell in told):
        parts.append(Text("what is not valid stays out of baselines and out of the watched history", style="dim"))
    unsupported = [cell for cell in cells if cell["state"] == "unsupported"]
    if unsupported:
        parts.append(outcomes_view([], unsupported))
    parts += [Text(line) for line in _run_lines(run)]
    return Group(*parts)


def runs_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Runs of sweeps, newest first."""
    columns = ["run", "sweep", "state", "jobs", "failed", "revision", "schedule", "owner", "began"]
    return simple_table("Runs of sweeps", columns, [_listed(run) for run in runs])


def _matrix_table(found: Mapping[str, Any]) -> Table:
    rows = found["matrix"]
    some_fresh, some_out = found["fresh"] > 0, bool(found["left_out"])
    columns = ["device", "runtime", "cases"] + ["fresh"] * some_fresh + ["left out"] * some_out
    cells = [
        [row["device"], row["runtime"], str(row["cases"])]
        + [str(row["fresh"])] * some_fresh
        + [str(row["left_out"])] * some_out
        for row in rows
    ]
    return simple_table(f"Sweep {found['sweep']}", columns, cells)


def _sentences(found: Mapping[str, Any]) -> list[str]:
    cases, processes = found["cases"], found["processes_per_case"]
    lines = [f"{_count(cases, 'case')}, {_count(processes, 'process')} each" + _excluded(found["excluded"])]
    if found["evaluations"]:
        lines.append(f"{_count(found['evaluations'], 'evaluation')} of how right they answer")
    lines += [f"left out, for it is {one['why']}: {one['device']}" for one in found["absent"][:10]]
    if (more := len(found["absent"]) - 10) > 0:
        lines.append(f"and {_count(more, 'more device')} that take no work now")
    if found["fresh"]:
        lines.append(
            f"fresh or lately found unsupported, and not measured again: {found['fresh']}; --all measures them"
        )
    made = found["conversions"] - found["conversions_to_make"]
    lines.append(f"conversions: {found['conversions_to_make']} to make, {made} stand already")
    lines += [f"device time on {device}: about {_minutes(minutes)}" for device, minutes in _some(found)]
    guessed = found["cases_guessed"]
    how = f"; {guessed} of {found['to_measure'] + len(found['left_out'])} cases by a guess, nobody measured them yet"
    lines.append(f"device time in all: about {_minutes(found['device_minutes_total'])}" + (how if guessed else ""))
    lines += [f"queued before it on {device}: about {_minutes(m)}" for device, m in found["queued_minutes"].items()]
    if found["budget_minutes"] is not None:
        holds = "holds" if found["within_budget"] else "does not hold"
        lines.append(f"budget of {found['budget_minutes']:g} device minutes: {holds}")
    finish = f"done in about {duration(found['finish_in_s'])}, at {_time(found['finish_at'])}"
    if found["deadline_at"] is not None:
        finish += ", before" if found["before_deadline"] else ", AFTER"
        finish += f" its deadline at {_time(found['deadline_at'])}"
    return [*lines, finish]


def _some(found: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The busiest devices; of many, one line would drown the rest."""
    every = sorted(found["device_minutes"].items(), key=lambda item: -item[1])
    return every[:10] if len(every) > 1 else []


def _left_out_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [
        [row["model"], row["runtime"], row["recipe"], _options(row), row["device"], f"{row['device_minutes']:.1f}"]
        for row in rows[:_MOST_ROWS]
    ]
    columns = ["model", "runtime", "recipe", "options", "device", "minutes"]
    return simple_table("Left out, for the budget has no room", columns, cells)


def _cell(cell: Mapping[str, Any]) -> list[str]:
    state = str(cell["state"])
    if state not in ("done", "unsupported") and cell["processes"]:
        state += f" {cell['done']}/{cell['processes']}"
    p50 = NONE if cell["p50_ms"] is None else significant(cell["p50_ms"])
    if cell["p50_ci_ms"] is not None:
        p50 += f" [{significant(cell['p50_ci_ms'][0])}, {significant(cell['p50_ci_ms'][1])}]"
    return [
        cell["model"],
        cell["runtime"],
        cell["recipe"],
        _options(cell),
        cell["device"] or NONE,
        state,
        p50,
        cell["verdict"] or NONE,
        _change(cell),
    ]


def _accuracy(cell: Mapping[str, Any]) -> str:
    """How right it was found; else what became of finding out."""
    return str(cell["evaluation"] or NONE) if cell["accuracy"] is None else accuracy_text(cell["accuracy"])


def _change(cell: Mapping[str, Any]) -> str:
    incident = f"incident {cell['incident']}" if cell["incident"] is not None else ""
    if cell["screening"] in (None, "steady", "few", "invalid", "missing"):  # the verdict and the state say those
        return incident or NONE
    change = "" if cell["change"] is None else f" {cell['change']:+.1%}"
    return f"{str(cell['screening']).replace('_', ' ')}{change}" + (f", {incident}" if incident else "")


def _options(cell: Mapping[str, Any]) -> str:
    """What is not as by default."""
    parts = [f"{cell['threads']} threads"] if cell["threads"] not in (None, 1) else []
    parts += [f"batch {cell['batch']}"] if cell["batch"] not in (None, 1) else []
    parts += [cell["mode"]] if cell["mode"] not in (None, "burst") else []
    parts += [f"{name}={value}" for name, value in sorted(cell.get("runtime_options", {}).items())]
    return ", ".join(parts) or NONE


def _short(why: str) -> str:
    return why if len(why) <= _LONGEST_WHY else why[: _LONGEST_WHY - 3] + "..."


def _what(cell: Mapping[str, Any]) -> str:
    return f"{cell['model']} on {cell['runtime']} {cell['recipe']}, {cell['device'] or 'no device'}"


def _run_title(run: Mapping[str, Any]) -> str:
    title = (
        f"Run {run['run']} of sweep {run['sweep']}: {run['state']}, {run['finished']} of {run['jobs']} jobs finished"
    )
    title += f", revision {run['revision']}" if run["revision"] else ""
    return title + (f", schedule {run['schedule']}" if run["schedule"] else "")


def _run_lines(run: Mapping[str, Any]) -> list[str]:
    lines = []
    if run["budget_minutes"] is not None:
        lines.append(f"device minutes used: {run['device_minutes_used']:.1f} of {run['budget_minutes']:g}")
    if run["deadline_at"] is not None and run["state"] != "done":
        lines.append(f"deadline: {_time(run['deadline_at'])}")
    if run["state"] == "interrupted" or run["failed"] or run["cancelled"]:
        lines.append(f"what failed, was cancelled or is missing is taken up by: benchfarm sweep resume {run['run']}")
    return lines


def _listed(run: Mapping[str, Any]) -> list[str]:
    return [
        str(run["run"]),
        run["sweep"],
        run["state"],
        f"{run['finished']}/{run['jobs']}",
        str(run["failed"] or NONE),
        run["revision"] or NONE,
        run["schedule"] or NONE,
        run["owner"],
        _time(run["created_at"]),
    ]


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _minutes(minutes: float) -> str:
    return duration(minutes * 60)


def _count(count: int, noun: str) -> str:
    plural = "processes" if noun == "process" else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _excluded(count: int) -> str:
    return f"; {count} more excluded by its rules" if count else ""
