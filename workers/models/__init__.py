"""Model sources: given a name, the program, its inputs and a fidelity reference."""

from __future__ import annotations
