"""Labelled data sets: what accuracy is measured on, and what training learns from."""

from __future__ import annotations
