"""Grafana dashboards as code, and the JSON that they generate: `python -m dashboards` writes it anew.

Metrics are named only through `exporters.metrics`, views only through `scheduler.views`. Only making them needs the
extra `grafana`; `dashboards.documents` reads what is committed.
"""

from __future__ import annotations
