"""Grafana dashboards as code. Empty until metrics exist to draw (see docs/design.md)."""

from __future__ import annotations
