"""Telemetry rows per second that the farm's ingest takes into SQLite and PostgreSQL, beside what their drivers can do.

Reports of finished attempts, each with the readings of a long run, go through the ingest that the dispatcher calls:
read, checked, kept, committed, with all else that a report changes. In turns with it the same rows go raw into an equal
table: by psycopg's COPY (`write_row`), by `executemany`. `--references` adds what foreign keys would cost.

    python benchmarks/ingest.py [--quick] [--only sqlite|postgresql] [--references] [--postgres URL]
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
from pathlib import Path
from typing import Any

from common import QUICK, Figure, alternate, at_least, finish, middle_interval, ratio_interval, say
from growth import MEASUREMENT
from sqlalchemy import Engine, func, select

from device_registry.capabilities import DeviceDescription
from device_registry.database import insert_row, open_engine, reading, writing
from device_registry.registry import devices, record_hello
from device_registry.tables import utc_now
from scheduler.ingest import ingest
from scheduler.payloads import payload_id
from scheduler.queue import sweep_runs
from scheduler.requirements import requirements
from scheduler.schema import migrate, open_database
from scheduler.states import attempts, jobs
from scheduler.telemetry import telemetry
from workers.codec import to_dict
from workers.contract import MeasureTask
from workers.host import describe_host
from workers.report import as_sent

ROWS_BAR = 100_000
SHARE_BAR = 0.5
_SAMPLES = 9
#: Of one sample: attempts, channels of each, seconds that each lasted.
_ATTEMPTS, _CHANNELS, _SECONDS = 20, 10, 500
_TASK = MeasureTask(
    runtime="sim",
    entry="workers.runtimes.sim:SimRuntime",
    format="sim",
    recipe="fp32",
    model="sim/tiny",
    weights="random",
    compute_unit="sim",
)
_NAMES = "at, device_id, attempt_id, channel_id, value, quality, why"
#: As a farm's own would be: what it says is committed is on the disk.
_POSTGRES = ("shared_buffers=128MB", "max_wal_size=4GB")


class Bench:
    """A database with a device, and attempts on it that run and are about to end."""

    def __init__(self, url: str) -> None:
        migrate(url)
        self.engine = open_database(url)
        self._now = utc_now()
        with writing(self.engine) as connection:
            found = [
                DeviceDescription(key=name, name=name, kind="sim", driver="sim", attributes={"model": "m"})
                for name in (f"d{number}" for number in range(_ATTEMPTS))
            ]
            self._host_id = record_hello(connection, describe_host("ingest"), found, "1", self._now, lambda _: None)
            self._device_ids = connection.execute(select(devices.c.id)).scalars().all()
            self._run_id = insert_row(
                connection,
                sweep_runs,
                request={},
                request_digest="r",
                unsupported=[],
                owner="o",
                created_at=self._now,
            )
            self._requirement_id = insert_row(connection, requirements, digest="q", place="device", needs=[])
            self._payload_id = payload_id(connection, {"measure": to_dict(_TASK), "model": _TASK.model})
        self._number = 0
        #: When the attempts of the next reports began: after those of the last ones.
        self._began = time.time() - 86_400

    def reports(self, channels: int, seconds: int) -> list[dict[str, Any]]:
        """Events of measurements that went well, of a case each: rows that no ingest is timed for are made here."""
        events = []
        with writing(self.engine) as connection:
            for device_id in self._device_ids:
                self._number += 1
                job = {"sweep_run_id": self._run_id, "kind": "measure", "state": "running", "owner": "o"}
                job |= {
                    "requirement_id": self._requirement_id,
                    "payload_id": self._payload_id,
                    "position": self._number,
                }
                times = {"created_at": self._now, "changed_at": self._now}
                job_id = insert_row(connection, jobs, **job, **times, title="t", avoid=[], case_key=str(self._number))
                attempt = {"job_id": job_id, "host_id": self._host_id, "place": f"p{self._number}", "token": "t"}
                attempt_id = insert_row(
                    connection,
                    attempts,
                    **attempt,
                    device_id=device_id,
                    state="running",
                    lease_until=self._now,
                    started_at=self._now,
                )
                events.append(_report(attempt_id, channels, seconds, self._began))
        self._began += seconds
        return events

    def ingest(self, events: list[dict[str, Any]]) -> None:
        with writing(self.engine) as connection:
            ingest(connection, events, who="benchmark", now=utc_now())

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        """The newest rows of telemetry, as a driver takes them."""
        columns = [telemetry.c[name] for name in _NAMES.split(", ")]
        with reading(self.engine) as connection:
            query = select(*columns).order_by(telemetry.c.id.desc()).limit(most)
            found = [tuple(row) for row in connection.execute(query)][::-1]
        if self.engine.dialect.name == "postgresql":
            return found
        return [(f"{at.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}", *others) for at, *others in found]

    def count(self) -> int:
        with reading(self.engine) as connection:
            return connection.execute(select(func.count()).select_from(telemetry)).scalar_one()


def _report(attempt_id: int, channels: int, seconds: int, began: float) -> dict[str, Any]:
    names = {"attempt_id": attempt_id, "token": "t"}
    readings = [
        {
            "sensor": "thermal-zones",
            "domain": f"zone:{channel}",
            "quantity": "temperature",
            "unit": "C",
            "value": 40 + channel + second / 61,
            "quality": "ok",
            "at": began + second + channel / 1e4,
            "why": None,
        }
        for second in range(seconds)
        for channel in range(channels)
    ]
    result = {**names, "started_at": began, "finished_at": began + seconds, "measurement": MEASUREMENT}
    report = {**names, "result": result, "judgement": {"verdict": "valid"}, "telemetry": readings}
    return {"kind": "finished", **names, **as_sent(report)}


def compare(bench: Bench, kind: str, raw: Callable[[list[tuple[Any, ...]]], None], samples: int) -> list[Figure]:
    """Ingest and the driver alone, in turns: each sample's reports and rows are made before its clock starts."""
    expected = _ATTEMPTS * _CHANNELS * _SECONDS
    bench.ingest(bench.reports(_CHANNELS, _SECONDS))  # channels are known, buffers are warm
    raw(bench.rows(expected))

    def ours() -> float:
        events = bench.reports(_CHANNELS, _SECONDS)
        began = time.perf_counter()
        bench.ingest(events)
        return expected / (time.perf_counter() - began)

    def theirs() -> float:
        rows = bench.rows(expected)
        assert len(rows) == expected
        began = time.perf_counter()
        raw(rows)
        return expected / (time.perf_counter() - began)

    before = bench.count()
    through, alone = alternate(samples, ours, theirs, kind)
    assert bench.count() == before + samples * expected
    way = "COPY (write_row)" if kind == "postgresql" else "executemany"
    bare = statistics.median(alone)
    median = statistics.median(through)
    more = {"rows_of_a_sample": expected, "raw_rows_per_s": bare}
    return [
        at_least(
            f"{kind}: rows per second through ingest", median, middle_interval(through), ROWS_BAR, "rows/s", **more
        ),
        at_least(f"{kind}: ingest over raw {way}", median / bare, ratio_interval(through, alone), SHARE_BAR, "ratio"),
    ]


