"""Views that compare results: the latest of each series, against a baseline, device by device, energy, history."""

from __future__ import annotations

from scheduler.view import (
    CASE,
    CASE_KEY,
    DEVICE,
    STATISTIC,
    Told,
    View,
    Words,
    case_columns,
    columns,
    device_columns,
    named,
)
from workers.judge import OUTPUTS_WRONG

_WHO = (*DEVICE, *CASE, *STATISTIC)
_P50: Told = ("p50_ms", "number", "Median latency of one inference: the median of the process medians, in ms.")
_AT: Told = ("at", "time", "When the last repeat came in, UTC.")
#: What it computes so fast is not the model.
_WRONG = f"flags LIKE '%{OUTPUTS_WRONG}%'"


def _latest_result(words: Words) -> str:
    measured = ", ".join(f"point.{name}" for name in _OF_POINT)
    return f"""
SELECT {device_columns(words)},
  {case_columns("series")}, series.statistic,
  series.case_key, series.id AS series_id, point.id AS point_id, point.sweep_run_id, point.at,
  point.value AS p50_ms, point.value_ci_low AS p50_ci_low_ms, point.value_ci_high AS p50_ci_high_ms,
  point.repeats AS processes, {measured},
  series.unconverted, series.plain, series.shared_options_text, series.protocol_version
FROM series
JOIN point ON point.id = series.latest_valid_point_id
JOIN device ON device.id = series.device_id
JOIN host ON host.id = device.host_id
WHERE series.metric = 'latency'"""  # noqa: S608 - of names of ours


_MEASURED = columns(
    ("p90_ms", "number", "90th percentile, in ms; NULL without the samples for it."),
    ("p95_ms", "number", "95th percentile, in ms; NULL without the samples for it."),
    ("p99_ms", "number", "99th percentile, in ms; NULL without the samples for it."),
    ("throughput_per_s", "number", "Inputs per second."),
    ("load_ms", "number", "Cold load of the artifact, in ms; NULL where the runtime does not tell."),
    ("compile_ms", "number", "Compilation, in ms; NULL where the runtime compiles nothing apart from its load."),
    (
        "first_inference_ms",
        "number",
        "The first inference after the load, in ms; NULL where the runtime does not tell.",
    ),
    ("peak_rss_bytes", "integer", "Most memory that the process held; NULL where it cannot be read."),
    ("energy_per_inference_mj", "number", "Energy of one inference, in mJ; NULL unless its quality is ok or partial."),
    (
        "energy_quality",
        "text",
        "ok, partial, or why there is none: unsupported, no_permission, stale, implausible; NULL: nobody looked.",
    ),
    ("energy_source", "text", "The counter that it was read from."),
    ("temperature_c", "number", "The hottest that a temperature channel of the device read in the run, in C."),
    ("snr_db", "number", "Outputs against the fp32 reference, in dB; NULL where they are identical or not compared."),
    ("top1_agreement", "number", "Share of examples with the same largest output; NULL where that means nothing."),
    ("quantised_flop_share", "number", "Share of the multiply-accumulates done in integers; NULL: it does not tell."),
    ("delegated_share", "number", "Share of the graph that a delegate took; NULL: there is none or it does not tell."),
    ("artifact_bytes", "integer", "Size of the artifact."),
    ("artifact_sha256", "text", "The artifact that the last repeat measured."),
    ("precision", "text", "The arithmetic that really ran, as read back from the runtime."),
    ("compute_unit", "text", "Where it really ran, as read back from the runtime."),
    ("flags", "text", "What does not change the verdict, `noisy, cpu_stolen`; empty: none."),
    ("environment_digest", "text", "Fingerprint of conversion and run environment: another is another epoch."),
)
_OF_POINT = tuple(column.name for column in _MEASURED)

LATEST_RESULT = View(
    name="latest_result",
    meaning="One row for each series that has a valid point: its latest one. Whether it is fresh, `coverage` says.",
    columns=(
        *_WHO,
        *columns(
            CASE_KEY,
            ("series_id", "integer", "The series."),
            ("point_id", "integer", "The point."),
            ("sweep_run_id", "integer", "The run that it was measured in."),
            _AT,
            _P50,
            ("p50_ci_low_ms", "number", "Lower end of its 95 % interval over processes; NULL below five valid ones."),
            ("p50_ci_high_ms", "number", "Upper end of it."),
            ("processes", "integer", "Fresh processes that count; each of the columns that follow is their median."),
        ),
        *_MEASURED,
        *columns(
            ("unconverted", "yes or no", "The model's canonical program or the user's own file: what baselines are."),
            ("plain", "yes or no", "No option of its runtime's own differs from its default."),
            ("shared_options_text", "text", "The part of options_text that every runtime understands."),
            ("protocol_version", "text", "Results of different protocols are never compared."),
        ),
    ),
    query=_latest_result,
)

_ALIKE = (
    "device_id",
    "model",
    "weights",
    "threads",
    "batch",
    "mode",
    "shared_options_text",
    "statistic",
    "protocol_version",
)


