"""What a host says of itself and of its devices: plain data that crosses process borders."""

from __future__ import annotations

from dataclasses import dataclass, field

#: An attribute of a device: selectors compare these; of several texts (tags), each.
Attribute = str | int | float | bool | tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class BackendCapability:
    """Whether one registered backend (runtime, converter, model source, sensor) can work on a host."""

    name: str
    #: Versions of the distributions it needs; empty when one is missing.
    versions: dict[str, str] = field(default_factory=dict)
    #: Why it cannot work here; None when it can.
    why_not: str | None = None
    #: The one command that mends it, where there is one.
    fix: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceDescription:
    """One device as its driver found it."""

    #: Stable identity: outlives cables, ports and reboots.
    key: str
    #: What people type and read.
    name: str
    #: cpu, gpu, mac, android, ...
    kind: str
    #: The driver that found it and runs jobs on it: a name in the `benchfarm.devices` entry-point group.
    driver: str
    #: Named facts (SoC, memory, operating system, ...); None where the host does not tell.
    attributes: dict[str, Attribute] = field(default_factory=dict)
    presence: str = "online"
    #: Names of the rungs of its recovery ladder, the gentlest first.
    recovery: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostDescription:
    """One host as its agent found it."""

    #: Stable identity of the machine.
    key: str
    name: str
    system: str
    architecture: str
    cpu_model: str
    cpu_count: int
    memory_bytes: int
    #: Versions that belong to the environment fingerprint (kernel, Python, ...).
    environment: dict[str, str] = field(default_factory=dict)
    #: What the lab said at join: {"rack": "a"}.
    labels: dict[str, str] = field(default_factory=dict)
    runtimes: tuple[BackendCapability, ...] = ()
    converters: tuple[BackendCapability, ...] = ()
    compressions: tuple[BackendCapability, ...] = ()
    sensors: tuple[BackendCapability, ...] = ()
    #: Model sources.
    sources: tuple[BackendCapability, ...] = ()
