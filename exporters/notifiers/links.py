"""Where more is to be seen: addresses of dashboards, where the settings say where Grafana is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

#: Dashboards by uid, as `dashboards.links` has them: that floor is above this one.
HISTORY: Final = "benchfarm-history"
REGRESSIONS: Final = "benchfarm-regressions"
RUN: Final = "benchfarm-run"


@dataclass(frozen=True)
class Links:
    """Makes addresses; None where none can be made."""

    #: Address of Grafana without a slash at its end; None: there is none.
    grafana: str | None = None

    def series(self, series: Mapping[str, Any]) -> str | None:
        """The history of a series."""
        named = {name: series[name] for name in ("model", "runtime", "recipe", "device")}
        return self._to(HISTORY, {**named, "series": series["series_id"]})

    def incident(self, incident: Mapping[str, Any]) -> str | None:
        """An incident."""
        return self._to(REGRESSIONS, {"incident": incident["id"]})

    def run(self, run_id: int) -> str | None:
        """A run."""
        return self._to(RUN, {"run": run_id})

    def _to(self, dashboard: str, variables: Mapping[str, Any]) -> str | None:
        if self.grafana is None:
            return None
        return f"{self.grafana}/d/{dashboard}?" + urlencode({f"var-{name}": value for name, value in variables.items()})
