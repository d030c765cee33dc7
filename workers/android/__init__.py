"""Android phones over adb: what reaches them, what runs on them, and what they tell of themselves."""

from __future__ import annotations
