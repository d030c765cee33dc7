"""What the trials of a gate's run showed, as the evidence that its cases are judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, select

from device_registry.database import one_of, table_of
from scheduler import queue
from scheduler.cases import case_of
from scheduler.comparisons import trial_rows
from scheduler.gates.case import Answer, Evidence, Side, Unpaired
from scheduler.gates.pairing import Pair
from scheduler.points import series
from scheduler.states import jobs
from scheduler.trials import noise_floor_of
from scheduler.watch_tables import Trial
from workers.errors import UNSUPPORTED, UPSTREAM, Cause

trials = table_of(Trial)

#: Failures that say nothing of the model: other processes of the same trial may well have run.
_OF_THE_PLACE = (Cause.INFRASTRUCTURE, Cause.DEVICE)
_TOO_SOON = "not both sides have run"
_SIDES = ("baseline", "candidate")


def read_evidence(
    connection: Connection, run_id: int | None, pairs: Sequence[Pair]
) -> tuple[list[Evidence], list[Unpaired]]:
    """What is known of each pair; of a run that is not done, so far. Apart what turned out to be unsupported.

    Args:
        connection: to read from.
        run_id: the gate's; None: there was nothing to measure.
        pairs: of its plan.
    """
    rows = {} if run_id is None else trial_rows(connection, run_id)
    by_case, failed = ({}, {}) if run_id is None else _jobs(connection, run_id)
    mine = select(trials).where(trials.c.sweep_run_id == run_id)
    found = {} if run_id is None else {row.id: row for row in connection.execute(mine)}
    unmade = _unmade(connection, {side.variant.key for pair in pairs for side in (pair.baseline, pair.candidate)})
    floors = _floors(connection, pairs)
    told = [_evidence(pair, _trial(pair, by_case, found), rows, failed, unmade) for pair in pairs]
    told = [
        replace(one, noise_floor=floors.get(_series_of(pair))) if isinstance(one, Evidence) else one
        for pair, one in zip(pairs, told, strict=True)
    ]
    return [one for one in told if isinstance(one, Evidence)], [one for one in told if isinstance(one, Unpaired)]


def _jobs(
    connection: Connection, run_id: int
) -> tuple[dict[tuple[str, str], int], dict[tuple[int, str], list[Row[Any]]]]:
    """Which trial a side's case belongs to; and what failed of each trial's sides."""
    by_case: dict[tuple[str, str], int] = {}
    failed: dict[tuple[int, str], list[Row[Any]]] = {}
    mine = (jobs.c.sweep_run_id == run_id, jobs.c.trial_id.is_not(None))
    for row in connection.execute(select(jobs).where(*mine).order_by(jobs.c.id)):
        by_case[row.side, row.case_key] = row.trial_id
        if row.state in ("failed", "cancelled"):
            failed.setdefault((row.trial_id, row.side), []).append(row)
    return by_case, failed


def _series_of(pair: Pair) -> tuple[str, int]:
    """What the points of a user's run of the candidate would be of."""
    return case_of(pair.candidate.task).key, pair.device_id


def _floors(connection: Connection, pairs: Sequence[Pair]) -> dict[tuple[str, int], float]:
    """What A/A runs taught of the candidates' series, where they are known: the noisiest of each."""
    wanted = {_series_of(pair) for pair in pairs}
    query = select(series.c.id, series.c.case_key, series.c.device_id).where(
        one_of(series.c.case_key, {key for key, _ in wanted}), one_of(series.c.device_id, {one for _, one in wanted})
    )
    known = {row.id: (row.case_key, row.device_id) for row in connection.execute(query)}
    found: dict[tuple[str, int], float] = {}
    for series_id, noise in noise_floor_of(connection, known).items():
        found[known[series_id]] = max(noise, found.get(known[series_id], 0.0))
    return found


def _unmade(connection: Connection, keys: set[str]) -> dict[str, Row[Any]]:
    """Artifacts that do not stand, to what became of the job that was to make them last."""
    standing = queue.standing(connection, keys)
    made = select(jobs).where(one_of(jobs.c.makes_key, keys - standing)).order_by(jobs.c.id)
    return {row.makes_key: row for row in connection.execute(made)}


def _trial(pair: Pair, by_case: Mapping[tuple[str, str], int], found: Mapping[int, Row[Any]]) -> Row[Any] | None:
    number = by_case.get(("candidate", pair.candidate.case_key))
    return found.get(number) if number is not None else None


