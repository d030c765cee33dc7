"""What a backup is made of: a manifest, an archive, a picture of the database, and the store's files that it names."""

from __future__ import annotations
