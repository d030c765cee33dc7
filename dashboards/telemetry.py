"""Panels of telemetry over time, for the dashboards of a run and of a device: one for each family of quantities."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.charts import series_panel
from dashboards.panels import table_panel
from dashboards.queries import Sql
from dashboards.style import CELSIUS, CHARGE, COLOURS, Column, thresholds

#: Rows are thinned to one a second before they are stored: nothing is lost by asking for less.
_STEP = "1s"


def telemetry_panels(where: str, name: str, *, without: str, when: str = "") -> list[Panel]:
    """Temperature, clocks, load, memory, power and battery.

    Args:
        where: a condition on the view telemetry_reading, which the time range of the dashboard is added to.
        name: SQL of what tells series apart, beside the domain.
        without: why there may be nothing, as the end of a sentence.
        when: ends each title, where the dashboard has others of that title.
    """
    own = "or these sensors tell nothing here: see What sensors could not tell"

    def panel(title: str, quantities: str, value: str, unit: str, about: str, **options: Any) -> Panel:
        return series_panel(
            title + when,
            Sql(_over_time(where, name, quantities, value), format_="time_series"),
            about=f"{about} From view telemetry_reading; means of what falls on one pixel.",
            empty=f"no such reading: {without}, {own}",
            unit=unit,
            interval=_STEP,
            points=True,
            **options,
        )

    return [
        panel(
            "Temperature",
            "'temperature'",
            "value",
            "celsius",
            "Every temperature, by the part it was read at.",
            steps=thresholds(*CELSIUS),
        ),
        panel(
            "Clocks",
            "'clock', 'clock_limit'",
            "value * 1e6",
            "hertz",
            "Clocks, and the limits that are in force: a limit that falls is throttling.",
        ),
        series_panel(
            "Power from energy counters" + when,
            Sql(_power(where, name), format_="time_series"),
            about="Differences of energy counters (RAPL, rails of a phone) over the time between them. From view "
            "telemetry_reading; a counter that began anew is left out.",
            empty=f"no energy counter: {without}, {own}",
            unit="watt",
            interval=_STEP,
            points=True,
            low=0,
        ),
        panel(
            "Load of the CPU",
            "'busy', 'steal'",
            "value",
            "suffix:cores",
            "Cores that worked; steal: that another virtual machine took.",
            low=0,
        ),
        panel(
            "Memory",
            "'rss', 'available'",
            "value",
            "decbytes",
            "Of the measured process; available: of the phone.",
            low=0,
        ),
        panel(
            "Battery",
            "'level'",
            "value / 100",
            "percentunit",
            "Charge of the battery.",
            steps=thresholds(*CHARGE),
            low=0,
            high=1,
        ),
        panel("Current of the battery", "'current'", "value / 1000", "amp", "Negative: it discharges."),
        panel(
            "Thermal status",
            "'thermal_status'",
            "value",
            "none",
            "Android's own word: 0 none, 1 light, 2 moderate, 3 severe (throttles), 4 critical, 5 emergency, 6 "
            "shutdown.",
            steps=thresholds((None, COLOURS["valid"]), (2, COLOURS["stale"]), (3, COLOURS["failed"])),
            low=0,
            high=6,
        ),
    ]


def untold_panel(where: str, *, without: str) -> Panel:
    """What sensors could not tell, and why.

    Args:
        where: a condition on the view telemetry_reading.
        without: said where everything was told.
    """
    return table_panel(
        "What sensors could not tell",
        Sql(
            f"""
            SELECT device, sensor, domain, quantity, quality, why, count(*) AS readings, max(at) AS latest
            FROM telemetry_reading
            WHERE {where} AND $__timeFilter(at) AND quality <> 'ok'
            GROUP BY device, sensor, domain, quantity, quality, why
            ORDER BY device, sensor, domain, quantity LIMIT 500
            """
        ),
        about="Readings that are not simply ok, and the reason (view telemetry_reading): unsupported, "
        "no_permission and "
        "0 are three different answers.",
        empty=without,
        columns={
            "device": Column(width=200),
            "why": Column(width=500),
            "latest": Column(unit="dateTimeFromNow"),
        },
        height=8,
    )


def _over_time(where: str, name: str, quantities: str, value: str) -> str:
    return f"""
        SELECT $__timeGroupAlias(at, $__interval),
        concat_ws(' ', {name}, domain, CASE WHEN quantity IN ('clock_limit', 'steal', 'available') THEN quantity END)
        AS metric,
        avg({value}) AS value
        FROM telemetry_reading
        WHERE {where} AND $__timeFilter(at) AND quantity IN ({quantities}) AND value IS NOT NULL
        GROUP BY 1, 2 ORDER BY 1, 2
        """


def _power(where: str, name: str) -> str:
    return f"""
        WITH counter AS (
        SELECT at, concat_ws(' ', {name}, domain) AS metric,
        value - lag(value) OVER each AS mj, extract(epoch FROM at - lag(at) OVER each) AS s
        FROM telemetry_reading
        WHERE {where} AND $__timeFilter(at) AND quantity = 'energy' AND value IS NOT NULL
        WINDOW each AS (PARTITION BY device_id, attempt_id, sensor, domain ORDER BY at)
        )
        SELECT $__timeGroupAlias(at, $__interval), metric, avg(mj / s / 1000) AS value
        FROM counter WHERE mj >= 0 AND s > 0
        GROUP BY 1, 2 ORDER BY 1, 2
        """
