"""What the fleet is: hosts, devices, capabilities, selectors; its tables and the database engine."""

from __future__ import annotations
