"""Real processes that are killed, frozen and cut off: `make faults`, which needs root, `ip` and PostgreSQL."""

from __future__ import annotations
