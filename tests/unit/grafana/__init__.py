"""Dashboards as documents, and the publisher against a Grafana that is played."""

from __future__ import annotations
