"""What the trials of a gate's run showed, as the evidence that its cases are judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from device_registry.database import table_of
from scheduler.comparisons import trial_rows
from scheduler.gates.case import Answer, Evidence, Side
from scheduler.gates.pairing import Pair
from scheduler.states import jobs
from scheduler.watch_tables import Trial
from workers.errors import UNSUPPORTED, UPSTREAM, Cause

trials = table_of(Trial)

#: Failures that say nothing of the model: other processes of the same trial may well have run.
_OF_THE_PLACE = (Cause.INFRASTRUCTURE, Cause.DEVICE)
_SIDES = ("baseline", "candidate")


def read_evidence(connection: Connection, run_id: int | None, pairs: Sequence[Pair]) -> list[Evidence]:
    """What is known of each pair; of a run that is not done, so far.

    Args:
        connection: to read from.
        run_id: the gate's; None: there was nothing to measure.
        pairs: of its plan.
    """
    rows = {} if run_id is None else trial_rows(connection, run_id)
    by_case, failed = ({}, {}) if run_id is None else _jobs(connection, run_id)
    mine = select(trials).where(trials.c.sweep_run_id == run_id)
    found = {} if run_id is None else {row.id: row for row in connection.execute(mine)}
    return [_evidence(pair, _trial(pair, by_case, found), rows, failed) for pair in pairs]


def device_seconds(connection: Connection, run_id: int) -> float:
    """What the trials of a run cost."""
    spent = connection.execute(select(trials.c.device_s).where(trials.c.sweep_run_id == run_id)).scalars()
    return float(sum(spent))


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


def _trial(pair: Pair, by_case: Mapping[tuple[str, str], int], found: Mapping[int, Row[Any]]) -> Row[Any] | None:
    number = by_case.get(("candidate", pair.candidate.case_key))
    return found.get(number) if number is not None else None


def _evidence(
    pair: Pair,
    trial: Row[Any] | None,
    rows: Mapping[tuple[int, str], Mapping[str, Any]],
    failed: Mapping[tuple[int, str], Sequence[Row[Any]]],
) -> Evidence:
    if pair.one_artifact:
        return Evidence(what=pair.what, one_artifact=True, alternated=True)
    if trial is None:
        return Evidence(what=pair.what, settled=("missing", "no process of it was queued"))
    planned = {"baseline": pair.baseline, "candidate": pair.candidate}
    sides = {name: side_of(rows.get((trial.id, name)), planned[name].task.model, trial, name) for name in _SIDES}
    return Evidence(
        what=pair.what,
        baseline=sides["baseline"],
        candidate=sides["candidate"],
        alternated=not trial.not_alternated,
        settled=_settled(trial, sides, {name: failed.get((trial.id, name), ()) for name in _SIDES}),
        trial=trial.id,
    )


def side_of(row: Mapping[str, Any] | None, model: str, trial: Row[Any], name: str) -> Side:
    """A side of a trial, from the row that its processes make together; None: none of them is in."""
    if row is None:
        return Side(model=model)
    fidelity = row["fidelity"] or {}
    verdicts = Counter(process["verdict"] for process in row["processes"])
    return Side(
        model=model,
        values_ms=tuple(process["p50_ms"] for process in row["processes"] if process["verdict"] == "valid"),
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


def _settled(
    trial: Row[Any], sides: Mapping[str, Side], failed: Mapping[str, Sequence[Row[Any]]]
) -> tuple[Answer, str] | None:
    """The answer where processes cannot be compared; None: they can, and the verdict answers."""
    unsupported = {name: row for name in _SIDES if (row := _first(failed[name], code=UNSUPPORTED)) is not None}
    if (lost := unsupported.get("candidate")) is not None and "baseline" not in unsupported:
        return "lost", f"unsupported, where the baseline runs: {lost.failure_message}"
    if unsupported:
        name, row = next(iter(unsupported.items()))
        both = "both sides are" if len(unsupported) > 1 else f"the {name} is"
        return "inconclusive", f"{both} unsupported: {row.failure_message}"
    for name in reversed(_SIDES):
        own = [row for row in failed[name] if row.state == "failed" and row.failure_cause not in _OF_THE_PLACE]
        if own:
            of = f" ({len(own)} of {len(own) + len(sides[name].values_ms)} processes)" if sides[name].values_ms else ""
            return "failed", f"the {name} failed: {own[0].failure_message}{of}"
    if all(sides[name].values_ms for name in _SIDES):
        return None
    for name in reversed(_SIDES):
        if not sides[name].values_ms:
            if (row := _first(failed[name], state="failed")) is not None:
                return "failed", f"the {name} failed: {row.failure_message}"
            if sides[name].invalid:
                how = ", ".join(f"{count} {verdict}" for verdict, count in sides[name].invalid.items())
                return "inconclusive", f"no process of the {name} counts: {how}"
    if any(row.state == "cancelled" for rows in failed.values() for row in rows):
        return "inconclusive", "it was cancelled before both sides had run"
    return "inconclusive", trial.why or "not both sides have run"


def _first(rows: Iterable[Row[Any]], *, code: str | None = None, state: str | None = None) -> Row[Any] | None:
    """The first failure of that kind; one of its own before one that it came by."""
    found = [row for row in rows if code in (None, row.failure_code) and state in (None, row.state)]
    return min(found, key=lambda row: row.failure_code == UPSTREAM, default=None)
