"""Tables of schedules, trials, what is watched, incidents and what people are told."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, Integer, String, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from device_registry.tables import UtcDateTime
from scheduler.tables import reference

_RUNNING = text("state = 'running'")
_LEARNING = text("state = 'running' AND purpose = 'noise'")
_NOT_CLOSED = text("state != 'resolved'")
_PENDING = text("state = 'pending'")
_GIVEN_UP = text("state = 'given_up'")


class Schedule(SQLModel, table=True):
    """A sweep that runs by cron."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200), unique=True)
    #: Name of the sweep, its file as it was read, and the folder that its relative paths start from.
    sweep: str = Field(sa_type=String(200))
    sweep_text: str = Field(sa_type=Text)
    folder: str = Field(sa_type=Text)
    cron: str = Field(sa_type=String(200))
    #: IANA name; due times are this zone's wall clock.
    timezone: str = Field(sa_type=String(100))
    #: once: one run makes up for all that were missed; skip: none does.
    missed: str = Field(sa_type=String(20))
    #: {"file": where it was read, "allow_code", "revision_of": the folder whose revision is asked, or null}.
    options: dict[str, Any] = Field(sa_type=JSON)
    paused: bool = Field(default=False)
    owner: str = Field(sa_type=String(200))
    created_at: datetime = Field(sa_type=UtcDateTime)
    changed_at: datetime = Field(sa_type=UtcDateTime)
    #: NULL: paused, or never again.
    next_due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Cells without a fresh valid point, when somebody last looked; NULL: nobody did yet.
    missing: int | None = Field(default=None)
    #: What is to know of its last due time: why it made no run, or what its run lacks.
    note: str | None = Field(default=None, sa_type=Text)


