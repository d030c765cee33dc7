"""One device: its health over weeks, what it measured, and what it did last."""

from __future__ import annotations

from dashboards import links, variables
from dashboards.board import Annotation, Board, Row
from dashboards.cases import VARIANT, VARIANT_OF
from dashboards.charts import series_panel, timeline_panel
from dashboards.panels import matrix_panel, stat_panel, table_panel
from dashboards.queries import Sql, once, prom
from dashboards.style import (
    BLUE,
    CELLS,
    CELSIUS,
    CHARGE,
    COLOURS,
    GREEN,
    ORANGE,
    RED,
    TIMES,
    YELLOW,
    Column,
    mapped,
    thresholds,
    yes_no,
)
from dashboards.telemetry import telemetry_panels, untold_panel

#: In PromQL and in SQL. The label has "NAME@HOST" where two devices share a name.
_IT = 'device="$device"'
_ROW = "${device:sqlstring} IN (device, device || '@' || host) AND " + variables.picked("host", "device_kind")
#: By number, where a view is made of windows over devices: only so it looks at one.
_BY_ID = f"device_id = (SELECT max(device_id) FROM coverage WHERE {_ROW})"
#: Of the whole farm: looking for a device's among all jobs takes seconds where there are a million.
_MOST_JOBS = 20_000
_NONE = "no such device, or the exporter is not scraped"
_TO_MODEL = links.cell_link(links.MODEL, "Model", {"model": "model"})
_TO_HISTORY = links.cell_link(
    links.HISTORY, "History", {"model": "model", "runtime": "runtime", "recipe": "recipe", "device": "device"}
)


def board() -> Board:
    """The dashboard."""
    return Board(
        uid=links.DEVICE,
        title="benchfarm device",
        about="One device: state, heat, battery, wear, availability; its results and what it did last.",
        variables=[
            variables.label_values("host", "Host", "benchfarm_device_up"),
            variables.label_values("device_kind", "Kind of device", 'benchfarm_device_up{host=~"$host"}'),
            variables.label_values(
                "device", "Device", 'benchfarm_device_up{host=~"$host", device_kind=~"$device_kind"}', multi=False
            ),
        ],
        rows=[_state(), _health(), _results(), _jobs(), _between(), _during()],
        annotations=[
            Annotation(
                "New environment",
                BLUE,
                f"""
                SELECT min(at) AS time, 'new environment of ' || count(*) || ' series' AS text, 'epoch' AS tags
                FROM point_history WHERE {_ROW} AND new_epoch AND $__timeFilter(at)
                GROUP BY sweep_run_id ORDER BY 1 LIMIT 200
                """,
            )
        ],
        since="now-7d",
    )


def _state() -> Row:
    return Row(
        "Now",
        [
            stat_panel(
                "State",
                prom(f"{once(f'benchfarm_device_state{{{_IT}}}')} == 1", "{{state}}", instant=True),
                about="What it does, or what keeps it from work (benchfarm_device_state).",
                empty=_NONE,
                names_only=True,
                width=6,
            ),
            stat_panel(
                "Whether it gets work",
                prom(f"{once(f'benchfarm_device_admin{{{_IT}}}')} == 1", "{{admin}}", instant=True),
                about="enabled, or who set it aside and how: benchfarm devices show says why (benchfarm_device_admin).",
                empty=_NONE,
                names_only=True,
            ),
            stat_panel(
                "What it is",
                prom(once(f"benchfarm_device_info{{{_IT}}}"), "{{device_model}} {{soc}} {{os}}", instant=True),
                about="Model, system on a chip, operating system, as far as told (benchfarm_device_info).",
                empty=_NONE,
                names_only=True,
                width=6,
            ),
            stat_panel(
                "Last reported",
                prom(f"time() - {once(f'benchfarm_device_last_seen_timestamp_seconds{{{_IT}}}')}", instant=True),
                about="How long ago its host last reported it.",
                empty=_NONE,
                unit="s",
                decimals=0,
                steps=thresholds((None, GREEN), (300, YELLOW), (3600, RED)),
            ),
            stat_panel(
                "Worked so far",
                prom(once(f"benchfarm_device_used_seconds{{{_IT}}}"), instant=True),
                about="Its wear: time of attempts since it was registered; spread over twins.",
                empty=_NONE,
                unit="s",
                decimals=1,
            ),
        ],
    )


