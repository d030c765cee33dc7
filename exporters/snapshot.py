"""The farm's state as series: what each look at the database reads, and how often it is read again."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Text, case, cast, func, literal, select, text, tuple_

from device_registry.registry import devices, hosts
from exporters import metrics
from exporters.families import Filling
from scheduler.coverage import cells
from scheduler.glance import state_of
from scheduler.leases import is_led
from scheduler.outcomes import evaluations
from scheduler.queue import sweep_runs
from scheduler.states import IS_LIVE, IS_NOT_BEGUN, attempts, jobs
from scheduler.telemetry import channels, telemetry
from scheduler.views import view_of

#: A reading older than this tells nothing of now.
READING_LASTS_S = 600.0
#: Readings looked at in one go, the newest: a farm at full load writes more than can be read in the meantime.
_MOST_READINGS = 200_000
_KEPT_QUALITIES = ("ok", "partial")
#: Quantities that are shown, each in the unit that the metric is made from.
_SHOWN = (("temperature", "C"), ("level", "%"), ("free", "bytes"))

_DEVICES: Final = select(
    devices.c.id,
    devices.c.name,
    devices.c.kind,
    devices.c.host_id,
    devices.c.presence,
    devices.c.admin,
    devices.c.not_before,
    devices.c.last_seen_at,
    devices.c.used_s,
    # As text: it rarely changes, and is then read once.
    cast(devices.c.attributes, Text).label("facts"),
).order_by(devices.c.id)
_HOSTS: Final = select(hosts.c.id, hosts.c.name, hosts.c.presence).order_by(hosts.c.id)


class Facts(NamedTuple):
    """What is shown of a device's attributes."""

    simulated: str
    model: str
    os: str
    soc: str


class Known(NamedTuple):
    """A device as labels say it."""

    name: str
    kind: str
    host: str
    facts: Facts

    @property
    def device(self) -> tuple[str, str, str, str]:
        """`metrics.DEVICE`."""
        return self.name, self.kind, self.host, self.facts.simulated


class Fleet:
    """Hosts and devices. Read at every look: it is what changes without leaving an event."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.known: dict[int, Known] = {}

    def read(self, connection: Connection, filling: Filling, now: datetime) -> None:
        """Every host and every device."""
        # Of two rows of one name the one that is there is meant.
        at = {row.id: row for row in sorted(connection.execute(_HOSTS), key=lambda row: row.presence != "online")}
        rows = connection.execute(_DEVICES).all()
        busy = set(connection.execute(select(attempts.c.device_id).where(IS_LIVE)).scalars())
        names = _unique({row.id: (row.name, at[row.host_id].name) for row in rows})
        self.known = {}
        for row in rows:
            self.known[row.id] = Known(names[row.id], row.kind, at[row.host_id].name, _facts(row.facts))
            self._device(filling, row, state_of(row, busy, now))
        seen = set()
        for host in at.values():
            if host.name not in seen:
                filling.put(metrics.HOST_UP, host.presence == "online", host.name)
                filling.put(metrics.HOST_STATE, 1, host.name, host.presence)
            seen.add(host.name)
        filling.put(metrics.DISPATCHER_UP, is_led(connection, now))

    def _device(self, filling: Filling, row: Row[Any], state: str) -> None:
        known = self.known[row.id]
        short = (known.name, known.kind)
        facts = known.facts
        filling.add(metrics.DEVICES, 1, known.kind, state)
        filling.put(metrics.DEVICE_UP, row.presence == "online", *known.device)
        filling.put(metrics.DEVICE_STATE, 1, *short, state)
        filling.put(metrics.DEVICE_ADMIN, 1, *short, row.admin)
        filling.put(metrics.DEVICE_INFO, 1, *known.device, facts.model, facts.os, facts.soc)
        filling.put(metrics.DEVICE_LAST_SEEN, row.last_seen_at.timestamp(), *short)
        filling.put(metrics.DEVICE_USED, row.used_s, *short)


def _unique(names: Mapping[int, tuple[str, str]]) -> dict[int, str]:
    """Ids to names, with the host's where two devices share a name, and with the id where that is no help either."""
    shared = Counter(name for name, _ in names.values())
    with_host = {known: name if shared[name] == 1 else f"{name}@{host}" for known, (name, host) in names.items()}
    still = Counter(with_host.values())
    return {known: name if still[name] == 1 else f"{name}#{known}" for known, name in with_host.items()}


