"""Series over time: every point with its interval, where the environment changed, and what regressed."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards import links, variables
from dashboards.board import Annotation, Board, Row
from dashboards.cases import DEVICE, VARIANT, VARIANT_OF, VARIANTS, model_to_recipe
from dashboards.charts import series_panel
from dashboards.panels import stat_panel, table_panel
from dashboards.queries import Sql
from dashboards.style import BLUE, COLOURS, GREEN, ORANGE, RED, SIMULATED, Column, thresholds

_PICKED = f"{VARIANTS} AND {variables.picked('device')}"
_SERIES = "series_id = NULLIF(${series:sqlstring}, '')::bigint"
_NAME = f"concat_ws(' ', {DEVICE}, {VARIANT_OF})"
_NOTHING = "no point of these series in the time range"


def board() -> Board:
    """The dashboard."""
    return Board(
        uid=links.HISTORY,
        title="benchfarm history",
        about="Points of series over time: the median of a case on a device in each run. Only points of one series are "
        "comparable; a new environment (driver, firmware, runtime version, power mode) begins a new epoch.",
        variables=[
            *model_to_recipe(source="latest_result"),
            variables.rows(
                "device",
                "Devices",
                f"SELECT DISTINCT device FROM latest_result WHERE {VARIANTS} ORDER BY device",
                with_all=False,
            ),
            variables.rows(
                "series",
                "Series",
                f"""
                SELECT series_id AS __value, {_NAME} AS __text FROM latest_result
                WHERE {_PICKED} ORDER BY 2 LIMIT 500
                """,
                multi=False,
            ),
        ],
        rows=[_latency(), _one(), _rest(), _points()],
        annotations=[
            Annotation(
                "New environment",
                BLUE,
                f"""
                SELECT at AS time, 'new environment: ' || device || ' ' || {VARIANT} AS text, 'epoch' AS tags
                FROM point_history WHERE {_PICKED} AND new_epoch AND $__timeFilter(at) ORDER BY at LIMIT 200
                """,
            ),
            Annotation(
                "Incident",
                RED,
                f"""
                SELECT began_at AS time, coalesce(resolved_at, now()) AS timeend,
                'incident ' || incident_id || ': ' || title AS text, cause AS tags
                FROM regression WHERE {_PICKED} AND $__timeFilter(began_at) ORDER BY began_at LIMIT 200
                """,
            ),
        ],
        since="now-90d",
        refresh="",
    )


def _latency() -> Row:
    return Row(
        "Latency of all series that are picked",
        [
            series_panel(
                "Latency",
                Sql(_value("p50_ms", "AND verdict = 'valid'"), format_="time_series"),
                about="The valid points of every series that is picked (view point_history, p50_ms).",
                empty=_NOTHING,
                unit="ms",
                points=True,
                width=24,
                height=11,
            )
        ],
    )


def _one() -> Row:
    band: dict[str, object] = {"custom.lineWidth": 0, "custom.showPoints": "never"}
    return Row(
        "The series that is picked",
        [
            series_panel(
                "Latency with its interval",
                Sql(
                    f"""
                    SELECT at AS time, p50_ms AS "median", p50_ci_low_ms AS "from", p50_ci_high_ms AS "to",
                    p99_ms AS "p99"
                    FROM point_history WHERE {_SERIES} AND $__timeFilter(at) ORDER BY at
                    """,
                    format_="time_series",
                ),
                about="Median, p99, and the 95 % interval of the median between processes, which needs at least "
                "5 valid "
                "ones (view point_history). Points that are not valid are drawn too: see verdict below.",
                empty=f"{_NOTHING}; pick one above",
                unit="ms",
                points=True,
                width=24,
                height=10,
                overrides={
                    "^from$": {**band, "custom.hideFrom": {"legend": True, "tooltip": False, "viz": False}},
                    "^to$": {**band, "custom.fillBelowTo": "from", "custom.fillOpacity": 25},
                },
            ),
            stat_panel(
                "Smallest change that it can show",
                Sql(f"SELECT least_visible_change FROM series_noise WHERE {_SERIES}"),
                about="Of ten processes a side; more than 5 %: its silence means nothing (view series_noise, of A/A "
                "trials).",
                empty="none, or its noise is not known: benchfarm noise measures it",
                unit="percentunit",
                decimals=1,
                steps=thresholds((None, GREEN), (0.05, ORANGE)),
                width=8,
            ),
            stat_panel(
                "Noise between its processes",
                Sql(f"SELECT noise FROM series_noise WHERE {_SERIES}"),
                about="Relative robust sigma (view series_noise, of A/A trials).",
                empty="not known: benchfarm noise measures it",
                unit="percentunit",
                decimals=1,
                width=8,
            ),
            stat_panel(
                "Its incidents that are not resolved",
                Sql(f"SELECT count(DISTINCT incident_id) FROM regression WHERE {_SERIES} AND state <> 'resolved'"),
                about="Confirmed regressions of this series (view regression).",
                empty="pick a series",
                steps=thresholds((None, GREEN), (1, RED)),
                links=[links.all_of(links.REGRESSIONS, "Regressions")],
                width=8,
            ),
        ],
    )


def _rest() -> Row:
    def panel(title: str, value: str, unit: str, about: str, empty: str) -> Panel:
        return series_panel(
            title,
            Sql(_value(value, f"AND verdict = 'valid' AND {value} IS NOT NULL"), format_="time_series"),
            about=f"{about} Valid points of all series that are picked (view point_history).",
            empty=empty,
            unit=unit,
            points=True,
        )

    return Row(
        "What goes with it",
        [
            panel(
                "Energy of one inference",
                "energy_per_inference_mj / 1000",
                "joule",
                "Median of the processes that have one.",
                "no energy was measured: these devices have no meter, or it may not be read; or no point in the "
                "time range",
            ),
            panel(
                "Hottest reading",
                "temperature_c",
                "celsius",
                "The hottest temperature during the measurement.",
                "these devices tell no temperature, or no point in the time range",
            ),
            panel(
                "Peak memory",
                "peak_rss_bytes",
                "decbytes",
                "Of the measured process.",
                "no memory was told (simulated devices have none), or no point in the time range",
            ),
            panel(
                "Tail: p99",
                "p99_ms",
                "ms",
                "Needs at least 662 iterations.",
                "no p99: runs were too short for one (--percentile 99 asks for it), or no point in the time range",
            ),
        ],
    )


def _points() -> Row:
    return Row(
        "Points",
        [
            table_panel(
                "Points",
                Sql(
                    f"""
                    SELECT at, sweep_run_id AS run, device, device_kind, host, model, {VARIANT} AS variant, simulated,
                    verdict, p50_ms, p50_ci_low_ms, p50_ci_high_ms, processes, new_epoch,
                    left(environment_digest, 12) AS environment, left(artifact_sha256, 12) AS artifact,
                    (extract(epoch FROM at) * 1000 - 21600000)::bigint AS from_ms,
                    (extract(epoch FROM at) * 1000 + 3600000)::bigint AS to_ms
                    FROM point_history WHERE {_PICKED} AND $__timeFilter(at) ORDER BY at DESC LIMIT 1000
                    """
                ),
                about="Every point, valid or not, the latest first (view point_history). A click on a run leads to it.",
                empty=_NOTHING,
                columns={
                    "at": Column(title="measured", unit="dateTimeAsIso"),
                    "run": Column(
                        links=(links.cell_link(links.RUN, "Run", {"run": "run"}, over=("from_ms", "to_ms")),), width=80
                    ),
                    "device": Column(
                        width=200,
                        links=(
                            links.cell_link(
                                links.DEVICE,
                                "Device",
                                {"device": "device", "device_kind": "device_kind", "host": "host"},
                            ),
                        ),
                    ),
                    "device_kind": Column(title="kind", width=90),
                    "host": Column(hidden=True),
                    "model": Column(hidden=True),
                    "variant": Column(width=320, links=(links.cell_link(links.MODEL, "Model", {"model": "model"}),)),
                    "simulated": SIMULATED,
                    "verdict": Column(words=COLOURS, width=120),
                    "p50_ms": Column(title="latency", unit="ms"),
                    "p50_ci_low_ms": Column(title="from", unit="ms"),
                    "p50_ci_high_ms": Column(title="to", unit="ms"),
                    "new_epoch": Column(title="new environment"),
                    "from_ms": Column(hidden=True),
                    "to_ms": Column(hidden=True),
                },
                height=12,
            )
        ],
    )


def _value(value: str, condition: str) -> str:
    return f"""
        SELECT at AS time, {_NAME} AS metric, {value} AS value
        FROM point_history WHERE {_PICKED} AND $__timeFilter(at) {condition} ORDER BY at, 2
        """
