"""What is true in a made-up lab: how fast which artifact is on which unit at which time, and what goes wrong there.

Everything follows from a seed. Every process draws its own noise; what lasts a night (a warm room, a layout of memory)
is one for all processes of that night: trials feel it on both sides, points from one night to the next.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

#: When the first night begins.
FIRST_NIGHT = "2026-01-01T02:00:00+00:00"
#: Standard error of a median of five over the standard deviation of one.
_MEDIAN_OF_FIVE = 0.536
#: Of the notes' spiky series: correlation of neighbours, share of spikes, and their size in sigmas.
_CORRELATION, _SPIKES, _SPIKE_SIGMAS = 0.3, 0.02, (4.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How a series scatters from night to night: half of what no single process adds, a unit's series share."""

    #: Relative standard deviation of a point of five processes.
    sigma: float = 0.02
    kind: Literal["gaussian", "spiky"] = "gaussian"

    @property
    def of_nights(self) -> float:
        """The part that lasts a night: of the series, and of its unit, each."""
        return self.sigma * math.sqrt((1 - _MEDIAN_OF_FIVE**2) / 2)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that changes. Nights are counted from 0; what is None holds for all."""

    since: int = 0
    until: int | None = None
    #: Devices and models it holds for.
    devices: frozenset[str] | None = None
    models: frozenset[str] | None = None

    def holds(self, night: int, device: str, model: str | None = None) -> bool:
        """Whether it does."""
        return (
            self.since <= night < (self.until if self.until is not None else math.inf)
            and (self.devices is None or device in self.devices)
            and (self.models is None or model is None or model in self.models)
        )


@dataclass(frozen=True, kw_only=True)
class CodeChange(Event):
    """Artifacts made in these nights are slower, wherever and whenever they run."""

    change: float


@dataclass(frozen=True, kw_only=True)
class Update(Event):
    """The system is another one, and everything that runs on it may be slower."""

    os: str
    change: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Worn(Event):
    """Everything that runs there is slower, and nothing tells why."""

    change: float


@dataclass(frozen=True, kw_only=True)
class Drift(Event):
    """It becomes slower each night."""

    per_night: float


@dataclass(frozen=True, kw_only=True)
class Clock(Event):
    """The clock is held at a share of what it was."""

    share: float


@dataclass(frozen=True, kw_only=True)
class Throttled(Event):
    """Runs are throttled in the middle: slower, and judged so."""

    change: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Unwell(Event):
    """Every attempt fails for the device's own sake."""


@dataclass(frozen=True, kw_only=True)
class Missing(Event):
    """The device is not there."""


@dataclass(kw_only=True)
class Unit:
    """One device of the lab."""

    name: str
    model: str
    #: MHz that its sensor tells; None: it has none.
    clock_mhz: float | None = None
    #: None: as all of the world.
    noise: Noise | None = None

    @property
    def key(self) -> str:
        """Its key in the registry."""
        return f"lab:{self.name}"


@dataclass(kw_only=True)
class Seen:
    """What a process comes to."""

    p50_ms: float
    os: str
    clock_mhz: float | None
    throttled: bool


@dataclass
class World:
    """The lab's truth."""

    units: list[Unit]
    events: list[Event] = field(default_factory=list)
    noise: Noise = field(default_factory=Noise)
    seed: int = 0

    def __post_init__(self) -> None:
        self.start = datetime.fromisoformat(FIRST_NIGHT)
        self.unit_of = {unit.key: unit for unit in self.units}
        #: A sequence for each thing that scatters: what happens elsewhere, and in which order, changes none.
        self._luck: dict[str, random.Random] = {}
        self._last: dict[str, float] = {}
        self._nights: dict[tuple[str, int], float] = {}
        self._seen: dict[str, int] = {}

    def night_of(self, now: datetime) -> int:
        """Which night it is."""
        return (now - self.start) // timedelta(days=1)

    def is_here(self, unit: Unit, night: int) -> bool:
        """Whether a unit can be seen."""
        return not any(isinstance(event, Missing) and event.holds(night, unit.name) for event in self.events)

    def is_unwell(self, unit: Unit, night: int) -> bool:
        """Whether attempts there fail for the device's own sake."""
        return any(isinstance(event, Unwell) and event.holds(night, unit.name) for event in self.events)

    def os_of(self, unit: Unit, night: int) -> str:
        """The version of its system."""
        updates = [event for event in self.events if isinstance(event, Update) and event.holds(night, unit.name)]
        return updates[-1].os if updates else "14"

    def run(self, unit: Unit, model: str, recipe: str, made_in: int, night: int) -> Seen:
        """One fresh process.

        Args:
            unit: where.
            model: of the artifact.
            recipe: of the artifact.
            made_in: the night whose revision it was made of.
            night: now.
        """
        factor = 1.0
        clock, throttled = unit.clock_mhz, False
        for event in self.events:
            if isinstance(event, CodeChange):
                if event.holds(made_in, unit.name, model):
                    factor *= 1 + event.change
            elif not event.holds(night, unit.name, model):
                continue
            elif isinstance(event, Update | Worn):
                factor *= 1 + event.change
            elif isinstance(event, Drift):
                factor *= 1 + event.per_night * (night - event.since + 1)
            elif isinstance(event, Clock):
                factor /= event.share
                clock = clock * event.share if clock is not None else None
            elif isinstance(event, Throttled):
                factor *= 1 + event.change
                throttled = True
        noise = unit.noise or self.noise
        scatter = (
            self._of_night(f"{unit.name} {model} {recipe}", night, noise)
            + self._of_night(unit.name, night, noise)
            + self._draw(f"processes of {unit.name}", noise.sigma, noise.kind)
        )
        p50_ms = self._nominal_ms(unit, model, recipe) * factor * math.exp(scatter)
        return Seen(p50_ms=p50_ms, os=self.os_of(unit, night), clock_mhz=clock, throttled=throttled)

    def _of_night(self, what: str, night: int, noise: Noise) -> float:
        if (what, night) not in self._nights:
            # Nights that nobody saw pass, too.
            done = self._seen.get(what, -1)
            for passed in range(done + 1, night + 1):
                self._nights[what, passed] = self._draw(what, noise.of_nights, noise.kind)
            self._seen[what] = night
        return self._nights[what, night]

    def _draw(self, what: str, sigma: float, kind: str) -> float:
        """The next value of a sequence of its own."""
        if (luck := self._luck.get(what)) is None:
            luck = self._luck[what] = random.Random(f"{self.seed} {what}")
        value = luck.gauss(0, 1)
        if kind == "spiky":
            rest = math.sqrt(1 - _CORRELATION**2)
            self._last[what] = value = _CORRELATION * self._last.get(what, 0.0) + rest * value
            if luck.random() < _SPIKES:
                value += luck.uniform(*_SPIKE_SIGMAS)
        return sigma * value

    def _nominal_ms(self, unit: Unit, model: str, recipe: str) -> float:
        """Between 2 and 200 ms, another for each case and unit."""
        text = f"{unit.model} {model} {recipe}"
        share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
        own = int.from_bytes(hashlib.sha256(unit.name.encode()).digest()[:4], "big") / 2**32
        return 2 * 100**share * (0.95 + 0.1 * own)
