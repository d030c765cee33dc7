"""Tests of phones."""

from __future__ import annotations
