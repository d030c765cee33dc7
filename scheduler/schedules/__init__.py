"""Schedules: sweeps that run by cron."""

from __future__ import annotations
