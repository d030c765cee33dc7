"""Training: what recipes that learn share."""

from __future__ import annotations
