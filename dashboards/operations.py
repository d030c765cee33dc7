"""The farm's own works: queue, hosts, failures by cause, the exporter, Ray."""

from __future__ import annotations

from dashboards import links
from dashboards.board import Board, Row
from dashboards.charts import series_panel, timeline_panel
from dashboards.panels import stat_panel, table_panel, text_panel
from dashboards.queries import Sql, hourly, once, prom
from dashboards.style import COLOURS, GREEN, GREY, RED, YELLOW, Column, thresholds, yes_no

_NOT_SCRAPED = "the exporter is not scraped: is benchfarm up running, and is it among Prometheus's targets?"
_QUEUED = {
    "^queued$": {"color": {"mode": "fixed", "fixedColor": YELLOW}},
    "^blocked$": {"color": {"mode": "fixed", "fixedColor": GREY}},
    "^running$": {"color": {"mode": "fixed", "fixedColor": COLOURS["running"]}},
}
_HOSTS = once("benchfarm_host_up")
_FAILED = hourly('benchfarm_attempts_total{outcome="failed"}')
_RUNS = once("rate(benchfarm_run_seconds_bucket[$__rate_interval])")
_FREE = thresholds((None, RED), (2e9, YELLOW), (10e9, GREEN))


def board() -> Board:
    """The dashboard."""
    return Board(
        uid=links.OPERATIONS,
        title="benchfarm operations",
        about="Whether the farm works: dispatcher, queue, hosts, failures by cause, the exporter's own health, Ray.",
        variables=[],
        rows=[_now(), _queue(), _failures(), _hosts(), _exporter(), _ray()],
    )


def _now() -> Row:
    return Row(
        "Now",
        [
            stat_panel(
                "Dispatcher",
                prom(once("benchfarm_dispatcher_up"), instant=True),
                about="Whether somebody dispatches for this database (benchfarm_dispatcher_up); else jobs wait.",
                empty=_NOT_SCRAPED,
                words=yes_no(("up", GREEN), ("nobody dispatches", RED)),
            ),
            stat_panel(
                "Hosts online",
                prom(f"sum({_HOSTS})", instant=True),
                about="Hosts whose agent answers and is let in (benchfarm_host_up).",
                empty="no host joined yet, or the exporter is not scraped",
                steps=thresholds((None, RED), (1, GREEN)),
            ),
            stat_panel(
                "Hosts lost",
                prom(f"count({_HOSTS}) - sum({_HOSTS})", instant=True),
                about="Hosts that are registered and do not answer, left, or were refused (benchfarm_host_up).",
                empty="no host joined yet, or the exporter is not scraped",
                steps=thresholds((None, GREEN), (1, RED)),
            ),
            stat_panel(
                "Oldest queued job",
                prom("max(benchfarm_queue_oldest_seconds)", instant=True),
                about="How long ago the oldest queued job was submitted (benchfarm_queue_oldest_seconds).",
                empty="nothing is queued",
                unit="s",
                decimals=0,
                steps=thresholds((None, GREEN), (3600, YELLOW), (86400, RED)),
            ),
            stat_panel(
                "Database",
                prom(once("benchfarm_database_bytes"), instant=True),
                about="Its size (benchfarm_database_bytes); benchfarm prune keeps it in bounds.",
                empty=_NOT_SCRAPED,
                unit="decbytes",
            ),
            stat_panel(
                "Free at the head",
                prom("benchfarm_home_disk_free_bytes", "{{instance}}", instant=True),
                about="Free on the file system of the head's data directory (benchfarm_home_disk_free_bytes).",
                empty=_NOT_SCRAPED,
                unit="decbytes",
                steps=_FREE,
            ),
        ],
    )


def _queue() -> Row:
    def quantile(q: str, of: str) -> str:
        return f"histogram_quantile({q}, sum by (le) ({once(f'rate({of}_bucket[$__rate_interval])')}))"

    return Row(
        "Queue",
        [
            series_panel(
                "Open jobs",
                prom(f"sum by (state) ({once('benchfarm_jobs')})", "{{state}}"),
                about="Jobs by state (benchfarm_jobs). blocked: until an artifact stands; resting: nobody waits "
                "for them.",
                empty=_NOT_SCRAPED,
                unit="none",
                decimals=0,
                low=0,
                stacked=True,
                overrides=_QUEUED,
                width=8,
            ),
            series_panel(
                "Wait in the queue",
                [
                    prom(quantile("0.5", "benchfarm_queue_wait_seconds"), "median", ref_id="A"),
                    prom(quantile("0.95", "benchfarm_queue_wait_seconds"), "95 %", ref_id="B"),
                ],
                about="From when a job was last queued to its start (benchfarm_queue_wait_seconds, a histogram: values "
                "are interpolated within buckets).",
                empty="no job began in the time range, or the exporter is not scraped",
                unit="s",
                low=0,
                width=8,
            ),
            series_panel(
                "Length of attempts, median by kind",
                prom(
                    f"histogram_quantile(0.5, sum by (le, kind) ({_RUNS}))",
                    "{{kind}}",
                ),
                about="From the lease of an attempt to its report (benchfarm_run_seconds, a histogram: values are "
                "interpolated within buckets).",
                empty="no attempt ended in the time range, or the exporter is not scraped",
                unit="s",
                low=0,
                width=8,
            ),
        ],
    )


