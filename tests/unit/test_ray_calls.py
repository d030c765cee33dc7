"""What executors make of agents that answer, are slow, die or are replaced: a Ray that does what the test says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from scheduler.executors import ray_calls, ray_cluster
from scheduler.executors.executor import Lost
from scheduler.executors.ray_calls import RayCalls
from scheduler.executors.ray_cluster import ClusterRayExecutor
from workers.agent import AGENT_VERSION

LEASE_S = 5.0


class FakeRay:
    """References are lists: empty while nothing came, else what came; an exception is raised."""

    class exceptions:  # noqa: N801  # as Ray names it
        class RayError(Exception):
            pass

        class RayActorError(RayError):
            pass

        class GetTimeoutError(RayError):
            pass

    def __init__(self) -> None:
        self.killed: list[tuple[Any, bool]] = []

    def wait(self, refs: list[Ref], num_returns: int, timeout: float) -> tuple[list[Ref], list[Ref]]:
        ready = [ref for ref in refs if ref.came][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref: Ref, timeout: float) -> Any:
        (answer,) = ref.came
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor: Any, *, no_restart: bool) -> None:
        self.killed.append((actor, no_restart))


class Ref:
    """An answer that comes, or not."""

    def __init__(self) -> None:
        self.came: list[Any] = []


class FakeActor:
    """Remembers what it was asked; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], Ref]] = []

    def __getattr__(self, method: str) -> Any:
        class Method:
            @staticmethod
            def remote(*arguments: Any) -> Ref:
                self.asked.append((method, arguments, ref := Ref()))
                return ref

        return Method

    def answer(self, method: str, answer: Any) -> tuple[Any, ...]:
        """Answer the last call of a method; returns its arguments."""
        _, arguments, ref = next(call for call in reversed(self.asked) if call[0] == method)
        ref.came = [answer]
        return arguments


def hello(session: str = "s1", **changes: Any) -> dict[str, Any]:
    return {"version": AGENT_VERSION, "session": session, "node": "n1", "devices": [], "running": [], **changes}


@pytest.fixture
def ray() -> FakeRay:
    return FakeRay()


@pytest.fixture
def actor() -> FakeActor:
    return FakeActor()


@pytest.fixture
def calls(ray: FakeRay, actor: FakeActor) -> RayCalls:
    made = RayCalls(ray, LEASE_S)
    made.greet("a", actor)
    assert made.arrivals() == {}
    actor.answer("hello", hello())
    assert list(made.arrivals()) == ["a"]
    return made


def test_one_poll_is_out_at_a_time_and_the_next_has_the_new_cursor(calls: RayCalls, actor: FakeActor) -> None:
    assert calls.poll({"a": 0}, 0) == {}
    assert calls.poll({"a": 0}, 0) == {}
    assert [name for name, _, _ in actor.asked] == ["hello", "poll"]
    answer = {"session": "s1", "events": [{"sequence": 7}], "running": []}
    assert actor.answer("poll", answer)[:2] == ("s1", 0)
    assert calls.poll({"a": 0}, 0) == {"a": answer}
    calls.poll({"a": 7}, 0)
    assert actor.asked[-1][1][:2] == ("s1", 7)


@pytest.mark.parametrize(
    ("answer", "why", "dead"),
    [
        ({"session": "s2"}, "started anew", False),
        ({"session": "s1", "closed": True, "left": False}, "Ray node ended", True),
        ({"session": "s1", "closed": False, "left": False}, "Ray node ended", False),
        ({"session": "s1", "closed": True, "left": True}, "left the farm", True),
        (FakeRay.exceptions.RayActorError(), "does not answer (RayActorError)", False),
        (FakeRay.exceptions.RayError(), "its agent broke", False),
    ],
)
def test_a_lost_host_is_named_once_and_not_polled(
    calls: RayCalls, actor: FakeActor, answer: object, why: str, dead: bool
) -> None:
    calls.poll({"a": 0}, 0)
    actor.answer("poll", answer)
    lost = calls.poll({"a": 0}, 0)["a"]
    assert isinstance(lost, Lost)
    assert why in lost.why
    assert lost.dead is dead
    assert lost.left is ("left" in why)
    asked = len(actor.asked)
    assert calls.poll({"a": 0}, 0) == {}
    calls.start("a", [{}])
    assert len(actor.asked) == asked