class Trial(SQLModel, table=True):
    """Two artifacts of one case, measured on one unit in turns (ABBA), and what came of it."""

    __table_args__ = (
        Index("running_trial", "state", sqlite_where=_RUNNING, postgresql_where=_RUNNING),
        Index("trial_by_series", "series_id"),
        Index("one_noise_trial", "series_id", unique=True, sqlite_where=_LEARNING, postgresql_where=_LEARNING),
    )

    id: int | None = Field(default=None, primary_key=True)
    #: confirmation, bridge, noise or gate.
    purpose: str = Field(sa_type=String(20))
    #: The run that its jobs belong to: one run may hold many trials.
    sweep_run_id: int = Field(sa_type=Integer, sa_column_args=reference("sweep_run.id"), index=True)
    device_id: int = Field(sa_type=Integer, sa_column_args=reference("device.id"))
    #: What series it is about; NULL: artifacts that no series has (a gate's).
    series_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("series.id"))
    #: People read this: "mobilenet_v3_small on litert int8-static, pixel-3".
    title: str = Field(sa_type=Text)
    baseline_key: str = Field(sa_type=String(64))
    candidate_key: str = Field(sa_type=String(64))
    #: The points that are compared; NULL where none is.
    baseline_point_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("point.id"))
    candidate_point_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("point.id"))
    #: running, done or void (its jobs could not run: `why`).
    state: str = Field(sa_type=String(20))
    #: Processes wanted on each side so far: 10, 20, 30; at most so many.
    wanted: int
    most: int = Field(default=30)
    #: The least effect that whoever asked cares for.
    effect: float = Field(default=0.02)
    #: The change that it is to decide on, 0.05 for 5 % slower: it goes on no longer than until that is ruled out. NULL:
    #: it asks whether there is any.
    suspected: float | None = Field(default=None)
    #: `verdicts.Verdict`, of the candidate: faster, slower, same or inconclusive; NULL until done.
    answer: str | None = Field(default=None, sa_type=String(20))
    #: Speed-up: below 1 the candidate is slower.
    ratio: float | None = Field(default=None)
    ratio_low: float | None = Field(default=None)
    ratio_high: float | None = Field(default=None)
    p: float | None = Field(default=None)
    #: The same after Benjamini-Hochberg over the trials of its run.
    adjusted_p: float | None = Field(default=None)
    least_effect: float | None = Field(default=None)
    bound: float | None = Field(default=None)
    detectable: float | None = Field(default=None)
    #: Medians of the processes that counted, in order: [[p50_ms, clock_mhz | null], ...].
    baseline_values: list[Any] = Field(default_factory=list, sa_type=JSON)
    candidate_values: list[Any] = Field(default_factory=list, sa_type=JSON)
    #: Whether time x clock tells the same as time; NULL where no clock is known.
    clock_agrees: bool | None = Field(default=None)
    #: They did not run in turns within the hour.
    not_alternated: bool = Field(default=False)
    #: What it cost.
    device_s: float = Field(default=0.0)
    why: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Screening(SQLModel, table=True):
    """What a run told of a watched series: the first look at its new point, and what became of that."""

    __table_args__ = (
        UniqueConstraint("series_id", "sweep_run_id", name="one_screening_per_run"),
        Index("screening_by_point", "point_id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    #: NULL: the run wanted this series and got no point of it.
    point_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("point.id"))
    series_id: int = Field(sa_type=Integer, sa_column_args=reference("series.id"))
    sweep_run_id: int = Field(sa_type=Integer, sa_column_args=reference("sweep_run.id"), index=True)
    #: steady, slower, faster, new_epoch, few (too short a series to say), invalid (the point is no valid one), missing.
    outcome: str = Field(sa_type=String(20))
    #: Point over the level of its last segment, less one: above 0 is slower. NULL: no level yet.
    effect: float | None = Field(default=None)
    #: Robust z of the same, and the relative sigma that it was taken against.
    z: float | None = Field(default=None)
    noise: float | None = Field(default=None)
    #: First point of that segment, and the last one before the step that is suspected.
    segment_point_id: int | None = Field(default=None)
    baseline_point_id: int | None = Field(default=None)
    #: First point of the new level, where one is suspected; and who suspects it: screen or history.
    step_point_id: int | None = Field(default=None)
    found_by: str | None = Field(default=None, sa_type=String(20))
    #: What was scheduled for it.
    trial_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("trial.id"))
    #: What the trial shows, as `attribution.Shown`s; NULL until it ended.
    tests: list[Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    #: When the history up to this point was looked at.
    looked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: steady, confirmed, passing, inconclusive, unconfirmed or void, and a sentence; NULL: nothing is concluded yet.
    conclusion: str | None = Field(default=None, sa_type=String(20))
    why: str | None = Field(default=None, sa_type=Text)
    #: By what the level is believed to have changed at `step_point_id`; NULL: it is not.
    confirmed: float | None = Field(default=None)
    at: datetime = Field(sa_type=UtcDateTime)


class NoiseFloor(SQLModel, table=True):
    """What A/A trials say that a series' process medians scatter by themselves."""

    __tablename__ = "noise_floor"

    series_id: int = Field(sa_type=Integer, primary_key=True, sa_column_args=reference("series.id"))
    #: Relative robust sigma between processes.
    noise: float
    #: The smallest change that a comparison of 10 + 10 shows; NULL: none.
    detectable: float | None = Field(default=None)
    processes: int
    trial_id: int = Field(sa_type=Integer, sa_column_args=reference("trial.id"))
    at: datetime = Field(sa_type=UtcDateTime)


class Incident(SQLModel, table=True):
    """A confirmed regression: one or more series, a size, an interval, a suspected cause."""

    __table_args__ = (Index("unresolved_incident", "state", sqlite_where=_NOT_CLOSED, postgresql_where=_NOT_CLOSED),)

    id: int | None = Field(default=None, primary_key=True)
    #: open, acknowledged or resolved.
    state: str = Field(sa_type=String(20))
    #: code, environment, device, clock or unknown; and why so, a sentence.
    cause: str = Field(sa_type=String(20))
    cause_why: str = Field(sa_type=Text)
    title: str = Field(sa_type=Text)
    #: The sweep, and the run whose points showed it first.
    sweep: str | None = Field(default=None, sa_type=String(200))
    sweep_run_id: int = Field(sa_type=Integer, sa_column_args=reference("sweep_run.id"), index=True)
    #: Median change over its series: 0.05 is 5 % slower; and the widest interval of the same.
    change: float
    change_low: float | None = Field(default=None)
    change_high: float | None = Field(default=None)
    #: Last revision that was well, first that was not; NULL: the runs had none.
    revision_good: str | None = Field(default=None, sa_type=String(200))
    revision_bad: str | None = Field(default=None, sa_type=String(200))
    #: What differs between the environments of the two points: {name: [before, after]}.
    environment: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    opened_at: datetime = Field(sa_type=UtcDateTime)
    changed_at: datetime = Field(sa_type=UtcDateTime)
    acknowledged_by: str | None = Field(default=None, sa_type=String(200))
    resolved_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: A user, or "farm": a later segment is back.
    resolved_by: str | None = Field(default=None, sa_type=String(200))
    #: Of a unit under suspicion: the run of its canary, and what that told; NULL: it was not asked, or is not over.
    canary_run_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("sweep_run.id"))
    canary: str | None = Field(default=None, sa_type=Text)
    note: str | None = Field(default=None, sa_type=Text)


