"""What a request is measured on: each device that matches, any of them, or one of each model of device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from device_registry.registry import RegisteredDevice
from device_registry.selectors import Selector, Term

#: each: every matching device, pinned; any: whichever is free; per-model: one unit of each device model.
Spread = Literal["each", "any", "per-model"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a case is measured: on one device, or on whichever of several is free."""

    #: What people read.
    label: str
    #: Tells targets of one request apart, and is part of the case: a device's key, or what the units have in common.
    key: str
    #: The units that it may be, as far as they are known; empty: those that come.
    devices: tuple[RegisteredDevice, ...]
    #: Set where it is this one and no other.
    device: RegisteredDevice | None = None
    #: What its units have in common; empty where it is pinned.
    selector: str = ""

    @property
    def device_model(self) -> str | None:
        """The model that all its units are of."""
        models = {_model_of(device) for device in self.devices}
        return models.pop() if len(models) == 1 else None


def targets_of(spread: Spread, selector: Selector, devices: Sequence[RegisteredDevice]) -> list[Target]:
    """Targets among the devices that a selector matches, in the order of the devices."""
    if spread == "any":
        label = f"any of {selector}" if selector.terms else "any device"
        key = f"any:{selector}" if selector.terms else "any"  # two of one sweep are no one case
        return [Target(label=label + _mark(devices), key=key, devices=tuple(devices), selector=str(selector))]
    if spread == "each":
        return [_pinned(device) for device in devices]
    units: dict[str, list[RegisteredDevice]] = {}
    for device in devices:
        units.setdefault(_model_of(device) or device.key, []).append(device)
    return [_of_model(selector, model, tuple(found)) for model, found in units.items()]


def _of_model(selector: Selector, model: str, devices: tuple[RegisteredDevice, ...]) -> Target:
    if _model_of(devices[0]) is None:  # who knows what it is: a model of its own
        return _pinned(devices[0])
    of_model = Selector((*selector.terms, Term("model", "=", model)))
    label = f"any {model}{_mark(devices)}"
    return Target(label=label, key=f"model:{of_model}", devices=devices, selector=str(of_model))


def _pinned(device: RegisteredDevice) -> Target:
    return Target(label=device.label, key=device.key, devices=(device,), device=device)


def _mark(devices: Sequence[RegisteredDevice]) -> str:
    return " (simulated)" if devices and all(device.simulated for device in devices) else ""


def _model_of(device: RegisteredDevice) -> str | None:
    model = device.attributes.get("model")
    return None if model is None else str(model)