def _evidence(
    pair: Pair,
    trial: Row[Any] | None,
    rows: Mapping[tuple[int, str], Mapping[str, Any]],
    failed: Mapping[tuple[int, str], Sequence[Row[Any]]],
    unmade: Mapping[str, Row[Any]],
) -> Evidence | Unpaired:
    if pair.one_artifact:
        return Evidence(what=pair.what, one_artifact=True, alternated=True)
    planned = {"baseline": pair.baseline, "candidate": pair.candidate}
    if trial is None:
        lacking = {name: [row] if (row := unmade.get(planned[name].variant.key)) else [] for name in _SIDES}
        if (unpaired := _unpaired(pair, lacking)) is not None:
            return unpaired
        settled = _settled({}, lacking) or ("missing", "its time was up before it began")
        return Evidence(what=pair.what, settled=settled)
    broken = {name: failed.get((trial.id, name), ()) for name in _SIDES}
    if (unpaired := _unpaired(pair, broken)) is not None:
        return unpaired
    sides = {name: side_of(rows.get((trial.id, name)), planned[name].task.model, trial, name) for name in _SIDES}
    return Evidence(
        what=pair.what,
        baseline=sides["baseline"],
        candidate=sides["candidate"],
        alternated=not trial.not_alternated,
        clock_agrees=trial.clock_agrees,
        settled=_settled(sides, broken)
        or (None if all(side.values_ms for side in sides.values()) else ("inconclusive", trial.why or _TOO_SOON)),
        trial=trial.id,
        device_s=trial.device_s,
    )


def side_of(row: Mapping[str, Any] | None, model: str, trial: Row[Any], name: str) -> Side:
    """A side of a trial, from the row that its processes make together; None: none of them is in."""
    if row is None:
        return Side(model=model)
    fidelity = row["fidelity"] or {}
    verdicts = Counter(process["verdict"] for process in row["processes"])
    # Of a trial that ended those that it counted: one that ran alone in its hour did not.
    counted = [value for value, _ in getattr(trial, f"{name}_values")]
    valid = [process["p50_ms"] for process in row["processes"] if process["verdict"] == "valid"]
    return Side(
        model=model,
        values_ms=tuple(counted or valid),
        invalid={verdict: count for verdict, count in sorted(verdicts.items()) if verdict != "valid"},
        p50_ms=row["p50_ms"],
        p50_ci_ms=None if row["p50_ci_ms"] is None else (row["p50_ci_ms"][0], row["p50_ci_ms"][1]),
        snr_db=fidelity.get("snr_db"),
        identical=fidelity.get("identical", False),
        finite=fidelity.get("finite", True),
        top1_agreement=fidelity.get("top1_agreement"),
        peak_rss_bytes=row["peak_rss_bytes"],
        artifact_bytes=row["artifact_bytes"],
        artifact_sha256=row["artifact_sha256"],
        energy_per_inference_mj=row["energy_per_inference_mj"],
        flags=tuple(row["flags"]),
        environment={str(name): str(value) for name, value in row["environment"].items()},
    )


def _unpaired(pair: Pair, failed: Mapping[str, Sequence[Row[Any]]]) -> Unpaired | None:
    """A case that is unsupported, and not only since the candidate; None: it is another."""
    baseline, candidate = (_first(failed[name], code=UNSUPPORTED) for name in _SIDES)
    if baseline is None:
        return None
    what = pair.what
    return Unpaired(
        side="baseline" if candidate is None else "both",
        runtime=what.runtime,
        recipe=what.recipe,
        device=what.device,
        why=f"unsupported: {baseline.failure_message}",
    )


def _settled(sides: Mapping[str, Side], failed: Mapping[str, Sequence[Row[Any]]]) -> tuple[Answer, str] | None:
    """The answer where processes cannot be compared; None: nothing stands in the way, so far.

    Args:
        sides: what ran, if anything did.
        failed: of each side the jobs that failed or were cancelled.
    """
    if (lost := _first(failed["candidate"], code=UNSUPPORTED)) is not None:
        return "lost", f"unsupported, where the baseline runs: {lost.failure_message}"
    ran = {name: len(sides[name].values_ms) if name in sides else 0 for name in _SIDES}
    for name in reversed(_SIDES):
        broken = [row for row in failed[name] if row.state == "failed"]
        # Of others the place was to blame, and what ran elsewhere or later is as good.
        own = [row for row in broken if row.failure_cause not in _OF_THE_PLACE or not ran[name]]
        if own:
            of = f" ({len(own)} of {len(own) + ran[name]} processes)" if ran[name] else ""
            row = _first(own)
            return "failed", f"the {name} failed: {row.failure_message if row is not None else ''}{of}"
    for name in reversed(_SIDES):
        if name in sides and sides[name].invalid and not ran[name]:
            how = ", ".join(f"{count} {verdict}" for verdict, count in sides[name].invalid.items())
            return "inconclusive", f"no process of the {name} counts: {how}"
    cancelled = [row for rows in failed.values() for row in rows if row.state == "cancelled"]
    if cancelled and not all(ran.values()):
        return "inconclusive", f"cancelled before both sides had run: {cancelled[0].failure_message or 'by a user'}"
    return None


def _first(rows: Iterable[Row[Any]], *, code: str | None = None) -> Row[Any] | None:
    """The first failure of that kind; one of its own before one that it came by."""
    found = [row for row in rows if row.state == "failed" and code in (None, row.failure_code)]
    return min(found, key=lambda row: row.failure_code == UPSTREAM, default=None)
