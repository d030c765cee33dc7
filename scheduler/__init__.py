"""What decides: plan, queue, placement, dispatcher, ingest. Owns job, attempt and result tables and all migrations."""

from __future__ import annotations
