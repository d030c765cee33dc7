"""Suites: published experiments as matrices."""

from __future__ import annotations
