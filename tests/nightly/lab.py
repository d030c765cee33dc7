"""The one host of a made-up lab: it answers orders as its world is, in the documents that agents send."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from device_registry.capabilities import DeviceDescription
from scheduler.executors.executor import Lost
from tests.nightly.world import Seen, Unit, World
from workers.agent import AGENT_VERSION
from workers.codec import to_dict
from workers.host import describe_host
from workers.report import as_sent

#: How long a process has its device, seconds.
PROCESS_S = 8.0
_UNWELL = {"cause": "device", "code": "unwell", "message": "the device refuses to work", "artifact_sha256": None}


class Lab:
    """One host with its agent. Orders end in the moment they are taken: time passes between the rounds."""

    def __init__(self, world: World, clock: Callable[[], datetime]) -> None:
        self._world, self._clock = world, clock
        self._host = replace(describe_host("lab"), cpu_count=2)
        self._devices: list[DeviceDescription] = self.devices()
        self._events: list[dict[str, Any]] = []
        self._sequence = 0
        #: What an artifact was made of: (model, recipe, night of its revision), by its digest.
        self._made: dict[str, tuple[str, str, int]] = {}
        self.processes = 0

    def devices(self) -> list[DeviceDescription]:
        """The units that are there now."""
        night = self._world.night_of(self._clock())
        return [
            DeviceDescription(
                key=unit.key,
                name=unit.name,
                kind="sim",
                driver="sim",
                attributes={
                    "simulated": True,
                    "model": unit.model,
                    "os": self._world.os_of(unit, night),
                    "compute_unit": "sim",
                },
            )
            for unit in self._world.units
            if self._world.is_here(unit, night)
        ]

    def hello(self) -> dict[str, Any]:
        """See `HostAgent.hello`."""
        known = {"host": to_dict(self._host), "devices": [to_dict(device) for device in self._devices]}
        return {"version": AGENT_VERSION, "session": "1", **known, "running": [], "store": None}

    def look(self) -> None:
        """Tell of devices that came, went or changed."""
        if (found := self.devices()) != self._devices:
            self._devices = found
            self._emit("devices", devices=[to_dict(device) for device in found])

    def start(self, order: dict[str, Any]) -> None:
        """See `HostAgent.start`."""
        names = {"attempt_id": order["attempt_id"], "token": order["token"]}
        ended = self._clock().timestamp()
        result: dict[str, Any] = {**names, "started_at": ended, "finished_at": ended + PROCESS_S}
        report: dict[str, Any] = {**names, "result": result, "wall_s": PROCESS_S, "telemetry": ()}
        if order["convert"] is not None:
            result["conversion"] = self._convert(order["convert"])
        else:
            self._measure(order, result, report)
        self._emit("finished", **names, **as_sent(report))

    def poll(self, since: int) -> dict[str, Any]:
        """See `HostAgent.poll`; never waits."""
        self._events = [event for event in self._events if event["sequence"] > since]
        return {"session": "1", "events": list(self._events), "running": []}

    def _emit(self, kind: str, **details: Any) -> None:
        self._sequence += 1
        self._events.append({"sequence": self._sequence, "kind": kind, **details})

    def _convert(self, task: dict[str, Any]) -> dict[str, Any]:
        """The seed of the request is the night of its revision."""
        name, night = task["model"]["name"], task["model"]["seed"]
        text = json.dumps([name, task["recipe"], night])
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        self._made[sha256] = (name, task["recipe"], night)
        made: dict[str, Any] = {"artifact": {"sha256": sha256, "bytes": 1000}, "companions": {}}
        made |= {"format": task["format"], "recipe": task["recipe"], "seconds": 1.0, "imports_ms": 0.0}
        return {**made, "versions": {"lab": "1"}, "facts": {}}

    def _measure(self, order: dict[str, Any], result: dict[str, Any], report: dict[str, Any]) -> None:
        self.processes += 1
        unit, night = self._world.unit_of[order["place"]], self._world.night_of(self._clock())
        sha256 = order["inputs"]["artifact"]
        report["artifact_sha256"] = sha256
        if self._world.is_unwell(unit, night):
            result["failure"] = _UNWELL
            return
        seen = self._world.run(unit, *self._made[sha256], night)
        result["measurement"] = _measurement(order["measure"]["recipe"], seen.p50_ms, result["started_at"])
        report["environment"] = {"simulated": "true", "model": unit.model, "os": seen.os}
        why = ["the device throttled"] if seen.throttled else []
        verdict = "throttled" if seen.throttled else "valid"
        report["judgement"] = {"verdict": verdict, "reasons": why, "flags": ["simulated"]}
        report["telemetry"] = _readings(unit, seen, result["started_at"])


class LabExecutor:
    """Reaches the lab; each dispatcher has one of its own."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._told = lab, False

    def arrivals(self) -> dict[str, dict[str, Any]]:
        """See `Executor.arrivals`."""
        told, self._told = self._told, True
        return {} if told else {"lab": self._lab.hello()}

    def start(self, host: str, orders: Sequence[dict[str, Any]]) -> None:
        """See `Executor.start`."""
        for order in orders:
            self._lab.start(order)

    def cancel(self, host: str, attempt_ids: Sequence[int], why: str) -> None:
        """See `Executor.cancel`: nothing runs for longer than a moment."""

    def poll(self, cursors: Mapping[str, int], wait_s: float) -> dict[str, dict[str, Any] | Lost]:
        """See `Executor.poll`; never waits."""
        return {name: self._lab.poll(cursor) for name, cursor in cursors.items()}

    def log(self, host: str, attempt_id: int, token: str) -> str:
        """See `Executor.log`."""
        return ""

    def recover(self, host: str, device: str, rung: int) -> None:
        """See `Executor.recover`: nothing helps but time."""

    def close(self) -> None:
        """See `Executor.close`."""


