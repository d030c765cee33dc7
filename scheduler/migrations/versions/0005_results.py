"""Results in columns: points that tell more than a latency, series in words, cells of the whole farm's matrix.

What is there is read once more: points get what the documents of their results tell, series what their options say, and
there is a cell for each case that somebody wanted. Nothing is imported that may change later.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MEDIANS = (
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "throughput_per_s",
    "load_ms",
    "compile_ms",
    "first_inference_ms",
    "energy_per_inference_mj",
    "temperature_c",
    "snr_db",
    "top1_agreement",
    "quantised_flop_share",
    "delegated_share",
)
_TYPICAL = ("energy_quality", "energy_source", "precision", "compute_unit")
_POINT: dict[str, Any] = {
    "value_ci_low": sa.Float(),
    "value_ci_high": sa.Float(),
    **dict.fromkeys(_MEDIANS, sa.Float()),
    "peak_rss_bytes": sa.BigInteger(),
    "artifact_bytes": sa.BigInteger(),
    "energy_quality": sa.String(length=20),
    "energy_source": sa.Text(),
    "precision": sa.Text(),
    "compute_unit": sa.Text(),
    "flags": sa.Text(),
}
_SERIES: dict[str, Any] = {
    "case_key": sa.String(length=64),
    "weights": sa.Text(),
    "threads": sa.Integer(),
    "batch": sa.Integer(),
    "mode": sa.String(length=20),
    "options_text": sa.Text(),
    "shared_options_text": sa.Text(),
    "plain": sa.Boolean(),
    "unconverted": sa.Boolean(),
}
_CASE = ("model", "weights", "format", "recipe", "runtime", "threads", "batch", "mode", "options_text")


def upgrade() -> None:
    """Add columns and the table of cells, and fill them."""
    for name, kind in _POINT.items():
        op.add_column("point", sa.Column(name, kind, nullable=True))
    for name, kind in _SERIES.items():
        op.add_column("series", sa.Column(name, kind, nullable=True))
    op.create_table(
        "cell",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("case_key", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("weights", sa.Text(), nullable=False),
        sa.Column("format", sa.String(length=20), nullable=False),
        sa.Column("recipe", sa.String(length=200), nullable=False),
        sa.Column("runtime", sa.String(length=50), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(length=20), nullable=False),
        sa.Column("options_text", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("sweep_run_id", sa.Integer(), nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device_id", "case_key", name="one_cell_per_case"),
    )
    of_device = sa.text("entity = 'device'")
    op.create_index("event_of_device_by_time", "event", ["at"], sqlite_where=of_device, postgresql_where=of_device)
    connection = op.get_bind()
    metadata = sa.MetaData()
    metadata.reflect(connection, views=False)
    _Filling(connection, metadata.tables).fill()
    with op.batch_alter_table("series") as series:
        for name, kind in _SERIES.items():
            series.alter_column(name, existing_type=kind, nullable=False)
    with op.batch_alter_table("point") as point:
        point.alter_column("process_medians", existing_type=sa.JSON(), nullable=False)
        point.alter_column("flags", existing_type=sa.Text(), nullable=False)


class _Latest:
    """What a case is told by, of its last result: without the document."""

    def __init__(self, row: Any) -> None:
        self.device_id, self.job_id, self.at = row.device_id, row.job_id, row.created_at
        self.needs_key, self.artifact_bytes = row.needs_key, row.bytes
        self.task, self.reasons = row.payload["measure"], row.document["judgement"]["reasons"]


class _Filling:
    """Run by run, so that a farm of any size fits into memory."""

    def __init__(self, connection: sa.Connection, tables: Any) -> None:
        self._connection = connection
        self._job, self._result, self._payload = tables["job"], tables["result"], tables["payload"]
        self._series, self._point, self._cell = tables["series"], tables["point"], tables["cell"]
        self._attempt, self._artifact, self._run = tables["attempt"], tables["artifact"], tables["sweep_run"]
        self._telemetry, self._channel = tables["telemetry"], tables["sensor_channel"]
        #: Series by what a result tells of itself.
        self._known: dict[tuple[Any, ...], int] = {}
        self._cells: dict[tuple[int, str], dict[str, Any]] = {}

    def fill(self) -> None:
        """Everything."""
        self._fill_series()
        for run in self._connection.execute(sa.select(self._run.c.id, self._run.c.schedule).order_by(self._run.c.id)):
            if run.schedule != "canary":
                self._fill_run(run.id)
        rows = sorted(self._cells.values(), key=lambda row: (row["device_id"], row["case_key"]))
        for first in range(0, len(rows), 1000):
            self._connection.execute(self._cell.insert(), rows[first : first + 1000])
        self._fill_the_rest()

    def _fill_series(self) -> None:
        for row in self._connection.execute(sa.select(self._series)).all():
            options = dict(row.options)
            weights = options.pop("weights")
            identity = (row.device_id, row.model, row.format, row.recipe, row.runtime, _canonical(row.options))
            self._known[(*identity, row.statistic)] = row.id
            values = {name: options[name] for name in ("threads", "batch", "mode")}
            values |= {"weights": weights, "unconverted": False, **_texts(options)}
            values["plain"] = not options.get("runtime_options")
            case = {**row._mapping, **values}
            values["case_key"] = _digest([case[name] for name in _CASE])
            self._connection.execute(self._series.update().where(self._series.c.id == row.id).values(**values))

    def _fill_run(self, run_id: int) -> None:
        repeats: dict[int, list[dict[str, Any]]] = {}
        latest: dict[int, Any] = {}
        last_id = 0
        while rows := self._results(run_id, last_id):
            last_id = rows[-1].id
            hottest = self._hottest([row.attempt_id for row in rows])
            for row in rows:
                if (series_id := self._series_of(row)) is not None:
                    repeats.setdefault(series_id, []).append(_repeat(row, hottest.get(row.attempt_id)))
                    latest[series_id] = _Latest(row)
        for series_id, found in repeats.items():
            self._fill_point(series_id, run_id, found, latest[series_id])
        self._note_failed(run_id)

    def _results(self, run_id: int, after: int) -> Sequence[Any]:
        """The next of a run: a few, for they come with their documents."""
        job, result = self._job.c, self._result.c
        query = (
            sa.select(
                self._result,
                job.needs_key,
                self._payload.c.document.label("payload"),
                self._artifact.c.bytes,
            )
            .join(self._job, job.id == result.job_id)
            .join(self._payload, self._payload.c.id == job.payload_id)
            .outerjoin(self._artifact, self._artifact.c.key == job.needs_key)
            .where(result.sweep_run_id == run_id, result.stale.is_(sa.false()), result.id > after)
            .order_by(result.id)
            .limit(500)
        )
        return self._connection.execute(query).all()

    def _series_of(self, row: Any) -> int | None:
        task = row.payload["measure"]
        of_invocations = row.document["result"]["measurement"]["timings"].get("of_invocations")
        statistic = "median of process medians"
        statistic += f" of invocation {of_invocations}s" if of_invocations is not None else ""
        options = {name: value for name, value in task["options"].items() if name != "runtime_options" or value}
        identity = (row.device_id, task["model"], task["format"], task["recipe"], task["runtime"])
        return self._known.get((*identity, _canonical({**options, "weights": task["weights"]}), statistic))

    def _hottest(self, attempt_ids: Sequence[int]) -> dict[int, float]:
        telemetry, channel = self._telemetry.c, self._channel.c
        found: dict[int, float] = {}
        for first in range(0, len(attempt_ids), 1000):
            query = (
                sa.select(telemetry.attempt_id, sa.func.max(telemetry.value))
                .join(self._channel, channel.id == telemetry.channel_id)
                .where(
                    telemetry.attempt_id.in_(attempt_ids[first : first + 1000]),
                    channel.quantity == "temperature",
                    channel.unit == "C",
                    telemetry.value.is_not(None),
                )
                .group_by(telemetry.attempt_id)
            )
            found |= {row[0]: row[1] for row in self._connection.execute(query)}
        return found

    def _fill_point(self, series_id: int, run_id: int, repeats: Sequence[dict[str, Any]], last: _Latest) -> None:
        values = _columns(repeats) | {"artifact_bytes": last.artifact_bytes}
        verdict = values["verdict"]
        values["process_medians"] = [list(repeat.values()) for repeat in repeats]
        of_point = (self._point.c.series_id == series_id, self._point.c.sweep_run_id == run_id)
        self._connection.execute(self._point.update().where(*of_point).values(**values))
        if not self._is_converted(last.needs_key):
            self._connection.execute(
                self._series.update().where(self._series.c.id == series_id).values(unconverted=True)
            )
        self._put(
            last.device_id,
            last.task,
            state="valid" if verdict == "valid" else "invalid",
            verdict=verdict,
            why=None if verdict == "valid" else "; ".join(last.reasons) or None,
            job_id=last.job_id,
            sweep_run_id=run_id,
            series_id=series_id,
            at=last.at,
        )

    def _is_converted(self, needs_key: str) -> bool:
        job = self._job.c
        query = sa.select(job.id).where(job.makes_key == needs_key, job.needs_key.is_not(None)).limit(1)
        return self._connection.execute(query).first() is not None

    def _note_failed(self, run_id: int) -> None:
        job, attempt = self._job.c, self._attempt.c
        ran_on = (
            sa.select(attempt.device_id)
            .where(attempt.job_id == job.id)
            .order_by(attempt.id.desc())
            .limit(1)
            .correlate(self._job)
            .scalar_subquery()
        )
        query = (
            sa.select(self._job, sa.func.coalesce(job.device_id, ran_on).label("on"), self._payload.c.document)
            .join(self._payload, self._payload.c.id == job.payload_id)
            .where(job.sweep_run_id == run_id, job.kind == "measure", job.state == "failed")
            .order_by(job.id)
        )
        for row in self._connection.execute(query):
            if row.on is not None:
                self._put(
                    row.on,
                    row.document["measure"],
                    state="unsupported" if row.failure_code == "unsupported" else "failed",
                    verdict=None,
                    why=row.failure_message,
                    job_id=row.id,
                    sweep_run_id=run_id,
                    series_id=None,
                    at=row.changed_at,
                )

    def _put(self, device_id: int, task: dict[str, Any], **values: Any) -> None:
        """The latest word about a cell counts; but one repeat of a run that is valid makes its case valid."""
        options = {"runtime_options": {}, **task["options"]}
        case = {**task, **options, **_texts(options)}
        named = {name: case[name] for name in _CASE}
        key = _digest(list(named.values()))
        known = self._cells.get((device_id, key))
        stands = known is not None and known["state"] == "valid" and known["sweep_run_id"] == values["sweep_run_id"]
        if known is None or (known["at"] <= values["at"] and not stands):
            self._cells[device_id, key] = {"device_id": device_id, "case_key": key, **named, **values}

    def _fill_the_rest(self) -> None:
        """Points of canaries are no latest ones; what no result explains keeps the one value that it has."""
        point, series, run = self._point.c, self._series.c, self._run.c
        canaries = sa.select(point.id).join(self._run, run.id == point.sweep_run_id).where(run.schedule == "canary")
        before = sa.select(sa.func.max(point.id)).join(self._run, run.id == point.sweep_run_id)
        before = before.where(
            point.series_id == series.id, point.verdict == "valid", run.schedule.is_distinct_from("canary")
        )
        self._connection.execute(
            self._series.update()
            .where(series.latest_valid_point_id.in_(canaries))
            .values(latest_valid_point_id=before.correlate(self._series).scalar_subquery())
        )
        unexplained = sa.select(self._point).where(point.flags.is_(None))
        for row in self._connection.execute(unexplained).all():
            kept = [[row.value, row.verdict]]
            self._connection.execute(
                self._point.update().where(point.id == row.id).values(flags="", process_medians=kept)
            )


def _repeat(row: Any, hottest: float | None) -> dict[str, Any]:
    """What is kept of a process, in the order in which it is kept."""
    document, recipe = row.document, row.payload["measure"]["recipe"]
    measured, energy = document["result"]["measurement"], document["energy"] or {}
    timings, runtime, fidelity = measured["timings"], measured["runtime"], measured["fidelity"] or {}
    known = energy.get("quality") in ("ok", "partial")
    share = runtime.get("quantised_flop_share")
    flags = set(document["judgement"]["flags"])
    if recipe.startswith("int8") and recipe != "int8-weight":
        if share is None or share < 0.5:
            flags.add("int8 (unverified)" if share is None else f"int8 (partial {share:.0%})")
    elif runtime["precision"] == "unknown":
        flags.add("precision_unverified")
    if timings.get("of_invocations") == "mean":
        flags.add("mean_not_median")
    return {
        "p50_ms": row.p50_ms,
        "verdict": row.verdict,
        **{name: timings[name] for name in ("p90_ms", "p95_ms", "p99_ms")},
        "throughput_per_s": measured["throughput_per_s"],
        "load_ms": measured["load_cold_ms"],
        "compile_ms": measured["compile_ms"],
        "first_inference_ms": measured["first_inference_ms"],
        "peak_rss_bytes": measured["peak_rss_bytes"],
        "energy_per_inference_mj": energy.get("energy_per_inference_mj") if known else None,
        "temperature_c": hottest,
        "snr_db": fidelity.get("snr_db"),
        "top1_agreement": fidelity.get("top1_agreement"),
        "quantised_flop_share": share,
        "delegated_share": runtime.get("delegated_share"),
        "energy_quality": energy.get("quality"),
        "energy_source": energy.get("source"),
        "precision": runtime["precision"],
        "compute_unit": runtime["compute_unit"],
        "flags": sorted(flags),
    }


def _columns(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    severity = ("valid", "not_converged", "unusable", "throttled", "contaminated", "interrupted")
    valid = [repeat for repeat in repeats if repeat["verdict"] == "valid"]
    counting = valid or list(repeats)
    verdict = "valid" if valid else max((repeat["verdict"] for repeat in repeats), key=severity.index)
    value = statistics.median(repeat["p50_ms"] for repeat in counting)
    alike = [repeat for repeat in counting if repeat["verdict"] == verdict]
    typical = min(alike, key=lambda repeat: abs(repeat["p50_ms"] - value))
    peak = _median(repeat["peak_rss_bytes"] for repeat in counting)
    low, high = _interval([repeat["p50_ms"] for repeat in valid])
    return {
        "value": value,
        "value_ci_low": low,
        "value_ci_high": high,
        "verdict": verdict,
        "repeats": len(counting),
        **{name: _median(repeat[name] for repeat in counting) for name in _MEDIANS},
        "peak_rss_bytes": None if peak is None else round(peak),
        **{name: typical[name] for name in _TYPICAL},
        "flags": ", ".join(sorted({flag for repeat in repeats for flag in repeat["flags"]})),
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Percentile bootstrap of the median, as ingest had it then."""
    if len(values) < 5:
        return None, None
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    picks = np.random.default_rng(0).integers(0, len(ordered), size=(4000, len(ordered)))
    low, high = np.percentile(np.median(ordered[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)


def _texts(options: dict[str, Any]) -> dict[str, str]:
    """What differs from the defaults of then."""
    defaults: dict[str, Any] = {
        "affinity": None,
        "rate_hz": None,
        "min_seconds": 3.0,
        "max_seconds": None,
        "percentile": 90,
    }
    shared = [
        f"{name}={_text(options[name])}" for name, default in defaults.items() if options.get(name, default) != default
    ]
    own = [f"{name}={value}" for name, value in sorted((options.get("runtime_options") or {}).items())]
    return {"options_text": " ".join(shared + own), "shared_options_text": " ".join(shared)}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()