@lru_cache(maxsize=16_384)
def _facts(attributes: str) -> Facts:
    told: Mapping[str, Any] = json.loads(attributes)

    def text_of(name: str) -> str:
        value = told.get(name)
        return "" if value is None else str(value)

    system = " ".join(word for word in (text_of("os"), text_of("os_version")) if word)
    return Facts("true" if told.get("simulated") is True else "false", text_of("model"), system, text_of("soc"))


def read_queue(connection: Connection, filling: Filling, now: datetime) -> None:
    """Open jobs by kind and state; of runs that rest apart, for nobody waits for them."""
    resting = select(sweep_runs.c.id).where(sweep_runs.c.followed_until <= now)
    state = case((jobs.c.sweep_run_id.in_(resting), "resting"), else_=jobs.c.state).label("state")
    waiting = select(jobs.c.kind, state, func.count().label("jobs"), func.min(jobs.c.created_at).label("oldest"))
    running = select(jobs.c.kind, func.count().label("jobs")).join(attempts, attempts.c.job_id == jobs.c.id)
    assert metrics.JOBS.labels[0].values is not None
    for kind in ("convert", "measure", "profile", "evaluate"):
        for name in ("blocked", "queued", "running", "resting"):
            filling.add(metrics.JOBS, 0, kind, name)  # an empty queue is a fact, too
    for row in connection.execute(waiting.where(IS_NOT_BEGUN).group_by(jobs.c.kind, state)):
        filling.add(metrics.JOBS, row.jobs, row.kind, row.state)
        if row.state == "queued":
            filling.put(metrics.QUEUE_OLDEST, max(0.0, (now - row.oldest).total_seconds()), row.kind)
    for row in connection.execute(running.where(IS_LIVE).group_by(jobs.c.kind)):
        filling.add(metrics.JOBS, row.jobs, row.kind, "running")


def read_sizes(connection: Connection, filling: Filling, home: Path) -> None:
    """What the database takes, and what is left for it."""
    if connection.engine.dialect.name == "postgresql":
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    else:
        file = Path(str(connection.engine.url.database))
        parts = (file, file.with_name(file.name + "-wal"))
        size = sum(os.stat(part).st_size for part in parts if part.exists())  # noqa: PTH116 - a size, no more
    filling.put(metrics.DATABASE_BYTES, float(size))
    if home.is_dir():
        filling.put(metrics.HOME_DISK_FREE, shutil.disk_usage(home).free)


