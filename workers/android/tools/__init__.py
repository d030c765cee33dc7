"""Benchmark tools that run on the phone: which command they are given, and what their output says."""

from __future__ import annotations
