"""Dashboards asked against a real Prometheus and a real PostgreSQL."""

from __future__ import annotations
