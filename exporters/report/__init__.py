"""One HTML file that tells what was measured, and how: it needs no network and no server."""

from __future__ import annotations
