"""Channels against real HTTP servers on loopback."""

from __future__ import annotations