class IncidentSeries(SQLModel, table=True):
    """One series of an incident."""

    __tablename__ = "incident_series"
    __table_args__ = (UniqueConstraint("incident_id", "series_id", name="one_series_once_per_incident"),)

    id: int | None = Field(default=None, primary_key=True)
    incident_id: int = Field(sa_type=Integer, sa_column_args=reference("incident.id"))
    series_id: int = Field(sa_type=Integer, sa_column_args=reference("series.id"), index=True)
    #: How it was found: trial or history.
    found_by: str = Field(sa_type=String(20))
    trial_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("trial.id"))
    #: Last point of the old level, first of the new one.
    baseline_point_id: int = Field(sa_type=Integer, sa_column_args=reference("point.id"))
    candidate_point_id: int = Field(sa_type=Integer, sa_column_args=reference("point.id"))
    change: float
    change_low: float | None = Field(default=None)
    change_high: float | None = Field(default=None)
    #: First point of the segment in which it was back; NULL: it is not.
    recovered_point_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("point.id"))


class Notification(SQLModel, table=True):
    """One message for one channel, tried again while it cannot be delivered; or, without a channel, for all of them."""

    __table_args__ = (
        UniqueConstraint("channel", "key", name="one_message_per_channel"),
        Index("pending_notification", "channel", "next_at", sqlite_where=_PENDING, postgresql_where=_PENDING),
        Index("given_up_notification", "channel", "give_up_at", sqlite_where=_GIVEN_UP, postgresql_where=_GIVEN_UP),
    )

    id: int | None = Field(default=None, primary_key=True)
    #: Name of the channel; empty: not addressed to one yet.
    channel: str = Field(sa_type=String(100))
    #: What it tells of, "incident/12/opened", "digest/341": a second one of the same is never made.
    key: str = Field(sa_type=String(200))
    kind: str = Field(sa_type=String(50))
    document: dict[str, Any] = Field(sa_type=JSON)
    #: pending, sent or given_up; without a channel pending or addressed: each channel got a row of its own.
    state: str = Field(sa_type=String(20))
    #: Also what a try is known by: whoever reports on another than the last one is not heard.
    tries: int = Field(default=0)
    #: While it is pending: not before; and what is not delivered by then is given up.
    next_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    give_up_at: datetime = Field(sa_type=UtcDateTime)
    #: What the last try failed for, never with a secret in it.
    error: str | None = Field(default=None, sa_type=Text)
    #: What the receiver called it (a Grafana annotation's id), to change it later.
    receipt: str | None = Field(default=None, sa_type=String(200))
    incident_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("incident.id"), index=True)
    sweep_run_id: int | None = Field(default=None, sa_type=Integer, sa_column_args=reference("sweep_run.id"))
    created_at: datetime = Field(sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
