"""Tables of jobs, attempts, events, results, artifacts, series, points and telemetry.

Invariants are partial unique indexes, not comments: see the `__table_args__`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from device_registry.tables import UtcDateTime

_LIVE_ATTEMPT = text("state IN ('leased', 'running')")
_QUEUED = text("state = 'queued'")
_NOT_BEGUN = text("state IN ('blocked', 'queued')")
_WAITS_UNTIL = text("queue_until IS NOT NULL AND state IN ('blocked', 'queued')")
_AWAKE = text("followed_until IS NOT NULL AND NOT resting")
_MAKES = text("makes_key IS NOT NULL")
_LIVE_CONVERT = text("kind = 'convert' AND state IN ('blocked', 'queued', 'running')")
_OF_DEVICE = text("entity = 'device'")
_TO_SCREEN = text("watched AND screened_at IS NULL")
_OF_TRIAL = text("trial_id IS NOT NULL")
_OF_ATTEMPT = text("attempt_id IS NOT NULL")
#: Of SQLite only an INTEGER key is the row's own number; it has 64 bits there anyway.
_LARGE: Any = BigInteger().with_variant(Integer(), "sqlite")


#: Purpose of the runs that probe quarantined devices.
CANARY = "canary"
#: Purpose of a run that converts what the blocks of a suite need: nothing of it is a result.
CONVERSIONS = "conversions"


def reference(target: str) -> list[Any]:
    """Arguments of a column that refers to another table's."""
    return [ForeignKey(target)]


class SweepRun(SQLModel, table=True):
    """One run of a matrix: a `benchfarm run`, or a sweep at its due time."""

    __tablename__ = "sweep_run"
    __table_args__ = (
        UniqueConstraint("schedule", "due_at", name="one_run_per_due_time"),
        Index("run_by_follower", "followed_until", sqlite_where=_AWAKE, postgresql_where=_AWAKE),
        Index("run_to_screen", "id", sqlite_where=_TO_SCREEN, postgresql_where=_TO_SCREEN),
    )

    id: int | None = Field(default=None, primary_key=True)
    schedule: str | None = Field(default=None, sa_type=String(200))
    due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: What was asked for, and its digest: the same request resumes what an interrupted one left.
    request: dict[str, Any] = Field(sa_type=JSON)
    request_digest: str = Field(sa_type=String(64), index=True)
    #: What the matrix contained that cannot be had: [{model, runtime, recipe, device, why}].
    unsupported: list[dict[str, Any]] = Field(sa_type=JSON)
    owner: str = Field(sa_type=String(200))
    created_at: datetime = Field(sa_type=UtcDateTime)
    #: A run that somebody waits for is worked on until then, renewed by who waits; NULL: worked on until done.
    followed_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Why the farm runs it of its own accord: canary, confirmation, bridge, noise, gate or conversions; NULL: a user's.
    purpose: str | None = Field(default=None, sa_type=String(20))
    #: Name of the sweep that it is one of; and whether its points belong to the history that is watched.
    sweep: str | None = Field(default=None, sa_type=String(200), index=True)
    watched: bool = Field(default=False)
    #: What was measured, by its version control: a commit, and more about its build as its user tells.
    revision: str | None = Field(default=None, sa_type=String(200), index=True)
    build: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    #: What is not begun by then, or once that many device seconds are used, is cancelled; NULL: no limit.
    deadline_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    budget_s: float | None = Field(default=None)
    #: When all its points had been screened, its history looked at and its digest made; NULL: not yet.
    screened_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Nobody waits for it any more, and its open jobs were put behind all others; they stay there until it is resumed.
    resting: bool = Field(default=False)
    follower_host: str | None = Field(default=None, sa_type=String(200))
    follower_pid: int | None = Field(default=None)
    #: With the pid an identity: a follower that died on this host leaves its run to the same request at once.
    follower_started: float | None = Field(default=None)


class Requirement(SQLModel, table=True):
    """What a place must be for a job: jobs that want the same share a row, so that a tick reads only the first of each.

    Never changed, so whoever read one may keep it.
    """

    id: int | None = Field(default=None, primary_key=True)
    #: Digest of the rest.
    digest: str = Field(sa_type=String(64), unique=True)
    #: device or slot.
    place: str = Field(sa_type=String(20))
    #: Canonical text of a selector over device attributes; empty: any.
    selector: str = Field(default="", sa_type=Text)
    #: Pinned to a device (`--each`), or to a host (the canonical program of a user's own file or code).
    device_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("device.id"))
    host_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("host.id"))
    #: What the host must offer: ["runtime:litert"], ["converter:onnx-export"], ["source:torchvision"].
    needs: list[str] = Field(default_factory=list, sa_type=JSON)


