"""The digest of a run, over real rows on either database: what it counts, and that a quiet night is quiet."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from scheduler.notifications.digest import digest_document
from scheduler.points import points
from tests.unit.scheduler.builders import INT8, ONNX, TORCH, Farm, plan_of
from tests.unit.scheduler.watched import (
    conclude,
    forget_points,
    incident_series,
    incidents,
    learn_noise,
    open_incident,
    points_of,
    watched_run,
)


def _digest(farm: Farm, run_id: int) -> dict[str, Any]:
    with reading(farm.engine) as connection:
        return digest_document(connection, run_id, farm.clock())


def test_a_quiet_night(farm: Farm) -> None:
    before, run_id = (watched_run(farm, TORCH, ONNX, salt=salt, revision=f"r{salt}") for salt in "12")
    found = _digest(farm, run_id)
    assert found["quiet"]
    assert found["compared_with_run"] == before
    assert (found["run"]["sweep"], found["run"]["revision"]) == ("nightly", "r2")
    assert found["cases"] == {"wanted": 2, "open": 0, "measured": 2, "valid": 2, "invalid": {}}
    assert (found["cannot_see"]["count"], found["cannot_see"]["unknown"]) == (0, 2)


def test_what_changed_what_is_open_and_what_nobody_can_say(farm: Farm) -> None:
    first = watched_run(farm, TORCH, ONNX, INT8, salt="1")
    open_incident(farm, first, first, change=0.2)
    run_id = watched_run(farm, TORCH, ONNX, INT8, salt="2")
    slower, faster, unsure = points_of(farm, run_id)
    opened = open_incident(farm, first, run_id)
    conclude(farm, slower, "slower", "confirmed", confirmed=0.08)
    conclude(farm, faster, "faster", "confirmed", confirmed=-0.1)
    conclude(farm, unsure, "slower", "inconclusive", effect=0.04, why="too noisy")
    found = _digest(farm, run_id)
    assert not found["quiet"]
    assert [one["id"] for one in found["regressed"]["first"]] == [opened]
    assert [one["id"] for one in found["still_open"]["first"]] == [opened - 1]
    [better] = found["improved"]["first"]
    assert (better["series_id"], better["change"]) == (faster.series_id, -0.1)
    [open_] = found["undecided"]["first"]
    assert (open_["series_id"], open_["state"], open_["why"]) == (unsure.series_id, "inconclusive", "too noisy")


def test_what_recovered_is_told_once(farm: Farm) -> None:
    first = watched_run(farm, TORCH, salt="1")
    incident = open_incident(farm, first, watched_run(farm, TORCH, salt="2"))
    run_id = watched_run(farm, TORCH, salt="3")
    [point] = points_of(farm, run_id)
    conclude(farm, point, "faster", "confirmed", confirmed=-0.08)
    with writing(farm.engine) as connection:
        connection.execute(update(incidents).values(state="resolved", resolved_by="farm"))
        connection.execute(update(incident_series).values(recovered_point_id=point.id))
    found = _digest(farm, run_id)
    assert [one["id"] for one in found["recovered"]["first"]] == [incident]
    assert (found["improved"]["count"], found["still_open"]["count"]) == (0, 0)


def test_what_had_a_number_and_has_none_is_missing(farm: Farm) -> None:
    watched_run(farm, TORCH, ONNX, salt="1")
    run_id = watched_run(farm, TORCH, ONNX, salt="2")
    lost, _ = points_of(farm, run_id)
    forget_points(farm, run_id, lost.series_id)
    found = _digest(farm, run_id)
    [missing] = found["missing"]["first"]
    assert (missing["series_id"], missing["state"]) == (lost.series_id, "not measured")
    assert found["cases"]["valid"] == 1


def test_series_that_cannot_see_are_named(farm: Farm) -> None:
    run_id = watched_run(farm, TORCH, ONNX, INT8, salt="1")
    sharp, blind, numb = points_of(farm, run_id)
    for point, detectable in ((sharp, 0.03), (blind, 0.07), (numb, None)):
        learn_noise(farm, run_id, point.series_id, 0.02, detectable)
    found = _digest(farm, run_id)["cannot_see"]
    assert [(one["series_id"], one["least_visible_change"]) for one in found["first"]] == [
        (blind.series_id, 0.07),
        (numb.series_id, None),
    ]
    assert found["unknown"] == 0


def test_a_run_of_no_sweep_has_a_digest_too_and_no_run_has_none(farm: Farm) -> None:
    run_id = farm.run(plan_of(farm.devices(), TORCH))
    found = _digest(farm, run_id)
    assert (found["cases"]["valid"], found["compared_with_run"], found["run"]["watched"]) == (1, None, False)
    with pytest.raises(UsageError, match="there is no run 99"):
        _digest(farm, 99)


def test_a_baseline_that_is_gone_is_said_to_be(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = watched_run(farm, TORCH, salt="1")

    def gone(*_: Any) -> int:
        raise UsageError("nightly.yaml:3:1: baseline v1: no run of that revision has results")

    monkeypatch.setattr("scheduler.notifications.baseline.baseline_run", gone)
    monkeypatch.setattr("scheduler.notifications.baseline.sweep_of_run", lambda *_: object())
    assert _digest(farm, run_id)["baseline"]["why"].endswith("no run of that revision has results")


def test_medians_apart_from_the_baseline_are_listed_without_verdicts(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, run_id = (watched_run(farm, TORCH, ONNX, salt=salt) for salt in "12")
    slow, same = points_of(farm, run_id)
    old = {point.series_id: point.value for point in points_of(farm, base)}
    with writing(farm.engine) as connection:
        for point, ratio in ((slow, 1.2), (same, 1.04)):
            changed = update(points).where(points.c.id == point.id)
            connection.execute(changed.values(value=old[point.series_id] * ratio))
    monkeypatch.setattr("scheduler.notifications.baseline.baseline_run", lambda *_: base)
    monkeypatch.setattr("scheduler.notifications.baseline.sweep_of_run", lambda *_: object())
    found = _digest(farm, run_id)["baseline"]
    [apart] = found["first"]
    assert (found["run"], found["count"], apart["series_id"]) == (base, 1, slow.series_id)
    assert apart["change"] == pytest.approx(0.2)
