"""Plays a host for tests: real documents through JSON as on the wire, and a script for each order.

Artifacts go to a real store, and what an order needs is fetched from there: a damaged store shows as with an agent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from device_registry.capabilities import DeviceDescription, HostDescription
from scheduler.executors.executor import HostLostError
from workers import contract, report
from workers.agent import AGENT_VERSION
from workers.artifacts import ArtifactCorruptError, ArtifactStore
from workers.codec import from_dict, to_dict
from workers.contract import Failure, Order, StoredFile


@dataclass(frozen=True, kw_only=True)
class Succeed:
    """The order yields a conversion, a measurement or a profile, whichever it asks for."""

    p50_ms: float = 1.0
    verdict: report.Verdict = "valid"


#: "silent": it runs until `finish`. "vanish": it is taken and never heard of, unless `finish` answers late.
Outcome = Succeed | Failure | Literal["silent", "vanish"]


class ScriptedExecutor:
    """One host. `play` says what becomes of an order, or raises `HostLostError`."""

    def __init__(
        self, store: ArtifactStore, folder: Path, host: HostDescription, devices: Sequence[DeviceDescription]
    ) -> None:
        """Play a host with these devices; `folder` holds artifacts for a moment before they are stored."""
        self._store, self._folder, self._host, self._devices = store, folder, host, devices
        self.play: Callable[[Order], Outcome] = lambda order: Succeed()
        self.reachable, self.version = True, AGENT_VERSION
        self.orders: dict[int, Order] = {}
        self.running: set[int] = set()
        self._events: list[dict[str, Any]] = []
        self._sequence = 0

    def hosts(self) -> list[str]:
        """See `Executor.hosts`."""
        return [self._host.name]

    def hello(self, host: str) -> dict[str, Any]:
        """See `Executor.hello`."""
        known = {"host": to_dict(self._host), "devices": [to_dict(device) for device in self._devices]}
        return self._answer({"version": self.version, **known})

    def start(self, host: str, order: dict[str, Any]) -> None:
        """See `Executor.start`."""
        read = from_dict(Order, self._answer(order))
        outcome = self.play(read)
        self.orders[read.attempt_id] = read
        if outcome != "vanish":
            self.running.add(read.attempt_id)
            self._emit("started", read)
        if isinstance(outcome, Succeed | Failure):
            self.finish(read.attempt_id, outcome)

    def poll(self, host: str, since: int, wait_s: float) -> dict[str, Any]:
        """See `Executor.poll`; never waits."""
        self._events = [event for event in self._events if event["sequence"] > since]
        return self._answer({"events": self._events, "running": sorted(self.running)})

    def cancel(self, host: str, attempt_id: int, why: str) -> None:
        """See `Executor.cancel`."""
        self._answer({})
        if attempt_id in self.running:
            self.finish(attempt_id, Failure(cause="user", code="cancelled", message=why))

    def close(self) -> None:
        """See `Executor.close`."""
        self.reachable = False

    def finish(self, attempt_id: int, outcome: Succeed | Failure, /, **changes: Any) -> None:
        """Report an order taken at some time: late or again, or with changed fields, such as another token."""
        order = self.orders[attempt_id]
        self.running.discard(attempt_id)
        report = to_dict(self._report(order, outcome)) | changes
        self._emit("finished", order, report=report, token=report["token"])

    def restart(self) -> None:
        """The agent was killed: its successor tells what was not taken yet, and that what ran is lost."""
        untaken = [event for event in self._events if event["kind"] != "started"]
        self._events, self._sequence = [], 0
        for event in untaken:
            self._emit(event["kind"], self.orders[event["attempt_id"]], token=event["token"], report=event["report"])
        for attempt_id in sorted(self.running):
            self._emit("lost", self.orders[attempt_id], report=None)
        self.running.clear()

    def _answer(self, document: dict[str, Any]) -> dict[str, Any]:
        if not self.reachable:
            raise HostLostError
        return cast("dict[str, Any]", json.loads(json.dumps(document, allow_nan=False)))

    def _emit(self, kind: str, order: Order, **details: Any) -> None:
        self._sequence += 1
        head = {"sequence": self._sequence, "kind": kind, "attempt_id": order.attempt_id, "token": order.token}
        self._events.append(head | details)

    def _report(self, order: Order, outcome: Succeed | Failure) -> report.Report:
        names: dict[str, Any] = {"attempt_id": order.attempt_id, "token": order.token}
        made: dict[str, Any] = {}
        seen: dict[str, Any] = {"artifact_sha256": order.inputs.get("artifact")}
        try:
            for sha256 in order.inputs.values():
                self._store.fetch(sha256)
            if isinstance(outcome, Failure):
                made["failure"] = outcome
            elif order.convert is not None:
                made["conversion"] = self._conversion(order.convert, order.inputs)
            elif order.measure is not None:
                made["measurement"] = _measurement(order.measure, outcome.p50_ms)
            elif order.profile is not None:
                made["profile"] = _profile(order.profile, outcome.p50_ms)
            if order.on_device is not None and not isinstance(outcome, Failure):
                seen |= {"judgement": report.Judgement(verdict=outcome.verdict), "environment": {"scripted": "1"}}
        except ArtifactCorruptError as error:
            made["failure"] = Failure(cause=error.cause, code=error.code, message="bad", artifact_sha256=error.sha256)
        return report.Report(**names, result=contract.Result(**names, started_at=0, finished_at=1, **made), **seen)

    def _conversion(self, task: contract.ConvertTask, inputs: dict[str, str]) -> contract.Conversion:
        what = json.dumps([to_dict(task), inputs], sort_keys=True)
        roles = ("examples", "calibration") if task.model is not None else ()
        made: dict[str, Any] = {"companions": {role: self._put(f"{role} of {what}") for role in roles}}
        made |= {"seconds": 1.0, "imports_ms": 1.0, "versions": {"scripted": "1"}, "facts": {}}
        return contract.Conversion(artifact=self._put(what), format=task.format, recipe=task.recipe, **made)

    def _put(self, text: str) -> StoredFile:
        return StoredFile(sha256=self._store.put_bytes(text.encode(), self._folder), bytes=len(text.encode()))


def _runtime(task: contract.MeasureTask) -> dict[str, Any]:
    facts = {"name": task.runtime, "version": "1", "options": {}, "precision": task.recipe, "compute_unit": "cpu"}
    return {**facts, "evidence": "scripted"}


def _profile(task: contract.MeasureTask, run_ms: float) -> contract.Profile:
    """One convolution that takes half of a run."""
    op = {"name": "first", "type": "Conv", "time_us": run_ms * 500, "layers": ["features.0"], "flops": 1000}
    times = {"runs": 5, "run_ms": run_ms, "unprofiled_ms": run_ms}
    seen = {"runtime": _runtime(task), "method": "scripted", "ops": [op], "inputs": {}}
    return from_dict(contract.Profile, seen | times)


def _measurement(task: contract.MeasureTask, p50_ms: float) -> contract.Measurement:
    timings: dict[str, Any] = {"iterations": 64, "inner_iterations": 1, "elapsed_s": 1.0, "converged": True}
    timings |= dict.fromkeys(("p50_ms", "mean_ms", "min_ms", "max_ms", "p90_ms"), p50_ms)
    timings |= dict.fromkeys(("mad_ms", "iqr_over_median", "outliers_mild", "outliers_extreme"), 0)
    timings |= dict.fromkeys(("p50_within_ci_ms", "p95_ms", "p99_ms", "drift_ratio", "drift_p"))
    seen: dict[str, Any] = {"timings": timings, "runtime": _runtime(task)}
    seen |= {"warm_up": {"runs": 1, "seconds": 0.0, "stable": True}, "throughput_per_s": 1000 / p50_ms}
    seen |= dict.fromkeys(("imports_ms", "load_cold_ms", "load_warm_ms", "first_inference_ms", "timed_from"), 1.0)
    seen |= dict.fromkeys(("compile_ms", "rss_after_imports_bytes", "peak_rss_bytes", "fidelity", "raw"))
    return from_dict(contract.Measurement, seen | {"timed_to": 2.0, "inputs": {}})
