"""Real processes that are killed, frozen, cut off and starved of disk: `make faults`. Needs root, `ip`, PostgreSQL."""

from __future__ import annotations