class Payload(SQLModel, table=True):
    """What an attempt is told of its work: jobs that are told the same share a row, for it is most of a job's bytes.

    Never changed, so whoever read one may keep it.
    """

    id: int | None = Field(default=None, primary_key=True)
    #: Digest of the document.
    digest: str = Field(sa_type=String(64), unique=True)
    #: ConvertTask or MeasureTask of workers.contract by the job's kind, with limits and gate: {"measure": ..., ...}.
    document: dict[str, Any] = Field(sa_type=JSON)


class Job(SQLModel, table=True):
    """Wanted work."""

    __table_args__ = (
        # A lane of the queue is a requirement and an owner; the first of a lane is one step into this index.
        Index(
            "job_by_lane",
            "requirement_id",
            "owner",
            "rank",
            "sweep_run_id",
            "position",
            # Only so that what is queued is summed up in the index alone.
            "expected_s",
            "state",
            sqlite_where=_QUEUED,
            postgresql_where=_QUEUED,
        ),
        Index("job_by_queue_end", "queue_until", sqlite_where=_WAITS_UNTIL, postgresql_where=_WAITS_UNTIL),
        Index("job_by_run", "sweep_run_id", "state"),
        Index("job_by_case", "sweep_run_id", "case_key"),
        Index("job_by_need", "needs_key", sqlite_where=_NOT_BEGUN, postgresql_where=_NOT_BEGUN),
        Index("job_by_trial", "trial_id", sqlite_where=_OF_TRIAL, postgresql_where=_OF_TRIAL),
        Index("job_by_make", "makes_key", sqlite_where=_MAKES, postgresql_where=_MAKES),
        Index(
            "one_live_convert_per_artifact",
            "makes_key",
            unique=True,
            sqlite_where=_LIVE_CONVERT,
            postgresql_where=_LIVE_CONVERT,
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    sweep_run_id: int = Field(sa_type=Integer, sa_column_args=reference("sweep_run.id"))
    kind: str = Field(sa_type=String(20))
    state: str = Field(sa_type=String(20))
    requirement_id: int = Field(sa_type=Integer, sa_column_args=reference("requirement.id"))
    #: Denormalised from the run: lanes of the queue are per owner.
    owner: str = Field(sa_type=String(200))
    priority: int = Field(default=0)
    #: Order within an owner's lane: `placement.rank_of(created_at, priority)`; the smaller goes first.
    rank: float = Field(default=0.0)
    #: Order within the run: conversions first, then measurements (in random order; the longest first where they move).
    position: int
    #: Set where the job is pinned to one device (`--each`); the attempt says where any job ran.
    device_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("device.id"))
    #: How long it will take, from the farm's history, else a guess; `duration_key` says of what history.
    expected_s: float = Field(default=0.0)
    duration_key: str | None = Field(default=None, sa_type=String(64))
    #: Fails when it has not begun by then; NULL: waits as long as it takes.
    queue_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Keys of places where it failed for their sake: it prefers others.
    avoid: list[str] = Field(default_factory=list, sa_type=JSON)
    #: Probes a quarantined device: runs there and nowhere else.
    canary: bool = Field(default=False)
    #: One side of a trial, baseline or candidate: makes no point and no cell.
    trial_id: int | None = Field(default=None)
    side: str | None = Field(default=None, sa_type=String(20))
    #: What people read in lists: "onnx int8-static of torchvision/resnet18".
    title: str = Field(sa_type=Text)
    case_key: str | None = Field(default=None, sa_type=String(64))
    repeat_no: int = Field(default=0)
    #: Keys of the artifact it waits for and of the one it makes.
    needs_key: str | None = Field(default=None, sa_type=String(64))
    makes_key: str | None = Field(default=None, sa_type=String(64))
    payload_id: int = Field(sa_type=Integer, sa_column_args=reference("payload.id"))
    attempts: int = Field(default=0)
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
    failure_cause: str | None = Field(default=None, sa_type=String(20))
    failure_code: str | None = Field(default=None, sa_type=String(50))
    failure_message: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    changed_at: datetime = Field(sa_type=UtcDateTime)


class Attempt(SQLModel, table=True):
    """One try of a job at one place under one lease, with a fencing token."""

    __table_args__ = (
        Index(
            "one_live_attempt_per_place",
            "place",
            unique=True,
            sqlite_where=_LIVE_ATTEMPT,
            postgresql_where=_LIVE_ATTEMPT,
        ),
        Index(
            "one_live_attempt_per_device",
            "device_id",
            unique=True,
            sqlite_where=_LIVE_ATTEMPT,
            postgresql_where=_LIVE_ATTEMPT,
        ),
        Index(
            "one_live_attempt_per_job",
            "job_id",
            unique=True,
            sqlite_where=_LIVE_ATTEMPT,
            postgresql_where=_LIVE_ATTEMPT,
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = Field(sa_type=Integer, sa_column_args=reference("job.id"), index=True)
    host_id: int = Field(sa_type=Integer, sa_column_args=reference("host.id"))
    device_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("device.id"))
    #: Device key, or "slot:HOST:n".
    place: str = Field(sa_type=String(200))
    token: str = Field(sa_type=String(32))
    state: str = Field(sa_type=String(20))
    lease_until: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    message: str | None = Field(default=None, sa_type=Text)
    #: What it failed for, `message` says how; NULL: it did not fail.
    failure_cause: str | None = Field(default=None, sa_type=String(20))
    failure_code: str | None = Field(default=None, sa_type=String(50))
    log_sha256: str | None = Field(default=None, sa_type=String(64))
    #: Of the full-rate telemetry and of the raw times in the artifact store; NULL, as the log is, once they are pruned.
    telemetry_sha256: str | None = Field(default=None, sa_type=String(64))
    raw_sha256: str | None = Field(default=None, sa_type=String(64))
    #: How far its host's clock was ahead of the head's, where that was so much that its readings were moved by it.
    clock_offset_s: float | None = Field(default=None)


class Event(SQLModel, table=True):
    """A change of state: what, who, when, why."""

    __table_args__ = (
        Index("event_by_entity", "entity", "entity_id"),
        # A few of very many: what availability is made of.
        Index("event_of_device_by_time", "at", sqlite_where=_OF_DEVICE, postgresql_where=_OF_DEVICE),
    )

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    who: str = Field(sa_type=String(200))
    entity: str = Field(sa_type=String(20))
    entity_id: int
    before: str | None = Field(default=None, sa_type=String(20))
    after: str = Field(sa_type=String(20))
    why: str | None = Field(default=None, sa_type=Text)


class Artifact(SQLModel, table=True):
    """The bytes of a variant, found by the key of the recipe that made them."""

    id: int | None = Field(default=None, primary_key=True)
    #: Digest of everything the bytes depend on: one artifact per key.
    key: str = Field(sa_type=String(64), unique=True)
    sha256: str = Field(sa_type=String(64), index=True)
    bytes: int = Field(sa_type=BigInteger)
    format: str = Field(sa_type=String(20))
    recipe: str = Field(sa_type=String(200))
    model: str = Field(sa_type=Text)
    #: Role (examples, calibration) to sha256; a converted artifact shares its program's.
    companions: dict[str, str] = Field(sa_type=JSON)
    #: Versions, seconds, facts of the conversion.
    provenance: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)


class Result(SQLModel, table=True):
    """The one document a finished measure attempt yields, and the columns that are searched."""

    __table_args__ = (Index("result_by_run", "sweep_run_id"),)

    id: int | None = Field(default=None, primary_key=True)
    attempt_id: int = Field(sa_type=Integer, sa_column_args=reference("attempt.id"), unique=True)
    job_id: int = Field(sa_type=Integer, sa_column_args=reference("job.id"), index=True)
    sweep_run_id: int = Field(sa_type=Integer, sa_column_args=reference("sweep_run.id"))
    device_id: int = Field(sa_type=Integer, sa_column_args=reference("device.id"))
    case_key: str = Field(sa_type=String(64))
    #: Came after its lease was lost: kept, never counted.
    stale: bool = Field(default=False)
    verdict: str = Field(sa_type=String(20))
    p50_ms: float
    artifact_sha256: str | None = Field(default=None, sa_type=String(64))
    #: The agent's Report (workers.contract) without telemetry, which has rows of its own.
    document: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)