def _variant_vs_baseline(_words: Words) -> str:
    group = ", ".join(_ALIKE)
    same = " AND ".join(f"baseline.{name} = own.{name}" for name in _ALIKE)
    return f"""
SELECT {named("own", _WHO)}, own.p50_ms,
  baseline.runtime AS baseline_runtime, baseline.recipe AS baseline_recipe, baseline.p50_ms AS baseline_p50_ms,
  CASE WHEN own.mode = 'offline' THEN own.throughput_per_s / nullif(baseline.throughput_per_s, 0)
    ELSE baseline.p50_ms / nullif(own.p50_ms, 0) END AS speedup,
  own.energy_per_inference_mj / nullif(baseline.energy_per_inference_mj, 0) AS energy_ratio,
  own.artifact_bytes * 1.0 / nullif(baseline.artifact_bytes, 0) AS size_ratio,
  own.at
FROM latest_result AS own
LEFT JOIN (
  SELECT * FROM (
    SELECT {group}, runtime, recipe, p50_ms, throughput_per_s, energy_per_inference_mj, artifact_bytes,
      row_number() OVER (
        PARTITION BY {group} ORDER BY unconverted DESC, compile_ms IS NOT NULL, runtime, series_id
      ) AS place
    FROM latest_result
    WHERE plain AND NOT {_WRONG}
      AND (unconverted OR (recipe = 'fp32' AND statistic LIKE '% of invocation %'))
  ) AS candidate WHERE place = 1
) AS baseline ON {same} AND NOT own.{_WRONG}"""  # noqa: S608 - of names of ours


VARIANT_VS_BASELINE = View(
    name="variant_vs_baseline",
    meaning=(
        "The latest results, each against its baseline on the same device: the unconverted program, uncompiled and "
        "with no options of its runtime's own (eager torch in fp32; of a Keras model TensorFlow, of a model file the "
        "file on its own runtime); on a phone, where none of these runs, what was converted in fp32. Alike in weights, "
        "threads, batch, mode, the options that every runtime understands, statistic and protocol. A case whose "
        "outputs are wrong has no baseline and is nobody's."
    ),
    columns=(
        *_WHO,
        *columns(
            _P50,
            ("baseline_runtime", "text", "Runtime of the baseline; NULL, as all that follows from it, without one."),
            ("baseline_recipe", "text", "Recipe of the baseline."),
            ("baseline_p50_ms", "number", "Its median latency, in ms."),
            ("speedup", "number", "How many times as fast as the baseline: by latency; offline by throughput."),
            ("energy_ratio", "number", "Its energy over that of the baseline; NULL where either is unknown."),
            ("size_ratio", "number", "Size of its artifact over that of the baseline's."),
            _AT,
        ),
    ),
    query=_variant_vs_baseline,
)


def _device_vs_device(_words: Words) -> str:
    # The model is in the key of a case; named beside it, a question about one model ranks that alone.
    same = "case_key, model, statistic, protocol_version, simulated"
    return f"""
SELECT {named("own", _WHO)}, own.p50_ms,
  ranking.fastest_device, ranking.fastest_p50_ms, own.p50_ms / nullif(ranking.fastest_p50_ms, 0) AS slowdown,
  CASE WHEN ranking.ranked THEN ranking.faster + 1 END AS place,
  own.at
FROM latest_result AS own
LEFT JOIN (
  SELECT series_id, model, is_end, ranked, fastest_device, fastest_p50_ms,
    sum(CASE WHEN is_end AND ranked THEN 1 ELSE 0 END) OVER (
      PARTITION BY {same} ORDER BY CASE WHEN is_end THEN p50_ci_high_ms ELSE p50_ci_low_ms END, is_end
      ROWS UNBOUNDED PRECEDING
    ) AS faster
  FROM (
    SELECT {same}, series_id, p50_ci_low_ms, p50_ci_high_ms,
      NOT simulated AND p50_ci_low_ms IS NOT NULL AS ranked,
      first_value(device) OVER fastest AS fastest_device, first_value(p50_ms) OVER fastest AS fastest_p50_ms
    FROM latest_result WHERE NOT {_WRONG}
    WINDOW fastest AS (PARTITION BY {same} ORDER BY p50_ms, device_id)
  ) AS compared CROSS JOIN (SELECT 1 = 0 AS is_end UNION ALL SELECT 1 = 1) AS step
) AS ranking ON ranking.series_id = own.series_id AND ranking.model = own.model AND NOT ranking.is_end"""  # noqa: S608


