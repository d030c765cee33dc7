"""What a suite found, beside what was published."""

from __future__ import annotations