class Profile(SQLModel, table=True):
    """What each operation of one inference costs, as one finished profile attempt found it. No latency, no point."""

    id: int | None = Field(default=None, primary_key=True)
    attempt_id: int = Field(sa_type=Integer, sa_column_args=reference("attempt.id"), unique=True)
    job_id: int = Field(sa_type=Integer, sa_column_args=reference("job.id"), index=True)
    sweep_run_id: int = Field(sa_type=Integer, sa_column_args=reference("sweep_run.id"), index=True)
    device_id: int = Field(sa_type=Integer, sa_column_args=reference("device.id"))
    artifact_sha256: str | None = Field(default=None, sa_type=String(64))
    #: The agent's Report (workers.contract) without telemetry.
    document: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)


class Series(SQLModel, table=True):
    """Points that may be compared over time."""

    id: int | None = Field(default=None, primary_key=True)
    #: Digest of everything that makes it one series.
    key: str = Field(sa_type=String(64), unique=True)
    device_id: int = Field(sa_type=Integer, sa_column_args=reference("device.id"))
    model: str = Field(sa_type=Text)
    format: str = Field(sa_type=String(20))
    recipe: str = Field(sa_type=String(200))
    runtime: str = Field(sa_type=String(50))
    options: dict[str, Any] = Field(sa_type=JSON)
    metric: str = Field(sa_type=String(50))
    statistic: str = Field(sa_type=String(50))
    unit: str = Field(sa_type=String(20))
    protocol_version: str = Field(sa_type=String(20))
    #: `cases.Case.key`, the same on every device; and of the options, again as columns, with `cases`' texts.
    case_key: str = Field(sa_type=String(64))
    weights: str = Field(sa_type=Text)
    threads: int
    batch: int
    mode: str = Field(sa_type=String(20))
    options_text: str = Field(sa_type=Text)
    shared_options_text: str = Field(sa_type=Text)
    #: None of them is its runtime's own.
    plain: bool
    #: What is measured is a model's canonical program, or the user's own file: what others are compared with.
    unconverted: bool
    #: Kept at ingest: looking for it later costs seconds over a million points.
    latest_valid_point_id: int | None = Field(default=None)


