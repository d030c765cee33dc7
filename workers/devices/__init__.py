"""Devices: what is measured, how it is gated and identified."""

from __future__ import annotations
