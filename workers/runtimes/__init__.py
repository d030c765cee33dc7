"""Runtimes: what executes an artifact."""

from __future__ import annotations
