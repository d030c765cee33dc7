"""Regressions: from the points of a series to incidents that people believe (docs/regressions.md)."""
