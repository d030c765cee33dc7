"""Tables of a farm: its jobs, devices and hosts, and all of it at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.numbers import NONE, duration
from exporters.tables import simple_table

Row = Mapping[str, Any]
#: Beside a long text.
_MOST_WHY = 100


def jobs_table(jobs: Sequence[Row], now: datetime) -> Table:
    """Jobs as `scheduler.records` lists them."""
    columns = ["job", "run", "owner", "kind", "state", "what", "device", "queue", "begins", "why"]
    return simple_table("Jobs", columns, [_job_cells(job, now) for job in jobs])


def _job_cells(job: Row, now: datetime) -> list[str]:
    begins = job.get("expected_start")
    return [
        str(job["id"]),
        str(job["run"]),
        job["owner"] + (f" ({job['priority']:+d})" if job["priority"] else ""),
        job["kind"],
        job["state"],
        job["title"],
        job["device"] or "",
        "" if job.get("queue_position") is None else str(job["queue_position"]),
        "" if begins is None else f"in {duration(max(0.0, (begins - now).total_seconds()))}",
        job["why"] or job.get("progress") or "",
    ]


def job_view(job: Row) -> RenderableType:
    """One job with its attempts and events."""
    head = [[key, _cell(value)] for key, value in job.items() if key not in ("attempts", "events", "payload")]
    attempts = [
        [str(a["id"]), a["state"], a["place"], _time(a["started_at"]), a["message"] or ""] for a in job["attempts"]
    ]
    return Group(
        simple_table(f"Job {job['id']}", ["", ""], head),
        simple_table("Attempts", ["attempt", "state", "place", "started", "message"], attempts),
        events_table(job["events"]),
    )


def events_table(events: Sequence[Row]) -> Table:
    """Changes of state: when, of what, by whom, why."""
    rows = [
        [
            _time(e["at"]),
            f"{e['entity']} {e['entity_id']}",
            f"{e['before'] or ''} -> {e['after']}",
            e["who"],
            e["why"] or "",
        ]
        for e in events
    ]
    return simple_table("Events", ["when", "what", "change", "who", "why"], rows)


def devices_table(devices: Sequence[Row]) -> Table:
    """Devices as `benchfarm devices list --json` prints them."""
    rows = [
        [
            device["label"],
            device["kind"],
            device["host"],
            str(device["attributes"].get("model") or ""),
            device["presence"],
            device["admin"],
            ", ".join(device["tags"]),
            device["admin_why"] or "",
        ]
        for device in devices
    ]
    return simple_table("Devices", ["name", "kind", "host", "model", "presence", "admin", "tags", "why"], rows)


def device_view(device: Row, selectable: Row, events: Sequence[Row]) -> RenderableType:
    """One device: what selectors compare, then its state and what happened to it."""
    compared = [[key, _cell(value)] for key, value in selectable.items()]
    state = [
        [key, _cell(device[key])]
        for key in ("presence", "admin", "admin_by", "admin_why", "not_before", "failures_in_row", "probe_at", "used_s")
    ]
    return Group(
        simple_table(device["label"], ["attribute", "value"], compared),
        simple_table("State", ["", ""], state),
        events_table(events),
    )


def hosts_table(hosts: Sequence[Row]) -> Table:
    """Hosts as `scheduler.glance` tells of them."""
    rows = [
        [
            host["name"],
            host["presence"],
            f"{host['online']}/{host['devices']}",
            str(host["busy"]),
            ", ".join(f"{name}={value}" for name, value in host["labels"].items()),
            _time(host["last_seen_at"]),
            host["why"] or "",
        ]
        for host in hosts
    ]
    columns = ["host", "presence", "devices online", "busy", "labels", "last seen", "why"]
    return simple_table("Hosts", columns, rows)


def host_view(host: Row) -> RenderableType:
    """One host and what each backend can do there."""
    head = [[key, _cell(value)] for key, value in host.items() if key not in ("description", "devices")]
    head += [
        [key, _cell(host["description"].get(key))]
        for key in ("system", "architecture", "cpu_model", "cpu_count", "memory_bytes", "environment")
    ]
    backends = [
        [seam.removesuffix("s"), item["name"], "ok" if item["why_not"] is None else item["why_not"], item["fix"] or ""]
        for seam in ("runtimes", "converters", "sources", "sensors")
        for item in host["description"].get(seam, ())
    ]
    return Group(
        simple_table(host["name"], ["", ""], head),
        simple_table("Devices", ["name"], [[name] for name in host["devices"]]),
        simple_table("Backends", ["what", "name", "", "mend"], backends),
    )


def status_view(status: Row) -> RenderableType:
    """The farm at a glance."""
    now = status["at"]
    parts: list[RenderableType] = [_headline(status), hosts_table(status["hosts"])]
    if status["set_aside"]:
        rows = [[d["device"], d["host"], d["admin"], d["by"] or "", d["why"] or ""] for d in status["set_aside"]]
        parts.append(simple_table("Set aside", ["device", "host", "admin", "by", "why"], rows))
    if status["queue"]:
        rows = [
            [group["owner"], group["wants"], f"{group['jobs']:,}", duration(group["first_waits_s"])]
            for group in status["queue"]
        ]
        parts.append(simple_table("Queue", ["owner", "wants", "jobs", "first waits"], rows))
    if status["running"]:
        rows = [
            [
                str(job["job"]),
                job["what"],
                job["owner"],
                job["place"],
                duration((now - job["since"]).total_seconds()),
                _expected(job["expected_end"], now),
            ]
            for job in status["running"]
        ]
        parts.append(simple_table("Running", ["job", "what", "owner", "place", "for", "ends"], rows))
    if status["failures"]:
        rows = [
            [str(job["job"]), job["what"], _short(job["why"]), f"{duration((now - job['at']).total_seconds())} ago"]
            for job in status["failures"]
        ]
        parts.append(simple_table("Failed lately", ["job", "what", "why", "when"], rows))
    return Group(*parts)


def _headline(status: Row) -> Text:
    dispatcher = status["dispatcher"]
    if dispatcher["alive"]:
        where = dispatcher["host"] or "a machine that is no host"
        line = Text(f"dispatcher: process {dispatcher['pid']} on {where}", style="green")
    else:
        line = Text("no dispatcher: jobs wait until benchfarm up (or run) runs", style="red")
    counts = [f"{count:,} {state}" for state, count in status["devices"].items()]
    line.append(f"\ndevices: {', '.join(counts) or 'none'}", style="default")
    queued = sum(group["jobs"] for group in status["queue"])
    line.append(f"\njobs: {status['running_count']:,} running, {queued:,} queued, {status['blocked']:,} blocked")
    return line


def _expected(end: datetime, now: datetime) -> str:
    left_s = (end - now).total_seconds()
    return f"in {duration(left_s)}" if left_s > 0 else f"{duration(-left_s)} over"


def _cell(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def _time(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC"


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= _MOST_WHY else text[: _MOST_WHY - 1] + "…"
