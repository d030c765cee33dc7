"""How long the comparison views take over a large farm's database, asked as their users ask.

A farm of 2,000 devices with 20 series each and 25 points a series: a million results (each a job, an attempt and a
point of its own; their documents are empty, for no view reads one), 92 days of presence, and 10,000,000 readings, half
of them of the last 25,000 attempts, half between attempts. Made inside the database, then analysed, as autovacuum
would; queried over one connection on two cores, all rows fetched. A question takes its worst of several runs: the first
one, whose pages have to come from the disk's cache, is apart.

    python benchmarks/queries.py [--quick] [--sqlite]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from common import at_most, finish, middle_interval, say
from sqlalchemy import Connection, Engine, func, select, text

from device_registry.database import open_engine, writing
from device_registry.tables import utc_now
from scheduler import schema
from scheduler.views import view_of

BAR_S = 1.0
#: What a server with 2 GB for PostgreSQL and a solid-state disk would be given; all else is as it comes.
_POSTGRES = ("shared_buffers=512MB", "effective_cache_size=1536MB", "work_mem=16MB", "random_page_cost=1.1")
_HOSTS, _MODELS, _VARIANTS, _DAYS = 40, 4, 5, 92
#: One in so many devices is simulated, and one in so many cells is no valid one.
_SIMULATED, _NOT_VALID = 20, 50


@dataclass(frozen=True)
class Size:
    """How large the database is."""

    devices: int
    points: int
    readings: int
    samples: int

    @property
    def series(self) -> int:
        """One for each device, model and variant."""
        return self.devices * _MODELS * _VARIANTS

    @property
    def results(self) -> int:
        """One for each point."""
        return self.series * self.points

    @property
    def sampled(self) -> int:
        """Attempts that left readings; the latest."""
        return max(1, self.readings // 400)


FULL = Size(devices=2_000, points=25, readings=10_000_000, samples=9)
QUICK = Size(devices=100, points=5, readings=50_000, samples=6)

#: Numbers from 0, and an epoch second as the database keeps times.
_NUMBERS = {
    "postgresql": "INSERT INTO number SELECT n FROM generate_series(0, {last}) AS n",
    "sqlite": (
        "INSERT INTO number WITH RECURSIVE counted (n) AS "
        "(SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n < {last}) SELECT n FROM counted"
    ),
}
_JSON = {"postgresql": "CAST({0} AS json)", "sqlite": "{0}"}
_TIME = {
    "postgresql": "to_timestamp({0})",
    "sqlite": "strftime('%Y-%m-%d %H\\:%M\\:%f000', {0}, 'unixepoch')",
}


def fill(connection: Connection, size: Size) -> None:
    """Make the farm: statements that both databases understand, of one table of numbers."""
    dialect = connection.dialect.name
    now = utc_now().timestamp()

    def at(seconds_ago: str) -> str:
        return _TIME[dialect].format(f"({now} - ({seconds_ago}))")

    def told(sql: str) -> None:
        began = time.monotonic()
        rows = connection.execute(text(sql)).rowcount
        say(f"  {sql.split()[2]}: {rows} rows in {time.monotonic() - began:.1f} s")

    last = max(size.results, size.readings // 2, size.devices * _DAYS * 2)
    connection.execute(text("CREATE TEMPORARY TABLE number (n BIGINT PRIMARY KEY)"))
    connection.execute(text(_NUMBERS[dialect].format(last=last)))
    # A series is one of a device's; a result n is the point n / series of the series n % series.
    run_length_s = f"{_DAYS * 86400} / {size.points}"
    result_at = at(f"({size.points - 1} - n / {size.series}) * {run_length_s} + 3600 - (n % {size.series}) * 0.01")
    spread = "(n * 7919 % 1000) / 1000.0"
    told(
        "INSERT INTO host (id, key, name, description, agent_version, presence, labels, last_seen_at) "
        f"SELECT n, 'h' || n, 'host-' || n, '{{}}', '1', 'online', '{{}}', {at('0')} FROM number WHERE n < {_HOSTS}"
    )
    attributes = (
        f'CASE WHEN n % {_SIMULATED} = 0 THEN \'{{"model"\\: "Bench 1", "simulated"\\: true}}\' '
        'ELSE \'{"model"\\: "Bench 2", "brand"\\: "b", "soc"\\: "s", "os"\\: "x 1.2.3"}\' END'
    )
    told(
        "INSERT INTO device (id, key, name, kind, driver, host_id, attributes, presence, admin, tags, failures_in_row, "
        "probes, used_s, last_seen_at) SELECT n, 'd' || n, 'device-' || n, "
        "CASE n % 5 WHEN 0 THEN 'cpu' WHEN 1 THEN 'gpu' WHEN 2 THEN 'mac' ELSE 'android' END, 'bench', "
        f"n % {_HOSTS}, {_JSON[dialect].format(attributes)}, 'online', 'enabled', '[]', 0, 0, 0.0, {at('0')} "
        f"FROM number WHERE n < {size.devices}"
    )
    told(
        "INSERT INTO sweep_run (id, request, request_digest, unsupported, owner, created_at, resting, sweep, watched) "
        f"SELECT n, '{{}}', 'r' || n, '[]', 'lab', {at(f'({size.points} - n) * {run_length_s}')}, false, "
        f"'nightly', true FROM number WHERE n < {size.points}"
    )
    told("INSERT INTO requirement (id, digest, place, selector, needs) SELECT 0, 'r', 'device', '', '[]'")
    told("INSERT INTO payload (id, digest, document) SELECT 0, 'p', '{}'")
    told(
        "INSERT INTO job (id, sweep_run_id, kind, state, requirement_id, owner, priority, rank, position, device_id, "
        "expected_s, avoid, canary, title, case_key, repeat_no, needs_key, payload_id, attempts, created_at, "
        f"changed_at) SELECT n, n / {size.series}, 'measure', 'succeeded', 0, 'lab', 0, 0.0, n % {size.series}, "
        f"n % {size.devices}, 1.0, '[]', false, 'model on runtime', 'c' || (n % {size.series}), 0, 'k', 0, 1, "
        f"{result_at}, {result_at} FROM number WHERE n < {size.results}"
    )
    told(
        "INSERT INTO attempt (id, job_id, host_id, device_id, place, token, state, lease_until, started_at, "
        f"finished_at) SELECT n, n, n % {size.devices} % {_HOSTS}, n % {size.devices}, "
        f"'d' || (n % {size.devices}), 't', 'finished', {result_at}, {result_at}, {result_at} "
        f"FROM number WHERE n < {size.results}"
    )
    told(
        "INSERT INTO result (id, attempt_id, job_id, sweep_run_id, device_id, case_key, stale, verdict, p50_ms, "
        f"document, created_at) SELECT n, n, n, n / {size.series}, n % {size.devices}, 'c' || (n % {size.series}), "
        f"false, 'valid', 1.0 + {spread}, '{{}}', {result_at} FROM number WHERE n < {size.results}"
    )
    variant = f"n / {size.devices} % {_VARIANTS}"
    case = (
        f"'model-' || (n / {size.devices} / {_VARIANTS}) AS model, 'random' AS weights, "
        f"CASE WHEN {variant} = 0 THEN 'pt2' ELSE 'onnx' END AS format, "
        f"CASE WHEN {variant} < 2 THEN 'fp32' ELSE 'int8-' || ({variant}) END AS recipe, "
        f"CASE WHEN {variant} = 0 THEN 'torch' ELSE 'onnxruntime' END AS runtime, 1 AS threads, 1 AS batch, "
        "'burst' AS mode, '' AS options_text"
    )
    told(
        "INSERT INTO series (id, key, device_id, options, metric, statistic, unit, protocol_version, model, weights, "
        "format, recipe, runtime, threads, batch, mode, options_text, case_key, shared_options_text, plain, "
        f"unconverted, latest_valid_point_id) SELECT n, 's' || n, n % {size.devices}, '{{}}', 'latency', "
        f"'median of process medians', 'ms', '1', {case}, 'case-' || (n / {size.devices}), '', true, {variant} = 0, "
        f"{(size.points - 1) * size.series} + n FROM number WHERE n < {size.series}"
    )
    kept = "[" + ",".join(['[1.25,"valid",1.5,null,null,800.0,12.5,null,3.5,123456789,4.5]'] * 5) + "]"
    told(
        "INSERT INTO point (id, series_id, sweep_run_id, value, value_ci_low, value_ci_high, repeats, process_medians, "
        "verdict, p90_ms, throughput_per_s, load_ms, first_inference_ms, peak_rss_bytes, energy_per_inference_mj, "
        "temperature_c, snr_db, artifact_bytes, energy_quality, energy_source, precision, compute_unit, flags, "
        f"artifact_sha256, environment_digest, at) SELECT n, n % {size.series}, n / {size.series}, 1.0 + {spread}, "
        f"0.99 + {spread}, 1.01 + {spread}, 5, '{kept}', 'valid', 1.1 + {spread}, 500.0, 10.0, 5.0, 200000000, "
        f"2.0 + {spread}, 40.0 + {spread}, 60.0, 10000000, 'ok', 'rapl', 'fp32', 'cpu', '', "
        f"'{'a' * 64}', 'environment-' || (n / {size.series} / 10), {result_at} FROM number WHERE n < {size.results}"
    )
    told(
        "INSERT INTO cell (id, device_id, case_key, model, weights, format, recipe, runtime, threads, batch, mode, "
        f"options_text, state, verdict, why, job_id, sweep_run_id, series_id, at) SELECT n, n % {size.devices}, "
        f"'case-' || (n / {size.devices}), {case}, "
        f"CASE n % {_NOT_VALID} WHEN 0 THEN 'failed' WHEN 1 THEN 'unsupported' ELSE 'valid' END, "
        f"CASE WHEN n % {_NOT_VALID} > 1 THEN 'valid' END, NULL, n, {size.points - 1}, n, "
        f"{at('3600 + n % 1000000')} FROM number WHERE n < {size.series} AND n % 97 <> 0"
    )
    # Incidents of a hundred series each, one in ten of them not resolved.
    told(
        "INSERT INTO incident (id, state, cause, cause_why, title, sweep, sweep_run_id, change, environment, "
        "opened_at, changed_at) SELECT n, CASE n % 10 WHEN 0 THEN 'open' ELSE 'resolved' END, 'code', 'why', 'what', "
        f"'nightly', {size.points - 1}, 0.05, '{{}}', {at('n * 3600')}, {at('n * 3600')} FROM number "
        f"WHERE n < {size.series // 100}"
    )
    told(
        "INSERT INTO incident_series (incident_id, series_id, found_by, baseline_point_id, candidate_point_id, change) "
        f"SELECT n / 100, n, 'history', {(size.points - 2) * size.series} + n, {(size.points - 1) * size.series} + n, "
        f"0.05 FROM number WHERE n < {size.series // 100 * 100}"
    )
    # Devices are there for half of each day; of a hundred one always, and one has been gone since long.
    told(
        "INSERT INTO event (at, who, entity, entity_id, before, after) SELECT "
        f"{at(f'{_DAYS * 86400} + 600000')}, 'farm', 'device', n, NULL, "
        f"CASE n % 100 WHEN 1 THEN 'offline' ELSE 'online' END FROM number WHERE n < {size.devices}"
    )
    gone = f"CASE n / {size.devices} % 2 WHEN 0 THEN"
    told(
        f"INSERT INTO event (at, who, entity, entity_id, before, after) SELECT "
        f"{at(f'({_DAYS * 2} - n / {size.devices}) * 43200.0 - n % {size.devices}')}, 'farm', 'device', "
        f"n % {size.devices}, {gone} 'online' ELSE 'offline' END, {gone} 'offline' ELSE 'online' END "
        f"FROM number WHERE n < {size.devices * _DAYS * 2} AND n % {size.devices} % 100 > 1 ORDER BY n"
    )
    told(
        "INSERT INTO event (at, who, entity, entity_id, before, after) SELECT "
        f"{result_at}, 'farm', 'attempt', n, 'running', 'finished' FROM number WHERE n < {size.results}"
    )
    told(
        "INSERT INTO sensor_channel (id, sensor, domain, quantity, unit) SELECT n, 'sensor-' || n, 'soc', "
        "CASE n WHEN 0 THEN 'temperature' WHEN 1 THEN 'power' ELSE 'clock' END, 'C' FROM number WHERE n < 10"
    )
    # 200 readings of each of the latest attempts, ten channels for 20 s; between attempts, four channels a minute.
    first = size.results - size.sampled
    told(
        "INSERT INTO telemetry (at, device_id, attempt_id, channel_id, value, quality) SELECT "
        f"{at('3600 * 30 - n / 200 * 2.0 - n % 200 / 10')}, ({first} + n / 200) % {size.devices}, {first} + n / 200, "
        f"n % 10, {spread}, 'ok' FROM number WHERE n < {size.sampled * 200} ORDER BY n"
    )
    each_minute = 4 * size.devices
    minutes = size.readings // 2 // each_minute
    told(
        "INSERT INTO telemetry (at, device_id, attempt_id, channel_id, value, quality) SELECT "
        f"{at(f'({minutes} - n / {each_minute}) * 60.0')}, n / 4 % {size.devices}, NULL, n % 4, {spread}, 'ok' "
        f"FROM number WHERE n < {size.readings // 2} ORDER BY n"
    )


@dataclass(frozen=True)
class Question:
    """What somebody asks."""

    name: str
    ask: Callable[[], Any]


def questions(size: Size) -> list[Question]:
    """Every view, as its users query it."""
    latest, baseline, devices = view_of("latest_result"), view_of("variant_vs_baseline"), view_of("device_vs_device")
    energy, coverage, availability = view_of("energy_vs_latency"), view_of("coverage"), view_of("device_availability")
    history, readings, outcomes = view_of("point_history"), view_of("telemetry_reading"), view_of("job_outcome")
    now = utc_now()
    regression, noise = view_of("regression"), view_of("series_noise")
    sight = select(noise.c.simulated, noise.c.is_sighted, func.count()).where(noise.c.watched)
    device = size.devices // 2 + 3
    series = size.series // 2 + 3
    attempt = size.results - 5
    case = ["device", "device_kind", "simulated", "model", "runtime", "recipe", "threads", "batch", "mode"]
    value = ["options_text", "p50_ms", "p99_ms", "energy_per_inference_mj", "temperature_c", "at"]
    metrics = select(*(latest.c[name] for name in case + value))
    states = select(coverage.c.device_kind, coverage.c.state, func.count()).group_by(
        coverage.c.device_kind, coverage.c.state
    )
    by_day = (
        select(availability.c.device_kind, availability.c.day, func.avg(availability.c.online_share))
        .where(availability.c.day > (now - timedelta(days=30)).date())
        .group_by(availability.c.device_kind, availability.c.day)
    )
    since = outcomes.c.finished_at > now - timedelta(days=1)
    failed = select(outcomes.c.kind, outcomes.c.state, func.count(), func.avg(outcomes.c.queue_wait_s)).where(since)
    return [
        Question("latest_result, a model on every device", lambda: select(latest).where(latest.c.model == "model-1")),
        Question("latest_result, a device", lambda: select(latest).where(latest.c.device_id == device)),
        Question("latest_result, what metrics tell of everything", lambda: metrics),
        Question(
            "variant_vs_baseline, a model on every device",
            lambda: select(baseline).where(baseline.c.model == "model-1"),
        ),
        Question("variant_vs_baseline, a device", lambda: select(baseline).where(baseline.c.device_id == device)),
        Question("device_vs_device, a model", lambda: select(devices).where(devices.c.model == "model-1")),
        Question("device_vs_device, a device", lambda: select(devices).where(devices.c.device_id == device)),
        Question("energy_vs_latency, a model", lambda: select(energy).where(energy.c.model == "model-1")),
        Question("coverage, counts of all", lambda: states),
        Question("coverage, a model", lambda: select(coverage).where(coverage.c.model == "model-1")),
        Question("coverage, a device", lambda: select(coverage).where(coverage.c.device_id == device)),
        Question("device_availability, kinds over 30 days", lambda: by_day),
        Question(
            "device_availability, a device", lambda: select(availability).where(availability.c.device_id == device)
        ),
        Question("point_history, a series", lambda: select(history).where(history.c.series_id == series)),
        Question(
            "point_history, a model on a device",
            lambda: select(history).where(history.c.device_id == device, history.c.model == "model-1"),
        ),
        Question("telemetry_reading, a run", lambda: select(readings).where(readings.c.attempt_id == attempt)),
        Question(
            "telemetry_reading, a device over a day",
            lambda: select(readings).where(readings.c.device_id == device, readings.c.at > now - timedelta(days=1)),
        ),
        Question("regression, what is open", lambda: select(regression).where(regression.c.state == "open")),
        Question("regression, a device", lambda: select(regression).where(regression.c.device_id == device)),
        Question("series_noise, counts of all", lambda: sight.group_by(noise.c.simulated, noise.c.is_sighted)),
        Question("job_outcome, a day by kind", lambda: failed.group_by(outcomes.c.kind, outcomes.c.state)),
        Question("job_outcome, a run", lambda: select(outcomes).where(outcomes.c.sweep_run_id == 3).limit(1000)),
    ]


def ask(engine: Engine, size: Size) -> list[dict[str, Any]]:
    """A figure for each question."""
    figures = []
    with engine.connect() as connection:
        for question in questions(size):
            times = []
            for _ in range(size.samples + 1):
                began = time.perf_counter()
                rows = len(connection.execute(question.ask()).all())
                times.append(time.perf_counter() - began)
            first_s, *warm = times
            seen = {"rows": rows, "first_s": first_s, "worst_s": max(warm)}
            name = f"{engine.dialect.name}: {question.name}"
            figures.append(at_most(name, statistics.median(warm), middle_interval(warm), BAR_S, "s", **seen))
    return figures


def make(url: str, size: Size) -> Engine:
    """A database with the farm in it."""
    schema.migrate(url)
    engine = open_engine(url)
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            # References hold by construction; checking each of ten million takes longer than all else.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        fill(connection, size)
    began = time.monotonic()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE"))
    say(f"analysed in {time.monotonic() - began:.0f} s")
    return engine


@contextmanager
def postgres() -> Iterator[str]:
    """A server of our own: settings of a small server, but what is written may be lost with the machine."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.postgres import PostgresServer

    server = PostgresServer(settings=(*_POSTGRES, "fsync=off", "max_wal_size=8GB"))
    try:
        server.execute("CREATE DATABASE queries")
        yield server.url("queries")
    finally:
        server.remove()


def main() -> int:
    """Measure; returns the exit code of docs/measurement.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small database: shows that it works, no more")
    parser.add_argument("--sqlite", action="store_true", help="the same of a SQLite file as well")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    figures = []
    with postgres() as url:
        engine = make(url, size)
        figures += ask(engine, size)
        with engine.connect() as connection:
            database_bytes = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        engine.dispose()
    if given.sqlite or given.quick:
        with tempfile.TemporaryDirectory(prefix="benchfarm-queries-") as folder:
            engine = make(f"sqlite:///{folder}/queries.db", size)
            figures += ask(engine, size)
            engine.dispose()
    context: dict[str, Any] = {
        "devices": size.devices,
        "series": size.series,
        "results": size.results,
        "readings": size.readings,
    }
    context |= {"postgresql": list(_POSTGRES), "database_bytes": database_bytes, "cpus": os.cpu_count()}
    return finish("queries", given.quick, figures, **context)


if __name__ == "__main__":
    raise SystemExit(main())
