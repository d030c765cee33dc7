"""workers.judge: the first rule that applies is the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.builders import make_energy, make_gate, make_measurement, make_reading
from workers.contract import Evaluation, Measurement, RuntimeFacts
from workers.judge import FOREIGN_LOAD_LIMIT, judge, judge_evaluation
from workers.report import Energy, GateReading, Judgement, Reading

DRIFTED = {"drift_ratio": 1.05, "drift_p": 0.0001}
SPREAD = {"iqr_over_median": 0.3}
UNSETTLED = {"converged": False}
BUSY = make_gate(0.5, ("cc1plus (42) 50%",))


def judged(
    measurement: Measurement | None = None,
    before: GateReading | None = None,
    after: GateReading | None = None,
    telemetry: tuple[Reading, ...] = (),
    energy: Energy | None = None,
) -> Judgement:
    """Judge a run in which all is well but for what is given."""
    return judge(
        measurement or make_measurement(),
        before or make_gate(),
        after or make_gate(),
        telemetry,
        energy or make_energy(),
    )


def test_a_quiet_converged_run_is_valid_without_reasons_or_flags() -> None:
    assert judged() == Judgement(verdict="valid")


@pytest.mark.parametrize(
    ("gate", "timings", "verdict"),
    [
        (BUSY, {**DRIFTED, **SPREAD, **UNSETTLED}, "contaminated"),
        (None, {**DRIFTED, **SPREAD, **UNSETTLED}, "throttled"),
        (None, {**SPREAD, **UNSETTLED}, "unusable"),
        (None, UNSETTLED, "not_converged"),
        (None, {}, "valid"),
    ],
)
def test_the_first_rule_that_applies_decides(gate: GateReading | None, timings: dict[str, Any], verdict: str) -> None:
    assert judged(make_measurement(**timings), after=gate).verdict == verdict


def test_foreign_load_names_when_how_much_and_who() -> None:
    before, during = judged(before=BUSY), judged(after=BUSY)
    assert before.reasons == ("before the run 50% of a core went to cc1plus (42) 50%",)
    assert during.reasons == ("during the run 50% of a core went to cc1plus (42) 50%",)
    assert judged(before=BUSY, after=BUSY).reasons == before.reasons + during.reasons


def test_foreign_load_without_a_culprit_is_put_down_to_short_lived_processes() -> None:
    assert "short-lived processes" in judged(after=make_gate(0.4)).reasons[0]


def test_foreign_load_at_the_limit_is_let_pass() -> None:
    assert judged(before=make_gate(FOREIGN_LOAD_LIMIT)).verdict == "valid"


def test_a_device_that_was_not_ready_contaminates_and_every_failed_check_is_told() -> None:
    checks = {
        "battery_level": "battery at 4 %",
        "skin_temperature": "skin at 41.5 C",
        "snapshot": "ok",
        "fan": "unknown",
    }
    gate = replace(make_gate(), passed=False, checks=checks)
    reasons = ("before the run: battery_level: battery at 4 %", "before the run: skin_temperature: skin at 41.5 C")
    assert judged(before=gate) == Judgement(verdict="contaminated", reasons=reasons)
    assert judged(after=gate).verdict == "valid"  # a run warms a device


def test_foreign_load_that_failed_the_gate_is_told_once() -> None:
    gate = replace(BUSY, passed=False, checks={"foreign_load": "50% of a core"})
    assert len(judged(before=gate).reasons) == 1


@pytest.mark.parametrize("side", ["before", "after"])
def test_unknown_foreign_load_is_a_flag_and_no_verdict(side: str) -> None:
    gates = {side: make_gate(None)}
    assert judged(**gates) == Judgement(verdict="valid", flags=("foreign_load_unknown",))


def test_a_throttle_event_is_throttling() -> None:
    judgement = judged(telemetry=(make_reading("throttle_events", 2.0, sensor="gpu"),))
    assert judgement == Judgement(verdict="throttled", reasons=("gpu: 2 throttle events",))


@pytest.mark.parametrize("value", [None, 0.0])
def test_no_throttle_event_and_an_unknown_number_are_no_throttling(value: float | None) -> None:
    assert judged(telemetry=(make_reading("throttle_events", value),)).verdict == "valid"


@pytest.mark.parametrize(
    ("ratio", "p", "verdict"),
    [
        (1.05, 0.0001, "throttled"),
        (1.05, 0.01, "valid"),  # may be chance
        (1.02, 0.0001, "valid"),  # too small
        (0.9, 0.0001, "valid"),  # faster
        (None, None, "valid"),
    ],
)
def test_a_slower_end_is_throttling_only_when_large_and_beyond_chance(
    ratio: float | None, p: float | None, verdict: str
) -> None:
    judgement = judged(make_measurement(drift_ratio=ratio, drift_p=p))
    assert judgement.verdict == verdict
    assert judgement.reasons == (("the last fifth was 5.0% slower than the first",) if verdict == "throttled" else ())


@pytest.mark.parametrize(
    ("iqr", "verdict", "flags"),
    [
        (0.10, "valid", ()),
        (0.11, "valid", ("noisy",)),
        (0.25, "valid", ("noisy",)),
        (0.26, "unusable", ("noisy",)),
    ],
)
def test_noise_is_a_flag_until_it_makes_a_run_unusable(iqr: float, verdict: str, flags: tuple[str, ...]) -> None:
    judgement = judged(make_measurement(iqr_over_median=iqr))
    assert (judgement.verdict, judgement.flags) == (verdict, flags)


def test_a_run_that_did_not_converge_says_after_how_long() -> None:
    assert judged(make_measurement(converged=False, elapsed_s=60.2)).reasons == (
        "the interval of the median was not within 1 % after 60 s",
    )


def test_an_unstable_warm_up_is_a_flag() -> None:
    assert judged(make_measurement(warm=False)) == Judgement(verdict="valid", flags=("warm_up_unstable",))


@pytest.mark.parametrize(("values", "flags"), [([0.0, 0.2], ("cpu_stolen",)), ([0.0, 0.08], ()), ([None], ())])
def test_stolen_cpu_time_is_a_flag_by_its_mean(values: list[float | None], flags: tuple[str, ...]) -> None:
    telemetry = tuple(make_reading("steal", value) for value in values)
    assert judged(telemetry=telemetry) == Judgement(verdict="valid", flags=flags)


def test_energy_over_a_part_of_the_run_is_a_flag() -> None:
    assert judged(energy=make_energy("partial")).flags == ("energy_partial",)
    assert judged(energy=make_energy("no_permission")).flags == ()


def test_an_evaluation_is_valid_and_says_what_was_no_answer() -> None:
    facts = RuntimeFacts(name="r", version="1", options={}, precision="fp32", compute_unit="cpu", evidence="e")
    seen = Evaluation(
        runtime=facts,
        task="classification",
        data="digits",
        data_sha256="d",
        examples=8,
        skipped=0,
        correct=4,
        not_finite=0,
        top1=0.5,
        top5=None,
        f1_macro=0.5,
        wer=None,
        outcomes_base64="8A==",
        seconds=1.0,
        inputs={},
    )
    assert judge_evaluation(seen) == Judgement(verdict="valid")
    assert judge_evaluation(replace(seen, not_finite=1)) == Judgement(verdict="valid", flags=("not_finite",))