def _failures() -> Row:
    to_run = links.cell_link(links.RUN, "Run", {"run": "run", "job": "job_id"}, over=("from_ms", "to_ms"))
    return Row(
        "Failures",
        [
            series_panel(
                "Attempts that failed, per hour, by cause",
                prom(
                    f"sum by (cause) ({_FAILED})",
                    "{{cause}}",
                ),
                about="infrastructure and device are tried again; model is a recorded result; bug is ours "
                "(benchfarm_attempts_total, as a rate per hour).",
                empty=_NOT_SCRAPED,
                unit="none",
                decimals=0,
                bars=True,
                stacked=True,
                low=0,
                width=8,
            ),
            series_panel(
                "Jobs that went back to the queue, per hour, by cause",
                prom(f"sum by (cause) ({hourly('benchfarm_requeues_total')})", "{{cause}}"),
                about="Work that was lost and is done again (benchfarm_requeues_total, as a rate per hour).",
                empty=_NOT_SCRAPED,
                unit="none",
                decimals=0,
                bars=True,
                stacked=True,
                low=0,
                width=8,
            ),
            series_panel(
                "Devices that came back, per hour",
                prom(
                    f"sum by (device_kind) ({hourly('benchfarm_device_reconnects_total')})",
                    "{{device_kind}}",
                ),
                about="Devices that were not online and are again: cables, hubs, adb "
                "(benchfarm_device_reconnects_total, as a rate per hour).",
                empty="no device ever came back since the exporter began, or it is not scraped",
                unit="none",
                decimals=0,
                bars=True,
                low=0,
                width=8,
            ),
            table_panel(
                "Jobs that failed",
                Sql(
                    """
                    SELECT job_id, sweep_run_id AS run, kind, title, owner, device, device_kind, host, failure_cause,
                    failure_code, failure_message, attempts, run_s, finished_at,
                    (extract(epoch FROM coalesce(started_at, finished_at)) * 1000 - 60000)::bigint AS from_ms,
                    (extract(epoch FROM finished_at) * 1000 + 60000)::bigint AS to_ms
                    FROM job_outcome
                    WHERE state = 'failed' AND $__timeFilter(finished_at)
                    ORDER BY finished_at DESC LIMIT 500
                    """
                ),
                about="Jobs that failed for good in the time range, the latest first (view job_outcome).",
                empty="no job failed in the time range",
                columns={
                    "job_id": Column(title="job", width=80),
                    "run": Column(links=(to_run,), width=80),
                    "kind": Column(width=90),
                    "title": Column(width=340),
                    "device": Column(
                        links=(
                            links.cell_link(
                                links.DEVICE,
                                "Device",
                                {"device": "device", "device_kind": "device_kind", "host": "host"},
                            ),
                        )
                    ),
                    "device_kind": Column(title="kind of device"),
                    "failure_cause": Column(title="cause", words={"bug": RED, "model": GREY}),
                    "failure_code": Column(title="code"),
                    "failure_message": Column(title="why", width=420),
                    "run_s": Column(title="ran", unit="s", decimals=1),
                    "finished_at": Column(title="finished", unit="dateTimeAsIso"),
                    "from_ms": Column(hidden=True),
                    "to_ms": Column(hidden=True),
                },
            ),
        ],
    )


def _hosts() -> Row:
    return Row(
        "Hosts",
        [
            timeline_panel(
                "Hosts over time",
                prom(_HOSTS, "{{host}}"),
                about="Whether each host's agent answered and was let in (benchfarm_host_up).",
                empty="no host joined yet, or the exporter is not scraped",
                words=yes_no(("online", GREEN), ("away", RED)),
                width=12,
            ),
            series_panel(
                "Free disk of hosts",
                prom(once("benchfarm_host_disk_free_bytes"), "{{host}}"),
                about="Free on the file system of each agent's data directory (benchfarm_host_disk_free_bytes).",
                empty="no agent told it lately",
                unit="decbytes",
                steps=_FREE,
                low=0,
            ),
        ],
    )


