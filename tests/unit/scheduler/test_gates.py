"""Gates on a farm's database: trials of two plans from conversion to answer, and stored results compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from device_registry.database import reading, table_of, writing
from device_registry.errors import UsageError
from scheduler.executors.scripted import Outcome, Succeed
from scheduler.farm import Fleet, Ground
from scheduler.gates import judging
from scheduler.gates.case import Case, Evidence, Unpaired
from scheduler.gates.judging import judged
from scheduler.gates.measuring import Asked, SubmittedGate, is_open, measure_on, start_trials
from scheduler.gates.pairing import gate_plan
from scheduler.gates.reading import read_evidence
from scheduler.gates.references import Reference, reference_of
from scheduler.gates.running import insert_gate
from scheduler.gates.stored import stored_evidence
from scheduler.queue import sweep_runs
from scheduler.request import Request
from scheduler.states import jobs
from scheduler.trials import step_trials, trials
from scheduler.watch_tables import NoiseFloor
from tests.unit.scheduler.builders import CRASHED, INT8, ONNX, UNSUPPORTED, Farm, plan_of
from tests.unit.scheduler.databases import SqliteDatabases
from workers.contract import Order

ASKED = Asked(
    baseline=Request(models=("base",)), candidate=Request(models=("head",)), most=5
)  # plans are given ready-made here


@pytest.fixture
def light(tmp_path: Path, sqlite_databases: SqliteDatabases) -> Iterator[Farm]:
    """A farm on SQLite alone, for what no database tells apart."""
    farm = Farm(tmp_path / "farm", sqlite_databases)
    yield farm
    farm.close()


def begin(farm: Farm, *cases: tuple[str, str, str], asked: Asked = ASKED) -> SubmittedGate:
    """A gate of two models on the first device."""
    devices = farm.devices()
    planned = gate_plan(plan_of(devices, *cases, model="base"), plan_of(devices, *cases, model="head"), {})
    fleet = Fleet([], devices, devices[0].host_id)
    with writing(farm.engine) as connection:
        ground = Ground(fleet, farm.store, of_the_farm=False)
        run_id = insert_gate(connection, planned, asked, ground, "tester", farm.clock())
    farm.followed.add(run_id)
    return SubmittedGate(planned, run_id)


def work(farm: Farm, gate: SubmittedGate, asked: Asked = ASKED, rounds: int = 300) -> tuple[list[Case], list[Unpaired]]:
    """Convert, measure and judge."""
    for _ in range(rounds):
        farm.tick(5)
        with writing(farm.engine) as connection:
            start_trials(connection, gate, asked, farm.clock())
            step_trials(connection, farm.clock())
            measure_on(connection, gate.run_id or 0, now=farm.clock())
            step_trials(connection, farm.clock())
        open_jobs = [row for row in farm.jobs() if row.state in ("blocked", "queued", "running")]
        if not open_jobs and not farm.rows(trials, trials.c.state == "running"):
            break
    with reading(farm.engine) as connection:
        evidence, unpaired = read_evidence(connection, gate.run_id, gate.planned.pairs)
    return list(judged(evidence)), unpaired


def play(farm: Farm, **sides: Callable[[int], Outcome] | Outcome) -> None:
    """What becomes of the processes of a model, by how many of it ran before; conversions succeed."""
    counts = dict.fromkeys(sides, 0)

    def script(order: Order) -> Outcome:
        if order.measure is None:
            return Succeed()
        outcome = sides[order.measure.model]
        counts[order.measure.model] += 1
        return outcome(counts[order.measure.model]) if callable(outcome) else outcome

    farm.play(script)


def near(ms: float) -> Callable[[int], Outcome]:
    """Times that scatter a little about one."""
    return lambda number: Succeed(p50_ms=ms * (1 + 0.0007 * (number * 7 % 10 - 4.5)))


def test_a_slower_candidate_is_named_and_its_processes_took_turns(farm: Farm) -> None:
    play(farm, base=near(10.0), head=near(10.6))
    gate = begin(farm, ONNX)
    [case], unpaired = work(farm, gate)
    assert (case.answer, unpaired) == ("slower", [])
    assert case.evidence.alternated
    assert case.evidence.baseline is not None
    assert len(case.evidence.baseline.values_ms) == 5
    measured = farm.jobs(jobs.c.trial_id.is_not(None))
    sides = {row.id: row.side[0] for row in measured}
    order = "".join(sides[row.job_id] for row in farm.attempts() if row.job_id in sides)
    assert order == "bccbbccbbc"
    # No candidate waited for its artifact while the baseline ran.
    first = min(row.id for row in measured)
    assert all(row.id < first for row in farm.jobs(jobs.c.kind == "convert"))
    assert farm.run_row(gate.run_id or 0).purpose == "gate"
    assert farm.points() == []  # a gate's results are nobody's history


def test_what_might_be_luck_among_many_is_measured_on(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten against ten show 1e-5 at best: as if there were very many cases.
    monkeypatch.setattr(judging, "FALSE_SHARE", 1e-6)
    asked = replace(ASKED, most=30)
    play(farm, base=near(10.0), head=near(10.6))
    [case], _ = work(farm, begin(farm, ONNX, asked=asked), asked)
    assert case.verdict is not None
    assert (case.answer, case.verdict.processes) == ("slower", (20, 20))


def test_the_same_is_the_same_and_artifacts_are_used_again(light: Farm) -> None:
    play(light, base=near(10.0), head=near(10.0))
    assert work(light, begin(light, ONNX))[0][0].answer == "same"
    converted = len(light.jobs(jobs.c.kind == "convert"))
    assert work(light, begin(light, ONNX))[0][0].answer == "same"
    assert len(light.jobs(jobs.c.kind == "convert")) == converted


def test_a_candidate_that_crashes_fails_and_one_that_cannot_be_had_is_lost(light: Farm) -> None:
    play(light, base=near(10.0), head=CRASHED)
    [case], _ = work(light, begin(light, ONNX))
    assert (case.answer, case.why) == ("failed", f"the candidate failed: {CRASHED.message}")
    play(light, base=near(10.0), head=UNSUPPORTED)
    [case], _ = work(light, begin(light, ONNX))
    assert (case.answer, case.why) == ("lost", f"unsupported, where the baseline runs: {UNSUPPORTED.message}")


def test_a_candidate_that_crashes_now_and_then_fails_too(light: Farm) -> None:
    play(light, base=near(10.0), head=lambda number: CRASHED if number == 3 else Succeed(p50_ms=10.0))
    [case], _ = work(light, begin(light, ONNX))
    assert case.answer == "failed"
    assert "(1 of 6 processes)" in case.why


def test_what_never_worked_is_not_compared(light: Farm) -> None:
    play(light, base=UNSUPPORTED, head=UNSUPPORTED)
    cases, [unpaired] = work(light, begin(light, ONNX))
    assert cases == []
    assert (unpaired.side, unpaired.why) == ("both", f"unsupported: {UNSUPPORTED.message}")


def test_a_conversion_that_fails_is_told_as_its_case(light: Farm) -> None:
    def script(order: Order) -> Outcome:
        return CRASHED if order.convert is not None and order.convert.recipe == "int8-static" else Succeed(p50_ms=10.0)

    light.play(script)
    cases, _ = work(light, begin(light, ONNX, INT8))
    assert {case.evidence.what.recipe: case.answer for case in cases} == {"fp32": "same", "int8-static": "failed"}
    [failed] = [case for case in cases if case.answer == "failed"]
    assert CRASHED.message in failed.why


def test_a_conversion_that_another_run_began_is_waited_for(farm: Farm) -> None:
    play(farm, base=near(10.0), head=near(10.0))
    other = farm.submit(plan_of(farm.devices(), ONNX, model="head")).sweep_run_id
    gate = begin(farm, ONNX)
    makers = [row for row in farm.jobs(jobs.c.kind == "convert") if row.sweep_run_id == other]
    assert len(makers) == 2  # of the gate's own there are only the baseline's
    for row in farm.jobs(jobs.c.kind == "convert", jobs.c.sweep_run_id == gate.run_id):
        with writing(farm.engine) as connection:
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(state="failed"))
    with writing(farm.engine) as connection:
        start_trials(connection, gate, ASKED, farm.clock())
        assert is_open(connection, gate.run_id or 0)
    assert farm.rows(trials) == []
    [case], _ = work(farm, gate)
    assert case.answer == "failed"  # the baseline's, as this test had it
    assert set(farm.states(other)) >= {("measure", "succeeded")}


def test_a_device_that_is_never_quiet_leaves_it_open(light: Farm) -> None:
    play(light, base=near(10.0), head=Succeed(p50_ms=10.0, verdict="contaminated"))
    [case], _ = work(light, begin(light, ONNX))
    assert case.answer == "inconclusive"
    assert case.why.startswith("no process of the candidate counts: ")
    assert "contaminated" in case.why


def test_what_was_cancelled_is_open(light: Farm) -> None:
    gate = begin(light, ONNX)
    for row in light.jobs(jobs.c.kind == "convert"):
        if row.state in ("queued", "blocked"):
            light.cancel(row.id)
            break
    cases, _ = work(light, gate)
    assert [case.answer for case in cases] == ["inconclusive"]


def stored(farm: Farm, ms: Callable[[int], Outcome] | Outcome, *cases: Any, repeats: int = 6, **row: Any) -> int:
    """A user's run, of a revision if one is given."""
    play(farm, net=ms)
    run_id = farm.run(plan_of(farm.devices(), *(cases or (ONNX,)), repeats=repeats, salt=str(len(farm.jobs()))))
    if row:
        with writing(farm.engine) as connection:
            connection.execute(update(sweep_runs).where(sweep_runs.c.id == run_id).values(**row))
    return run_id


