"""The one registry of metrics: names, types, help and labels. Whatever is exported, drawn or alerted on is named here.

Names end in their unit (base units: seconds, bytes, celsius, joules, ratio). A label is closed (its values are listed
here, and any other becomes "other") or open (devices, models: as many as the database holds, within the series budget).
No label ever holds a job, an attempt, a commit, a time or a message: those are in the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from workers.android.presence import Presence
from workers.errors import Cause

PREFIX = "benchfarm_"
#: What a value outside its label's closed set becomes.
OTHER = "other"
#: What a label says where there is nothing to say: a conversion has no kind of device, a success no cause.
NONE = "none"

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, eq=False)
class Label:
    """A label: its values are these and "other", or, where None, whatever the database holds."""

    name: str
    help: str
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric: what it is called, what it counts, and which labels tell its series apart."""

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    #: Upper bounds of a histogram's buckets; the last one, +Inf, is not listed.
    buckets: tuple[float, ...] = ()

    @property
    def series_names(self) -> tuple[str, ...]:
        """The names that queries use."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(self.name + suffix for suffix in ("_bucket", "_sum", "_count"))

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that its series carry."""
        return tuple(label.name for label in self.labels)


_JOB_KIND = Label("kind", "what the job does", ("convert", "measure", "profile", "evaluate"))
_DEVICE = Label("device", "name of the device; NAME@HOST where two share one")
_DEVICE_KIND = Label("device_kind", "cpu, gpu, mac, android, sim ...; `none` for conversions")
_HOST = Label("host", "name of the host")
_SIMULATED = Label("simulated", "whether its results are made up", ("true", "false"))
_ADMIN = Label("admin", "what people or the farm said of it", ("enabled", "draining", "maintenance", "quarantined"))
_OWN_STATES = ("idle", "busy", "cooling", *(state for state in _ADMIN.values or () if state != "enabled"))
_DEVICE_STATE = Label(
    "state",
    "the first of these that holds: busy, not online (why), set aside (how), cooling, idle",
    (*_OWN_STATES, *(str(presence) for presence in Presence if presence != Presence.ONLINE)),
)
_CAUSES = tuple(str(cause) for cause in Cause)

#: Who: a device.
DEVICE: Final = (_DEVICE, _DEVICE_KIND, _HOST, _SIMULATED)
_SHORT: Final = (_DEVICE, _DEVICE_KIND)
#: Who and what: a case on a device.
CASE: Final = (
    _DEVICE,
    _DEVICE_KIND,
    _SIMULATED,
    Label("model", "name of the model"),
    Label("runtime", "what ran it"),
    Label("recipe", "precision and compression"),
    Label("options", '"t4 b1 burst": threads, batch, mode, and what else differs from the defaults'),
)

#: 1, 2, 5 in every decade.
_WAITS_S = tuple(step * 10.0**power for power in range(-2, 5) for step in (1, 2, 5))
_RUNS_S = (*(step * 10.0**power for power in range(-1, 4) for step in (1, 2, 5)), 10_000.0, 20_000.0)


def _gauge(name: str, help_: str, *labels: Label) -> Metric:
    return Metric(PREFIX + name, "gauge", help_, labels)


def _counter(name: str, help_: str, *labels: Label) -> Metric:
    return Metric(PREFIX + name, "counter", help_, labels)


# The farm.
DISPATCHER_UP = _gauge("dispatcher_up", "Whether somebody dispatches for this database.")
JOBS = _gauge(
    "jobs",
    "Open jobs; resting ones belong to a run that nobody waits for any more, until the same command resumes it.",
    _JOB_KIND,
    Label("state", "where they are", ("blocked", "queued", "running", "resting")),
)
QUEUE_OLDEST = _gauge(
    "queue_oldest_seconds", "How long ago the oldest queued job was submitted; absent where none is.", _JOB_KIND
)
DATABASE_BYTES = _gauge("database_bytes", "Size of the database.")
HOME_DISK_FREE = _gauge("home_disk_free_bytes", "Free on the file system of the head's data directory.")
HOST_UP = _gauge("host_up", "Whether the host's agent answers and is let in.", _HOST)
HOST_STATE = _gauge(
    "host_state",
    "1 for what the host is: refused ones say why in `benchfarm hosts list`.",
    _HOST,
    Label("state", "left: it said goodbye", ("online", "lost", "left", "refused")),
)
HOST_DISK_FREE = _gauge(
    "host_disk_free_bytes",
    "Free on the file system of the agent's data directory; absent where no agent told it lately.",
    _HOST,
)
DEVICES = _gauge("devices", "Devices by what they do, or what keeps them from work.", _DEVICE_KIND, _DEVICE_STATE)
COVERAGE = _gauge(
    "coverage_cells",
    "Cells of the matrix of cases and devices by what became of them; simulated devices apart.",
    _DEVICE_KIND,
    _SIMULATED,
    Label("state", "stale: valid, but old", ("valid", "stale", "invalid", "failed", "unsupported", "missing")),
)

