"""The door: command line and configuration. No logic of its own."""

from __future__ import annotations

__version__ = "0.1.0"
