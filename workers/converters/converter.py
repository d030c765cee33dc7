"""The seam of converters: from a format and recipe to a format and recipe, with which packages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from workers.models.source import Made, import_packages


@dataclass(frozen=True)
class Route:
    """One conversion that a converter offers. The source recipe `fp32` also stands for `original`."""

    source_format: str
    source_recipe: str
    format: str
    recipe: str


@dataclass(frozen=True)
class ConversionInput:
    """What a converter works on, in the child."""

    artifact: Path
    format: str
    recipe: str
    #: Example inputs with reference outputs, and calibration inputs.
    examples: Path
    calibration: Path
    folder: Path
    #: What is known of the artifact it starts from: parameters, task, classes, ...
    facts: dict[str, Any] = field(default_factory=dict)


class Converter(ABC):
    """Makes artifacts of other formats or precisions. Constructing one imports nothing heavy."""

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    routes: ClassVar[tuple[Route, ...]] = ()
    #: Recipes whose artifact depends on the calibration inputs.
    calibrated: ClassVar[frozenset[str]] = frozenset()
    #: Raise it when the same input would be converted differently: it is part of every artifact's key.
    revision: ClassVar[int] = 1

    def import_libraries(self) -> None:
        """Import what converting needs, in the child; timed apart."""
        import_packages(self.packages)

    @abstractmethod
    def convert(self, source: ConversionInput) -> Made:
        """Convert. Raises `AttemptError`; anything else is classified by the runner."""