# Events since the exporter started.
ATTEMPTS = _counter(
    "attempts_total",
    "Attempts that ended. lost: the host went; stale: lost, and its result came too late.",
    _JOB_KIND,
    Label("outcome", "how they ended", ("succeeded", "failed", "cancelled", "lost", "stale")),
    Label("cause", "what a failure was for; `none` of a success", (*_CAUSES, NONE)),
)
REQUEUES = _counter(
    "requeues_total",
    "Running jobs that went back to the queue.",
    _JOB_KIND,
    Label("cause", "why; `none`: not for a failure", (*_CAUSES, NONE)),
)
RESULTS = _counter(
    "results_total",
    "Results that came in.",
    _DEVICE_KIND,
    Label(
        "verdict",
        "whether the number can be trusted",
        ("valid", "not_converged", "unusable", "throttled", "contaminated", "interrupted"),
    ),
)
RECONNECTS = _counter("device_reconnects_total", "Devices that came back after they were not online.", _DEVICE_KIND)
QUEUE_WAIT = Metric(
    PREFIX + "queue_wait_seconds", "histogram", "From when a job was last queued to its start.", (_JOB_KIND,), _WAITS_S
)
RUN = Metric(
    PREFIX + "run_seconds",
    "histogram",
    "From the lease of an attempt to its report, whatever that says.",
    (_JOB_KIND, _DEVICE_KIND),
    _RUNS_S,
)

# Devices.
DEVICE_UP = _gauge("device_up", "Whether the device is online.", *DEVICE)
DEVICE_STATE = _gauge("device_state", "1 for the state that the device is in.", *_SHORT, _DEVICE_STATE)
DEVICE_ADMIN = _gauge("device_admin", "1 for what was said of the device: set aside or not.", *_SHORT, _ADMIN)
DEVICE_INFO = _gauge(
    "device_info",
    "1; facts of the device, to join with.",
    *DEVICE,
    Label("device_model", "its model; empty where it is not told"),
    Label("os", "its operating system"),
    Label("soc", "its system on a chip"),
)
DEVICE_LAST_SEEN = _gauge("device_last_seen_timestamp_seconds", "When its host last reported the device.", *_SHORT)
DEVICE_USED = _gauge("device_used_seconds", "Work that the device has done so far.", *_SHORT)
DEVICE_TEMPERATURE = _gauge(
    "device_temperature_celsius",
    "The last reading of each of its temperatures, while not older than ten minutes.",
    *_SHORT,
    Label("domain", "where it was read: cpu, battery, skin ..."),
)
DEVICE_BATTERY = _gauge(
    "device_battery_ratio", "The last reading of its charge, 1 is full, while not older than ten minutes.", *_SHORT
)

# The latest valid point of every series.
RESULT_TIMESTAMP = _gauge("result_timestamp_seconds", "When the latest valid point was measured.", *CASE)
RESULT_LATENCY = _gauge(
    "result_latency_seconds",
    "Latency of the latest valid point: median of its processes' quantiles.",
    *CASE,
    Label("quantile", "0.5 is the median", ("0.5", "0.99")),
)
RESULT_ENERGY = _gauge("result_energy_joules", "Energy of one inference; absent where it cannot be had.", *CASE)
RESULT_ACCURACY = _gauge(
    "result_accuracy_ratio",
    "Share of its labelled examples that the latest evaluation of a measured case answered right; absent without one.",
    *CASE,
)
RESULT_TEMPERATURE = _gauge("result_temperature_celsius", "The hottest reading during the measurement.", *CASE)

