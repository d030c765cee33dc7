"""Plays hosts for tests: real documents through JSON as on the wire, and a script for each order.

Artifacts go to a real store, and what an order needs is fetched from there: a damaged store shows as with an agent.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from device_registry.capabilities import DeviceDescription, HostDescription
from scheduler.executors.executor import Lost
from workers import contract, report
from workers.agent import AGENT_VERSION
from workers.artifacts import ArtifactCorruptError, ArtifactStore
from workers.codec import from_dict, to_dict
from workers.contract import Failure, Order, StoredFile


@dataclass(frozen=True, kw_only=True)
class Succeed:
    """The order yields a conversion, a measurement, a profile or an evaluation, whichever it asks for."""

    p50_ms: float = 1.0
    verdict: report.Verdict = "valid"
    #: Of an evaluation, which of its examples were answered right: one character each, 1 or 0.
    outcomes: str = "1110"


#: "silent": it runs until `finish`. "vanish": it is taken and never heard of, unless `finish` answers late.
Outcome = Succeed | Failure | Literal["silent", "vanish"]


#: silent: what is said to it waits until it answers again. lost: it does not answer, and what is said to it is lost.
#: dead: lost, and known to be dead.
#: left: dead, for it said goodbye.
State = Literal["answers", "silent", "lost", "dead", "left"]


class ScriptedHost:
    """One host with its agent. `play` says what becomes of an order."""

    def __init__(
        self, store: ArtifactStore, folder: Path, host: HostDescription, devices: Sequence[DeviceDescription]
    ) -> None:
        """Play a host with these devices; `folder` holds artifacts for a moment before they are stored."""
        self._store, self._folder, self._host, self.devices = store, folder, host, list(devices)
        self.play: Callable[[Order], Outcome] = lambda order: Succeed()
        self.state: State = "answers"
        #: Orders get lost on their way, though everything else arrives.
        self.deaf = False
        #: What is cancelled ends; else it goes on for a while.
        self.obeys = True
        self.version = AGENT_VERSION
        self.session = secrets.token_hex(4)
        self.orders: dict[int, Order] = {}
        self.running: set[int] = set()
        #: How far attempts say they are.
        self.says: dict[int, str] = {}
        #: Its wall clock, epoch seconds; None: it does not tell.
        self.now: float | None = None
        self.recoveries: list[tuple[str, int]] = []
        self._events: list[dict[str, Any]] = []
        self._sequence = 0

    @property
    def name(self) -> str:
        """What it is called."""
        return self._host.name

    def hello(self) -> dict[str, Any]:
        """See `HostAgent.hello`."""
        known = {"host": to_dict(self._host), "devices": [to_dict(device) for device in self.devices]}
        seen = {"running": sorted(self.running), "pid": 1, "store": self._store.marker()}
        return _wire({"version": self.version, "session": self.session, **known, **seen})

    def start(self, order: dict[str, Any]) -> None:
        """Take one order. See `HostAgent.start`."""
        read = from_dict(Order, _wire(order))
        if read.attempt_id in self.orders or self.deaf:
            return
        outcome = self.play(read)
        self.orders[read.attempt_id] = read
        if outcome != "vanish":
            self.running.add(read.attempt_id)
            self._emit("started", attempt_id=read.attempt_id, token=read.token)
        if isinstance(outcome, Succeed | Failure):
            self.finish(read.attempt_id, outcome)

    def poll(self, since: int) -> dict[str, Any]:
        """See `HostAgent.poll`; never waits."""
        self._events = [event for event in self._events if event["sequence"] > since]
        said = {"session": self.session, "events": self._events, "running": sorted(self.running)}
        if progress := [[known, text] for known, text in self.says.items() if known in self.running]:
            said["progress"] = progress
        return _wire(said if self.now is None else {**said, "now": self.now})

    def cancel(self, attempt_ids: Sequence[int], why: str) -> None:
        """See `HostAgent.cancel`."""
        for attempt_id in self.running.intersection(attempt_ids) if self.obeys else ():
            self.finish(attempt_id, Failure(cause="user", code="cancelled", message=why))

    def finish(self, attempt_id: int, outcome: Succeed | Failure, /, **changes: Any) -> None:
        """Report an order taken at some time: late or again, or with changed fields, such as another token."""
        order = self.orders[attempt_id]
        self.running.discard(attempt_id)
        told = to_dict(self._report(order, outcome)) | changes
        self._emit("finished", attempt_id=attempt_id, token=told["token"], **report.as_sent(told))

    def plug(self, devices: Sequence[DeviceDescription]) -> None:
        """These are its devices from now on."""
        self.devices = list(devices)
        self._emit("devices", devices=[to_dict(device) for device in devices])

    def read(self, devices: Mapping[str, str]) -> None:
        """Tell readings of devices between attempts, by device, as they are sent."""
        self._emit("readings", devices=dict(devices))

    def rename(self, name: str, *, key: str) -> None:
        """It is called otherwise."""
        self._host = replace(self._host, name=name, key=key)

    def restart(self) -> None:
        """The agent was killed: its successor tells what was not taken yet, and that what ran is lost."""
        untaken = [event for event in self._events if event["kind"] == "finished"]
        self._events, self._sequence = [], 0
        self.session = secrets.token_hex(4)
        for event in untaken:
            told = {name: event[name] for name in ("attempt_id", "token", "report", "telemetry")}
            self._emit("finished", **told)
        for attempt_id in sorted(self.running):
            self._emit("lost", attempt_id=attempt_id, token=self.orders[attempt_id].token)
        self.running.clear()

    def _emit(self, kind: str, **details: Any) -> None:
        self._sequence += 1
        self._events.append({"sequence": self._sequence, "kind": kind, **details})

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
            elif order.evaluate is not None:
                made["evaluation"] = _evaluation(order.evaluate, outcome.outcomes, order.inputs.get("test"))
            if order.on_device is not None and not isinstance(outcome, Failure):
                seen |= {"judgement": report.Judgement(verdict=outcome.verdict), "environment": {"scripted": "1"}}
        except ArtifactCorruptError as error:
            made["failure"] = Failure(cause=error.cause, code=error.code, message="bad", artifact_sha256=error.sha256)
        return report.Report(**names, result=contract.Result(**names, started_at=0, finished_at=1, **made), **seen)

    def _conversion(self, task: contract.ConvertTask, inputs: dict[str, str]) -> contract.Conversion:
        what = json.dumps([to_dict(task), inputs], sort_keys=True)
        roles = ("examples", "calibration", "test") if task.model is not None else ()
        made: dict[str, Any] = {"companions": {role: self._put(f"{role} of {what}") for role in roles}}
        made |= {"seconds": 1.0, "imports_ms": 1.0, "versions": {"scripted": "1"}, "facts": {}}
        return contract.Conversion(artifact=self._put(what), format=task.format, recipe=task.recipe, **made)

    def _put(self, text: str) -> StoredFile:
        return StoredFile(sha256=self._store.put_bytes(text.encode(), self._folder), bytes=len(text.encode()))


class ScriptedExecutor:
    """Reaches scripted hosts; each dispatcher has one of its own."""

    def __init__(self, hosts: Sequence[ScriptedHost]) -> None:
        """Reach these hosts, by what they are called now; a second of the same name by a name of its own."""
        self._hosts: dict[str, ScriptedHost] = {}
        for host in hosts:
            self._hosts[host.name if host.name not in self._hosts else f"{host.name}-2"] = host
        #: Sessions of the agents that the dispatcher was told of.
        self._told: dict[str, str] = {}
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    def arrivals(self) -> dict[str, dict[str, Any]]:
        """See `Executor.arrivals`."""
        come = {
            name: host
            for name, host in self._hosts.items()
            if host.state == "answers" and self._told.get(name) != host.session
        }
        self._told.update((name, host.session) for name, host in come.items())
        return {name: host.hello() for name, host in come.items()}

    def start(self, host: str, orders: Sequence[dict[str, Any]]) -> None:
        """See `Executor.start`."""
        for order in orders:
            self._say(host, partial(self._hosts[host].start, order))

    def cancel(self, host: str, attempt_ids: Sequence[int], why: str) -> None:
        """See `Executor.cancel`."""
        self._say(host, partial(self._hosts[host].cancel, attempt_ids, why))

    def poll(self, cursors: Mapping[str, int], wait_s: float) -> dict[str, dict[str, Any] | Lost]:
        """See `Executor.poll`; never waits."""
        answers: dict[str, dict[str, Any] | Lost] = {}
        for name, cursor in cursors.items():
            host = self._hosts[name]
            if host.state in ("lost", "dead", "left"):
                self._told.pop(name, None)
                self._waiting.pop(name, None)
                answers[name] = Lost(
                    f"{name} does not answer", dead=host.state in ("dead", "left"), left=host.state == "left"
                )
            elif host.state == "answers":
                for said in self._waiting.pop(name, []):
                    said()
                answers[name] = host.poll(cursor)
        return answers

    def log(self, host: str, attempt_id: int, token: str) -> str:
        """See `Executor.log`."""
        return f"attempt {attempt_id} of {host}"

    def recover(self, host: str, device: str, rung: int) -> None:
        """See `Executor.recover`."""
        self._say(host, partial(self._hosts[host].recoveries.append, (device, rung)))

    def close(self) -> None:
        """See `Executor.close`: the hosts are not its own."""

    def _say(self, name: str, what: Callable[[], None]) -> None:
        state = self._hosts[name].state
        if state == "answers":
            what()
        elif state == "silent":
            self._waiting.setdefault(name, []).append(what)


def _wire(document: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(json.dumps(document, allow_nan=False)))


def _runtime(task: contract.MeasureTask) -> dict[str, Any]:
    facts = {"name": task.runtime, "version": "1", "options": {}, "precision": task.recipe, "compute_unit": "cpu"}
    return {**facts, "evidence": "scripted"}


def _profile(task: contract.MeasureTask, run_ms: float) -> contract.Profile:
    """One convolution that takes half of a run."""
    op = {"name": "first", "type": "Conv", "time_us": run_ms * 500, "layers": ["features.0"], "flops": 1000}
    times = {"runs": 5, "run_ms": run_ms, "unprofiled_ms": run_ms}
    seen = {"runtime": _runtime(task), "method": "scripted", "ops": [op], "inputs": {}}
    return from_dict(contract.Profile, seen | times)


def _evaluation(task: contract.MeasureTask, outcomes: str, test: str | None) -> contract.Evaluation:
    """A classification whose outcomes are these."""
    right, examples = outcomes.count("1"), len(outcomes)
    packed = bytes(int(outcomes[begin : begin + 8].ljust(8, "0"), 2) for begin in range(0, examples, 8))
    share = right / max(examples, 1)
    seen: dict[str, Any] = {"runtime": _runtime(task), "task": "classification", "data": "scripted"}
    seen |= {"data_sha256": test or "0" * 64, "examples": examples, "skipped": 0, "correct": right, "not_finite": 0}
    seen |= {"top1": share, "top5": None, "f1_macro": share, "wer": None, "seconds": 1.0}
    return from_dict(contract.Evaluation, seen | {"outcomes_base64": base64.b64encode(packed).decode(), "inputs": {}})


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
