"""What a scrape of a large farm costs: CPU and memory of the exporter's own process, and how fast it counts events.

2,000 devices with 20 series each, in SQLite and in PostgreSQL. `benchfarm exporter` runs as users start it and is
scraped over HTTP while everything that it shows changes between two scrapes (devices, readings, results), so that
nothing it kept is of use. Then nothing changes any more, and it is scraped every 15 s as Prometheus does. Last, in this
process: events of finished jobs, counted.

    python benchmarks/scrape.py [--quick] [--only sqlite|postgresql] [--devices N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from common import Figure, at_most, counted, finish, mean_interval, say
from dispatch import postgres
from farm import command, own_environment
from sqlalchemy import Engine, insert, select, text, update

from device_registry.capabilities import DeviceDescription
from device_registry.database import insert_row, open_engine, reading, writing
from device_registry.registry import devices, record_hello
from device_registry.tables import utc_now
from exporters.events import EventCounts
from scheduler.payloads import payloads
from scheduler.points import points, series
from scheduler.queue import sweep_runs
from scheduler.requirements import requirements
from scheduler.schema import migrate
from scheduler.states import attempts, events, jobs, record
from scheduler.telemetry import channels, telemetry
from workers.host import describe_host

DEVICES, SERIES_EACH = 2_000, 20
CPU_BAR_S, MEMORY_BAR, IDLE_BAR_PERCENT = 1.0, 200e6, 1.0
#: Prometheus's own interval.
_SCRAPE_S = 15.0
_DOMAINS = ("cpu", "skin", "usb")
_CASES = (("litert", "fp32"), ("litert", "int8-static"))
#: A dispatcher at its fastest starts and ends 4,000 jobs a second, six events each.
_EVENTS_PER_JOB, _FARM_EVENTS_PER_S = 6, 24_000


class Fleet:
    """A database full of devices, each with six facts, four readings and two results of five series."""

    def __init__(self, url: str, count: int) -> None:
        self.url, self.engine, self._count = url, open_engine(url), count
        now = utc_now()
        with writing(self.engine) as connection:
            for first in range(0, count, 50):
                host = describe_host(f"lab-{first // 50}")
                found = [
                    DeviceDescription(
                        key=f"phone:{number}",
                        name=f"google-pixel-8-{number:05d}",
                        kind="android",
                        driver="android",
                        attributes={
                            "model": f"Pixel {number % 9}",
                            "os": "Android",
                            "os_version": "15",
                            "soc": f"Tensor G{number % 5}",
                            "abis": ("arm64-v8a", "armeabi-v7a"),
                            "memory_bytes": 8 * 2**30,
                        },
                    )
                    for number in range(first, min(first + 50, count))
                ]
                described = {**host.__dict__, "key": f"lab-{first // 50}"}
                record_hello(connection, type(host)(**described), found, "1", now, lambda _: None)
            self.device_ids = list(connection.execute(select(devices.c.id).order_by(devices.c.id)).scalars())
            meanings = [("zones", domain, "temperature", "C") for domain in _DOMAINS]
            meanings.append(("android-battery", "battery", "level", "%"))
            names = ("sensor", "domain", "quantity", "unit")
            made = insert(channels).returning(channels.c.id)
            rows = [dict(zip(names, meaning, strict=True)) for meaning in meanings]
            self._channel_ids = list(connection.execute(made, rows).scalars())
            self._run_id = insert_row(
                connection,
                sweep_runs,
                request={},
                request_digest="r",
                unsupported=[],
                owner="bench",
                created_at=now,
                watched=True,
            )
            self._results(connection)
        self.change()

    def _results(self, connection: Any) -> None:
        now = utc_now()
        rows = [
            {
                "key": f"{device_id}-{number}",
                "device_id": device_id,
                "model": "torchvision/mobilenet_v3_small",
                "format": "tflite",
                "recipe": recipe,
                "runtime": runtime,
                "options": {},
                "metric": "latency",
                "statistic": "median of process medians",
                "unit": "ms",
                "protocol_version": "1",
                "weights": "random",
                "threads": 1,
                "batch": 1,
                "mode": "burst",
                "options_text": "",
                "shared_options_text": "",
                "unconverted": False,
                "case_key": str(number),  # the same on every device, as a digest of the case would be
                "plain": True,
            }
            for device_id in self.device_ids
            for number, (runtime, recipe) in enumerate(_CASES)
        ]
        ids = list(connection.execute(insert(series).returning(series.c.id), rows).scalars())
        told = {"verdict": "valid", "repeats": 3, "process_medians": [], "environment_digest": "e", "flags": ""}
        told |= {"p99_ms": 3.0, "energy_per_inference_mj": 5.0, "temperature_c": 40.0}
        of_run = {"sweep_run_id": self._run_id, "at": now, "value": 2.0}
        connection.execute(insert(points), [{"series_id": known, **of_run, **told} for known in ids])
        newest = select(points.c.id).where(points.c.series_id == series.c.id).scalar_subquery()
        connection.execute(update(series).values(latest_valid_point_id=newest))

    def change(self) -> None:
        """Everything that is shown of a device becomes another value, and an event says that something happened."""
        now = utc_now()
        with writing(self.engine) as connection:
            connection.execute(update(devices).values(used_s=devices.c.used_s + 1.5, last_seen_at=now))
            again = {"value": points.c.value * 1.001, "p99_ms": points.c.p99_ms * 1.001, "at": now}
            again |= {"energy_per_inference_mj": points.c.energy_per_inference_mj * 1.001}
            connection.execute(update(points).values(**again, temperature_c=points.c.temperature_c + 0.01))
            rows = [
                {"at": now, "device_id": device_id, "channel_id": channel_id, "quality": "ok", "value": value}
                for device_id in self.device_ids
                for channel_id in self._channel_ids
                for value in (30 + (now.microsecond % 1000) / 50,)
            ]
            connection.execute(insert(telemetry), rows)
            record(connection, "run", self._run_id, None, "changed", who="bench", why=None, now=now)

    def work(self, count: int) -> int:
        """Jobs that were queued, begun and done; returns the number of events."""
        now = utc_now()
        steps = [
            ("job", None, "queued", 0.0),
            ("job", "queued", "running", 5.0),
            ("attempt", None, "leased", 5.0),
            ("attempt", "leased", "running", 5.1),
            ("attempt", "running", "finished", 9.0),
            ("job", "running", "succeeded", 9.0),
        ]
        with writing(self.engine) as connection:
            place = {"place": "device", "selector": "", "needs": [], "device_id": None, "host_id": None}
            requirement = insert_row(connection, requirements, digest="d", **place)
            payload = insert_row(connection, payloads, digest="d", document={})
            first_job = self._next(connection, "job")
            first_attempt = self._next(connection, "attempt")
            common = {"sweep_run_id": self._run_id, "requirement_id": requirement, "payload_id": payload}
            common |= {"kind": "measure", "state": "succeeded", "owner": "bench", "position": 0, "title": "t"}
            common |= {"created_at": now, "changed_at": now}
            connection.execute(insert(jobs), [{"id": first_job + n, **common} for n in range(count)])
            tried = {"host_id": 1, "place": "p", "token": "t", "state": "finished", "lease_until": now}
            tried |= {"started_at": now - timedelta(seconds=4), "finished_at": now}
            rows = [
                {
                    "id": first_attempt + n,
                    "job_id": first_job + n,
                    "device_id": self.device_ids[n % len(self.device_ids)],
                    **tried,
                }
                for n in range(count)
            ]
            connection.execute(insert(attempts), rows)
            for first in range(0, count, 5000):
                happened = [
                    {
                        "at": now + timedelta(seconds=after_s),
                        "who": "bench",
                        "entity": entity,
                        "entity_id": (first_job if entity == "job" else first_attempt) + n,
                        "before": before,
                        "after": after,
                    }
                    for n in range(first, min(first + 5000, count))
                    for entity, before, after, after_s in steps
                ]
                connection.execute(insert(events), happened)
        if self.engine.dialect.name == "postgresql":
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE"))
        return count * len(steps)

    @staticmethod
    def _next(connection: Any, table: str) -> int:
        return 1 + int(connection.execute(text(f"SELECT coalesce(max(id), 0) FROM {table}")).scalar_one())


class Exporter:
    """`benchfarm exporter` on a database, as a process of its own."""

    def __init__(self, url: str, home: Path) -> None:
        from tests.prometheus import free_port

        self._address = f"127.0.0.1:{free_port()}"
        environment = own_environment(home) | {"BENCHFARM_DATABASE_URL": url}
        self._process = subprocess.Popen(
            [command("benchfarm"), "exporter", "--listen", self._address], env=environment, stderr=subprocess.DEVNULL
        )
        self._seen = psutil.Process(self._process.pid)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.scrape()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def scrape(self) -> dict[str, float]:
        """The exporter's own series, and how many bytes came."""
        with urllib.request.urlopen(f"http://{self._address}/metrics", timeout=60) as answer:
            body = answer.read()
        own = [line.split(" ") for line in body.decode().splitlines() if line.startswith("benchfarm_exporter_")]
        return {name: float(value) for name, value in own if "{" not in name} | {"bytes": len(body)}

    def cpu_s(self) -> float:
        """CPU used so far."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def peak_bytes(self) -> int:
        """Most memory that it had at one time."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)


