"""Property tests that stay quick on a busy machine: few examples, no deadline for one, nothing kept between runs."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", max_examples=40, deadline=None, database=None)
settings.load_profile("unit")