def _readings(unit: Unit, seen: Seen, at: float) -> list[dict[str, Any]]:
    found: list[tuple[str, str, float]] = []
    if seen.clock_mhz is not None:
        found.append(("clock", "MHz", seen.clock_mhz))
    if seen.throttled:
        found.append(("throttle_events", "1", 1.0))
    fields: dict[str, Any] = {"sensor": "lab", "domain": "soc", "quality": "ok", "at": at + 1, "why": None}
    return [{**fields, "quantity": what, "unit": of, "value": value} for what, of, value in found]


def _measurement(recipe: str, p50_ms: float, at: float) -> dict[str, Any]:
    timings: dict[str, Any] = {"iterations": 64, "inner_iterations": 1, "elapsed_s": 3.0, "converged": True}
    timings |= dict.fromkeys(("p50_ms", "mean_ms", "min_ms", "max_ms", "p90_ms"), p50_ms)
    timings |= {"mad_ms": 0.005 * p50_ms, "iqr_over_median": 0.01, "outliers_mild": 0, "outliers_extreme": 0}
    timings |= dict.fromkeys(("p50_within_ci_ms", "p95_ms", "p99_ms", "drift_ratio", "drift_p"))
    runtime = {"name": "sim", "version": "1", "options": {}, "precision": recipe, "compute_unit": "sim"}
    seen: dict[str, Any] = {"timings": timings, "runtime": {**runtime, "evidence": "made up"}}
    seen |= {"warm_up": {"runs": 10, "seconds": 0.5, "stable": True}, "throughput_per_s": 1000 / p50_ms}
    seen |= dict.fromkeys(("imports_ms", "load_cold_ms", "load_warm_ms", "first_inference_ms"), p50_ms)
    seen |= dict.fromkeys(("compile_ms", "rss_after_imports_bytes", "peak_rss_bytes", "fidelity", "raw"))
    return seen | {"timed_from": at + 1, "timed_to": at + 7, "inputs": {}}