def test_a_host_is_out_of_reach_before_its_attempts_are_given_up(
    calls: RayCalls, actor: FakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.poll({"a": 0}, 0)
    now = time.monotonic()
    monkeypatch.setattr(ray_calls.time, "monotonic", lambda: now + LEASE_S + 1.1)
    lost = calls.poll({"a": 0}, 0)["a"]
    assert isinstance(lost, Lost)
    assert not lost.dead


def test_an_agent_that_never_says_hello_is_told_of(
    ray: FakeRay, actor: FakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(RayCalls, "_no_hello", lambda self, name, actor, why: said.append(f"{name}: {why}"))
    made = RayCalls(ray, LEASE_S)
    made.greet("a", actor)
    assert made.arrivals() == {}
    assert said == []
    now = time.monotonic()
    monkeypatch.setattr(ray_calls.time, "monotonic", lambda: now + 61)
    assert made.arrivals() == {}
    assert said == ["a: it has said nothing for 60 s"]
    assert made.arrivals() == {}
    assert len(said) == 1


def test_a_broken_agent_is_started_anew(calls: RayCalls, actor: FakeActor, ray: FakeRay) -> None:
    calls.poll({"a": 0}, 0)
    actor.answer("poll", FakeRay.exceptions.RayError())
    calls.poll({"a": 0}, 0)
    assert ray.killed == [(actor, False)]


@pytest.fixture
def cluster(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> ClusterRayExecutor:
    monkeypatch.setattr(ClusterRayExecutor, "_watch", lambda self: None)
    return ClusterRayExecutor(ray, "127.0.0.1:6379", "file:///nowhere", LEASE_S)


@pytest.fixture
def meet(cluster: ClusterRayExecutor, actor: FakeActor) -> Callable[..., dict[str, dict[str, Any]]]:
    """The agent says hello."""

    def greet(**changes: Any) -> dict[str, dict[str, Any]]:
        cluster.greet("a", actor)
        actor.answer("hello", hello(**changes))
        return cluster.arrivals()

    return greet


def test_an_idle_agent_of_another_version_is_replaced_once(meet: Any, actor: FakeActor, ray: FakeRay) -> None:
    assert meet(version="0") == {}
    assert ray.killed == [(actor, True)]
    assert meet(version="0")["a"]["version"] == "0"  # its host has no other: the dispatcher refuses it
    assert len(ray.killed) == 1


def test_a_busy_agent_of_another_version_is_left_until_it_is_idle(meet: Any, ray: FakeRay) -> None:
    assert list(meet(version="0", running=[3])) == ["a"]
    assert ray.killed == []
    assert meet(version="0") == {}
    assert len(ray.killed) == 1


@pytest.fixture
def look(cluster: ClusterRayExecutor, ray: FakeRay) -> Callable[[str | None], list[str]]:
    """Look for hosts while host a is on that node, or on none; returns for which hosts an agent was sought."""

    def look(node: str | None) -> list[str]:
        known = {"NodeID": node, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": 1, "Alive": True}
        nodes = [] if node is None else [{**known, "Labels": {ray_cluster.HOST_LABEL: "a"}}]
        ray.nodes = lambda: nodes  # type: ignore[attr-defined]
        sought: list[str] = []
        cluster._look(sought.append)
        cluster._found.fresh.clear()
        return sought

    return look


def test_a_refused_host_is_asked_again_and_an_idle_agent_is_replaced_once(
    cluster: ClusterRayExecutor, look: Any, meet: Any, actor: FakeActor, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its store may be mended by now; its agent may have been told another."""
    assert look("n1") == ["a"]
    clock = time.monotonic
    for ahead_s, killed in ((10, 1), (20, 1)):
        assert list(meet()) == ["a"]
        cluster.poll({}, 0)  # the dispatcher has refused it
        assert look("n1") == []
        monkeypatch.setattr(ray_cluster.time, "monotonic", lambda ahead_s=ahead_s: clock() + ahead_s)
        cluster.poll({}, 0)
        assert len(ray.killed) == killed
        monkeypatch.setattr(ray_cluster.time, "monotonic", lambda ahead_s=ahead_s: clock() + ahead_s + 1.5)
        assert look("n1") == ["a"]


def test_a_host_that_left_is_looked_for_once_it_is_on_another_node(
    cluster: ClusterRayExecutor, look: Any, meet: Any, actor: FakeActor
) -> None:
    assert look("n1") == ["a"]
    meet()
    cluster.poll({"a": 0}, 0)
    actor.answer("poll", {"session": "s1", "closed": True, "left": True})
    assert cluster.poll({"a": 0}, 0)["a"] == Lost("it left the farm", dead=True, left=True)
    assert look("n1") == []  # its node is there for a moment more
    assert look(None) == []
    assert look("n2") == ["a"]


@pytest.mark.parametrize(("answered", "dead"), [(True, False), (None, False), (False, True)])
def test_only_a_raylet_that_is_known_dead_makes_a_host_dead(
    cluster: ClusterRayExecutor,
    meet: Any,
    actor: FakeActor,
    monkeypatch: pytest.MonkeyPatch,
    answered: bool | None,
    dead: bool,
) -> None:
    meet()
    cluster._found.nodes["n1"] = ("127.0.0.1", 1)
    monkeypatch.setattr(ray_cluster, "listens", lambda *_: answered)
    monkeypatch.setattr(ray_cluster, "_DYING_S", 0.0)
    cluster.poll({"a": 0}, 0)
    actor.answer("poll", FakeRay.exceptions.RayActorError())
    deadline = time.monotonic() + 5
    while not (lost := cluster.poll({"a": 0}, 0)):
        assert time.monotonic() < deadline
    assert lost["a"].dead is dead  # type: ignore[union-attr]