def compared(farm: Farm, base: str, head: str, **options: Any) -> tuple[list[Evidence], list[Unpaired]]:
    """Evidence of two references."""
    before, after = reference_of(base), reference_of(head)
    assert before is not None
    assert after is not None
    with reading(farm.engine) as connection:
        return stored_evidence(connection, before, after, **options)


def test_stored_runs_are_compared_as_they_stand(light: Farm) -> None:
    first, second = stored(light, near(10.0)), stored(light, near(10.6))
    evidence, only = compared(light, f"run:{first}", f"run:{second}")
    [case] = judged(evidence)
    assert (case.answer, only, case.evidence.alternated) == ("slower", [], False)
    assert case.verdict is not None
    assert case.verdict.not_alternated
    assert [side.run for side in (case.evidence.baseline, case.evidence.candidate) if side is not None] == [
        first,
        second,
    ]
    [back] = judged(compared(light, f"run:{second}", f"run:{first}")[0])
    assert back.answer == "faster"


def test_revisions_are_found_whole_or_by_their_beginning(farm: Farm) -> None:
    stored(farm, near(11.0), revision="a" * 40)
    stored(farm, near(10.0), revision="a" * 40)  # the latest valid point counts
    stored(farm, near(10.0), revision="b" * 40)
    [case] = judged(compared(farm, f"revision:{'a' * 40}", "revision:bbbbbbb")[0])
    assert case.answer == "same"
    stored(farm, near(10.0), revision="bbbbbbb" + "c" * 33)
    with pytest.raises(UsageError, match="is the beginning of 2 revisions"):
        compared(farm, f"revision:{'a' * 40}", "revision:bbbbbbb")
    with pytest.raises(UsageError, match="nothing was measured of revision:bbb"):
        compared(farm, f"revision:{'a' * 40}", "revision:bbb")