DEVICE_VS_DEVICE = View(
    name="device_vs_device",
    meaning=(
        "The latest results, each against the fastest device of the same case, statistic and protocol. Simulated "
        "devices are compared with simulated ones. A case whose outputs are wrong is compared with none."
    ),
    columns=(
        *_WHO,
        *columns(
            _P50,
            ("fastest_device", "text", "The fastest device, which may be this one; NULL where the outputs are wrong."),
            ("fastest_p50_ms", "number", "Its median latency, in ms."),
            ("slowdown", "number", "How many times as long as there: 1 for the fastest."),
            (
                "place",
                "integer",
                (
                    "One more than the devices whose whole interval lies below this one's: intervals that overlap "
                    "share a place. NULL below five valid processes, where the outputs are wrong, and for simulated "
                    "devices."
                ),
            ),
            _AT,
        ),
    ),
    query=_device_vs_device,
)


def _energy_vs_latency(_words: Words) -> str:
    group = "device_id, model, weights, batch, mode, statistic, protocol_version"
    return f"""
SELECT {named("known", _WHO)}, p50_ms, energy_per_inference_mj, energy_quality, energy_source,
  energy_per_inference_mj / nullif(p50_ms, 0) * 1000.0 AS power_mw,
  NOT wrong AND energy_per_inference_mj <= least_as_fast
    AND (least_faster IS NULL OR energy_per_inference_mj < least_faster) AS on_pareto_front,
  at
FROM (
  SELECT judged.*,
    min(energy_per_inference_mj) OVER (PARTITION BY {group}, wrong, p50_ms) AS least_as_fast,
    min(energy_per_inference_mj) OVER (
      PARTITION BY {group}, wrong ORDER BY p50_ms GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS least_faster
  FROM (SELECT latest.*, {_WRONG} AS wrong FROM latest_result AS latest) AS judged
  WHERE energy_per_inference_mj IS NOT NULL
) AS known"""  # noqa: S608 - of names of ours


ENERGY_VS_LATENCY = View(
    name="energy_vs_latency",
    meaning="The latest results whose energy is known. What has none, and why, `latest_result.energy_quality` says.",
    columns=(
        *_WHO,
        *columns(
            _P50,
            ("energy_per_inference_mj", "number", "Energy of one inference, in mJ."),
            ("energy_quality", "text", "ok, or partial: the counter covers only a part of the device."),
            ("energy_source", "text", "The counter that it was read from."),
            ("power_mw", "number", "Energy over latency, in mW."),
            (
                "on_pareto_front",
                "yes or no",
                (
                    "No other case of this model, weights, batch, mode and statistic on this device is as good in both "
                    "and better in one. Never, where the outputs are wrong."
                ),
            ),
            _AT,
        ),
    ),
    query=_energy_vs_latency,
)


def _point_history(words: Words) -> str:
    return f"""
SELECT {device_columns(words)},
  {case_columns("series")}, series.statistic,
  series.id AS series_id, point.id AS point_id, point.sweep_run_id, point.at,
  point.value AS p50_ms, point.value_ci_low AS p50_ci_low_ms, point.value_ci_high AS p50_ci_high_ms,
  point.repeats AS processes, point.verdict, point.p99_ms, point.energy_per_inference_mj, point.temperature_c,
  point.peak_rss_bytes, point.environment_digest,
  coalesce(point.environment_digest <> (
    SELECT before.environment_digest FROM point AS before
    WHERE before.series_id = point.series_id AND before.sweep_run_id < point.sweep_run_id
    ORDER BY before.sweep_run_id DESC LIMIT 1
  ), 1 = 0) AS new_epoch,
  point.artifact_sha256, series.protocol_version
FROM series
JOIN point ON point.series_id = series.id
JOIN device ON device.id = series.device_id
JOIN host ON host.id = device.host_id
WHERE series.metric = 'latency'"""  # noqa: S608 - of names of ours


POINT_HISTORY = View(
    name="point_history",
    meaning="Every point of every series, the invalid ones too. Ask for a series, or for a device and a model.",
    columns=(
        *_WHO,
        *columns(
            ("series_id", "integer", "The series."),
            ("point_id", "integer", "The point."),
            ("sweep_run_id", "integer", "The run that it was measured in; a series has one point of a run."),
            _AT,
            _P50,
            ("p50_ci_low_ms", "number", "Lower end of its 95 % interval over processes; NULL below five valid ones."),
            ("p50_ci_high_ms", "number", "Upper end of it."),
            ("processes", "integer", "Fresh processes that count: the valid ones, or all where none is valid."),
            ("verdict", "text", "valid, or the worst of its repeats: only valid points enter comparisons."),
            ("p99_ms", "number", "99th percentile, in ms; NULL without the samples for it."),
            ("energy_per_inference_mj", "number", "Energy of one inference, in mJ; NULL where it is unknown."),
            ("temperature_c", "number", "The hottest that a temperature channel of the device read in the run, in C."),
            ("peak_rss_bytes", "integer", "Most memory that the process held; NULL where it cannot be read."),
            ("environment_digest", "text", "Fingerprint of conversion and run environment."),
            ("new_epoch", "yes or no", "It differs from that of the series' point of the run before."),
            ("artifact_sha256", "text", "The artifact that the last repeat measured."),
            ("protocol_version", "text", "Results of different protocols are different series."),
        ),
    ),
    query=_point_history,
)