def _exporter() -> Row:
    return Row(
        "The exporter",
        [
            stat_panel(
                "Snapshot",
                prom("benchfarm_exporter_scrape_success", "{{instance}}", instant=True),
                about="Whether what is shown is the farm now; else the database is slow, away or being migrated, "
                "and the "
                "last good snapshot is shown (benchfarm_exporter_scrape_success).",
                empty=_NOT_SCRAPED,
                words=yes_no(("now", GREEN), ("an old one", RED)),
            ),
            stat_panel(
                "Its age",
                prom("benchfarm_exporter_snapshot_age_seconds", "{{instance}}", instant=True),
                about="How old what is shown is; after ten minutes only this is shown "
                "(benchfarm_exporter_snapshot_age_seconds).",
                empty="no look at the database succeeded yet, or the exporter is not scraped",
                unit="s",
                decimals=0,
                steps=thresholds((None, GREEN), (60, YELLOW), (300, RED)),
            ),
            stat_panel(
                "Series left out",
                prom(_of_each("benchfarm_exporter_series_dropped"), "{{instance}}", instant=True),
                about="What the series budget left out (benchfarm_exporter_series_dropped): those of results first.",
                empty=_NOT_SCRAPED,
                decimals=0,
                steps=thresholds((None, GREEN), (1, RED)),
            ),
            stat_panel(
                "Label values refused",
                prom(_of_each("benchfarm_exporter_labels_refused_total"), "{{instance}}", instant=True),
                about='Values outside their label\'s closed set, shown as "other" '
                "(benchfarm_exporter_labels_refused_total).",
                empty=_NOT_SCRAPED,
                decimals=0,
                steps=thresholds((None, GREEN), (1, YELLOW)),
            ),
            stat_panel(
                "Events not counted yet",
                prom("benchfarm_exporter_events_behind", "{{instance}}", instant=True),
                about="Events in the log that the counters lack (benchfarm_exporter_events_behind).",
                empty=_NOT_SCRAPED,
                decimals=0,
                steps=thresholds((None, GREEN), (10_000, YELLOW)),
            ),
            series_panel(
                "Series and their budget",
                [
                    prom("benchfarm_exporter_series", "series, {{instance}}", ref_id="A"),
                    prom("benchfarm_exporter_series_budget", "budget, {{instance}}", ref_id="B"),
                ],
                about="How many series are shown, and how many may be (benchfarm_exporter_series, _series_budget).",
                empty=_NOT_SCRAPED,
                unit="short",
                low=0,
            ),
            series_panel(
                "Time of a look and of a scrape",
                [
                    prom("benchfarm_exporter_snapshot_seconds", "look at the database, {{instance}}", ref_id="A"),
                    prom(
                        "scrape_duration_seconds and on (job, instance) benchfarm_exporter_series", "scrape", ref_id="B"
                    ),
                ],
                about="How long the last look at the database took (benchfarm_exporter_snapshot_seconds), and "
                "Prometheus's "
                "own measure of the whole scrape.",
                empty=_NOT_SCRAPED,
                unit="s",
                low=0,
            ),
        ],
    )


def _of_each(metric: str) -> str:
    """A sum for each exporter, 0 where it has no series."""
    return f"sum by (instance) ({metric}) or 0 * sum by (instance) (benchfarm_exporter_series)"


def _ray() -> Row:
    empty = "Ray is not scraped: the one that benchfarm head starts tells nothing (deploy/prometheus/prometheus.yml)"
    return Row(
        "Ray",
        [
            series_panel(
                "Nodes of the cluster",
                prom("max by (node_type) (ray_cluster_active_nodes)", "{{node_type}}"),
                about="Ray's own count of its nodes (ray_cluster_active_nodes). Ray carries the farm's messages; "
                "the state "
                "of hosts above is the farm's own.",
                empty=empty,
                unit="none",
                decimals=0,
                low=0,
                width=8,
            ),
            series_panel(
                "CPU of nodes",
                prom("max by (instance) (ray_node_cpu_utilization) / 100", "{{instance}}"),
                about="Ray's own reading of each node (ray_node_cpu_utilization).",
                empty=empty,
                unit="percentunit",
                low=0,
                high=1,
                width=8,
            ),
            series_panel(
                "Memory of nodes",
                prom(
                    "max by (instance) (ray_node_mem_used) / max by (instance) (ray_node_mem_total)",
                    "{{instance}}",
                ),
                about="Ray's own reading of each node (ray_node_mem_used, ray_node_mem_total).",
                empty=empty,
                unit="percentunit",
                low=0,
                high=1,
                width=8,
            ),
            text_panel(
                "Ray ships dashboards of its own in its session's folder (`metrics/grafana/dashboards`): "
                "provision them as "
                "they are where Ray itself is in question."
            ),
        ],
    )
