"""Schema 0006: attempts keep what they failed for; what older ones failed for is told as far as it is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text

from device_registry.database import open_engine, reading, writing
from scheduler.executors.scripted import Succeed
from scheduler.schema import upgrade
from tests.unit.scheduler.builders import BROKEN, CRASHED, ONNX, TORCH, Farm, in_turn, only, plan_of

_ROWS = """
INSERT INTO host (id, key, name, description, agent_version, presence, labels, last_seen_at)
  VALUES (1, 'h', 'h', '{}', '1', 'online', '{}', '2026-01-01 00:00:00');
INSERT INTO sweep_run (id, request, request_digest, unsupported, owner, created_at, resting)
  VALUES (1, '{}', 'r', '[]', 'o', '2026-01-01 00:00:00', false);
INSERT INTO requirement (id, digest, place, selector, needs) VALUES (1, 'd', 'device', '', '[]');
INSERT INTO payload (id, digest, document) VALUES (1, 'd', '{}');
"""
_JOB = """
INSERT INTO job (id, sweep_run_id, kind, state, requirement_id, owner, priority, rank, position, expected_s, avoid,
    canary, title, repeat_no, payload_id, attempts, failure_cause, failure_code, created_at, changed_at)
  VALUES (:id, 1, 'measure', :state, 1, 'o', 0, 0, 0, 0, '[]', false, 't', 0, 1, 1, :cause, :code,
    '2026-01-01 00:00:00', '2026-01-01 00:00:00')
"""
_ATTEMPT = """
INSERT INTO attempt (id, job_id, host_id, place, token, state, lease_until, started_at, message)
  VALUES (:id, :job, 1, 'p', 't', :state, '2026-01-01 00:00:00', '2026-01-01 00:00:00', :message)
"""


def test_what_older_attempts_failed_for(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'old.db'}")
    upgrade(engine, "0005")
    failed = {"state": "failed", "cause": "model", "code": "crashed"}
    with writing(engine) as connection:
        for statement in filter(str.strip, _ROWS.split(";")):
            connection.execute(text(statement.replace(":00", r"\:00")))
        jobs = [{"id": 1, **failed}, {"id": 2, "state": "succeeded", "cause": None, "code": None}]
        connection.execute(text(_JOB.replace(":00", r"\:00")), jobs)
        attempts = [
            {"id": 1, "job": 1, "state": "lost", "message": "the host does not answer"},
            {"id": 2, "job": 1, "state": "finished", "message": "no space left"},  # and was tried again: who knows
            {"id": 3, "job": 1, "state": "finished", "message": "the runtime crashed"},
            {"id": 4, "job": 2, "state": "finished", "message": None},
        ]
        connection.execute(text(_ATTEMPT.replace(":00", r"\:00")), attempts)
    upgrade(engine)
    with reading(engine) as connection:
        found = connection.execute(text("SELECT failure_cause, failure_code FROM attempt ORDER BY id")).all()
    engine.dispose()
    assert [tuple(row) for row in found] == [
        ("infrastructure", "lost"),
        (None, None),
        ("model", "crashed"),
        (None, None),
    ]


def test_each_attempt_keeps_its_own(farm: Farm) -> None:
    farm.play(in_turn(BROKEN, CRASHED))
    farm.run(plan_of(farm.devices(), TORCH))
    kept = [(row.failure_cause, row.failure_code) for row in farm.attempts()]
    assert kept == [(None, None), ("infrastructure", "disk_full"), ("model", "crashed")]


def test_a_conversion_that_fails_and_a_job_that_is_cancelled(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm()
    farm.play(only("convert onnx", CRASHED))
    farm.run(plan_of(farm.devices(), ONNX))
    assert [row.failure_cause for row in farm.attempts()] == [None, "model"]
    farm.play(lambda order: Succeed() if order.convert is not None else "silent")
    farm.submit(plan_of(farm.devices(), TORCH, model="other"))
    for _ in range(6):
        farm.tick()
    [live] = farm.live()
    farm.cancel(live.job_id)
    for _ in range(4):
        farm.tick()
    [ended] = [row for row in farm.attempts() if row.id == live.id]
    assert (ended.state, ended.failure_cause) == ("cancelled", None)
