"""What others read: metrics, dashboards, reports."""

from __future__ import annotations
