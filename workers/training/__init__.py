"""Training: what recipes that learn share. All but `budget` imports torch, and belongs in a child."""

from __future__ import annotations
