"""One model on every device: variants by devices, what they cost, and what is missing."""

from __future__ import annotations

from dashboards import links, variables
from dashboards.board import Board, Row
from dashboards.cases import DEVICE, VARIANT, VARIANT_OF, VARIANTS, model_to_recipe
from dashboards.charts import scatter_panel
from dashboards.panels import matrix_panel, table_panel
from dashboards.queries import Sql
from dashboards.style import (
    CELLS,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SIMULATED,
    TIMES,
    YELLOW,
    Column,
    mapped,
    thresholds,
)

_KINDS = variables.picked("device_kind")
_REAL = variables.real_ones()
#: Rows that rankings and fronts are made of.
_RANKED = f"{VARIANTS} AND {_KINDS} AND {_REAL}"
_NOTHING = (
    "no valid result of this model and variant: real devices only, unless Simulated devices are shown above; "
    "Coverage below says what was tried"
)
_TO_DEVICE = links.cell_link(links.DEVICE, "Device", {"device": "device", "device_kind": "device_kind", "host": "host"})
_TO_HISTORY = links.cell_link(
    links.HISTORY, "History", {"model": "model", "runtime": "runtime", "recipe": "recipe", "device": "device"}
)


def board() -> Board:
    """The dashboard."""
    return Board(
        uid=links.MODEL,
        title="benchfarm model",
        about="One model: every variant on every device, against its baseline, with energy, size and fidelity. "
        "Simulated devices are left out unless they are asked for.",
        variables=[
            *model_to_recipe(),
            variables.rows(
                "device_kind",
                "Kind of device",
                f"SELECT DISTINCT device_kind FROM coverage WHERE {VARIANTS} ORDER BY 1",
            ),
            variables.simulated(),
        ],
        rows=[_latency(), _trade(), _ranking(), _fidelity(), _coverage()],
        since="now-30d",
        refresh="",
    )


def _latency() -> Row:
    return Row(
        "Variants on devices",
        [
            matrix_panel(
                "Latency: median of the latest valid point",
                Sql(
                    f"""
                    SELECT {VARIANT_OF} AS variant, {DEVICE} AS device, p50_ms
                    FROM latest_result WHERE {_RANKED} ORDER BY 1, 2
                    """
                ),
                about="The latest valid point of each variant on each device: the median of its processes' medians "
                "(view latest_result, p50_ms). Only valid points; — means there is none: see Coverage.",
                empty=_NOTHING,
                row="variant",
                column="device",
                value="p50_ms",
                unit="ms",
            ),
            matrix_panel(
                "Speed-up against the baseline of the same device",
                Sql(
                    f"""
                    SELECT {VARIANT_OF} AS variant, {DEVICE} AS device, speedup
                    FROM variant_vs_baseline WHERE {_RANKED} ORDER BY 1, 2
                    """
                ),
                about="How many times as fast as the unconverted program on the same device (view variant_vs_baseline, "
                "speedup); 1 is the baseline itself. From single points, without intervals: benchfarm compare gives "
                "verdicts.",
                empty=_NOTHING,
                row="variant",
                column="device",
                value="speedup",
                unit=TIMES,
                decimals=2,
                steps=thresholds((None, RED), (0.98, GREY), (1.02, GREEN)),
            ),
        ],
    )


