"""Converters: from a format and recipe to a format and recipe."""

from __future__ import annotations
