"""Links from one dashboard to the next: what was picked goes along."""

from __future__ import annotations

from collections.abc import Mapping

#: Of the dashboards, for their addresses.
FLEET, DEVICE, MODEL = "benchfarm-fleet", "benchfarm-device", "benchfarm-model"
RUN, HISTORY, OPERATIONS = "benchfarm-run", "benchfarm-history", "benchfarm-operations"
REGRESSIONS = "benchfarm-regressions"
#: Both data sources go along with every link.
_SOURCES = "${prometheus:queryparam}&${postgresql:queryparam}"


def cell_link(
    dashboard: str,
    title: str,
    values: Mapping[str, str],
    *,
    keep: tuple[str, ...] = (),
    over: tuple[str, str] | None = None,
) -> dict[str, object]:
    """A link of a table's cells or of a chart's points.

    Args:
        dashboard: uid of where it leads.
        title: what the menu says.
        values: variable there -> column of the same row here.
        keep: variables that are called alike here and there, and stay as they are.
        over: columns with the ends of the time range there (ms since 1970); None: the range of here.
    """
    parts = [f"var-{name}=${{__data.fields.{column}:percentencode}}" for name, column in values.items()]
    return _link(dashboard, title, parts, keep, over)


def label_link(
    dashboard: str, title: str, values: Mapping[str, str], *, keep: tuple[str, ...] = ()
) -> dict[str, object]:
    """A link of a series from Prometheus: variable there -> label of the series here."""
    parts = [f"var-{name}=${{__field.labels.{label}:percentencode}}" for name, label in values.items()]
    return _link(dashboard, title, parts, keep, None)


def all_of(dashboard: str, title: str) -> dict[str, object]:
    """A link to a dashboard with nothing picked there."""
    return _link(dashboard, title, [], (), None)


def _link(
    dashboard: str, title: str, parts: list[str], keep: tuple[str, ...], over: tuple[str, str] | None
) -> dict[str, object]:
    parts += [f"${{{name}:queryparam}}" for name in keep]
    if over is None:
        time = "${__url_time_range}"
    else:
        time = f"from=${{__data.fields.{over[0]}:percentencode}}&to=${{__data.fields.{over[1]}:percentencode}}"
    url = f"/d/{dashboard}?" + "&".join([*parts, _SOURCES, time])
    return {"title": title, "url": url, "targetBlank": False}