def _health() -> Row:
    return Row(
        "Health",
        [
            timeline_panel(
                "State over time",
                prom(f"{once(f'benchfarm_device_state{{{_IT}}}')} == 1", "{{state}}"),
                about="What it did, or what kept it from work (benchfarm_device_state); a line for each state it "
                "was in.",
                empty=_NONE,
                words=yes_no(("in this state", BLUE), ("not", "transparent")),
                width=24,
                height=6,
            ),
            series_panel(
                "Temperature now and then",
                prom(once(f"benchfarm_device_temperature_celsius{{{_IT}}}"), "{{domain}}"),
                about="The last reading at each scrape, idle or not (benchfarm_device_temperature_celsius).",
                empty="it tells no temperature, or none within ten minutes",
                unit="celsius",
                steps=thresholds(*CELSIUS),
                width=8,
            ),
            series_panel(
                "Battery",
                prom(once(f"benchfarm_device_battery_ratio{{{_IT}}}"), "charge"),
                about="Its charge at each scrape (benchfarm_device_battery_ratio).",
                empty="it has no battery, or told no charge within ten minutes",
                unit="percentunit",
                steps=thresholds(*CHARGE),
                low=0,
                high=1,
                width=8,
            ),
            series_panel(
                "Share of each day online",
                Sql(
                    f"""
                    SELECT day::timestamp AT TIME ZONE 'UTC' AS time, online_share AS "online"
                    FROM device_availability
                    WHERE {_BY_ID} AND day BETWEEN $__timeFrom()::timestamptz::date AND $__timeTo()::timestamptz::date
                    ORDER BY day
                    """,
                    format_="time_series",
                ),
                about="From its changes of presence (view device_availability), at most 92 days.",
                empty="it was not seen on any day of the time range, or nothing was ever asked of it",
                unit="percentunit",
                bars=True,
                low=0,
                high=1,
                width=8,
            ),
        ],
    )


def _results() -> Row:
    return Row(
        "Its results",
        [
            table_panel(
                "Latest valid points",
                Sql(
                    f"""
                    WITH own AS MATERIALIZED (SELECT * FROM latest_result WHERE {_BY_ID}),
                    baseline AS MATERIALIZED (SELECT * FROM variant_vs_baseline WHERE {_BY_ID})
                    SELECT own.model, {_of("own", VARIANT_OF)} AS variant, own.runtime, own.recipe, own.device,
                    own.p50_ms, own.p99_ms, own.energy_per_inference_mj / 1000 AS energy, own.temperature_c,
                    baseline.speedup, own.sweep_run_id AS run,
                    (extract(epoch FROM own.at) * 1000 - 21600000)::bigint AS from_ms,
                    (extract(epoch FROM own.at) * 1000 + 3600000)::bigint AS to_ms,
                    own.at
                    FROM own
                    LEFT JOIN baseline ON {_same("baseline")}
                    ORDER BY own.model, own.p50_ms LIMIT 1000
                    """
                ),
                about="The latest valid point of each case, and its speed-up against the baseline on this device "
                "(views latest_result, variant_vs_baseline). Its place among devices: see the model.",
                empty="it has no valid result yet: see Coverage below for what was tried",
                columns={
                    "model": Column(width=220, links=(_TO_MODEL,)),
                    "variant": Column(width=320, links=(_TO_HISTORY,)),
                    "runtime": Column(hidden=True),
                    "recipe": Column(hidden=True),
                    "device": Column(hidden=True),
                    "p50_ms": Column(title="latency", unit="ms"),
                    "p99_ms": Column(title="p99", unit="ms"),
                    "energy": Column(unit="joule"),
                    "temperature_c": Column(title="hottest", unit="celsius", decimals=0),
                    "speedup": Column(title="speed-up", unit=TIMES, decimals=2),
                    "run": Column(
                        links=(links.cell_link(links.RUN, "Run", {"run": "run"}, over=("from_ms", "to_ms")),), width=80
                    ),
                    "from_ms": Column(hidden=True),
                    "to_ms": Column(hidden=True),
                    "at": Column(title="measured", unit="dateTimeFromNow"),
                },
            ),
            matrix_panel(
                "Coverage",
                Sql(f"SELECT {VARIANT} AS variant, model, state FROM coverage WHERE {_ROW} ORDER BY 1, 2"),
                about="What became of each case on this device (view coverage). stale: valid, but older than 7 days; "
                "missing: another device of the kind has it.",
                empty="nobody asked for anything on this device yet",
                row="variant",
                column="model",
                value="state",
                words=mapped(CELLS),
            ),
        ],
    )