def measure(url: str, database: str, home: Path, count: int, scrapes: int, windows: int) -> list[Figure]:
    """All figures of one kind of database."""
    say(f"{database}: a farm of {count} devices")
    fleet = Fleet(url, count)
    exporter = Exporter(url, home)
    try:
        busy, walls, held = [], [], {}
        for number in range(scrapes + 1):
            fleet.change()
            spent, wall_s, held = _scrape(exporter)
            busy.append(spent)
            walls.append(wall_s)
            current = "" if held["benchfarm_exporter_scrape_success"] else ", the picture was not ready"
            say(f"scrape {number} of {scrapes}: {spent:.2f} s of CPU, {wall_s:.2f} s{current}")
        busy, walls = busy[1:], walls[1:]  # the first reads what never changes, too
        peak = exporter.peak_bytes()
        say(f"idle, {windows} scrapes {_SCRAPE_S:.0f} s apart")
        shares = [_scrape(exporter)[0] / _SCRAPE_S * 100 for _ in range(windows + 1)][1:]
    finally:
        exporter.end()
    shown = int(held["benchfarm_exporter_series"])
    seen = {"devices": count, "series": shown, "bytes": int(held["bytes"]), "samples": len(busy)}
    figures = [
        at_most(
            f"CPU of a scrape, all changed, {database}",
            statistics.mean(busy),
            mean_interval(busy),
            CPU_BAR_S,
            "s",
            wall_s=statistics.mean(walls),
            **seen,
        ),
        counted(f"memory at most, {database}", peak, MEMORY_BAR, "bytes", **seen),
        at_most(
            f"idle exporter, {database}",
            statistics.mean(shares),
            mean_interval(shares),
            IDLE_BAR_PERCENT,
            "% of a core",
            scrape_interval_s=_SCRAPE_S,
            **seen,
        ),
    ]
    figures.append(counting(fleet, database, 5_000 if scrapes < 6 else 40_000))
    fleet.engine.dispose()
    return figures