def _trade() -> Row:
    return Row(
        "What it costs",
        [
            scatter_panel(
                "Latency against energy",
                Sql(
                    f"""
                    SELECT p50_ms / 1000 AS "latency", energy_per_inference_mj / 1000 AS "energy",
                    {DEVICE} AS "on", {VARIANT_OF} AS variant, energy_quality AS quality, on_pareto_front,
                    device, device_kind, host, model, runtime, recipe
                    FROM energy_vs_latency WHERE {_RANKED} ORDER BY device, 4
                    """
                ),
                about="Each variant on each device by median latency and energy of one inference (view "
                "energy_vs_latency); lower and further left is better. Both axes are logarithmic.",
                empty="no energy was measured: these devices have no meter, or it may not be read (see Energy quality "
                "and Coverage); real devices only, unless Simulated devices are shown above",
                x=("latency", "s"),
                y=("energy", "joule"),
                by="on",
                links=[_TO_HISTORY, _TO_DEVICE],
            ),
            scatter_panel(
                "Latency against size",
                Sql(
                    f"""
                    SELECT p50_ms / 1000 AS "latency", artifact_bytes AS "size", {DEVICE} AS "on",
                    {VARIANT_OF} AS variant, device, device_kind, host, model, runtime, recipe
                    FROM latest_result WHERE {_RANKED} AND artifact_bytes IS NOT NULL ORDER BY device, 4
                    """
                ),
                about="Each variant on each device by median latency and size of its artifact (view latest_result, "
                "artifact_bytes). Both axes are logarithmic.",
                empty=_NOTHING,
                x=("latency", "s"),
                y=("size", "decbytes"),
                by="on",
                links=[_TO_HISTORY, _TO_DEVICE],
            ),
            table_panel(
                "Pareto front of latency, energy and size, device by device",
                Sql(
                    f"""
                    WITH one AS (
                    SELECT series_id, {VARIANT_OF} AS variant, device_id, device, device_kind, host, model, runtime,
                    recipe, simulated, threads, batch, mode, statistic, p50_ms, energy_per_inference_mj,
                    energy_quality, artifact_bytes, snr_db, at
                    FROM latest_result WHERE {_RANKED}
                    )
                    SELECT variant, device, device_kind, host, model, runtime, recipe, simulated,
                    p50_ms / 1000 AS latency, energy_per_inference_mj / 1000 AS energy, energy_quality,
                    artifact_bytes AS size, snr_db, at
                    FROM one
                    WHERE NOT EXISTS (
                    SELECT 1 FROM one AS other
                    WHERE other.device_id = one.device_id AND other.batch = one.batch AND other.mode = one.mode
                    AND other.statistic = one.statistic
                    AND other.p50_ms <= one.p50_ms
                    AND (other.energy_per_inference_mj <= one.energy_per_inference_mj
                    OR one.energy_per_inference_mj IS NULL AND other.energy_per_inference_mj IS NULL)
                    AND (other.artifact_bytes <= one.artifact_bytes
                    OR one.artifact_bytes IS NULL AND other.artifact_bytes IS NULL)
                    AND (other.p50_ms < one.p50_ms
                    OR other.energy_per_inference_mj < one.energy_per_inference_mj
                    OR other.artifact_bytes < one.artifact_bytes))
                    ORDER BY device, p50_ms LIMIT 500
                    """
                ),
                about="Variants that no other on the same device, with the same batch and mode, beats in "
                "latency, energy "
                "and size at once (from view latest_result). Where no energy is known, latency and size decide. "
                "Intervals are not looked at: neighbours within noise may change places.",
                empty=_NOTHING,
                columns=_columns()
                | {
                    "latency": Column(unit="s"),
                    "energy": Column(unit="joule"),
                    "size": Column(unit="decbytes"),
                    "snr_db": Column(title="fidelity (SNR)", unit="dB", decimals=1),
                },
            ),
        ],
    )


def _ranking() -> Row:
    return Row(
        "Device against device",
        [
            table_panel(
                "Devices by variant",
                Sql(
                    f"""
                    SELECT {VARIANT_OF} AS variant, place, device, device_kind, host, model, runtime, recipe, simulated,
                    p50_ms, fastest_device, slowdown, at
                    FROM device_vs_device WHERE {_RANKED} ORDER BY 1, simulated, p50_ms LIMIT 1000
                    """
                ),
                about="For each variant the devices by median latency (view device_vs_device). Simulated devices "
                "have no "
                "place, and none is the fastest.",
                empty=_NOTHING,
                columns=_columns()
                | {
                    "place": Column(width=70),
                    "p50_ms": Column(title="latency", unit="ms"),
                    "fastest_device": Column(title="fastest"),
                    "slowdown": Column(title="times as slow", decimals=2, unit=TIMES),
                },
            )
        ],
    )