def test_what_the_candidate_lacks_is_told_and_why(farm: Farm) -> None:
    both = stored(farm, near(10.0), ONNX, INT8)
    one = stored(farm, near(10.0), ONNX)

    def answers(candidate: int) -> dict[str, tuple[str, str]]:
        made = judged(compared(farm, f"run:{both}", f"run:{candidate}")[0])
        return {case.evidence.what.recipe: (case.answer, case.why) for case in made}

    assert answers(one)["int8-static"] == ("missing", f"run:{one} has no point of it")
    [only] = compared(farm, f"run:{one}", f"run:{both}")[1]
    assert (only.side, only.recipe) == ("baseline", "int8-static")

    def int8_fails(order: Order) -> Outcome:
        return CRASHED if order.measure is not None and order.measure.recipe == "int8-static" else Succeed(p50_ms=10.0)

    farm.play(int8_fails)
    broken = farm.run(plan_of(farm.devices(), ONNX, INT8, repeats=6, salt="broken"))
    assert answers(broken)["int8-static"] == ("failed", f"the candidate failed: {CRASHED.message}")


def test_references_that_cannot_be_are_refused_with_one_sentence(light: Farm) -> None:
    good = stored(light, near(10.0))
    invalid = stored(light, Succeed(p50_ms=10.0, verdict="throttled"))
    gate = stored(light, near(10.0), purpose="gate")
    for base, head, says in (
        (f"run:{good}", "run:99", "no run 99: it was deleted or never was"),
        (f"run:{good}", f"run:{invalid}", f"run:{invalid} has no valid point: throttled"),
        (f"run:{good}", f"run:{gate}", "is the farm's own"),
        (f"run:{good}", f"run:{good}", "compared with itself"),
    ):
        with pytest.raises(UsageError, match=says):
            compared(light, base, head)
    with pytest.raises(UsageError, match="no point that fits these options"):
        compared(light, f"run:{good}", f"run:{stored(light, near(1.0))}", runtimes=["torch"])


@pytest.mark.parametrize("text", ["run:", "run:x", "run:-1", "run:0", "run:99999999999", "run:¹", "revision: "])
def test_a_reference_must_be_one(text: str) -> None:
    with pytest.raises(UsageError):
        reference_of(text)


def test_anything_else_names_a_model() -> None:
    assert reference_of("torchvision/resnet18") is None
    assert reference_of("package.module:factory") is None
    assert reference_of("run:007") == Reference("run", "7")
    assert str(reference_of("revision:v1.0")) == "revision:v1.0"


def test_what_a_series_is_known_to_scatter_is_no_change_of_a_gate(farm: Farm) -> None:
    play(farm, base=near(10.0), head=near(10.6), net=near(10.0))
    # The history of the candidate's series, as a user's run makes it.
    farm.run(plan_of(farm.devices(), ONNX, model="head"))
    [known] = farm.series()
    gate = begin(farm, ONNX)
    [case], _ = work(farm, gate)
    assert (case.answer, case.evidence.noise_floor) == ("slower", None)
    with writing(farm.engine) as connection:
        floor = {"series_id": known.id, "noise": 0.1, "processes": 20, "trial_id": 1, "at": farm.clock()}
        connection.execute(insert(table_of(NoiseFloor)).values(**floor))
    with reading(farm.engine) as connection:
        evidence, _ = read_evidence(connection, gate.run_id, gate.planned.pairs)
    [case] = judged(evidence)
    assert (case.answer, case.evidence.noise_floor) == ("same", 0.1)
