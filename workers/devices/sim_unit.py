"""One simulated device: how warm it is, what is wrong with it, and what an attempt on it comes to.

Everything is drawn from the unit's own generator in the order of its attempts, so a seed tells the whole story.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any, Literal

from workers.contract import Failure
from workers.devices.sim_fleet import Fault, Group, Thermal
from workers.errors import Cause
from workers.models.sim_zoo import MODELS, SPEED_UPS, SimModel, slow_down_of

#: Standard error of a median over that of a mean.
_MEDIAN_ERROR = 1.2533
#: Runs before the timed part.
WARM_UP_RUNS = 10
#: Of the interval of the median, on each side: the protocol's (docs/measurement.md).
_CONVERGED = 0.01
_LEAST_ITERATIONS = {90: 64, 95: 128, 99: 662}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """How an attempt went thermally."""

    waited_s: float
    #: It was cool enough to begin.
    ready: bool
    start_c: float
    end_c: float
    #: Share of the timed part that was throttled, always its last.
    throttled: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was seen of a run that went well."""

    model: SimModel
    recipe: str
    iterations: int
    p50_ms: float
    #: How much slower the throttled part was.
    slow_down: float
    load_ms: float
    elapsed_s: float
    converged: bool
    heat: Heat | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt comes to, decided at its beginning."""

    #: From order to report, simulated seconds; of a failure, until it shows.
    seconds: float
    run: Run | None = None
    failure: Failure | None = None
    #: They are of the wall clock, whatever the scale of time.
    on_wall: bool = False


@dataclass
class SimUnit:
    """One unit of a group. Not safe for threads: its driver holds a lock."""

    key: str
    name: str
    group: Group
    #: From 1.
    number: int
    #: Wall-clock seconds of a simulated second.
    time_scale: float
    seed: int
    #: When the driver began: what `at_s` counts from.
    began: float
    away: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._luck = random.Random(f"{self.seed}:{self.key}")  # noqa: S311  # no secret
        self._silicon = math.exp(self._luck.gauss(0, self.group.latency.unit_sigma))
        self._attempts = 0
        self._slow_until = self._sick_until = -math.inf
        self._slow_by = 1.0
        self._take_faults()
        self._next_attempt: list[Literal["hang", "crash"]] = []
        self.celsius = self.group.thermal.ambient_c if self.group.thermal is not None else 25.0
        self._idle_since = self.began

    def become(self, group: Group) -> None:
        """Take on what the fleet file says of its kind now; it stays as warm or sick as it is."""
        if group != self.group:
            had, self.group = self.group.faults, group
            if group.faults != had:
                self._take_faults()

    def is_here(self, now: float) -> bool:
        """Whether the device can be seen now (monotonic seconds)."""
        self._keep_schedule(now)
        self.away = [(since, until) for since, until in self.away if until > now]
        return not any(since <= now for since, _ in self.away)

    def reconnect(self, now: float) -> bool:
        """It is there again; whether that was all that ailed it."""
        self.away.clear()
        return now >= self._sick_until

    def reboot(self, now: float) -> None:
        """It is there again, and well."""
        self.away.clear()
        self._sick_until = self._slow_until = now

    def begin(self, order: dict[str, Any], now: float) -> Outcome:
        """Decide what an attempt that begins now comes to.

        Args:
            order: as it came, with a measurement or a profile.
            now: monotonic seconds.
        """
        task = order["measure"] or order["profile"]
        if order.get("evaluate") is not None:
            return _ends(0.0, Cause.MODEL, "unsupported", "a simulated device computes nothing: it has no accuracy")
        if not self.is_here(now):
            return _ends(0.0, Cause.INFRASTRUCTURE, "device_gone", f"{self.name} was gone from its host")
        if now < self._sick_until:
            return _ends(0.0, Cause.DEVICE, "unwell", f"{self.name} refuses to work (simulated)")
        model = MODELS.get(task["model"])
        if model is None or task["recipe"] not in SPEED_UPS:
            what = f"{task['model']} {task['recipe']}"
            return _ends(0.0, Cause.MODEL, "unsupported", f"a simulated device does not run {what}")
        self._attempts += 1
        if now >= self._slow_until:
            self._slow_by = 1.0
        outcome = self._measure(model, task, order, now)
        return self._struck(outcome, order, now)

    def _measure(self, model: SimModel, task: dict[str, Any], order: dict[str, Any], now: float) -> Outcome:
        latency, options = self.group.latency, task["options"]
        iteration_ms = model.nominal_ms / SPEED_UPS[task["recipe"]] / self.group.speed * options["batch"]
        iteration_ms *= slow_down_of((order.get("inputs") or {}).get("artifact"))
        iteration_ms *= self._silicon * self._slow_by * (1 + latency.drift * self._attempts / 1000)
        iteration_ms *= math.exp(self._luck.gauss(0, latency.process_sigma))
        load_ms = 20 + 2 * iteration_ms
        iterations = max(_LEAST_ITERATIONS[options["percentile"]], round(options["min_seconds"] * 1e3 / iteration_ms))
        before_s = (load_ms + (3 + WARM_UP_RUNS) * iteration_ms) / 1e3
        plain_s = iterations * iteration_ms / 1e3
        heat = None
        if self.group.thermal is not None:
            heat = self._warm(self.group.thermal, order, before_s, plain_s, now)
            if not heat.ready and order["gate"] == "strict":
                why = f"{self.name} was not ready after {heat.waited_s:.0f} s: {heat.start_c:.0f} C"
                return _ends(heat.waited_s, Cause.DEVICE, "gate_timeout", why)
        waited_s, throttled = (heat.waited_s, heat.throttled) if heat is not None else (0.0, 0.0)
        slow_down = 1.0 if self.group.thermal is None else 1 / self.group.thermal.throttled_speed
        error = _MEDIAN_ERROR * latency.sigma / math.sqrt(iterations)
        p50_ms = iteration_ms * (slow_down if throttled > 0.5 else 1.0) * math.exp(error * self._luck.gauss(0, 1))
        elapsed_s = plain_s * (1 + throttled * (slow_down - 1))
        run = Run(
            model=model,
            recipe=task["recipe"],
            iterations=iterations,
            p50_ms=p50_ms,
            slow_down=slow_down,
            load_ms=load_ms,
            elapsed_s=elapsed_s,
            converged=1.96 * error <= _CONVERGED,
            heat=heat,
        )
        seconds = waited_s + before_s + elapsed_s
        self._idle_since = now + seconds * self.time_scale
        return Outcome(seconds=seconds, run=run)

    def celsius_at(self, now: float) -> float | None:
        """How warm it is now (monotonic seconds), idle since its last attempt; None where it tells no temperature."""
        return self._cooled(self.group.thermal, now) if self.group.thermal is not None else None

    def _cooled(self, thermal: Thermal, now: float) -> float:
        idle_s = max(now - self._idle_since, 0.0) / (self.time_scale or 1.0)
        return thermal.ambient_c + (self.celsius - thermal.ambient_c) * math.exp(-idle_s / thermal.tau_s)

    def _warm(self, thermal: Thermal, order: dict[str, Any], before_s: float, timed_s: float, now: float) -> Heat:
        """Cool since the last attempt, wait at the gate, then warm towards the steady state or the limit."""
        ambient, tau = thermal.ambient_c, thermal.tau_s
        start = self._cooled(thermal, now)
        waited_s = 0.0
        if start > thermal.start_limit_c and order["gate"] != "none":
            needed_s = tau * math.log((start - ambient) / (thermal.start_limit_c - ambient))
            waited_s = min(needed_s, order["gate_timeout_s"])
            start = ambient + (start - ambient) * math.exp(-waited_s / tau)
        steady = ambient + thermal.rise_c
        limit_after_s = math.inf
        if start >= thermal.limit_c:
            limit_after_s = 0.0
        elif steady > thermal.limit_c:
            limit_after_s = tau * math.log((steady - start) / (steady - thermal.limit_c))
        whole_s = before_s + timed_s
        end = steady + (start - steady) * math.exp(-whole_s / tau)
        self.celsius = min(end, max(thermal.limit_c, start))
        return Heat(
            waited_s=waited_s,
            ready=start <= thermal.start_limit_c + 0.01,
            start_c=start,
            end_c=self.celsius,
            throttled=min(max((whole_s - limit_after_s) / timed_s, 0.0), 1.0),
        )

    def _struck(self, outcome: Outcome, order: dict[str, Any], now: float) -> Outcome:
        """What becomes of an attempt that faults may hit, the first that does."""
        for fault in self._faults:
            if fault.probability and self._luck.random() < fault.probability:
                if fault.fault in ("hang", "crash"):
                    self._next_attempt.append("hang" if fault.fault == "hang" else "crash")
                else:
                    self._apply(fault, now + self._luck.random() * outcome.seconds * self.time_scale)
        limit_s = order["limits"]["deadline_s"]
        strike = self._next_attempt.pop(0) if self._next_attempt else None
        if strike == "hang" or outcome.seconds > limit_s:
            return _ends(limit_s, Cause.MODEL, "hung", f"no result after {limit_s:.0f} s (simulated)")
        if strike == "crash":
            seconds = outcome.seconds * self._luck.random()
            return _ends(seconds, Cause.MODEL, "crashed", "the runtime crashed the process (simulated)")
        ends = now + outcome.seconds * self.time_scale
        if gone := [since for since, _ in self.away if since <= ends]:
            why = f"{self.name} was gone from its host"
            wall_s = max(min(gone) - now, 0.0)
            failure = Failure(cause=Cause.INFRASTRUCTURE, code="device_gone", message=why)
            return Outcome(seconds=wall_s, failure=failure, on_wall=True)
        return outcome

    def _apply(self, fault: Fault, now: float) -> None:
        if fault.fault == "vanish":
            self.away.append((now, now + fault.seconds))
        elif fault.fault == "flap":
            self.away += [
                (now + 2 * turn * fault.seconds, now + (2 * turn + 1) * fault.seconds) for turn in range(fault.times)
            ]
        elif fault.fault == "slow":
            self._slow_until, self._slow_by = now + fault.seconds, fault.factor
        elif fault.fault == "sick":
            self._sick_until = now + fault.seconds
        else:
            self._next_attempt.append(fault.fault)

    def _take_faults(self) -> None:
        self._faults = [f for f in self.group.faults if f.units is None or self.number in f.units]
        self._next_due = [fault.at_s for fault in self._faults]

    def _keep_schedule(self, now: float) -> None:
        for index, fault in enumerate(self._faults):
            due = self._next_due[index]
            while due is not None and now >= self.began + due:
                self._apply(fault, self.began + due)
                due = due + fault.every_s if fault.every_s is not None else None
            self._next_due[index] = due


def _ends(seconds: float, cause: Cause, code: str, why: str) -> Outcome:
    return Outcome(seconds=seconds, failure=Failure(cause=cause, code=code, message=why))
