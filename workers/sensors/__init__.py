"""Sensors: read from outside the process that is measured."""

from __future__ import annotations
