"""The seam of compressions: what changes a module, and leaves its arithmetic fp32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from workers.models.source import import_packages

if TYPE_CHECKING:
    from workers.compressions.work import Work


class Compression(ABC):
    """Changes a module. Constructing one imports nothing heavy."""

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "torch"
    #: Raise it when the same input would be changed differently: it is part of every artifact's key.
    revision: ClassVar[int] = 1

    def import_libraries(self) -> None:
        """Import what changing needs, in the child; timed apart."""
        import_packages(self.packages)

    @abstractmethod
    def apply(self, work: Work) -> None:
        """Change the module of a work, in place or for another of the same layers.

        Raises:
            UnsupportedError: this module has nothing that the step could change.
            AttemptError: it cannot be changed so.
        """
