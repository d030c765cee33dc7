"""What acts on a place: agent, runner, measurement, models, converters, runtimes, devices, sensors."""

from __future__ import annotations
