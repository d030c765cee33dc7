"""Texts of a phone as data. Each parser is a total function: any text gives a document, and what it could not read."""

from __future__ import annotations
