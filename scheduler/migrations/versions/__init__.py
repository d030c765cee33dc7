"""One file per schema revision."""

from __future__ import annotations
