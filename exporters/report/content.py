"""All that a report tells, gathered model by model, so that a large farm never lies in memory as a whole."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from device_registry.database import one_of
from device_registry.registry import label_of
from exporters.matrix_tables import age_text, state_text
from exporters.numbers import NONE
from exporters.report.figures import heat_map, state_bars
from exporters.report.incidents import incident_parts
from exporters.report.places import places_of
from exporters.report.sections import MOST_FACTS, section_of
from exporters.report.shapes import Chart, Content, Facts
from exporters.report.telemetry import telemetry_charts
from scheduler.cells import STATES, Wanted, variant_label
from scheduler.ingest import results
from scheduler.matrix import matching_devices, matrix
from scheduler.status import known_run
from scheduler.views import view_of
from workers.contract import PROTOCOL_VERSION

Row = Mapping[str, Any]
#: Models with a section of their own; the others are in the overview and in `benchfarm compare`.
MOST_SECTIONS = 24
#: Devices whose environment is told, and lines of a table of epochs.
_MOST_ENVIRONMENTS = 8
_MOST_EPOCHS = 60
#: Above so many devices, epochs are told by `benchfarm`, not by a page.
_MOST_WITH_EPOCHS = 200
_DAY_S = 86_400.0


@dataclass
class _Tally:
    """What is kept of all models."""

    cells: int = 0
    #: (group, state) to how many.
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    devices: dict[int, bool] = field(default_factory=dict)
    #: (model, place) to the ages of its values.
    ages: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    #: (state, why) to (variants, devices).
    reasons: dict[tuple[str, str], tuple[set[str], set[str]]] = field(default_factory=dict)
    newest_s: float | None = None
    oldest_s: float | None = None
    latest_run: int | None = None
    #: (processes that count) of each value.
    processes: Counter[int] = field(default_factory=Counter)
    #: Values whose series' noise was learnt, and those of them that cannot see 5 %.
    learnt: int = 0
    blind: list[str] = field(default_factory=list)


def content_of(connection: Connection, wanted: Wanted, run_id: int | None, now: datetime) -> Content:
    """All of a report.

    Args:
        connection: to read from.
        wanted: which models and devices.
        run_id: whose telemetry and environment are shown; None: the latest run that measured here.
        now: the time.

    Raises:
        UsageError: something named is not there, or nothing was measured yet.
    """
    if run_id is not None:
        run_id = known_run(connection, run_id)
    content = Content(made_at=f"{now:%Y-%m-%d %H:%M} UTC", scope=_scope(wanted))
    tally = _Tally()
    for number, (model, rows) in enumerate(matrix(connection, wanted, now)):
        _count(tally, model, rows)
        if number < MOST_SECTIONS:
            content.sections.append(section_of(model, rows, number))
        else:
            content.models_left_out.append(model)
    device_ids = matching_devices(connection, wanted.selector)
    content.incidents, content.incident_charts = incident_parts(connection, wanted.models, device_ids)
    content.headline = _headline(tally)
    content.overview = [_freshness(tally)]
    content.coverage = _coverage(tally)
    content.reasons = _reasons(tally)
    content.measured = _measured(tally)
    if (shown := run_id or tally.latest_run) is not None:
        content.run = str(shown)
        content.telemetry, content.telemetry_note = telemetry_charts(connection, shown)
        content.environment = _environment(connection, shown)
    content.epochs = _epochs(connection, wanted, len(tally.devices))
    return content


def _scope(wanted: Wanted) -> str:
    models = ", ".join(wanted.models) if wanted.models else "every model"
    return f"{models}, {f'devices {wanted.selector}' if wanted.selector else 'every device'}"


def _count(tally: _Tally, model: str, rows: Sequence[Row]) -> None:
    places = places_of(rows)
    tally.cells += len(rows)
    for row in rows:
        kind = f"{row['device_kind']}{' (simulated)' if row['simulated'] else ''}"
        tally.states[kind, row["state"]] += 1
        tally.devices[row["device_id"]] = row["simulated"]
        if row["state"] not in ("valid", "stale", "missing"):
            variants, on = tally.reasons.setdefault((state_text(row), row["why"] or NONE), (set(), set()))
            variants.add(f"{model}: {variant_label(row)}")
            on.add(row["device_label"])
        if row["run"] is not None:  # a run that was judged invalid is looked at most of all
            tally.latest_run = max(row["run"], tally.latest_run or 0)
        if row["value"] is None:
            continue
        tally.ages.setdefault(model, {}).setdefault(places.of(row), []).append(row["age_s"])
        tally.newest_s = min(row["age_s"], tally.newest_s if tally.newest_s is not None else row["age_s"])
        tally.oldest_s = max(row["age_s"], tally.oldest_s or 0.0)
        tally.processes[row["processes"]] += 1
        tally.learnt += row["noise_floor"] is not None
        if row["sees_5_percent"] is False:
            where = f"{model}: {variant_label(row)} on {row['device_label']}"
            tally.blind.append(f"{where} ({row['noise_floor']:.1%} noise)")


def _headline(tally: _Tally) -> list[tuple[str, str]]:
    made_up = sum(tally.devices.values())
    real = len(tally.devices) - made_up
    states = Counter[str]()
    for (_, state), count in tally.states.items():
        states[state] += count
    found = [
        *([(f"{real:,}", ("real " if made_up else "") + ("device" if real == 1 else "devices"))] if real else []),
        *([(f"{made_up:,}", "simulated devices")] if made_up else []),
        (f"{states['valid']:,} of {tally.cells:,}", "cells valid and fresh"),
    ]
    found += [(f"{states[state]:,}", state) for state in STATES[1:] if states[state]]
    return [*found, (age_text(tally.newest_s), "newest value"), (age_text(tally.oldest_s), "oldest value")]


def _freshness(tally: _Tally) -> Chart:
    """Models x devices (or models of device): how old the values are."""
    title = "How fresh: age of the latest valid values"
    if not tally.ages:
        return Chart(id="freshness", title=title, empty="Not drawn: there is no valid value yet.")
    models = list(tally.ages)[:MOST_SECTIONS]
    places = sorted({place for by_place in tally.ages.values() for place in by_place})[:40]
    days: list[list[float | None]] = []
    texts, details, facts = [], [], []
    for model in models:
        ages = [tally.ages[model].get(place) for place in places]
        typical = [None if found is None else statistics.median(found) for found in ages]
        days.append([None if age is None else age / _DAY_S for age in typical])
        texts.append([age_text(age) for age in typical])
        told = [f"{age_text(age)} ({len(found or ())} values)" for age, found in zip(typical, ages, strict=True)]
        details.append([f"{model} on {place}: {text}" for place, text in zip(places, told, strict=True)])
        facts += [[model, place, text] for place, text in zip(places, told, strict=True)]
    return Chart(
        id="freshness",
        title=title,
        figure=heat_map(models, places, days, texts, details, "days", (0.0, 7.0)),
        caption="The median age where a field is of many values. Older than seven days is stale.",
        facts=Facts(columns=["model", "device", "age"], rows=facts[:MOST_FACTS], left_out=max(0, len(facts) - 200)),
    )


def _coverage(tally: _Tally) -> Chart:
    groups = sorted({group for group, _ in tally.states})
    counts = {state: [tally.states[group, state] for group in groups] for state in STATES}
    rows = [[group, *(str(counts[state][number]) for state in STATES)] for number, group in enumerate(groups)]
    return Chart(
        id="coverage",
        title="Coverage: cells of the matrix by state",
        figure=state_bars(groups, counts) if groups else None,
        empty="" if groups else "Not drawn: nothing was wanted yet.",
        caption="A cell is a case on a device. Missing: some device of the kind has it, and this one was never tried.",
        facts=Facts(columns=["kind of device", *STATES], rows=rows),
    )


def _reasons(tally: _Tally) -> Facts | None:
    """Each state and reason once; failed, unsupported and invalid stay apart."""
    order = {state: number for number, state in enumerate(STATES)}
    found = sorted(
        tally.reasons.items(), key=lambda item: (order.get(item[0][0].partition(":")[0], 9), -len(item[1][0]), item[0])
    )
    rows = [
        [state, _some(sorted(variants)), next(iter(on)) if len(on) == 1 else f"{len(on)} devices", why]
        for (state, why), (variants, on) in found
    ]
    if not rows:
        return None
    columns = ["state", "variant", "device", "why"]
    return Facts(columns=columns, rows=rows[:MOST_FACTS], left_out=max(0, len(rows) - MOST_FACTS))


def _measured(tally: _Tally) -> list[tuple[str, str]]:
    few = sum(count for processes, count in tally.processes.items() if processes < 5)
    spread = ", ".join(f"{count:,} of {number}" for number, count in sorted(tally.processes.items()))
    return [
        ("Protocol", f"version {PROTOCOL_VERSION}; results of different protocols are never compared"),
        ("One value", "the median of the medians of fresh processes that were judged valid; iterations are no sample"),
        (
            "Processes per value",
            f"{spread or NONE}; fewer than five give no interval and are inconclusive ({few:,} values)",
        ),
        (
            "Intervals",
            "95 % bootstrap of the median over processes; of a speed-up 99 %, over every resample of both sides",
        ),
        (
            "faster, slower",
            (
                "Mann-Whitney p < 0.01, the 99 % interval excludes 1, and the effect is at least 2 % or the noise "
                "between processes, whichever is more"
            ),
        ),
        ("same", "the 99 % interval lies inside +-2 %, or twice the known noise floor of the series"),
        ("inconclusive", "everything else: more processes or less noise would tell"),
        ("Cannot see 5 %", _blind(tally)),
        (
            "Order",
            (
                "repeats of one run are mixed at random; repeats of different runs did not alternate within the hour, "
                "so what drifted between them counts as a difference"
            ),
        ),
        ("Simulated devices", "are marked, have matrices and pictures of their own, and are ranked with no real one"),
    ]


def _blind(tally: _Tally) -> str:
    """Which values stand guard in vain: a regression of 5 % would not show in them."""
    values = sum(tally.processes.values())
    if not tally.learnt:
        return "not known: benchfarm noise learns what each series can see"
    known = f"of {tally.learnt:,} whose noise was learnt"
    unknown = f"; of {values - tally.learnt:,} it was not" if values > tally.learnt else ""
    return f"{len(tally.blind):,} {known}{unknown}" + (f": {_some(tally.blind)}" if tally.blind else "")


def _environment(connection: Connection, run_id: int) -> Facts | None:
    """What a run was measured with: each fact with its values, and on how many devices where they differ."""
    last = select(func.max(results.c.id)).where(results.c.sweep_run_id == run_id).group_by(results.c.device_id)
    ids = list(connection.execute(last.limit(_MOST_ENVIRONMENTS)).scalars())
    values: dict[str, Counter[str]] = {}
    for environment in connection.execute(
        select(results.c.document["environment"]).where(one_of(results.c.id, ids))
    ).scalars():
        for name, value in (environment or {}).items():
            values.setdefault(name, Counter())[str(value)] += 1
    rows = []
    for name, counts in sorted(values.items()):
        whole = len(counts) == 1 and sum(counts.values()) == len(ids)
        told = ", ".join(v if whole else f"{v} ({n} of {len(ids)} devices)" for v, n in counts.most_common())
        rows.append([name, told])
    return Facts(columns=["what", "value"], rows=rows) if rows else None


def _epochs(connection: Connection, wanted: Wanted, count: int) -> Facts | None:
    """Where series began a new epoch: what a step in them may come from."""
    if not 0 < count <= _MOST_WITH_EPOCHS:
        return None
    history = view_of("point_history")
    names = ("at", "device", "simulated", "model", "runtime", "recipe", "options_text", "environment_digest")
    query = select(*(history.c[name] for name in names)).where(history.c.new_epoch).order_by(history.c.at.desc())
    if wanted.models:
        query = query.where(one_of(history.c.model, wanted.models))
    if (ids := matching_devices(connection, wanted.selector)) is not None:
        query = query.where(one_of(history.c.device_id, ids))
    rows = [
        [
            f"{row['at']:%Y-%m-%d %H:%M}",
            label_of(row["device"], {"simulated": bool(row["simulated"])}),
            row["model"],
            variant_label(dict(row)),
            row["environment_digest"][:12],
        ]
        for row in connection.execute(query.limit(_MOST_EPOCHS + 1)).mappings()
    ]
    columns = ["began", "device", "model", "variant", "environment"]
    return Facts(columns=columns, rows=rows[:_MOST_EPOCHS], left_out=len(rows[_MOST_EPOCHS:]))


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
