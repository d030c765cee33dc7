"""sim fp32 -> sim int8-static: a simulated model that simulated devices run faster."""

from __future__ import annotations

import json
from typing import ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause
from workers.models.sim_zoo import FORMAT, program
from workers.models.source import Made


class SimQuantize(Converter):
    """Nothing is quantised: the recipe's name is what changes."""

    routes: ClassVar[tuple[Route, ...]] = (Route(FORMAT, "fp32", FORMAT, "int8-static"),)

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        try:
            known = json.loads(source.artifact.read_bytes())
            build = int(known["build"]) if "build" in known else None
            text = program(str(known["model"]), source.recipe, int(known.get("seed", 0)), build)
        except (ValueError, KeyError, TypeError) as error:
            raise AttemptError(Cause.MODEL, "does_not_convert", f"not a simulated program: {error}") from error
        artifact = source.folder / "model.sim"
        artifact.write_text(text, encoding="ascii")
        return Made(artifact, facts={"simulated": True})
