"""Regressions: incidents and their series, and what is watched without being able to see anything."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import VariableSort

from dashboards import links, variables
from dashboards.board import Annotation, Board, Row
from dashboards.cases import DEVICE, VARIANT, VARIANT_OF
from dashboards.charts import series_panel
from dashboards.panels import stat_panel, table_panel
from dashboards.queries import Sql, once, prom
from dashboards.style import GREEN, ORANGE, RED, SIMULATED, YELLOW, Column, thresholds

_NOT_SCRAPED = "the exporter is not scraped: is benchfarm up running, and is it among Prometheus's targets?"
#: An empty choice, on a farm that had no incident yet, is no number.
_PICKED = "incident_id = NULLIF(${incident:sqlstring}, '')::bigint"
_NONE_PICKED = "no incident is picked: there has been none, or its last point is outside the time range"
_PERCENT = "suffix: %"
_FEWER = thresholds((None, GREEN), (1, ORANGE))
_STATES = {"open": RED, "acknowledged": YELLOW, "resolved": GREEN}
#: Series of one incident that are drawn: the largest changes.
_MOST_DRAWN = 20


def board() -> Board:
    """The dashboard."""
    return Board(
        uid=links.REGRESSIONS,
        title="benchfarm regressions",
        about="Confirmed regressions, the series that they are of, and series that are too noisy to show one. How a "
        "change becomes an incident: docs/regressions.md.",
        variables=[
            variables.rows(
                "incident",
                "Incident",
                """
                SELECT incident_id AS __value, concat(incident_id, ': ', max(title)) AS __text FROM regression
                GROUP BY incident_id ORDER BY incident_id DESC LIMIT 500
                """,
                multi=False,
                sort=VariableSort.DISABLED,
            )
        ],
        rows=[_now(), _incidents(), _one(), _sight()],
        annotations=[
            Annotation(
                "Incident",
                RED,
                """
                SELECT min(began_at) AS time, coalesce(max(resolved_at), now()) AS timeend,
                'incident ' || incident_id || ': ' || max(title) AS text, max(cause) AS tags
                FROM regression WHERE $__timeFilter(began_at) GROUP BY incident_id ORDER BY 1 LIMIT 200
                """,
            )
        ],
        since="now-90d",
        refresh="",
    )


def _now() -> Row:
    return Row(
        "Now",
        [
            stat_panel(
                "Open incidents",
                prom(f"sum by (cause) ({once('benchfarm_incidents_open')})", "{{cause}}", instant=True),
                about="Confirmed regressions that are not resolved, by what is suspected (benchfarm_incidents_open).",
                empty=_NOT_SCRAPED,
                steps=_FEWER,
                width=12,
            ),
            stat_panel(
                "Blind series",
                prom(_series("blind"), instant=True),
                about="Watched series that are too noisy to show a change of 5 % (benchfarm_watched_series).",
                empty="every watched series whose noise is known can show 5 %",
                steps=_FEWER,
            ),
            stat_panel(
                "Noise unknown",
                prom(_series("unknown"), instant=True),
                about="Watched series whose noise nobody measured (benchfarm_watched_series): benchfarm noise does.",
                empty="the noise of every watched series is known, or nothing is watched",
                steps=thresholds((None, GREEN), (1, YELLOW)),
            ),
            stat_panel(
                "Messages that wait",
                prom(f"sum by (channel) ({once('benchfarm_notifications')})", "{{channel}}", instant=True),
                about="Notifications that did not arrive yet, or were given up (benchfarm_notifications).",
                empty="everything that was to be told arrived",
                steps=_FEWER,
            ),
        ],
    )


def _series(sight: str) -> str:
    return "sum(" + once(f'benchfarm_watched_series{{sight="{sight}"}}') + ")"


def _incidents() -> Row:
    return Row(
        "Incidents",
        [
            table_panel(
                "Incidents",
                Sql(
                    """
                    SELECT incident_id, state, cause, title, incident_change * 100 AS change, count(*) AS series,
                    revision_good, revision_bad, sweep, sweep_run_id AS run, opened_at, resolved_at, acknowledged_by,
                    (extract(epoch FROM min(began_at)) * 1000 - 2592000000)::bigint AS from_ms,
                    (extract(epoch FROM coalesce(resolved_at, now())) * 1000 + 86400000)::bigint AS to_ms
                    FROM regression
                    GROUP BY incident_id, state, cause, title, incident_change, revision_good, revision_bad, sweep,
                    sweep_run_id, opened_at, resolved_at, acknowledged_by
                    ORDER BY state = 'resolved', incident_id DESC LIMIT 500
                    """
                ),
                about="Every incident, those that are not resolved first (view regression). A click on its number "
                "picks it.",
                empty="there has been no confirmed regression",
                columns={
                    "incident_id": Column(
                        title="incident",
                        width=90,
                        links=(
                            links.cell_link(
                                links.REGRESSIONS, "Incident", {"incident": "incident_id"}, over=("from_ms", "to_ms")
                            ),
                        ),
                    ),
                    "state": Column(words=_STATES, width=120),
                    "cause": Column(width=110),
                    "title": Column(width=400),
                    "change": Column(unit=_PERCENT, decimals=1, width=90),
                    "series": Column(width=80),
                    "revision_good": Column(title="last good"),
                    "revision_bad": Column(title="first bad"),
                    "run": Column(width=80, links=(links.cell_link(links.RUN, "Run", {"run": "run"}),)),
                    "opened_at": Column(title="opened", unit="dateTimeAsIso"),
                    "resolved_at": Column(title="resolved", unit="dateTimeAsIso"),
                    "acknowledged_by": Column(title="looked at by"),
                    "from_ms": Column(hidden=True),
                    "to_ms": Column(hidden=True),
                },
                height=10,
            )
        ],
    )


def _one() -> Row:
    return Row(
        "The incident that is picked",
        [
            series_panel(
                "Its series, as changes",
                Sql(
                    f"""
                    SELECT point.at AS time, concat_ws(' ', {DEVICE}, {VARIANT}) AS metric,
                    (point.p50_ms / picked.before_ms - 1) * 100 AS value
                    FROM (SELECT series_id AS known, before_ms FROM regression WHERE {_PICKED}
                    ORDER BY abs(change) DESC LIMIT {_MOST_DRAWN}) picked
                    JOIN point_history point ON point.series_id = picked.known
                    WHERE verdict = 'valid' AND $__timeFilter(point.at) ORDER BY 1, 2
                    """,
                    format_="time_series",
                ),
                about=f"Valid points of its {_MOST_DRAWN} series of the largest changes, against the last point of "
                "their old level: above 0 is slower (views regression, point_history).",
                empty=_NONE_PICKED,
                unit=_PERCENT,
                points=True,
                width=24,
                height=11,
            ),
            table_panel(
                "Its series",
                Sql(
                    f"""
                    SELECT device, device_kind, host, model, {VARIANT_OF} AS variant, runtime, recipe, simulated,
                    before_ms, after_ms, change * 100 AS change, change_low * 100 AS change_low,
                    change_high * 100 AS change_high, found_by, began_at, recovered_at, series_id
                    FROM regression WHERE {_PICKED} ORDER BY abs(change) DESC LIMIT 1000
                    """
                ),
                about="Each series of the incident, the largest change first (view regression); a click on the variant "
                "leads to its history.",
                empty="no incident is picked: there has been none",
                columns={
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
                    "model": Column(width=220, links=(links.cell_link(links.MODEL, "Model", {"model": "model"}),)),
                    "variant": Column(
                        width=320,
                        links=(
                            links.cell_link(
                                links.HISTORY,
                                "History",
                                {
                                    "model": "model",
                                    "runtime": "runtime",
                                    "recipe": "recipe",
                                    "device": "device",
                                    "series": "series_id",
                                },
                            ),
                        ),
                    ),
                    "runtime": Column(hidden=True),
                    "recipe": Column(hidden=True),
                    "simulated": SIMULATED,
                    "before_ms": Column(title="before", unit="ms"),
                    "after_ms": Column(title="after", unit="ms"),
                    "change": Column(unit=_PERCENT, decimals=1),
                    "change_low": Column(title="from", unit=_PERCENT, decimals=1),
                    "change_high": Column(title="to", unit=_PERCENT, decimals=1),
                    "found_by": Column(title="found by", width=100),
                    "began_at": Column(title="began", unit="dateTimeAsIso"),
                    "recovered_at": Column(title="back", unit="dateTimeAsIso"),
                    "series_id": Column(hidden=True),
                },
                height=10,
            ),
        ],
    )


def _sight() -> Row:
    return Row(
        "What cannot be seen",
        [
            table_panel(
                "Watched series that cannot show a change of 5 %",
                Sql(
                    f"""
                    SELECT device, device_kind, host, model, {VARIANT_OF} AS variant, runtime, recipe, simulated,
                    noise * 100 AS noise, least_visible_change * 100 AS least, processes, learnt_at, series_id
                    FROM series_noise WHERE watched AND NOT is_sighted
                    ORDER BY coalesce(least_visible_change, 1e9) DESC, series_id LIMIT 1000
                    """
                ),
                about="Their silence means nothing: more processes, a quieter host or a device that cools would help "
                "(view series_noise, of A/A trials: benchfarm noise). No smallest change: they can show none.",
                empty="every watched series whose noise is known can show 5 %, or no noise is known: benchfarm noise",
                columns={
                    "device": Column(width=200),
                    "device_kind": Column(title="kind", width=90),
                    "host": Column(hidden=True),
                    "model": Column(width=220),
                    "variant": Column(
                        width=320,
                        links=(
                            links.cell_link(
                                links.HISTORY,
                                "History",
                                {
                                    "model": "model",
                                    "runtime": "runtime",
                                    "recipe": "recipe",
                                    "device": "device",
                                    "series": "series_id",
                                },
                            ),
                        ),
                    ),
                    "runtime": Column(hidden=True),
                    "recipe": Column(hidden=True),
                    "simulated": SIMULATED,
                    "noise": Column(unit=_PERCENT, decimals=1),
                    "least": Column(title="smallest change", unit=_PERCENT, decimals=1),
                    "learnt_at": Column(title="measured", unit="dateTimeAsIso"),
                    "series_id": Column(hidden=True),
                },
                height=10,
            )
        ],
    )
