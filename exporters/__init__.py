"""What others read: tables and documents. Reads only."""

from __future__ import annotations