class Point(SQLModel, table=True):
    """One case on one device in one run: the median of its repeats' process medians."""

    __table_args__ = (
        UniqueConstraint("series_id", "sweep_run_id", name="one_point_per_run"),
        # What a run told: screenings and digests are made of it.
        Index("point_by_run", "sweep_run_id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    series_id: int = Field(sa_type=Integer, sa_column_args=reference("series.id"))
    sweep_run_id: int = Field(sa_type=Integer, sa_column_args=reference("sweep_run.id"))
    value: float
    #: 95 % interval over the processes, where at least five are valid.
    value_ci_low: float | None = Field(default=None)
    value_ci_high: float | None = Field(default=None)
    #: How many of them counted, and what is kept of each that came (`repeats.Repeat`): one more needs no other read.
    repeats: int
    process_medians: list[Any] = Field(sa_type=JSON)
    verdict: str = Field(sa_type=String(20))
    #: From here to `artifact_bytes`, medians over the repeats that count; None where none of them tells.
    p90_ms: float | None = Field(default=None)
    p95_ms: float | None = Field(default=None)
    p99_ms: float | None = Field(default=None)
    throughput_per_s: float | None = Field(default=None)
    load_ms: float | None = Field(default=None)
    compile_ms: float | None = Field(default=None)
    first_inference_ms: float | None = Field(default=None)
    peak_rss_bytes: int | None = Field(default=None, sa_type=BigInteger)
    energy_per_inference_mj: float | None = Field(default=None)
    #: The hottest that the device's temperature channels read in a run.
    temperature_c: float | None = Field(default=None)
    snr_db: float | None = Field(default=None)
    top1_agreement: float | None = Field(default=None)
    quantised_flop_share: float | None = Field(default=None)
    delegated_share: float | None = Field(default=None)
    artifact_bytes: int | None = Field(default=None, sa_type=BigInteger)
    #: From here on as the repeat nearest to the median tells.
    energy_quality: str | None = Field(default=None, sa_type=String(20))
    energy_source: str | None = Field(default=None, sa_type=Text)
    precision: str | None = Field(default=None, sa_type=Text)
    compute_unit: str | None = Field(default=None, sa_type=Text)
    #: Those of all repeats, "noisy, outputs_wrong"; empty: none.
    flags: str = Field(default="", sa_type=Text)
    artifact_sha256: str | None = Field(default=None, sa_type=String(64))
    #: Fingerprint of conversion and run environment: a change begins a new epoch.
    environment_digest: str = Field(sa_type=String(64))
    at: datetime = Field(sa_type=UtcDateTime)


class Cell(SQLModel, table=True):
    """What became of a case on a device the last time that somebody wanted it: the matrix of the whole farm.

    Facts kept beside the jobs, so references to these are numbers only; a point that was valid stays its series'.
    """

    __table_args__ = (UniqueConstraint("device_id", "case_key", name="one_cell_per_case"),)

    id: int | None = Field(default=None, primary_key=True)
    device_id: int = Field(sa_type=Integer, sa_column_args=reference("device.id"))
    #: `cases.Case.key`: digest of the nine columns that follow, the same on every device. No `job.case_key`.
    case_key: str = Field(sa_type=String(64))
    model: str = Field(sa_type=Text)
    weights: str = Field(sa_type=Text)
    format: str = Field(sa_type=String(20))
    recipe: str = Field(sa_type=String(200))
    runtime: str = Field(sa_type=String(50))
    threads: int
    batch: int
    mode: str = Field(sa_type=String(20))
    options_text: str = Field(sa_type=Text)
    #: valid, invalid, failed or unsupported.
    state: str = Field(sa_type=String(20))
    #: Of its point, where it was measured; and why it is invalid, failed or unsupported.
    verdict: str | None = Field(default=None, sa_type=String(20))
    why: str | None = Field(default=None, sa_type=Text)
    #: NULL: a plan found that it is unsupported.
    job_id: int | None = Field(default=None)
    sweep_run_id: int
    series_id: int | None = Field(default=None)
    at: datetime = Field(sa_type=UtcDateTime)


class SensorChannel(SQLModel, table=True):
    """What is read: a quantity of a domain, by a sensor. Never changed, so whoever read one may keep it."""

    __tablename__ = "sensor_channel"
    __table_args__ = (UniqueConstraint("sensor", "domain", "quantity", "unit", name="one_channel_per_meaning"),)

    id: int | None = Field(default=None, primary_key=True)
    sensor: str = Field(sa_type=String(50))
    domain: str = Field(sa_type=String(100))
    quantity: str = Field(sa_type=String(50))
    unit: str = Field(sa_type=String(20))


class Telemetry(SQLModel, table=True):
    """One reading of one channel, during an attempt or between attempts.

    Facts in bulk, without references: the triggers of three foreign keys made a COPY 2.8 times as long
    (`benchmarks/ingest.py --references`). Rows come nearly in order of time, and go in order of id.
    """

    __table_args__ = (
        # As large as nothing on PostgreSQL: rows of one time lie together.
        Index(
            "telemetry_by_time",
            "at",
            postgresql_using="brin",
            postgresql_with={"autosummarize": True, "pages_per_range": 32},
        ),
        # Of one device over a day.
        Index("telemetry_by_device", "device_id", "at"),
        # Of one attempt; most rows of a fleet are of none.
        Index("telemetry_by_attempt", "attempt_id", sqlite_where=_OF_ATTEMPT, postgresql_where=_OF_ATTEMPT),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=_LARGE)
    #: By the clock of the head, where the host's differs much (`attempt.clock_offset_s`).
    at: datetime = Field(sa_type=UtcDateTime)
    #: NULL: of the host's own, in an attempt that has no device.
    device_id: int | None = Field(default=None)
    #: NULL: between runs.
    attempt_id: int | None = Field(default=None)
    #: Of sensor_channel.
    channel_id: int
    #: NULL unless the quality is ok or partial.
    value: float | None = Field(default=None)
    quality: str = Field(sa_type=String(20))
    why: str | None = Field(default=None, sa_type=Text)


class Duration(SQLModel, table=True):
    """How long jobs of a kind take, kept at ingest: what expected starts and longest-first are made of."""

    #: Digest of kind, model, recipe, runtime, options and model of the device.
    key: str = Field(sa_type=String(64), primary_key=True)
    #: Moving average: a tenth of each new value.
    expected_s: float
    samples: int


class Lease(SQLModel, table=True):
    """Who acts in a role of which there is only one, and until when."""

    role: str = Field(sa_type=String(50), primary_key=True)
    holder: str = Field(sa_type=String(64))
    host_key: str = Field(sa_type=String(200))
    pid: int
    #: With the pid an identity: a holder that died on this host is replaced at once.
    pid_started: float
    until: datetime = Field(sa_type=UtcDateTime)
