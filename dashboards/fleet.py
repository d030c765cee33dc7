"""The fleet at a glance: what is up, how fresh its numbers are, what is hot, what fails."""

from __future__ import annotations

from dashboards import links, variables
from dashboards.board import Board, Row
from dashboards.charts import bars_panel, series_panel, timeline_panel
from dashboards.panels import Query, stat_panel, table_panel
from dashboards.queries import Sql, hourly, once, prom
from dashboards.style import (
    CELLS,
    CELSIUS,
    CHARGE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SIMULATED,
    YELLOW,
    Column,
    coloured,
    state_words,
    thresholds,
    yes_no,
)

#: Devices that are picked, in PromQL.
_PICKED = 'host=~"$host", device_kind=~"$device_kind"'
_KINDS = 'device_kind=~"$device_kind"'
_UP = once(f"benchfarm_device_up{{{_PICKED}}}")
_SIMULATED = once(f'benchfarm_device_up{{{_PICKED}, simulated="true"}}')
_WAITING = once('benchfarm_jobs{state=~"blocked|queued"}')
_RUNNING = once('benchfarm_jobs{state="running"}')
_AVAILABLE = once(f"avg_over_time(benchfarm_device_up{{{_PICKED}}}[$__range])")
_CELLS = once(f"benchfarm_coverage_cells{{{_KINDS}}}")
_ADMIN = once(f'benchfarm_device_admin{{admin!="enabled", {_KINDS}}}')
#: Restricts what has no label `host` to the devices of the hosts that are picked.
_THERE = f"and on (device) benchfarm_device_up{{{_PICKED}}}"
_TO_DEVICE = links.label_link(
    links.DEVICE, "Device", {"device": "device", "device_kind": "device_kind"}, keep=("host",)
)
_ROW_TO_DEVICE = links.cell_link(
    links.DEVICE, "Device", {"device": "device", "device_kind": "device_kind", "host": "host"}
)
_NO_DEVICE = "no device: none is registered, or Prometheus does not scrape the exporter"


def board() -> Board:
    """The dashboard."""
    return Board(
        uid=links.FLEET,
        title="benchfarm fleet",
        about="All devices of the farm: state, freshness of results, heat, failures. Simulated devices are marked.",
        variables=[
            variables.label_values("host", "Host", "benchfarm_device_up"),
            variables.label_values("device_kind", "Kind of device", 'benchfarm_device_up{host=~"$host"}'),
        ],
        rows=[_now(), _devices(), _freshness(), _heat(), _activity()],
    )


def _now() -> Row:
    empty = _NO_DEVICE
    return Row(
        "Now",
        [
            stat_panel(
                "Devices online",
                prom(f"sum({_UP})", instant=True),
                about="Devices that are online (benchfarm_device_up), simulated ones among them.",
                empty=empty,
                steps=thresholds((None, RED), (1, GREEN)),
            ),
            stat_panel(
                "Devices away",
                prom(f"count({_UP}) - sum({_UP})", instant=True),
                about="Devices that are registered and not online: offline, unauthorized, or their host is lost.",
                empty=empty,
                steps=thresholds((None, GREEN), (1, RED)),
            ),
            stat_panel(
                "Set aside",
                prom(
                    f"count({_ADMIN} == 1 {_THERE}) or 0 * sum({_UP})",
                    instant=True,
                ),
                about="Devices that get no work: draining, in maintenance or quarantined (benchfarm_device_admin).",
                empty=empty,
                steps=thresholds((None, GREEN), (1, ORANGE)),
            ),
            stat_panel(
                "Of them simulated",
                prom(f"count({_SIMULATED}) or 0 * sum({_UP})", instant=True),
                about="Simulated devices: their numbers are made up, and never ranked with real ones.",
                empty=empty,
            ),
            stat_panel(
                "Jobs waiting",
                prom(f"sum({_WAITING})", instant=True),
                about="Jobs that are queued, or blocked until their artifact stands (benchfarm_jobs); the whole "
                "farm's.",
                empty="the exporter is not scraped",
            ),
            stat_panel(
                "Jobs running",
                prom(f"sum({_RUNNING})", instant=True),
                about="Jobs with a live attempt (benchfarm_jobs); the whole farm's.",
                empty="the exporter is not scraped",
            ),
        ],
    )