def raw_copy(url: str) -> Iterator[Callable[[list[tuple[Any, ...]]], None]]:
    """COPY of psycopg into a table like ours, a transaction each."""
    import psycopg

    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute("CREATE TABLE raw (LIKE telemetry INCLUDING ALL)")
        connection.commit()

        def copy_rows(rows: list[tuple[Any, ...]]) -> None:
            with connection.cursor() as cursor, cursor.copy(f"COPY raw ({_NAMES}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            connection.commit()

        yield copy_rows


def raw_inserts(path: Path) -> Iterator[Callable[[list[tuple[Any, ...]]], None]]:
    """executemany of sqlite3 into a table like ours, a transaction each, under the pragmas of ours."""
    engine = open_engine(f"sqlite:///{path}")
    raw = engine.raw_connection()
    with writing(engine) as connection:
        tables = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE tbl_name = 'telemetry'").scalars()
        made = [str(sql).replace("telemetry", "raw") for sql in tables if sql is not None]
        for sql in made:
            connection.exec_driver_sql(sql)

    def insert_rows(rows: list[tuple[Any, ...]]) -> None:
        driver: Any = raw.driver_connection
        driver.execute("BEGIN IMMEDIATE")
        marks = ", ".join("?" * len(rows[0]))
        driver.executemany(f"INSERT INTO raw ({_NAMES}) VALUES ({marks})", rows)
        driver.execute("COMMIT")

    yield insert_rows
    raw.close()
    engine.dispose()


def references(engine: Engine, rows: list[tuple[Any, ...]]) -> Figure:
    """What three foreign keys would add to a COPY of the same rows."""
    spans: dict[str, list[float]] = {"none": [], "three": []}
    with writing(engine) as connection:
        for name in spans:
            connection.exec_driver_sql(f"CREATE TABLE refers_{name} (LIKE telemetry INCLUDING ALL)")
        for column, table in (("device_id", "device"), ("attempt_id", "attempt"), ("channel_id", "sensor_channel")):
            connection.exec_driver_sql(f"ALTER TABLE refers_three ADD FOREIGN KEY ({column}) REFERENCES {table} (id)")
    for name in list(spans) * QUICK:
        began = time.perf_counter()
        with writing(engine) as connection:
            cursor: Any = connection.connection.cursor()
            with cursor.copy(f"COPY refers_{name} ({_NAMES}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        spans[name].append(time.perf_counter() - began)
    ratio = statistics.median(spans["three"]) / statistics.median(spans["none"])
    say(f"postgresql: foreign keys make a COPY {ratio:.1f} times as long")
    return {"name": "COPY with foreign keys over COPY without", "effect": ratio, "unit": "ratio", "met": True}


@contextmanager
def a_server(url: str | None) -> Iterator[str | None]:
    """The database to use: the one named, else one of a server of our own where its binaries are, else none."""
    if url is not None:
        yield url
        return
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.postgres import PostgresServer, binaries

    if binaries() is None:
        yield None
        return
    server = PostgresServer(settings=_POSTGRES)
    try:
        server.execute("CREATE DATABASE ingest")
        yield server.url("ingest")
    finally:
        server.remove()


def main() -> int:
    """Measure; returns the exit code of docs/measurement.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples: shows that it works, no more")
    parser.add_argument("--postgres", metavar="URL", default=None, help="an empty database to use")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), default=None)
    parser.add_argument("--references", action="store_true", help="what foreign keys would cost as well")
    given = parser.parse_args()
    samples = QUICK if given.quick else _SAMPLES
    figures: list[Figure] = []
    if given.only in (None, "sqlite"):
        with tempfile.TemporaryDirectory(prefix="benchfarm-ingest-") as name:
            path = Path(name) / "farm.db"
            bench = Bench(f"sqlite:///{path}")
            for raw in raw_inserts(path):
                figures += compare(bench, "sqlite", raw, samples)
            bench.engine.dispose()
    if given.only in (None, "postgresql"):
        with a_server(given.postgres) as url:
            if url is None:
                say("no PostgreSQL: give --postgres URL")
            else:
                bench = Bench(url)
                for raw in raw_copy(url):
                    figures += compare(bench, "postgresql", raw, samples)
                if given.references:
                    figures.append(references(bench.engine, bench.rows(_ATTEMPTS * _CHANNELS * _SECONDS)))
                bench.engine.dispose()
    return finish("ingest", given.quick, figures, cpus=os.cpu_count())


if __name__ == "__main__":
    sys.exit(main())