class Readings:
    """The last reading of each channel of each device: the log of readings is read from where it was left."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._last_id = 0
        #: (device, channel) to when and what.
        self._latest: dict[tuple[int, int], tuple[datetime, float]] = {}
        #: Channels that are shown.
        self._meanings: dict[int, tuple[str, str]] = {}

    def read(self, connection: Connection, filling: Filling, known: Mapping[int, Known], now: datetime) -> None:
        """What is new, and of it and what was known before all that is not too old."""
        newest = connection.execute(select(func.max(telemetry.c.id))).scalar() or 0
        if newest < self._last_id:  # another database stands in this one's place
            self._last_id, self._latest = 0, {}
        if newest > self._last_id:
            self._take(connection, newest, now)
        self._show(filling, known, now)

    def _take(self, connection: Connection, newest: int, now: datetime) -> None:
        shown = select(channels.c.id, channels.c.domain, channels.c.quantity).where(
            tuple_(channels.c.quantity, channels.c.unit).in_(_SHOWN)
        )
        self._meanings = {row.id: (row.domain, row.quantity) for row in connection.execute(shown)}
        fresh = (
            telemetry.c.id > max(self._last_id, newest - _MOST_READINGS),
            telemetry.c.at > now - timedelta(seconds=READING_LASTS_S),
            telemetry.c.channel_id.in_(self._meanings),
            telemetry.c.device_id.is_not(None),
            telemetry.c.quality.in_(_KEPT_QUALITIES),
        )
        last = (
            select(func.max(telemetry.c.id).label("id"))
            .where(*fresh)
            .group_by(telemetry.c.device_id, telemetry.c.channel_id)
            .subquery()
        )
        query = select(telemetry.c.device_id, telemetry.c.channel_id, telemetry.c.at, telemetry.c.value)
        for row in connection.execute(query.join(last, telemetry.c.id == last.c.id)):
            if row.value is not None:
                self._latest[row.device_id, row.channel_id] = (row.at, row.value)
        self._last_id = newest

    def _show(self, filling: Filling, known: Mapping[int, Known], now: datetime) -> None:
        oldest = now - timedelta(seconds=READING_LASTS_S)
        self._latest = {key: held for key, held in self._latest.items() if held[0] > oldest}
        for (device_id, channel_id), (_, value) in sorted(
            self._latest.items(), key=lambda held: held[1][0], reverse=True
        ):
            device, meaning = known.get(device_id), self._meanings.get(channel_id)
            if device is None or meaning is None:
                continue
            domain, quantity = meaning
            if quantity == "temperature":
                filling.put(metrics.DEVICE_TEMPERATURE, value, device.name, device.kind, domain)
            elif quantity == "level" and domain == "battery":
                filling.put(metrics.DEVICE_BATTERY, value / 100, device.name, device.kind)
            elif quantity == "free" and domain == "disk":
                filling.put(metrics.HOST_DISK_FREE, value, device.host)


def read_results(connection: Connection, filling: Filling, known: Mapping[int, Known]) -> None:
    """The latest valid point of every series; of two that labels cannot tell apart the newer one."""
    view = view_of("latest_result")
    columns = (
        view.c.device_id,
        view.c.model,
        view.c.weights,
        view.c.runtime,
        view.c.recipe,
        view.c.threads,
        view.c.batch,
        view.c.mode,
        view.c.options_text,
        view.c.statistic,
        view.c.at,
        view.c.p50_ms,
        view.c.p99_ms,
        view.c.energy_per_inference_mj,
        view.c.temperature_c,
    )
    for row in connection.execute(select(*columns).order_by(view.c.at.desc(), view.c.series_id.desc())):
        device = known.get(row.device_id)
        if device is None:
            continue
        labels = (
            device.name,
            device.kind,
            device.facts.simulated,
            row.model,
            row.runtime,
            row.recipe,
            options_of(row),
        )
        filling.put(metrics.RESULT_LATENCY, _thousandth(row.p50_ms), *labels, "0.5")
        filling.put(metrics.RESULT_LATENCY, _thousandth(row.p99_ms), *labels, "0.99")
        filling.put(metrics.RESULT_ENERGY, _thousandth(row.energy_per_inference_mj), *labels)
        filling.put(metrics.RESULT_TEMPERATURE, row.temperature_c, *labels)
        filling.put(metrics.RESULT_TIMESTAMP, row.at.timestamp(), *labels)


def read_evaluations(connection: Connection, filling: Filling, known: Mapping[int, Known]) -> None:
    """How right the latest evaluation of each case was, by the labels of its latency."""
    latest = (
        select(func.max(evaluations.c.id).label("id"))
        .where(evaluations.c.top1.is_not(None))
        .group_by(evaluations.c.device_id, evaluations.c.case_key)
        .subquery()
    )
    of_case = (cells.c.model, cells.c.weights, cells.c.runtime, cells.c.recipe, cells.c.threads, cells.c.batch)
    query = (
        select(evaluations.c.device_id, evaluations.c.top1, *of_case, cells.c.mode, cells.c.options_text)
        .add_columns(literal("").label("statistic"))
        .join(latest, latest.c.id == evaluations.c.id)
        .join(cells, (cells.c.device_id == evaluations.c.device_id) & (cells.c.case_key == evaluations.c.case_key))
        .order_by(evaluations.c.id.desc())
    )
    for row in connection.execute(query):
        if (device := known.get(row.device_id)) is not None:
            who = (device.name, device.kind, device.facts.simulated)
            filling.put(metrics.RESULT_ACCURACY, row.top1, *who, row.model, row.runtime, row.recipe, options_of(row))


def options_of(row: Any) -> str:
    """What of a case is neither model, runtime nor recipe: "t4 b1 burst", then only what is unlike the rest."""
    more = [row.options_text, "" if row.weights == "random" else row.weights]
    # A tool that prints only summaries has no median of its own: its numbers compare with their like only.
    _, _, of_what = row.statistic.partition("median of process medians of ")
    more.append(f"of {of_what}" if of_what else "")
    return " ".join(word for word in (f"t{row.threads} b{row.batch} {row.mode}", *more) if word)


def read_coverage(connection: Connection, filling: Filling) -> None:
    """Cells of the matrix by what became of them."""
    view = view_of("coverage")
    by = (view.c.device_kind, view.c.simulated, view.c.state)
    for row in connection.execute(select(*by, func.count().label("cells")).group_by(*by)):
        simulated = "true" if row.simulated else "false"
        filling.add(metrics.COVERAGE, row.cells, row.device_kind, simulated, row.state)


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1000
