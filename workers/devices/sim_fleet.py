"""The fleet file of simulated devices: which there are, how they behave, and what goes wrong with them.

{"seed": 1, "time_scale": 0.1, "devices": [
  {"count": 50, "model": "Pixel 8", "soc": "tensor-g3", "os": "14",
   "latency": {"sigma": 0.03, "outliers": 0.01}, "thermal": {"limit_c": 45},
   "faults": [{"fault": "vanish", "probability": 0.001, "seconds": 10},
              {"fault": "sick", "at_s": 60, "seconds": 120, "units": [3]}]}]}
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from device_registry.errors import UsageError
from workers.codec import ContractError, read_document

FaultKind = Literal["vanish", "flap", "hang", "crash", "slow", "sick"]
#: Environment variable of the agent: where its fleet file is; absent where no device is simulated.
FLEET_VARIABLE = "BENCHFARM_SIM"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How the times of one device scatter."""

    #: Of the logarithm of a run's iterations: 0.02 is 2 %.
    sigma: float = 0.02
    #: Share of iterations that take `outlier_factor` times as long.
    outliers: float = 0.005
    outlier_factor: float = 3.0
    #: Of the logarithm of units of one model: no two are equally fast.
    unit_sigma: float = 0.02
    #: Of the logarithm of processes on one unit: the same case never comes out the same twice.
    process_sigma: float = 0.005
    #: How much slower a unit becomes with each 1,000 attempts: 0.01 is 1 %.
    drift: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """A first-order model: a device warms towards `ambient_c + rise_c` while it runs, and cools towards ambient."""

    ambient_c: float = 25.0
    rise_c: float = 25.0
    tau_s: float = 120.0
    #: A run that begins above it waits (its gate's policy says how long).
    start_limit_c: float = 38.0
    #: The device holds this by running slower.
    limit_c: float = 45.0
    #: How fast it runs then.
    throttled_speed: float = 0.6


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong: with a probability for each attempt, or at a time, or both.

    vanish: the device is gone for `seconds`. flap: gone and back `times` times. hang: an attempt never ends. crash: an
    attempt dies. slow: `factor` times slower for `seconds`. sick: every attempt fails for the device's own sake.
    """

    fault: FaultKind
    #: For each attempt.
    probability: float = 0.0
    #: Seconds after the agent began, on the wall clock; again every `every_s`.
    at_s: float | None = None
    every_s: float | None = None
    #: Units of the group that it may hit, from 1; None: any.
    units: tuple[int, ...] | None = None
    #: How long it lasts, on the wall clock.
    seconds: float = 10.0
    factor: float = 3.0
    times: int = 3


@dataclass(frozen=True, kw_only=True)
class Group:
    """Devices of one model."""

    model: str
    count: int = 1
    soc: str = "simulated"
    os: str = "1"
    #: How fast it is: 2 takes half the time.
    speed: float = 1.0
    #: Further attributes, for selectors.
    attributes: dict[str, str] = field(default_factory=dict)
    latency: Latency = field(default_factory=Latency)
    #: None: it never warms, and tells no temperatures.
    thermal: Thermal | None = field(default_factory=Thermal)
    faults: tuple[Fault, ...] = ()

    @property
    def slug(self) -> str:
        """The model as part of a name: pixel-8."""
        return re.sub(r"[^a-z0-9]+", "-", self.model.casefold()).strip("-") or "device"


@dataclass(frozen=True, kw_only=True)
class FleetFile:
    """What `BENCHFARM_SIM` names."""

    devices: tuple[Group, ...]
    #: The same seed on a host of the same name gives the same devices, and each the same run of luck.
    seed: int = 1
    #: Wall-clock seconds of a simulated second; 0: attempts take no time at all.
    time_scale: float = 1.0


def read_fleet(path: Path) -> FleetFile:
    """Read and check a fleet file.

    Raises:
        UsageError: it cannot be read, or a number in it makes no sense.
    """
    try:
        fleet = read_document(FleetFile, path)
    except OSError as error:
        raise UsageError(f"cannot read the fleet file {path}: {error.strerror}") from error
    except ContractError as error:
        raise UsageError(f"fleet file {path}: {error}") from error
    for group in fleet.devices:
        if why := _wrong(group):
            raise UsageError(f"fleet file {path}: {group.model}: {why}")
    if fleet.time_scale < 0:
        raise UsageError(f"fleet file {path}: time_scale cannot be negative")
    return fleet


def _wrong(group: Group) -> str | None:
    latency, thermal = group.latency, group.thermal
    if group.count < 0 or group.speed <= 0:
        return "count cannot be negative, and speed must be above 0"
    if min(latency.sigma, latency.unit_sigma, latency.process_sigma) < 0 or not 0 <= latency.outliers < 0.25:
        return "a sigma cannot be negative, and less than a quarter of iterations can be outliers"
    if latency.outlier_factor < 1:
        return "outlier_factor must be at least 1"
    if thermal is not None:
        if not thermal.ambient_c < thermal.start_limit_c <= thermal.limit_c:
            return "ambient_c must be below start_limit_c, and that not above limit_c"
        if thermal.tau_s <= 0 or thermal.rise_c < 0 or not 0 < thermal.throttled_speed <= 1:
            return "tau_s must be above 0, rise_c not negative, and throttled_speed between 0 and 1"
    for fault in group.faults:
        if not 0 <= fault.probability <= 1 or fault.seconds < 0 or fault.factor < 1 or fault.times < 1:
            return f"{fault.fault}: probability is a share, seconds not negative, factor and times at least 1"
        if fault.every_s is not None and (fault.at_s is None or fault.every_s <= 0):
            return f"{fault.fault}: every_s must be above 0, and needs at_s"
    return None
