"""Views of the farm itself: which cells of its matrix are known, which devices were there, what became of jobs."""

from __future__ import annotations

from scheduler.view import (
    AVAILABILITY_DAYS,
    CASE,
    CASE_KEY,
    DEVICE,
    STALE_DAYS,
    View,
    Words,
    case_columns,
    columns,
    device_columns,
)


def _coverage(words: Words) -> str:
    device, simulated = device_columns(words), words.attribute_is_true("simulated")
    case = ", ".join(f"cell.{column.name}" for column in CASE)
    return f"""
SELECT {device}, {case_columns("cell")}, cell.case_key,
  CASE WHEN cell.state = 'valid' AND cell.at < {words.days_ago(STALE_DAYS)} THEN 'stale' ELSE cell.state END AS state,
  cell.verdict, cell.why, cell.at, {words.seconds(words.now, "cell.at")} AS age_s, cell.job_id
FROM cell
JOIN device ON device.id = cell.device_id
JOIN host ON host.id = device.host_id
UNION ALL
SELECT {device}, {case_columns("wanted")}, wanted.case_key, 'missing', NULL, NULL, NULL, NULL, NULL
FROM (
  SELECT DISTINCT device.kind, {simulated} AS simulated, cell.case_key, {case}
  FROM cell JOIN device ON device.id = cell.device_id
  WHERE cell.state <> 'unsupported'
) AS wanted
JOIN device ON device.kind = wanted.kind AND {simulated} = wanted.simulated
JOIN host ON host.id = device.host_id
WHERE NOT EXISTS (SELECT 1 FROM cell WHERE cell.device_id = device.id AND cell.case_key = wanted.case_key)"""  # noqa: S608


COVERAGE = View(
    name="coverage",
    meaning=(
        "The matrix of the farm: one row for each device and case, with what became of it the last time that somebody "
        "wanted it. Probes of quarantined devices are not among them, nor what came too late to count."
    ),
    columns=(
        *DEVICE,
        *CASE,
        *columns(
            CASE_KEY,
            (
                "state",
                "text",
                (
                    f"valid; stale: valid, but older than {STALE_DAYS} days; invalid: measured, and no verdict was "
                    "valid; failed; unsupported; missing: on some device of the same kind it was measured, or failed, "
                    "and on this one nobody tried (simulated devices apart from real ones)."
                ),
            ),
            ("verdict", "text", "Of its point, where it was measured."),
            ("why", "text", "Why it is invalid, failed or unsupported."),
            ("at", "time", "When that was told, of a valid case by its first valid repeat; UTC. NULL: it is missing."),
            ("age_s", "number", "How long ago, in s."),
            ("job_id", "integer", "The job that told; NULL: missing, or a plan found that it is unsupported."),
        ),
    ),
    query=_coverage,
)


def _device_availability(words: Words) -> str:
    since = words.midnight(AVAILABILITY_DAYS - 1)
    changes = f"entity = 'device' AND after <> 'tagged' AND at >= {since}"
    # A change tells what was before it, so none that is older is read: not of a device that changed, nor of one that
    # did not, which was all the time what it is now.
    spells = f"""
      SELECT device_id,
        CASE WHEN is_lead THEN before ELSE after END AS presence,
        CASE WHEN is_lead THEN {since} ELSE at END AS begins,
        CASE WHEN is_lead THEN at ELSE {words.later}(at, coalesce(next_at, {words.now})) END AS ends,
        NOT is_lead AND before IS NOT NULL AS is_change
      FROM (
        SELECT entity_id AS device_id, at, before, after, lead(at) OVER told AS next_at, row_number() OVER told AS place
        FROM event WHERE {changes}
        WINDOW told AS (PARTITION BY entity_id ORDER BY id)
      ) AS change CROSS JOIN (SELECT 1 = 0 AS is_lead UNION ALL SELECT 1 = 1) AS step
      WHERE NOT is_lead OR (place = 1 AND before IS NOT NULL)
      UNION ALL
      SELECT device.id, device.presence, {since}, {words.now}, 1 = 0
      FROM device WHERE device.id NOT IN (SELECT entity_id FROM event WHERE {changes})"""  # noqa: S608 - of names of ours
    spent = words.seconds(f"{words.earlier}(ends, day_ends)", f"{words.later}(begins, day_begins)")
    return f"""
SELECT {device_columns(words)},
  counted.day, counted.online_s / nullif(counted.known_s, 0) AS online_share, counted.changes
FROM (
  SELECT device_id, day,
    sum(CASE WHEN presence = 'online' THEN {spent} ELSE 0.0 END) AS online_s, sum({spent}) AS known_s,
    sum(CASE WHEN is_change AND begins >= day_begins THEN 1 ELSE 0 END) AS changes
  FROM {words.by_day(spells)} AS part
  GROUP BY device_id, day
) AS counted
JOIN device ON device.id = counted.device_id
JOIN host ON host.id = device.host_id"""  # noqa: S608 - of names of ours


