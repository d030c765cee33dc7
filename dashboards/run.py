"""One run: its jobs and results, and the telemetry of its attempts over time."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import VariableSort

from dashboards import links, variables
from dashboards.board import Annotation, Board, Row
from dashboards.cases import VARIANT
from dashboards.panels import stat_panel, table_panel
from dashboards.queries import Sql
from dashboards.style import COLOURS, RED, SIMULATED, Column
from dashboards.telemetry import telemetry_panels, untold_panel

#: An empty choice, on a farm that ran nothing yet, is no number.
_RUN = "sweep_run_id = NULLIF(${run:sqlstring}, '')::bigint"
_JOBS = "job_id = ANY (ARRAY[${job:sqlstring}]::bigint[])"
#: A page of runs: older ones are reached by their number, which may be typed.
_MOST_JOBS = 5000
_TO_DEVICE = links.cell_link(links.DEVICE, "Device", {"device": "device", "device_kind": "device_kind", "host": "host"})


def board() -> Board:
    """The dashboard."""
    return Board(
        uid=links.RUN,
        title="benchfarm run",
        about="One run: jobs, results, and telemetry by attempt; what throttled is marked. Set the time range to the "
        "run's own by a click on its first number.",
        variables=[
            variables.rows(
                "run",
                "Run",
                f"""
                SELECT sweep_run_id AS __value, concat(sweep_run_id, ': ',
                to_char(min(created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), ' UTC, ', max(owner)) AS __text
                FROM (SELECT sweep_run_id, created_at, owner FROM job_outcome
                ORDER BY job_id DESC LIMIT {_MOST_JOBS}) recent
                GROUP BY sweep_run_id ORDER BY sweep_run_id DESC
                """,
                multi=False,
                sort=VariableSort.DISABLED,
            ),
            variables.rows(
                "job",
                "Jobs",
                f"""
                SELECT job_id AS __value, job_id || ': ' || title AS __text FROM job_outcome
                WHERE {_RUN} AND kind <> 'convert' ORDER BY job_id + 0 LIMIT 200
                """,  # + 0: else all jobs of the farm are walked through in order of their numbers
                sort=VariableSort.DISABLED,
            ),
        ],
        rows=[_jobs(), _results(), _telemetry()],
        annotations=[
            Annotation(
                "Throttled",
                RED,
                f"""
                SELECT min(at) AS time, max(at) AS timeend,
                'throttled: ' || device || ', attempt ' || attempt_id AS text, 'throttled' AS tags
                FROM telemetry_reading
                WHERE {_JOBS} AND $__timeFilter(at)
                GROUP BY device, attempt_id
                HAVING sum(value) FILTER (WHERE quantity = 'throttle_events') > 0
                ORDER BY 1
                """,
            )
        ],
        since="now-6h",
        refresh="",
    )


def _jobs() -> Row:
    itself = links.cell_link(links.RUN, "Time of this run", {"run": "run"}, over=("from_ms", "to_ms"))
    return Row(
        "Jobs",
        [
            stat_panel(
                "The run",
                Sql(
                    f"""
                    SELECT sweep_run_id AS run, count(*) AS jobs,
                    count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
                    count(*) FILTER (WHERE state = 'failed') AS failed,
                    count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
                    count(*) FILTER (WHERE state IN ('blocked', 'queued', 'running')) AS open,
                    sum(greatest(attempts - 1, 0)) AS "tried again",
                    (extract(epoch FROM min(created_at)) * 1000 - 60000)::bigint AS from_ms,
                    (extract(epoch FROM coalesce(max(finished_at), now())) * 1000 + 60000)::bigint AS to_ms
                    FROM job_outcome WHERE {_RUN} GROUP BY sweep_run_id
                    """
                ),
                about="Jobs of the run by state (view job_outcome). A click sets the time range to the run's own.",
                empty="no such run",
                links=[itself],
                shown=("run", "jobs", "succeeded", "failed", "cancelled", "open", "tried again"),
                width=24,
            ),
            table_panel(
                "Jobs",
                Sql(
                    f"""
                    SELECT job_id, kind, state, title, device, device_kind, host, attempts, failure_cause, failure_code,
                    failure_message, queue_wait_s, run_s, started_at, finished_at
                    FROM job_outcome WHERE {_RUN}
                    ORDER BY state = 'failed' DESC, job_id LIMIT 2000
                    """
                ),
                about="Every job of the run, failed ones first (view job_outcome); times are of the last attempt.",
                empty="no such run",
                columns={
                    "job_id": Column(title="job", width=80),
                    "kind": Column(width=90),
                    "state": Column(words=COLOURS, width=110),
                    "title": Column(width=360),
                    "device": Column(width=200, links=(_TO_DEVICE,)),
                    "device_kind": Column(title="kind of device", width=120),
                    "host": Column(hidden=True),
                    "failure_cause": Column(title="cause"),
                    "failure_code": Column(title="code"),
                    "failure_message": Column(title="why", width=400),
                    "queue_wait_s": Column(title="waited", unit="s", decimals=1),
                    "run_s": Column(title="ran", unit="s", decimals=1),
                    "started_at": Column(title="started", unit="dateTimeAsIso"),
                    "finished_at": Column(title="finished", unit="dateTimeAsIso"),
                },
            ),
        ],
    )


def _results() -> Row:
    return Row(
        "Results",
        [
            table_panel(
                "Points of this run",
                Sql(
                    f"""
                    SELECT model, {VARIANT} AS variant, runtime, recipe, device, device_kind, host, simulated, verdict,
                    p50_ms, p50_ci_low_ms, p50_ci_high_ms, processes, p99_ms, energy_per_inference_mj / 1000 AS energy,
                    temperature_c, peak_rss_bytes, new_epoch, at
                    FROM point_history WHERE {_RUN} ORDER BY model, device, p50_ms LIMIT 2000
                    """
                ),
                about="One row per case and device: the median of its repeats, valid or not (view point_history). "
                "Intervals need at least 5 valid processes.",
                empty="no result came in: the run only converted or profiled, everything failed, or it still runs",
                columns={
                    "model": Column(width=220, links=(links.cell_link(links.MODEL, "Model", {"model": "model"}),)),
                    "variant": Column(
                        width=320,
                        links=(
                            links.cell_link(
                                links.HISTORY,
                                "History",
                                {"model": "model", "runtime": "runtime", "recipe": "recipe", "device": "device"},
                            ),
                        ),
                    ),
                    "runtime": Column(hidden=True),
                    "recipe": Column(hidden=True),
                    "device": Column(width=200, links=(_TO_DEVICE,)),
                    "device_kind": Column(title="kind", width=90),
                    "host": Column(hidden=True),
                    "simulated": SIMULATED,
                    "verdict": Column(words=COLOURS, width=120),
                    "p50_ms": Column(title="latency", unit="ms"),
                    "p50_ci_low_ms": Column(title="from", unit="ms"),
                    "p50_ci_high_ms": Column(title="to", unit="ms"),
                    "p99_ms": Column(title="p99", unit="ms"),
                    "energy": Column(unit="joule"),
                    "temperature_c": Column(title="hottest", unit="celsius", decimals=0),
                    "peak_rss_bytes": Column(title="peak memory", unit="decbytes"),
                    "new_epoch": Column(title="new environment"),
                    "at": Column(title="measured", unit="dateTimeAsIso"),
                },
            )
        ],
    )


def _telemetry() -> Row:
    without = "the jobs that are picked ran outside the time range"
    return Row(
        "Telemetry by attempt, for the jobs that are picked; red: the attempt throttled",
        [
            *telemetry_panels(_JOBS, "device, '#' || attempt_id", without=without),
            untold_panel(_JOBS, without="every reading of these jobs was ok, or they ran outside the time range"),
        ],
    )