def _fidelity() -> Row:
    return Row(
        "Whether it is what its label says",
        [
            table_panel(
                "Fidelity, arithmetic and memory",
                Sql(
                    f"""
                    SELECT {VARIANT_OF} AS variant, device, device_kind, host, model, runtime, recipe, simulated,
                    precision, compute_unit, quantised_flop_share, delegated_share, snr_db, top1_agreement, flags,
                    p50_ms, p50_ci_low_ms, p50_ci_high_ms, processes, p99_ms, throughput_per_s, load_ms,
                    first_inference_ms, peak_rss_bytes, temperature_c, energy_quality, at
                    FROM latest_result WHERE {_RANKED} ORDER BY 1, device LIMIT 1000
                    """
                ),
                about="What the runtime said that it computed, how near the outputs are to the original's, and "
                "what else "
                "the latest valid point knows (view latest_result). Intervals need at least 5 processes.",
                empty=_NOTHING,
                columns=_columns()
                | {
                    "compute_unit": Column(title="ran on"),
                    "quantised_flop_share": Column(
                        title="FLOPs quantised", unit="percentunit", decimals=0, steps=((None, ORANGE), (0.5, GREEN))
                    ),
                    "delegated_share": Column(title="delegated", unit="percentunit", decimals=0),
                    "snr_db": Column(title="SNR", unit="dB", decimals=1),
                    "top1_agreement": Column(
                        title="top-1 agreement",
                        unit="percentunit",
                        decimals=1,
                        steps=((None, RED), (0.9, YELLOW), (0.99, GREEN)),
                    ),
                    "p50_ms": Column(title="latency", unit="ms"),
                    "p50_ci_low_ms": Column(title="from", unit="ms"),
                    "p50_ci_high_ms": Column(title="to", unit="ms"),
                    "p99_ms": Column(title="p99", unit="ms"),
                    "throughput_per_s": Column(title="throughput", unit="suffix:/s", decimals=1),
                    "load_ms": Column(title="cold load", unit="ms"),
                    "first_inference_ms": Column(title="first inference", unit="ms"),
                    "peak_rss_bytes": Column(title="peak memory", unit="decbytes"),
                    "temperature_c": Column(title="hottest", unit="celsius", decimals=0),
                    "energy_quality": Column(title="energy quality"),
                },
            )
        ],
    )


def _coverage() -> Row:
    where = f"{VARIANTS} AND {_KINDS}"
    return Row(
        "Coverage",
        [
            matrix_panel(
                "What became of each case",
                Sql(
                    f"SELECT {VARIANT} AS variant, {DEVICE} AS device, state FROM coverage WHERE {where} ORDER BY 1, 2"
                ),
                about="Each case on each device, simulated ones too (view coverage). stale: valid, but older "
                "than 7 days; "
                "invalid: measured, and not to be trusted; missing: another device of the kind has it.",
                empty="nobody asked for this model and variant yet",
                row="variant",
                column="device",
                value="state",
                words=mapped(CELLS),
            ),
            table_panel(
                "Why not",
                Sql(
                    f"""
                    SELECT {VARIANT} AS variant, device, device_kind, host, model, runtime, recipe, simulated, state,
                    verdict, why, job_id, at
                    FROM coverage WHERE {where} AND state IN ('invalid', 'failed', 'unsupported')
                    ORDER BY state, 1, device LIMIT 1000
                    """
                ),
                about="Cases without a valid number, and the reason (view coverage). Unsupported, failed and not to be "
                "trusted are three different answers.",
                empty="none: no case of these failed, is unsupported or not to be trusted",
                columns=_columns()
                | {
                    "state": Column(words=CELLS, width=110),
                    "verdict": Column(words=COLOURS, width=120),
                    "why": Column(width=500),
                    "job_id": Column(title="job", width=80),
                },
            ),
        ],
    )


def _columns() -> dict[str, Column]:
    """What tables of this dashboard have in common; the parts of a variant are there for links only."""
    return {
        "variant": Column(width=340, links=(_TO_HISTORY,)),
        "device": Column(width=200, links=(_TO_DEVICE,)),
        "device_kind": Column(title="kind", width=90),
        "simulated": SIMULATED,
        "host": Column(hidden=True),
        "model": Column(hidden=True),
        "runtime": Column(hidden=True),
        "recipe": Column(hidden=True),
        "at": Column(title="measured", unit="dateTimeFromNow"),
    }