DEVICE_AVAILABILITY = View(
    name="device_availability",
    meaning=(
        f"One row for each device and day (UTC) of the last {AVAILABILITY_DAYS}, from its first day in the farm on: "
        "how much of the day it was online, by the events that its changes of presence left."
    ),
    columns=(
        *DEVICE,
        *columns(
            ("day", "date", "The day, UTC."),
            (
                "online_share",
                "number",
                (
                    "Share of the time that it was online, 0 to 1: of the day, of what is over of today, and of its "
                    "first day of what was left when it came."
                ),
            ),
            ("changes", "integer", "How often its presence changed that day; that it came for the first time is none."),
        ),
    ),
    query=_device_availability,
)


def _telemetry_reading(words: Words) -> str:
    return f"""
SELECT telemetry.at, {device_columns(words)},
  telemetry.attempt_id, attempt.job_id,
  sensor_channel.sensor, sensor_channel.domain, sensor_channel.quantity, sensor_channel.unit,
  telemetry.value, telemetry.quality, telemetry.why
FROM telemetry
JOIN sensor_channel ON sensor_channel.id = telemetry.channel_id
JOIN device ON device.id = telemetry.device_id
JOIN host ON host.id = device.host_id
LEFT JOIN attempt ON attempt.id = telemetry.attempt_id"""  # noqa: S608 - of names of ours


TELEMETRY_READING = View(
    name="telemetry_reading",
    meaning="One reading of one sensor of a device. Ask for an attempt, or for a device and a span of time.",
    columns=(
        *columns(("at", "time", "When it was read, UTC, by the head's clock.")),
        *DEVICE,
        *columns(
            ("attempt_id", "integer", "The attempt that ran meanwhile; NULL: read between runs."),
            ("job_id", "integer", "That attempt's job."),
            ("sensor", "text", "What read it."),
            ("domain", "text", "Of what: cpu_package, gpu, battery, skin, ..."),
            ("quantity", "text", "temperature, power, clock, ..."),
            ("unit", "text", "C, mW, MHz, ..."),
            ("value", "number", "The value; NULL unless the quality is ok or partial."),
            ("quality", "text", "ok, partial, stale, unsupported, no_permission or implausible."),
            ("why", "text", "Why it is not ok."),
        ),
    ),
    query=_telemetry_reading,
)


def _job_outcome(words: Words) -> str:
    # Of attempts only what is asked for is looked up, job by job: whoever counts a day's jobs reads no attempts at all.
    def last(told: str) -> str:
        return f"(SELECT {told} FROM attempt WHERE attempt.job_id = job.id ORDER BY attempt.id DESC LIMIT 1)"  # noqa: S608

    first = "(SELECT min(started_at) FROM attempt WHERE attempt.job_id = job.id)"
    return f"""
SELECT job.id AS job_id, job.sweep_run_id, job.kind, job.state, job.title, job.owner,
  device.name AS device, device.kind AS device_kind, host.name AS host,
  job.attempts, job.failure_cause, job.failure_code, job.failure_message,
  job.created_at, {last("attempt.started_at")} AS started_at,
  CASE WHEN job.state IN ('succeeded', 'failed', 'cancelled') THEN job.changed_at END AS finished_at,
  {words.seconds(first, "job.created_at")} AS queue_wait_s,
  {last(words.seconds("attempt.finished_at", "attempt.started_at"))} AS run_s
FROM job
LEFT JOIN device ON device.id = coalesce(job.device_id, {last("attempt.device_id")})
LEFT JOIN host ON host.id = coalesce({last("attempt.host_id")}, device.host_id)"""  # noqa: S608 - of names of ours


JOB_OUTCOME = View(
    name="job_outcome",
    meaning="One row for each job: what became of it, and how long it waited and ran.",
    columns=columns(
        ("job_id", "integer", "Number of the job."),
        ("sweep_run_id", "integer", "Its run."),
        ("kind", "text", "convert, measure, profile or evaluate."),
        ("state", "text", "blocked, queued, running, succeeded, failed or cancelled."),
        ("title", "text", "What people read in lists."),
        ("owner", "text", "Who asked for it."),
        ("device", "text", "Where it ran last, or the device that it is for; NULL: none yet, or a conversion."),
        ("device_kind", "text", "Kind of that device."),
        ("host", "text", "Host that it ran on last, or that its device belongs to."),
        ("attempts", "integer", "Tries that count."),
        ("failure_cause", "text", "infrastructure, device, model, user or bug; NULL: it did not fail."),
        ("failure_code", "text", "What failed, in a word."),
        ("failure_message", "text", "What failed, in a sentence."),
        ("created_at", "time", "When it was submitted, UTC."),
        ("started_at", "time", "When its last attempt began; NULL: none did."),
        ("finished_at", "time", "When it succeeded, failed or was cancelled; NULL: it is open."),
        ("queue_wait_s", "number", "From its submission to its first attempt, its conversion included, in s."),
        ("run_s", "number", "How long its last attempt had its place, in s; NULL: it runs, or never did."),
    ),
    query=_job_outcome,
)
