"""Documents and rows with sensible values, so that a test names only what it is about."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from device_registry.capabilities import BackendCapability
from device_registry.registry import RegisteredDevice
from scheduler.placement import JobKind, Place, Wanted
from workers.contract import Limits, Measurement, Order, Result, RuntimeFacts, Timings, WarmUp
from workers.host import describe_host
from workers.plugins import plugins
from workers.processes import Process
from workers.report import Energy, ForeignLoad, GateReading, Quality, Reading, Report

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_timings(**changed: Any) -> Timings:
    """Timings of a quiet, converged run."""
    values: dict[str, Any] = {
        "iterations": 300,
        "inner_iterations": 1,
        "elapsed_s": 3.0,
        "converged": True,
        "p50_ms": 10.0,
        "p50_within_ci_ms": (9.95, 10.05),
        "mean_ms": 10.1,
        "min_ms": 9.8,
        "max_ms": 12.0,
        "mad_ms": 0.05,
        "iqr_over_median": 0.01,
        "p90_ms": 10.4,
        "p95_ms": 10.6,
        "p99_ms": None,
        "outliers_mild": 3,
        "outliers_extreme": 1,
        "drift_ratio": 1.0,
        "drift_p": 0.5,
    }
    return Timings(**(values | changed))


def make_measurement(*, warm: bool = True, **timings: Any) -> Measurement:
    """A measurement without anything to object to, but for what is changed in its timings."""
    return Measurement(
        runtime=RuntimeFacts(
            name="torch", version="2", options={}, precision="fp32", compute_unit="cpu", evidence="read back"
        ),
        imports_ms=1000.0,
        load_cold_ms=50.0,
        load_warm_ms=20.0,
        compile_ms=None,
        first_inference_ms=15.0,
        warm_up=WarmUp(runs=50, seconds=0.5, stable=warm),
        timings=make_timings(**timings),
        throughput_per_s=100.0,
        rss_after_imports_bytes=None,
        peak_rss_bytes=200_000_000,
        fidelity=None,
        inputs={"image": ("float32", 1, 3, 224, 224)},
        timed_from=100.0,
        timed_to=103.0,
        raw=None,
    )


def make_gate(share: float | None = 0.0, culprits: tuple[str, ...] = ()) -> GateReading:
    """A gate that saw so much foreign load."""
    load = ForeignLoad(share_of_core=share, window_s=2.0, culprits=culprits)
    return GateReading(passed=True, checks={"foreign_load": "ok"}, foreign_load=load)


def make_energy(quality: Quality = "unsupported", **values: Any) -> Energy:
    """Energy of a host without a counter."""
    return Energy(quality=quality, **values)


def make_reading(quantity: str, value: float | None, *, quality: Quality = "ok", **changed: Any) -> Reading:
    """One reading of a sensor."""
    values: dict[str, Any] = {"sensor": "fake", "domain": "cpu", "unit": "x", "at": 101.0}
    return Reading(quantity=quantity, value=value, quality=quality, **(values | changed))


def make_order(attempt_id: int = 1, token: str = "0123456789abcdef") -> Order:
    """An order with nothing to do."""
    limits = Limits(deadline_s=60.0, memory_bytes=2**30)
    return Order(attempt_id=attempt_id, token=token, place="cpu:host", limits=limits)


def make_report(order: Order) -> Report:
    """The report of a finished attempt that had nothing to do."""
    result = Result(attempt_id=order.attempt_id, token=order.token, started_at=1.0, finished_at=2.0)
    return Report(attempt_id=order.attempt_id, token=order.token, result=result)


def make_process(pid: int, parent: int = 1, *, started: float = 1.0, cpu_s: float = 0.0, name: str = "") -> Process:
    """A process of a made-up host."""
    return Process(pid, parent, name or f"process-{pid}", started, cpu_s)


def by_pid(processes: Iterable[Process]) -> dict[int, Process]:
    """A snapshot of a made-up host."""
    return {process.pid: process for process in processes}


def make_place(key: str, host_id: int = 1, **changed: Any) -> Place:
    """Device 1, which needs its host quiet, as a CPU does; named `slot...`, a slot."""
    slot = key.startswith("slot")
    values: dict[str, Any] = {"kind": "slot"} if slot else {"kind": "device", "device_id": 1, "quiet": "host"}
    return Place(key=key, host_id=host_id, **(values | changed))


def make_wanted(job_id: int, kind: JobKind = "measure", **changed: Any) -> Wanted:
    """A queued job of the first run; a measurement is of requirement 1, a conversion of requirement 2."""
    values: dict[str, Any] = {"requirement_id": 2 if kind == "convert" else 1, "position": job_id}
    return Wanted(job_id=job_id, kind=kind, **({"owner": "ann", "run_id": 1} | values | changed))


def make_host_description(*, why_not: dict[str, str] | None = None) -> dict[str, Any]:
    """This host's description, every backend of it able, but for those that `why_not` names.

    So a test says the same on a machine with all runtimes and on one with none.
    """

    def able(seam: str) -> list[dict[str, Any]]:
        return [
            dataclasses.asdict(BackendCapability(name=name, versions={name: "1"}, why_not=(why_not or {}).get(name)))
            for name in sorted(plugins(seam))
        ]

    described = dataclasses.asdict(describe_host())
    seams = {"runtimes": "runtimes", "converters": "converters", "sources": "model_sources"}
    return described | {name: able(seam) for name, seam in seams.items()}


def make_device(number: int = 1, *, why_not: dict[str, str] | None = None, **changed: Any) -> RegisteredDevice:
    """A registered CPU, online and enabled."""
    values: dict[str, Any] = {
        "id": number,
        "key": f"cpu:{number}",
        "name": f"host-{number}-cpu",
        "kind": "cpu",
        "driver": "cpu",
        "host_id": number,
        "host": f"host-{number}",
        "host_description": make_host_description(why_not=why_not),
        "presence": "online",
        "admin": "enabled",
        "not_before": None,
        "last_seen_at": NOW,
        "attributes": {"cores": 8, "os": "Linux"},
    }
    return RegisteredDevice(**(values | changed))


def make_row(**changed: Any) -> dict[str, Any]:
    """A row of results, as `scheduler.comparisons` makes them: one process, nothing to object to."""
    values: dict[str, Any] = {
        "model": "torchvision/resnet18",
        "weights": "random",
        "runtime": "torch",
        "format": "pt2",
        "recipe": "fp32",
        "device": "host-1-cpu",
        "simulated": False,
        "threads": 1,
        "batch": 1,
        "mode": "burst",
        "rate_hz": None,
        "affinity": None,
        "runtime_options": {},
        "inputs": {"image": ["float32", 1, 3, 224, 224]},
        "p50_ms": 12.34,
        "p50_ci_ms": None,
        "p90_ms": 13.0,
        "p95_ms": None,
        "p99_ms": None,
        "verdict": "valid",
        "reasons": [],
        "flags": [],
        "artifact_bytes": 46_800_000,
        "compile_ms": None,
        "load_ms": 80.0,
        "first_inference_ms": 20.0,
        "peak_rss_bytes": 350_000_000,
        "throughput_per_s": 81.0,
        "energy_per_inference_mj": None,
        "energy_quality": "unsupported",
        "energy_why": None,
        "fidelity": None,
        "accuracy": None,
        "speedup": 1.0,
        "speedup_ci": None,
        "environment": {"torch": "2"},
        "processes": [{"job": 1, "p50_ms": 12.34}],
    }
    return values | changed
