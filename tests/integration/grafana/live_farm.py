"""A farm whose numbers dashboards are asked about: a real database and dispatcher, a real agent with simulated devices,
and a scripted host whose devices count as real and have every sensor."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select, update

from device_registry.capabilities import DeviceDescription, HostDescription
from device_registry.database import insert_row, reading, writing
from device_registry.registry import list_devices
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.dispatcher import Dispatcher
from scheduler.executors.executor import Executor, Lost
from scheduler.executors.local import LocalExecutor
from scheduler.executors.scripted import Outcome, ScriptedExecutor, ScriptedHost, Succeed
from scheduler.farm import Farm
from scheduler.home import Home
from scheduler.leases import DispatcherLease
from scheduler.notifications.outbox import tell_incident
from scheduler.notifications.told import incident_series, incidents, noise_floors, trials
from scheduler.plan import Request
from scheduler.points import points, series
from scheduler.queue import sweep_runs
from scheduler.status import run_is_done
from tests.unit.scheduler.builders import BROKEN, CRASHED, INT8, ONNX, TORCH, plan_of
from workers.agent import HostAgent
from workers.codec import to_dict
from workers.contract import Failure, Order
from workers.readings import pack
from workers.report import Energy, Reading, Report
from workers.sensors.disk import Disk

#: The agent's own devices: warm ones, one that must throttle, one whose attempts crash.
FLEET = {
    "time_scale": 0.01,
    "devices": [
        {"model": "Pixel 8", "count": 2, "soc": "tensor-g3", "os": "14"},
        {
            "model": "Oven",
            "thermal": {"rise_c": 80, "tau_s": 1, "start_limit_c": 44, "limit_c": 45, "throttled_speed": 0.3},
        },
        {"model": "Lemon", "faults": [{"fault": "crash", "probability": 1.0}]},
    ],
}
_PROCESSES = 5


class SensingHost(ScriptedHost):
    """Tells of each measurement what a host with every sensor would."""

    #: What its environment is: another begins a new epoch.
    driver = "1"

    def _report(self, order: Order, outcome: Succeed | Failure) -> Report:
        made = super()._report(order, outcome)
        measured = made.result.measurement
        if order.measure is None or measured is None:
            return made
        until = time.time()
        energy_mj = 3.0 * measured.timings.p50_ms
        measured = replace(
            measured,
            peak_rss_bytes=150_000_000,
            timings=replace(measured.timings, p99_ms=1.2 * measured.timings.p50_ms),
        )
        return replace(
            made,
            result=replace(made.result, measurement=measured),
            energy=Energy(quality="ok", source="rapl", window_s=1.0, energy_per_inference_mj=energy_mj),
            telemetry=tuple(_readings(until - 2.0, until)),
            environment={**made.environment, "driver": self.driver},
        )


def _readings(since: float, until: float) -> list[Reading]:
    """Two of each channel, a throttle event, and one that says why it is absent."""
    told = []
    for sensor, domain, quantity, unit, first, last in (
        ("thermal-zones", "cpu_package", "temperature", "C", 41.0, 63.5),
        ("cpu-frequency", "cpu", "clock", "MHz", 3200.0, 2800.0),
        ("cpu-load", "cpu", "busy", "cores", 1.0, 1.1),
        ("process-memory", "process", "rss", "bytes", 1.2e8, 1.5e8),
        ("rapl", "package-0", "energy", "mJ", 10_000.0, 22_000.0),
        ("android-battery", "battery", "level", "%", 81.0, 80.0),
        ("android-battery", "battery", "current", "mA", -350.0, -900.0),
        ("android-thermal", "phone", "thermal_status", "0-6", 0.0, 3.0),
    ):
        name: dict[str, Any] = {"sensor": sensor, "domain": domain, "quantity": quantity, "unit": unit}
        told += [
            Reading(**name, value=first, quality="ok", at=since),
            Reading(**name, value=last, quality="ok", at=until),
        ]
    throttled: dict[str, Any] = {"sensor": "android-thermal", "domain": "phone", "quantity": "throttle_events"}
    told.append(Reading(**throttled, unit="count", value=1.0, quality="ok", at=until))
    absent: dict[str, Any] = {"sensor": "rapl", "domain": "dram", "quantity": "energy", "unit": "mJ"}
    told.append(Reading(**absent, value=None, quality="no_permission", at=until, why="energy counters are root's"))
    return told


class _SimulatedHost(LocalExecutor):
    """The real agent, with simulated devices only."""

    def __init__(self, home: Home) -> None:
        self._agent = HostAgent(home.path, home.store_url, name="lab", drivers=("sim",))
        self._greeted = False


class _Both:
    """Reaches the scripted host and the agent of this one."""

    def __init__(self, scripted: ScriptedExecutor, local: LocalExecutor) -> None:
        self._of: dict[str, Executor] = {"here": scripted, "local": local}
        self._all: tuple[Executor, ...] = (scripted, local)

    def arrivals(self) -> dict[str, dict[str, Any]]:
        return {name: hello for one in self._all for name, hello in one.arrivals().items()}

    def start(self, host: str, orders: Sequence[dict[str, Any]]) -> None:
        self._of[host].start(host, orders)

    def cancel(self, host: str, attempt_ids: Sequence[int], why: str) -> None:
        self._of[host].cancel(host, attempt_ids, why)

    def poll(self, cursors: Mapping[str, int], wait_s: float) -> dict[str, dict[str, Any] | Lost]:
        answers: dict[str, dict[str, Any] | Lost] = {}
        for host, cursor in cursors.items():
            answers |= self._of[host].poll({host: cursor}, min(wait_s, 0.02))
        return answers

    def log(self, host: str, attempt_id: int, token: str) -> str:
        return self._of[host].log(host, attempt_id, token)

    def recover(self, host: str, device: str, rung: int) -> None:
        self._of[host].recover(host, device, rung)

    def close(self) -> None:
        for one in self._all:
            one.close()


class LiveFarm:
    """The farm while it works. Time is real."""

    def __init__(self, home: Home, fleet_file: Path) -> None:
        """Open an empty database at this code's schema; `BENCHFARM_SIM` names the fleet file already."""
        self._fleet_file = fleet_file
        fleet_file.write_text(json.dumps(FLEET))
        self.farm = Farm(home)
        self.host = SensingHost(
            self.farm.store,
            home.path,
            HostDescription(
                key="here", name="here", system="s", architecture="a", cpu_model="c", cpu_count=2, memory_bytes=10**9
            ),
            [DeviceDescription(key=f"here:{n}", name=f"d{n}", kind="gpu", driver="scripted") for n in range(2)],
        )
        lease = DispatcherLease()
        with writing(self.farm.engine) as connection:
            assert lease.acquire(connection, utc_now())
        self._dispatcher = Dispatcher(
            self.farm.engine, _Both(ScriptedExecutor([self.host]), _SimulatedHost(home)), lease
        )
        self._until(lambda: len(self._devices()) == 6)

    def close(self) -> None:
        """End it."""
        self._dispatcher.stop()
        self._dispatcher.close()
        self._dispatcher._executor.close()
        self.farm.engine.dispose()

    def begin(self) -> None:
        """Run what there is before anybody looks: what is read seldom is there at the first look."""
        self._work("1")

    def go_on(self) -> None:
        """Run it again in another environment."""
        self._work("2")
        self._come_and_go()

    def end(self) -> None:
        """Run what fails; something regressed, and somebody is to be told; something waits in the queue for ever."""
        self._fail()
        self._regress()
        self._wait_in_vain()

    def _work(self, driver: str) -> None:
        self.host.driver = driver
        self._measure_scripted(driver)
        self._measure_simulated(driver)

    def _measure_scripted(self, salt: str) -> None:
        self.host.play = _latencies()
        gpus = [device for device in self._devices() if device.kind == "gpu"]
        unsupported = [
            {"model": "net", "runtime": "tensorrt", "recipe": "fp32", "device": gpus[0].name, "why": "not installed"}
        ]
        plan = plan_of(gpus, TORCH, ONNX, INT8, repeats=_PROCESSES, salt=salt, unsupported=unsupported)
        self._finish(self._submit(plan))
        between = [*_readings(time.time() - 5, time.time()), *Disk().read(time.time(), frozenset())]
        told = {device.key: pack([to_dict(one) for one in between]) for device in gpus}
        self.host.read(told)
        self.tick()

    def _measure_simulated(self, os: str) -> None:
        fleet = json.loads(self._fleet_file.read_text())
        fleet["devices"][0]["os"] = os
        self._fleet_file.write_text(json.dumps(fleet))
        request = Request(models=("sim/tiny",), repeats=_PROCESSES, gate="none", selector="kind=sim", owner=f"lab-{os}")
        self._finish(self.farm.submit(request).sweep_run_id)

    def _come_and_go(self) -> None:
        """A cable comes loose and is put back."""
        there = list(self.host.devices)
        for devices in (there[:1], there):
            self.host.plug(devices)
            self.tick()

    def _fail(self) -> None:
        """One job is tried again, one fails for good."""
        gpus = [device for device in self._devices() if device.kind == "gpu"]
        once = [BROKEN]
        latencies = _latencies()

        def play(order: Order) -> Outcome:
            if order.measure is None:
                return Succeed()
            if order.measure.recipe == "int8-static":
                return CRASHED
            return once.pop() if once else latencies(order)

        self.host.play = play
        self._finish(self._submit(plan_of(gpus[:1], TORCH, INT8, model="other", salt="fail")))

    def _regress(self) -> None:
        """An incident of the last two points of the GPUs' series, two noise floors, a message that waits."""
        with writing(self.farm.engine) as connection:
            connection.execute(update(sweep_runs).values(watched=True))
            about = {
                "cause": "code",
                "cause_why": "the bridge did not move",
                "title": "net is slower",
                "environment": {},
            }
            now, last = utc_now(), connection.execute(select(func.max(points.c.sweep_run_id))).scalar_one()
            times = {"opened_at": now, "changed_at": now}
            incident = insert_row(
                connection, incidents, state="open", sweep="nightly", sweep_run_id=last, change=0.08, **about, **times
            )
            trial = insert_row(
                connection,
                trials,
                purpose="noise",
                sweep_run_id=last,
                device_id=self._devices()[0].id,
                title="net",
                baseline_key="a",
                candidate_key="a",
                state="done",
                wanted=10,
                created_at=now,
            )
            query = select(series.c.id).where(series.c.runtime != "sim").order_by(series.c.id)
            for number, series_id in enumerate(connection.execute(query).scalars().all()):
                ids = connection.execute(
                    select(points.c.id).where(points.c.series_id == series_id).order_by(points.c.id)
                ).scalars()
                before, *_, after = ids
                if number > 2:
                    break
                connection.execute(
                    insert(incident_series).values(
                        incident_id=incident,
                        series_id=series_id,
                        found_by="trial",
                        baseline_point_id=before,
                        candidate_point_id=after,
                        change=0.08,
                    )
                )
                floor = {"noise": 0.03, "detectable": 0.07 if number else 0.02, "processes": 20, "trial_id": trial}
                connection.execute(insert(noise_floors).values(series_id=series_id, at=now, **floor))
            tell_incident(connection, incident, "opened", now)

    def _wait_in_vain(self) -> None:
        """A job waits for a device that went away."""
        self.host.plug(self.host.devices[:1])
        self.tick()
        self._submit(plan_of([device for device in self._devices() if device.name == "d1"], TORCH, salt="vain"))
        self.tick()

    def _submit(self, plan: Any) -> int:
        with writing(self.farm.engine) as connection:
            submitted = runs.submit(
                connection,
                plan,
                Request(models=("net",)),
                self.farm.store,
                owner="tester",
                this_host_id=self._devices()[0].host_id,
                now=utc_now(),
                follow=False,
            )
        return submitted.sweep_run_id

    def _finish(self, run_id: int) -> None:
        def done() -> bool:
            with reading(self.farm.engine) as connection:
                return run_is_done(connection, run_id)

        self._until(done)

    def _devices(self) -> Any:
        with reading(self.farm.engine) as connection:
            return list_devices(connection)

    def _until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            self.tick()
            assert time.monotonic() < deadline, "the farm does not get on"

    def tick(self) -> None:
        """One round of the dispatcher."""
        self._dispatcher.tick(0.02)


def _latencies() -> Callable[[Order], Outcome]:
    """Each variant and device has a time of its own; no two processes are alike."""
    count = 0

    def play(order: Order) -> Outcome:
        nonlocal count
        if order.measure is None:
            return Succeed()
        count += 1
        base = {"torch": 9.0, "onnxruntime": 5.0}[order.measure.runtime]
        base *= 0.5 if order.measure.recipe == "int8-static" else 1.0
        base *= 1.4 if order.place == "here:1" else 1.0
        return Succeed(p50_ms=base * (1 + 0.01 * math.sin(count)))

    return play