def _scrape(exporter: Exporter) -> tuple[float, float, dict[str, float]]:
    """CPU of one interval of Prometheus with the scrape at its beginning, how long that took, and what it got."""
    before, began = exporter.cpu_s(), time.monotonic()
    held = exporter.scrape()
    wall_s = time.monotonic() - began
    time.sleep(max(0.0, _SCRAPE_S - wall_s))
    return exporter.cpu_s() - before, wall_s, held


def counting(fleet: Fleet, database: str, count: int) -> Figure:
    """Seconds to count what a farm at its fastest does in a second; the database's CPU included."""
    counts = EventCounts()
    _read(fleet.engine, counts)
    happened = fleet.work(count)
    began = time.monotonic()
    while True:
        _read(fleet.engine, counts)
        if not counts.behind:
            break
    per_s = happened / (time.monotonic() - began)
    return counted(
        f"counting a second of a farm's events, {database}",
        _FARM_EVENTS_PER_S / per_s,
        1.0,
        "s",
        events_per_s=per_s,
        events=happened,
    )


def _read(engine: Engine, counts: EventCounts) -> None:
    with reading(engine) as connection:
        counts.read(connection, Counter())


@contextmanager
def databases(only: str | None, folder: Path) -> Iterator[list[tuple[str, str]]]:
    """(kind, URL) of each database to use, migrated."""
    with postgres(None) as server:
        found = [("sqlite", f"sqlite:///{folder / 'farm.db'}")]
        migrate(found[0][1])
        if server is not None:
            found.append(("postgresql", server))
        yield [(kind, url) for kind, url in found if only in (None, kind)]


def main() -> int:
    """Measure; returns the exit code of docs/measurement.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small farm and few scrapes: shows that it works")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), default=None)
    parser.add_argument("--devices", type=int, default=None, help=f"default {DEVICES}")
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    count = given.devices or (100 if given.quick else DEVICES)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="benchfarm-scrape-") as name:
        folder = Path(name)
        with databases(given.only, folder) as found:
            for kind, url in found:
                figures += measure(url, kind, folder / "home", count, 2 if given.quick else 8, 2 if given.quick else 6)
    return finish("scrape", given.quick, figures, devices=count, series_each=SERIES_EACH, cpus=psutil.cpu_count())


if __name__ == "__main__":
    sys.exit(main())
