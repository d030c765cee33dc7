"""The telemetry of a job, read back: its rows, its series at full rate, and one line for each channel."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from device_registry.errors import BenchfarmError, UsageError
from device_registry.registry import devices
from scheduler.states import LIVE_ATTEMPT, attempts, jobs
from scheduler.telemetry import channels, telemetry
from workers.artifacts import ArtifactStore
from workers.errors import AttemptError
from workers.readings import Meaning, meaning_of
from workers.report import Reading
from workers.telemetry_block import read_block


@dataclass(frozen=True, kw_only=True)
class Source:
    """The attempt whose telemetry is a job's: the last one that told any."""

    job_id: int
    attempt_id: int
    device: str | None
    simulated: bool
    started_at: datetime
    #: Of the full-rate block; None where there is none, or no more.
    block_sha256: str | None
    clock_offset_s: float | None


def source_of(connection: Connection, job_id: int) -> Source:
    """Find it.

    Raises:
        UsageError: there is no such job, or it has no telemetry, and why.
    """
    state = connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one_or_none()
    if state is None:
        raise UsageError(f"there is no job {job_id}")
    tries = connection.execute(
        select(attempts, devices.c.name, devices.c.attributes)
        .join(devices, devices.c.id == attempts.c.device_id, isouter=True)
        .where(attempts.c.job_id == job_id)
        .order_by(attempts.c.id.desc())
    ).all()
    for row in tries:
        told = select(telemetry.c.id).where(telemetry.c.attempt_id == row.id).limit(1)
        if row.telemetry_sha256 is not None or connection.execute(told).first() is not None:
            return Source(
                job_id=job_id,
                attempt_id=row.id,
                device=row.name,
                simulated=bool((row.attributes or {}).get("simulated")),
                started_at=row.started_at,
                block_sha256=row.telemetry_sha256,
                clock_offset_s=row.clock_offset_s,
            )
    raise UsageError(f"job {job_id} has no telemetry: {_why_none(state, tries)}")


def _why_none(state: str, tries: Sequence[Any]) -> str:
    if not tries:
        return f"it has not run yet (it is {state})"
    if tries[0].state in LIVE_ATTEMPT:
        return "it runs, and tells when it ends"
    if tries[0].device_id is None:
        return "a conversion is measured by no sensor"
    return "its attempts told none, or what they told is pruned by now"


def rows_of(connection: Connection, source: Source) -> list[Reading]:
    """Its rows, in the order they were read; thinned to one value per second and channel."""
    query = (
        select(telemetry, channels)
        .join(channels, channels.c.id == telemetry.c.channel_id)
        .where(telemetry.c.attempt_id == source.attempt_id)
        .order_by(telemetry.c.at, telemetry.c.id)
    )
    return [
        Reading(
            sensor=row.sensor,
            domain=row.domain,
            quantity=row.quantity,
            unit=row.unit,
            value=row.value,
            quality=row.quality,
            at=row.at.timestamp(),
            why=row.why,
        )
        for row in connection.execute(query)
    ]


def full_rate_of(store: ArtifactStore, source: Source) -> list[Reading]:
    """All of it, from the block in the artifact store.

    Raises:
        UsageError: there is no block of it.
        BenchfarmError: the block cannot be read.
    """
    if source.block_sha256 is None:
        why = "its agent stored none, or it is pruned by now; without --full-rate there are its rows"
        raise UsageError(f"job {source.job_id} has no telemetry at full rate: {why}")
    try:
        read = read_block(store.fetch(source.block_sha256).read_bytes())
    except (AttemptError, OSError) as error:
        said = error.message if isinstance(error, AttemptError) else str(error)
        raise BenchfarmError(f"the telemetry of job {source.job_id} at full rate cannot be read: {said}") from error
    by_s = source.clock_offset_s or 0.0
    return [_moved(reading, -by_s) for reading in read] if by_s else read


def _moved(reading: Reading, by_s: float) -> Reading:
    return Reading(**{**vars(reading), "at": reading.at + by_s})


def summaries(readings: Iterable[Reading]) -> list[dict[str, Any]]:
    """One row for each channel: first, last, smallest, median and largest value, how many, and what is missing and why.

    Args:
        readings: in order of time.
    """
    found: dict[Meaning, list[Reading]] = {}
    for reading in readings:
        found.setdefault(meaning_of(reading), []).append(reading)
    return [_summary(meaning, found[meaning]) for meaning in sorted(found)]


def _summary(meaning: Meaning, readings: Sequence[Reading]) -> dict[str, Any]:
    sensor, domain, quantity, unit = meaning
    values = [reading.value for reading in readings if reading.value is not None]
    missing = Counter((reading.quality, reading.why) for reading in readings if reading.value is None)
    qualities = Counter(reading.quality for reading in readings)
    return {
        "sensor": sensor,
        "domain": domain,
        "quantity": quantity,
        "unit": unit,
        "count": len(values),
        "first": values[0] if values else None,
        "last": values[-1] if values else None,
        "min": min(values, default=None),
        "median": statistics.median(values) if values else None,
        "max": max(values, default=None),
        "seconds": readings[-1].at - readings[0].at,
        "quality": dict(qualities),
        "missing": [{"quality": quality, "why": why, "count": count} for (quality, why), count in missing.items()],
    }


def export_rows_of(source: Source, readings: Iterable[Reading]) -> Iterator[Mapping[str, Any]]:
    """Flat rows, one for each reading."""
    began = source.started_at.timestamp()
    for reading in readings:
        yield {
            "job": source.job_id,
            "attempt": source.attempt_id,
            "device": source.device,
            "simulated": source.simulated,
            "at": datetime.fromtimestamp(reading.at, UTC).isoformat(timespec="microseconds"),
            "offset_s": reading.at - began,
            "sensor": reading.sensor,
            "domain": reading.domain,
            "quantity": reading.quantity,
            "unit": reading.unit,
            "value": reading.value,
            "quality": reading.quality,
            "why": reading.why,
        }
