"""The one root of every error that benchfarm answers with a sentence instead of a traceback."""

from __future__ import annotations


class BenchfarmError(Exception):
    """Something benchfarm can explain in one sentence. A subclass's docstring is its default message."""

    #: What the command line exits with: 1 a job failed, 2 wrong usage or something named that cannot be.
    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class UsageError(BenchfarmError):
    """Something that was asked for by name cannot be."""

    exit_code = 2