def _jobs() -> Row:
    return Row(
        "What it did last",
        [
            table_panel(
                "Jobs",
                Sql(
                    f"""
                    SELECT job_id, sweep_run_id AS run, kind, state, title, attempts, failure_cause, failure_code,
                    failure_message, run_s, started_at, finished_at,
                    (extract(epoch FROM started_at) * 1000 - 60000)::bigint AS from_ms,
                    (extract(epoch FROM coalesce(finished_at, now())) * 1000 + 60000)::bigint AS to_ms
                    FROM (SELECT * FROM job_outcome ORDER BY job_id DESC LIMIT {_MOST_JOBS}) latest
                    WHERE {_ROW} AND $__timeFilter(started_at)
                    ORDER BY started_at DESC LIMIT 500
                    """
                ),
                about="Jobs whose last attempt was here and began in the time range, the latest first (view "
                "job_outcome).",
                empty="it began no job in the time range",
                columns={
                    "job_id": Column(title="job", width=80),
                    "run": Column(
                        links=(
                            links.cell_link(
                                links.RUN, "Run", {"run": "run", "job": "job_id"}, over=("from_ms", "to_ms")
                            ),
                        ),
                        width=80,
                    ),
                    "kind": Column(width=90),
                    "state": Column(words=COLOURS, width=110),
                    "title": Column(width=360),
                    "failure_cause": Column(title="cause"),
                    "failure_code": Column(title="code"),
                    "failure_message": Column(title="why", width=400),
                    "run_s": Column(title="ran", unit="s", decimals=1),
                    "started_at": Column(title="started", unit="dateTimeAsIso"),
                    "finished_at": Column(title="finished", unit="dateTimeAsIso"),
                    "from_ms": Column(hidden=True),
                    "to_ms": Column(hidden=True),
                },
            )
        ],
    )


def _between() -> Row:
    where = f"{_ROW} AND attempt_id IS NULL"
    without = "nothing was told between runs in the time range"
    return Row(
        "Telemetry between runs",
        [
            *telemetry_panels(where, "NULL", without=without, when=", idle"),
            untold_panel(where, without="every reading between runs was ok, or there is none in the time range"),
        ],
    )


def _during() -> Row:
    where = f"{_ROW} AND attempt_id IS NOT NULL"
    return Row(
        "Heat of runs",
        [
            series_panel(
                "Temperature during attempts",
                Sql(
                    f"""
                    SELECT $__timeGroupAlias(at, $__interval), domain AS metric, max(value) AS value
                    FROM telemetry_reading
                    WHERE {where} AND $__timeFilter(at) AND quantity = 'temperature' AND value IS NOT NULL
                    GROUP BY 1, 2 ORDER BY 1, 2
                    """,
                    format_="time_series",
                ),
                about="The hottest reading of each part during attempts (view telemetry_reading).",
                empty="it ran nothing in the time range, or tells no temperature",
                unit="celsius",
                steps=thresholds(*CELSIUS),
                points=True,
            ),
            series_panel(
                "Attempts that throttled",
                Sql(
                    f"""
                    SELECT $__timeGroupAlias(at, $__interval), count(DISTINCT attempt_id) AS "throttled"
                    FROM telemetry_reading
                    WHERE {where} AND $__timeFilter(at) AND quantity = 'throttle_events' AND value > 0
                    GROUP BY 1 ORDER BY 1
                    """,
                    format_="time_series",
                ),
                about="Attempts with a throttle event; their results say throttled (view telemetry_reading).",
                empty="no attempt throttled in the time range",
                unit="none",
                decimals=0,
                bars=True,
                low=0,
                steps=thresholds((None, ORANGE)),
            ),
        ],
    )


def _same(alias: str) -> str:
    """One case on one device, in two views."""
    alike = ("device_id", "model", "weights", "format", "recipe", "runtime", "threads", "batch", "mode", "options_text")
    # And the point itself: series of two protocols may be alike.
    return " AND ".join(f"{alias}.{name} = own.{name}" for name in (*alike, "statistic", "at"))


def _of(alias: str, text: str) -> str:
    names = ("runtime", "recipe", "threads", "batch", "mode", "options_text", "weights", "statistic")
    for name in names:
        text = text.replace(name, f"{alias}.{name}")
    return text
