"""What people are told: messages wait in the database, beside what they tell of, until somebody has delivered them."""

from __future__ import annotations