# What is watched.
INCIDENTS = _gauge(
    "incidents_open",
    "Confirmed regressions that are not resolved.",
    Label("cause", "what is suspected", ("code", "environment", "device", "clock", "unknown")),
    Label("state", "acknowledged: somebody looks at it", ("open", "acknowledged")),
)
CELLS_MISSING = _gauge(
    "sweep_cells_missing",
    "Cells of a schedule's matrix without a fresh valid point within its period.",
    Label("schedule", "name of the schedule"),
)
SERIES_SIGHT = _gauge(
    "watched_series",
    "Series whose latest valid point was screened, by whether they can show a change of 5 %.",
    _SIMULATED,
    Label("sight", "blind: too noisy; unknown: nobody measured their noise", ("sighted", "blind", "unknown")),
)
NOTIFICATIONS = _gauge(
    "notifications",
    "Messages that did not arrive yet; given_up: for a day, shown for another.",
    Label("channel", "of notifications.toml; `none`: not addressed yet"),
    Label("state", "what becomes of them", ("pending", "given_up")),
)
NOTIFICATION_OLDEST = _gauge(
    "notification_oldest_seconds",
    "How long ago the oldest message that waits was made; absent where none does.",
    NOTIFICATIONS.labels[0],
)

# The exporter.
SCRAPE_SUCCESS = _gauge(
    "exporter_scrape_success", "1: what is shown is the farm now; 0: the database is slow, away or being migrated."
)
SNAPSHOT_AGE = _gauge(
    "exporter_snapshot_age_seconds",
    "How old what is shown is; absent before the first look. After ten minutes only this and its like are shown.",
)
SNAPSHOT_SECONDS = _gauge("exporter_snapshot_seconds", "How long the last look at the database took.")
SERIES = _gauge("exporter_series", "Series that are shown, without these of the exporter.")
SERIES_BUDGET = _gauge("exporter_series_budget", "How many may be.")
SERIES_DROPPED = _gauge(
    "exporter_series_dropped", "Series that the budget left out.", Label("metric", "of which metric")
)
LABELS_REFUSED = _counter(
    "exporter_labels_refused_total",
    'Values outside their label\'s closed set, shown as "other".',
    Label("label", "metric.label"),
)
EVENTS_BEHIND = _gauge("exporter_events_behind", "Events in the log that are not counted yet.")

#: All that is exported of the farm, what matters most first: so the budget takes them.
FARM: Final = (
    DISPATCHER_UP,
    JOBS,
    QUEUE_OLDEST,
    DATABASE_BYTES,
    HOME_DISK_FREE,
    HOST_UP,
    HOST_STATE,
    HOST_DISK_FREE,
    DEVICES,
    COVERAGE,
    INCIDENTS,
    CELLS_MISSING,
    SERIES_SIGHT,
    NOTIFICATIONS,
    NOTIFICATION_OLDEST,
    ATTEMPTS,
    REQUEUES,
    RESULTS,
    RECONNECTS,
    QUEUE_WAIT,
    RUN,
    DEVICE_UP,
    DEVICE_STATE,
    DEVICE_ADMIN,
    DEVICE_TEMPERATURE,
    DEVICE_BATTERY,
    DEVICE_INFO,
    DEVICE_LAST_SEEN,
    DEVICE_USED,
    RESULT_LATENCY,
    RESULT_TIMESTAMP,
    RESULT_ENERGY,
    RESULT_TEMPERATURE,
    RESULT_ACCURACY,
)
#: What the exporter says of itself, always.
OWN: Final = (
    SCRAPE_SUCCESS,
    SNAPSHOT_AGE,
    SNAPSHOT_SECONDS,
    SERIES,
    SERIES_BUDGET,
    SERIES_DROPPED,
    LABELS_REFUSED,
    EVENTS_BEHIND,
)


def by_name(metrics: Iterable[Metric] = (*FARM, *OWN)) -> dict[str, Metric]:
    """Names as queries use them to their metrics."""
    return {name: metric for metric in metrics for name in metric.series_names}


def page() -> str:
    """The tables of docs/observability.md: every metric, then every closed label's values."""
    lines = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in (*FARM, *OWN):
        labels = ", ".join(f"`{name}`" for name in metric.label_names)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    lines += ["", "| label | of | values |", "| --- | --- | --- |"]
    of: dict[Label, list[str]] = {}
    for metric in (*FARM, *OWN):
        for label in metric.labels:
            of.setdefault(label, []).append(f"`{metric.name}`")
    for label, names in of.items():
        values = ", ".join(f"`{value}`" for value in label.values) if label.values is not None else "open"
        where = ", ".join(names) if len(names) < 3 else f"{len(names)} metrics"
        lines.append(f"| `{label.name}` | {where} | {values}: {label.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
