"""Views of the watch: incidents by series, and how small a change each series can show."""

from __future__ import annotations

from typing import Final

from scheduler.view import (
    CASE,
    CASE_KEY,
    DEVICE,
    STATISTIC,
    View,
    Words,
    case_columns,
    columns,
    device_columns,
)

#: A change that every series should be able to show; of one that cannot, silence means nothing.
SIGHT: Final = 0.05


def _regression(words: Words) -> str:
    return f"""
SELECT incident.id AS incident_id, incident.state, incident.cause, incident.cause_why, incident.title,
  incident.sweep, incident.sweep_run_id, incident.change AS incident_change,
  incident.revision_good, incident.revision_bad,
  incident.opened_at, incident.acknowledged_by, incident.resolved_at, incident.resolved_by, incident.note,
  {device_columns(words)}, {case_columns("series")}, series.statistic, series.id AS series_id,
  found.change, found.change_low, found.change_high, found.found_by,
  old.value AS before_ms, fresh.value AS after_ms, fresh.at AS began_at, recovered.at AS recovered_at
FROM incident
JOIN incident_series AS found ON found.incident_id = incident.id
JOIN series ON series.id = found.series_id
JOIN device ON device.id = series.device_id
JOIN host ON host.id = device.host_id
JOIN point AS old ON old.id = found.baseline_point_id
JOIN point AS fresh ON fresh.id = found.candidate_point_id
LEFT JOIN point AS recovered ON recovered.id = found.recovered_point_id"""  # noqa: S608 - of names of ours


REGRESSION = View(
    name="regression",
    meaning=(
        "Confirmed regressions: one row for each series of each incident. What is of the whole incident is the same in "
        "all its rows: count distinct incident_id."
    ),
    columns=(
        *columns(
            ("incident_id", "integer", "The incident; benchfarm regressions show."),
            ("state", "text", "open, acknowledged or resolved."),
            ("cause", "text", "code, environment, device, clock or unknown: what is suspected."),
            ("cause_why", "text", "Why."),
            ("title", "text", "The incident in a line."),
            ("sweep", "text", "The sweep that found it."),
            ("sweep_run_id", "integer", "The run whose points showed it first."),
            ("incident_change", "number", "Median change over its series: 0.05 is 5 % slower."),
            ("revision_good", "text", "Last revision that was well; NULL: none is known."),
            ("revision_bad", "text", "First revision that was not; NULL: the run had none."),
            ("opened_at", "time", "When it was confirmed, UTC."),
            ("acknowledged_by", "text", "Who said that they look at it."),
            ("resolved_at", "time", "When it was over; NULL: it is not."),
            ("resolved_by", "text", "Who said so; farm: a later level is back."),
            ("note", "text", "What people noted."),
        ),
        *DEVICE,
        *CASE,
        *STATISTIC,
        *columns(
            ("series_id", "integer", "The series."),
            ("change", "number", "Change of this series: 0.05 is 5 % slower."),
            ("change_low", "number", "Lower end of its interval."),
            ("change_high", "number", "Upper end of it."),
            (
                "found_by",
                "text",
                "trial: confirmed in turns on the same unit; history: by the look at the whole series.",
            ),
            ("before_ms", "number", "The last point of the old level, in ms."),
            ("after_ms", "number", "The first point of the new one, in ms."),
            ("began_at", "time", "When that was measured, UTC."),
            ("recovered_at", "time", "When its first point was measured that is back; NULL: none is."),
        ),
    ),
    query=_regression,
)


def _series_noise(words: Words) -> str:
    return f"""
SELECT {device_columns(words)}, {case_columns("series")}, series.statistic, series.case_key, series.id AS series_id,
  sweep_run.watched, learnt.noise, learnt.detectable AS least_visible_change,
  CASE WHEN learnt.series_id IS NOT NULL
    THEN learnt.detectable IS NOT NULL AND learnt.detectable <= {SIGHT} END AS is_sighted,
  learnt.processes, learnt.at AS learnt_at
FROM series
JOIN point ON point.id = series.latest_valid_point_id
JOIN sweep_run ON sweep_run.id = point.sweep_run_id
JOIN device ON device.id = series.device_id
JOIN host ON host.id = device.host_id
LEFT JOIN noise_floor AS learnt ON learnt.series_id = series.id
WHERE series.metric = 'latency'"""  # noqa: S608 - of names of ours


SERIES_NOISE = View(
    name="series_noise",
    meaning=(
        "How much each series scatters by itself, as A/A trials taught (benchfarm noise), and the smallest change that "
        "it could show. One row for each series with a valid point."
    ),
    columns=(
        *DEVICE,
        *CASE,
        *STATISTIC,
        *columns(
            CASE_KEY,
            ("series_id", "integer", "The series."),
            ("watched", "yes or no", "Its latest point was screened for regressions."),
            ("noise", "number", "Relative robust sigma between its processes; NULL: nobody measured it."),
            (
                "least_visible_change",
                "number",
                "The smallest change that ten processes a side show; NULL: none, or unknown.",
            ),
            ("is_sighted", "yes or no", "It can show a change of 5 %; NULL: nobody measured its noise."),
            ("processes", "integer", "That its noise is of."),
            ("learnt_at", "time", "When it was measured, UTC."),
        ),
    ),
    query=_series_noise,
)