def _devices() -> Row:
    by_device = "max by (device)"

    def column(ref_id: str, expr: str) -> Query:
        return prom(expr, ref_id=ref_id, instant=True, table=True)

    # Only the labels that are shown, so that joining makes no two columns of one name but Time.
    table = [
        column("A", f"max by (device, device_kind, host, simulated) ({_UP})"),
        column("B", f"max by (device, state) (benchfarm_device_state{{{_KINDS}}} == 1)"),
        column("C", f"{by_device} (benchfarm_device_temperature_celsius{{{_KINDS}}})"),
        column("D", f"{by_device} (benchfarm_device_battery_ratio{{{_KINDS}}})"),
        column("E", f"{by_device} (time() - benchfarm_device_last_seen_timestamp_seconds{{{_KINDS}}})"),
        column("F", f"{by_device} (benchfarm_device_used_seconds{{{_KINDS}}})"),
    ]
    dropped = ["Time", *(f"Time {number}" for number in range(1, len(table) + 1)), "Value #B"]
    return Row(
        "Devices",
        [
            table_panel(
                "Devices",
                table,
                about="Each device: state, latest readings (absent when older than ten minutes), wear. From Prometheus "
                "(benchfarm_device_up and its like). A click on a name leads to the device.",
                empty=_NO_DEVICE,
                transformations=[
                    ("joinByField", {"byField": "device", "mode": "outer"}),
                    # What has a state but is on another host than those picked has no value of A.
                    (
                        "filterByValue",
                        {
                            "filters": [{"fieldName": "Value #A", "config": {"id": "isNull", "options": {}}}],
                            "match": "any",
                            "type": "exclude",
                        },
                    ),
                    (
                        "organize",
                        {
                            "excludeByName": dict.fromkeys(dropped, True),
                            "renameByName": {},
                            "indexByName": {},
                        },
                    ),
                ],
                columns={
                    "device": Column(links=(_ROW_TO_DEVICE,), width=260),
                    "device_kind": Column(title="kind"),
                    "simulated": SIMULATED,
                    "state": Column(words=state_words()),
                    "Value #A": Column(title="online", unit="bool_yes_no", steps=((None, RED), (1, GREEN)), width=80),
                    "Value #C": Column(title="hottest", unit="celsius", decimals=0, steps=CELSIUS),
                    "Value #D": Column(title="battery", unit="percentunit", decimals=0, steps=CHARGE),
                    "Value #E": Column(
                        title="last reported", unit="s", decimals=0, steps=((None, GREEN), (300, YELLOW), (3600, RED))
                    ),
                    "Value #F": Column(title="worked so far", unit="s", decimals=1),
                },
                height=10,
            ),
            timeline_panel(
                "Online over time",
                prom(_UP, "{{device}} ({{device_kind}})"),
                about="Whether each device was online (benchfarm_device_up).",
                empty=_NO_DEVICE,
                words=yes_no(("online", GREEN), ("away", RED)),
                links=[_TO_DEVICE],
                width=16,
            ),
            bars_panel(
                "Share of the time online",
                prom(
                    f"bottomk(50, {_AVAILABLE})",
                    "{{device}} ({{device_kind}})",
                    instant=True,
                ),
                about="Of the time range, as far as Prometheus knows; the fifty worst devices (benchfarm_device_up). "
                "The device dashboard has each day of three months.",
                empty=_NO_DEVICE,
                unit="percentunit",
                steps=thresholds((None, RED), (0.9, YELLOW), (0.99, GREEN)),
                low=0,
                high=1,
                links=[_TO_DEVICE],
                width=8,
            ),
        ],
    )


