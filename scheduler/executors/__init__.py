"""Executors carry attempts to hosts."""

from __future__ import annotations
