"""Compressions: what changes a module and leaves its arithmetic fp32."""

from __future__ import annotations