def _freshness() -> Row:
    return Row(
        "Freshness of results",
        [
            bars_panel(
                "Cells of the matrix",
                prom(f"sum by (state) ({_CELLS})", "{{state}}", instant=True),
                about="Cases on devices by what became of them (benchfarm_coverage_cells). stale: valid, but "
                "older than 7 "
                "days; missing: another device of the kind has it.",
                empty="nothing was measured yet",
                unit="none",
                low=0,
                overrides=coloured(*CELLS),
                width=8,
                height=9,
            ),
            table_panel(
                "What is not valid, by device and model",
                Sql(
                    f"""
                    SELECT device, device_kind, host, model, simulated,
                    count(*) FILTER (WHERE state = 'valid') AS valid,
                    count(*) FILTER (WHERE state = 'stale') AS stale,
                    count(*) FILTER (WHERE state = 'invalid') AS invalid,
                    count(*) FILTER (WHERE state = 'failed') AS failed,
                    count(*) FILTER (WHERE state = 'missing') AS missing,
                    count(*) FILTER (WHERE state = 'unsupported') AS unsupported,
                    max(age_s) FILTER (WHERE state = 'stale') AS oldest_s
                    FROM coverage
                    WHERE {variables.picked("host", "device_kind")}
                    GROUP BY device, device_kind, host, model, simulated
                    HAVING count(*) FILTER (WHERE state IN ('stale', 'invalid', 'failed', 'missing')) > 0
                    ORDER BY count(*) FILTER (WHERE state IN ('stale', 'invalid', 'failed', 'missing')) DESC,
                    device, model
                    LIMIT 100
                    """
                ),
                about="Where something is missing, old, failed or not to be trusted (view coverage). A click on "
                "a model "
                "leads to its matrix.",
                empty="every case is valid and fresh, or nothing was measured yet",
                columns={
                    "device": Column(links=(_ROW_TO_DEVICE,), width=220),
                    "device_kind": Column(title="kind"),
                    "model": Column(links=(links.cell_link(links.MODEL, "Model", {"model": "model"}),), width=220),
                    "simulated": SIMULATED,
                    "stale": Column(steps=((None, GREY), (1, COLOURS["stale"]))),
                    "invalid": Column(steps=((None, GREY), (1, COLOURS["invalid"]))),
                    "failed": Column(steps=((None, GREY), (1, COLOURS["failed"]))),
                    "missing": Column(steps=((None, GREY), (1, COLOURS["missing"]))),
                    "oldest_s": Column(title="oldest", unit="s", decimals=0),
                },
                width=16,
            ),
            bars_panel(
                "Age of each device's oldest result",
                prom(
                    f"topk(20, max by (device, device_kind) (time() - benchfarm_result_timestamp_seconds{{{_KINDS}}}) "
                    f"{_THERE})",
                    "{{device}} ({{device_kind}})",
                    instant=True,
                ),
                about="Time since the oldest of its series was measured with a valid result, the twenty oldest devices "
                "(benchfarm_result_timestamp_seconds). After 7 days a result counts as stale.",
                empty="no device of these has a valid result yet",
                unit="s",
                steps=thresholds((None, GREEN), (7 * 86400, YELLOW), (30 * 86400, RED)),
                low=0,
                links=[_TO_DEVICE],
                width=24,
                height=7,
            ),
        ],
    )


def _heat() -> Row:
    return Row(
        "Heat and power",
        [
            series_panel(
                "Temperature",
                prom(
                    f"max by (device, device_kind) (benchfarm_device_temperature_celsius{{{_KINDS}}}) {_THERE}",
                    "{{device}} ({{device_kind}})",
                ),
                about="The hottest of each device's temperatures (benchfarm_device_temperature_celsius).",
                empty="no device of these tells a temperature, or none did within ten minutes",
                unit="celsius",
                steps=thresholds(*CELSIUS),
                links=[_TO_DEVICE],
            ),
            series_panel(
                "Battery",
                prom(f"{once(f'benchfarm_device_battery_ratio{{{_KINDS}}}')} {_THERE}", "{{device}} ({{device_kind}})"),
                about="Charge of devices with a battery (benchfarm_device_battery_ratio).",
                empty="no device of these has a battery, or none told its charge within ten minutes",
                unit="percentunit",
                steps=thresholds(*CHARGE),
                links=[_TO_DEVICE],
                low=0,
                high=1,
            ),
        ],
    )


def _activity() -> Row:
    return Row(
        "Activity",
        [
            series_panel(
                "Attempts that ended, per hour",
                prom(f"sum by (outcome) ({hourly('benchfarm_attempts_total')})", "{{outcome}}"),
                about="How attempts end, the whole farm's (benchfarm_attempts_total, as a rate per hour).",
                empty="the exporter is not scraped",
                unit="none",
                decimals=0,
                bars=True,
                stacked=True,
                overrides=coloured("succeeded", "failed", "cancelled", "lost", "stale"),
            ),
            series_panel(
                "Results that came in, per hour",
                prom(
                    f"sum by (verdict) ({hourly(f'benchfarm_results_total{{{_KINDS}}}')})",
                    "{{verdict}}",
                ),
                about="Verdicts on results (benchfarm_results_total, as a rate per hour); only valid ones enter "
                "rankings.",
                empty="the exporter is not scraped",
                unit="none",
                decimals=0,
                bars=True,
                stacked=True,
                overrides=coloured("valid", "not_converged", "unusable", "throttled", "contaminated", "interrupted"),
            ),
        ],
    )
