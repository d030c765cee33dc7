"""The loop that is the product: greet hosts, poll, ingest, expire, match, claim, start.

The database is the truth; what is kept in memory only spares reading it again, and is read anew after any error. A
crash at any line is healed by what is below: a claim that never started runs out, a host that comes back has swept
itself and says hello, a result that comes late is kept and never counted.

Spans are measured on a monotonic clock, so that a wall clock that jumps ends no lease; rows hold wall time with slack.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.exc import IntegrityError

from device_registry.capabilities import DeviceDescription
from device_registry.database import reading
from device_registry.registry import hosts, record_devices, set_host_presence
from device_registry.tables import utc_now
from scheduler import expiry, quarantine, queue, resting, runs
from scheduler.arrivals import arrive, noting
from scheduler.executors.executor import Executor, Lost
from scheduler.ingest import Ended, genuine, ingest, lose_attempts, take_started
from scheduler.lanes import Lanes, backlog_s
from scheduler.leases import DispatcherLease
from scheduler.placement import match
from scheduler.queue import Claimed
from scheduler.roster import ReachedHost, Roster
from scheduler.running import ATTEMPT_LEASE_S, EXPIRY_S, ROW_SLACK_S, Running
from scheduler.states import IS_LIVE, LIVE_ATTEMPT, LostRaceError, attempts, record
from scheduler.telemetry import Between, insert_between
from scheduler.usage import Usage
from scheduler.wakeups import Watcher
from workers.devices.cpu import machine_key
from workers.errors import Cause

__all__ = ["ATTEMPT_LEASE_S", "Dispatcher"]

log = logging.getLogger(__name__)

#: Others' changes are looked for so often, whatever the caller would wait.
_STEP_S = 0.05
#: What time alone changes (back-offs, time-outs, canaries, the lease of the role) is looked at so often.
_ROUND_S = 1.0
#: Rows of live attempts are renewed so often.
_RENEW_S = 10.0
#: Looking at a farm anew must leave time for its work: a look is followed by so many times its cost without one.
_COST_FACTOR = 10.0
#: Events that are taken in one round: when a thousand devices are done at once, the first of them shall not wait for
#: the reports of the last.
_MOST_EVENTS = 256
#: How long `stop` waits for the reports of what it ended.
_STOP_S = 10.0


#: Answers of hosts that answer.
_Answers = Mapping[str, dict[str, Any]]


@dataclass
class _Tick:
    """What a round's transaction did: becomes memory, and calls to agents, once it is committed."""

    ended: list[Ended] = field(default_factory=list)
    #: Attempts that were given up, while their agents may still run them.
    lost: list[int] = field(default_factory=list)
    #: Attempts of whose end their agents told, and those of them that end here without a report.
    told: list[int] = field(default_factory=list)
    over: list[int] = field(default_factory=list)
    claimed: list[Claimed] = field(default_factory=list)
    greeted: list[ReachedHost] = field(default_factory=list)
    #: Hosts that are reached no more.
    gone: dict[int, str] = field(default_factory=dict)
    cursors: dict[int, int] = field(default_factory=dict)
    recoveries: list[quarantine.Recovery] = field(default_factory=list)
    #: Jobs or devices changed, so that the queue must be looked at anew.
    stirred: bool = False
    #: A device failed for its own sake: it may have been put aside.
    ailing: bool = False


class Dispatcher:
    """One active per database. `tick` does one round; whoever runs it decides when to stop."""

    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        lease: DispatcherLease,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        store_marker: str | None = None,
    ) -> None:
        """Dispatch for a database through an executor, under a lease that was acquired.

        Args:
            engine: of the database.
            executor: what carries orders to agents.
            lease: this process's claim to the role.
            clock: wall time, for rows.
            monotonic: seconds that never jump, for spans.
            store_marker: of the farm's artifact store (`ArtifactStore.mark`); hosts that see another are refused.
        """
        self._engine = engine
        self._executor = executor
        self._lease = lease
        self._clock = clock
        self._monotonic = monotonic
        self._store_marker = store_marker
        self._who = f"dispatcher {lease.holder}"
        self._watcher: Watcher | None = None
        self._roster = Roster()
        self._running = Running()
        self._lanes = Lanes()
        self._usage = Usage()
        #: Memory may differ from the database: read everything before the next round.
        self._stale = True
        self._look_from = self._round_at = self._renew_at = 0.0
        self._began = monotonic()
        self._stirred = True
        #: What the executor says once: kept until a transaction took it.
        self._arrived: dict[str, dict[str, Any]] = {}
        self._lost: dict[str, Lost] = {}
        self._backlog_turn = 0
        #: Agents told more than the last round took.
        self._more_to_take = False
        #: Hosts that were ever given work here.
        self._served: set[int] = set()
        #: Hosts that stopped answering or were refused, and why; until they come back.
        self.lost_hosts: dict[str, str] = {}

    def tick(self, wait_s: float = _STEP_S, *, may_claim: Callable[[Connection], bool] = lambda _: True) -> bool:
        """One round. Returns whether anything changed.

        After any error it may be called again: it then begins by reading what the database says.

        Args:
            wait_s: how long to wait for an agent to say something; others' changes end the wait within 50 ms.
            may_claim: asked after results are in and before new work is taken; a `run` that is done says no.

        Raises:
            LeaseLostError: another dispatcher took over; nothing was written.
        """
        self._arrived |= self._executor.arrivals()
        answers = self._poll(0.0 if self._arrived else wait_s)
        if self._stale:  # polled all the same: what runs goes on while the database is away
            self._read_everything()
        self._hear_changes()
        clock_s = self._monotonic()
        news = any(answer["events"] or not host.known for host, answer in self._answering(answers))
        look = self._stirred and clock_s >= self._look_from
        if not (news or look or self._arrived or self._lost or clock_s >= self._round_at):
            self._hear(answers, clock_s)
            return False
        try:
            return self._round(answers, may_claim)
        except LostRaceError as error:  # a user was quicker: nothing was written, and the next round sees it
            log.warning("%s: the round is repeated", error, extra={"action": "lost_race"})
            return True

    def stop(self) -> None:
        """End what runs, take the reports, and give the lease back.

        Raises:
            LeaseLostError: another dispatcher took over; what runs is its own now.
        """
        if self._stale:
            self._read_everything()
        try:
            with self._writing():
                pass  # the lease is still ours
            for host in self._roster.hosts.values():
                running = [one.id for one in self._running.at(host.id)]
                self._executor.cancel(host.reached_as, running, "the dispatcher stopped")
            for _ in range(int(_STOP_S / _STEP_S)):
                self._round(self._poll(_STEP_S), lambda _: False)
                if not self._more_to_take and not any(host.running for host in self._roster.hosts.values()):
                    break
            self._poll(0.0)  # so that the agents forget what was taken
        finally:
            with self._writing() as connection:
                now, why = self._clock(), "the dispatcher stopped"
                ours = [one.id for one in self._running.live.values() if one.host_id in self._served]
                lose_attempts(connection, ours, who=self._who, why=why, now=now, counted=())
                for host_id in self._roster.hosts:
                    set_host_presence(connection, host_id, "left", why, now, noting(connection, who=self._who, now=now))
                self._lease.release(connection)
            self.close()

    def leave(self) -> None:
        """Give the lease back and leave everything running: a successor takes it over."""
        with suppress(Exception), self._writing() as connection:
            self._lease.release(connection)
        self.close()

    def close(self) -> None:
        """Give the database's connections back."""
        self._stale = True
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    # Below: the parts of a round.

    def _round(self, answers: _Answers, may_claim: Callable[[Connection], bool]) -> bool:
        """One transaction, and what follows from it."""
        done = _Tick()
        now, clock_s = self._clock(), self._monotonic()
        with self._writing() as connection:
            self._take(connection, answers, done, now)
            self._drop_lost(connection, done, now)
            for reached_as, hello in self._arrived.items():
                self._greet(connection, reached_as, hello, done, now)
            if clock_s >= self._renew_at:
                self._renew_rows(connection, now, clock_s)
                self._miss(connection, now, clock_s)
                done.stirred |= resting.adopt(connection, now)
            if clock_s >= self._round_at:
                self._lose(connection, self._running.expired(clock_s), "its lease ran out", done, now)
                done.stirred |= expiry.expire_queued(connection, who=self._who, now=now) > 0
                done.stirred |= resting.rest(connection, now)
                done.recoveries = quarantine.maintain(connection, who=self._who, now=now)
                self._running.write_said(connection)
            self._settle(done, now, clock_s)
            if done.ailing:
                self._look_from = clock_s
            self._look(connection, now, clock_s, anew=done.stirred or bool(done.greeted or done.gone))
            if may_claim(connection):
                done.claimed = self._claim(connection, now)
        self._arrived, self._lost = {}, {}
        self._running.add(done.claimed, clock_s)
        self._usage.claimed(done.claimed, now.timestamp())
        for host_id, cursor in done.cursors.items():
            if host_id in self._roster.hosts:
                self._roster.hosts[host_id].cursor = cursor
        self._start(done.claimed)
        self._hear(answers, clock_s)
        for step in done.recoveries:
            if step.host_id in self._roster.hosts:
                self._executor.recover(self._roster.hosts[step.host_id].reached_as, step.device_key, step.rung)
        if clock_s >= self._round_at:
            self._round_at = clock_s + _ROUND_S
        return bool(done.claimed or done.ended or done.lost or done.over or done.greeted or done.gone)

    def _greet(
        self, connection: Connection, reached_as: str, hello: dict[str, Any], done: _Tick, now: datetime
    ) -> None:
        reached = [host for host in self._roster.hosts.values() if host.id not in done.gone]
        others = [host for host in (*reached, *done.greeted) if host.reached_as != reached_as]
        arrival = arrive(connection, reached_as, hello, others, self._store_marker, who=self._who, now=now)
        if arrival.refused is not None:
            done.gone[arrival.host.id] = self.lost_hosts[reached_as] = arrival.refused
        else:
            done.greeted.append(arrival.host)

    def _take(self, connection: Connection, answers: _Answers, done: _Tick, now: datetime) -> None:
        """Ingest the events of all hosts, once each; and what a host does not know though the database thinks so."""
        started: dict[int, str] = {}
        finished: list[dict[str, Any]] = []
        left: dict[int, str] = {}
        between: list[Between] = []
        for host, events in self._fresh(answers):
            for event in events:
                done.cursors[host.id] = event["sequence"]
                if event["kind"] == "started":
                    started[event["attempt_id"]] = event["token"]
                elif event["kind"] == "finished":
                    finished.append({**event, "ahead_s": host.ahead_s})
                elif event["kind"] == "lost":
                    left[event["attempt_id"]] = event["token"]
                elif event["kind"] == "devices":
                    self._take_devices(connection, host, event, now)
                    done.stirred = True
                elif event["kind"] == "readings":
                    between += [(host.id, key, text, host.ahead_s) for key, text in event["devices"].items()]
                elif event["kind"] == "recovered":
                    self._take_recovery(connection, event, now)
        over = {event["attempt_id"] for event in finished}
        begun = [(attempt_id, token) for attempt_id, token in started.items() if attempt_id not in over]
        take_started(connection, begun, who=self._who, now=now)
        if finished:
            done.ended = ingest(connection, finished, who=self._who, now=now)
            # Conversions free what waits for them, and what failed is queued again.
            done.stirred |= any(one.failure is not None or one.device_id is None for one in done.ended)
            done.ailing = any(one.failure is not None and one.failure.cause == Cause.DEVICE for one in done.ended)
            outcomes = [_outcome(one) for one in done.ended if one.state == "finished" and one.device_id is not None]
            quarantine.note_outcomes(connection, outcomes, who=self._who, now=now)
        insert_between(connection, between)
        done.told += [event["attempt_id"] for event in finished]
        lost = genuine(connection, left) if left else []
        if lost:
            done.told += lost
            lose_attempts(connection, lost, who=self._who, why="its agent ended before it did", now=now)
            done.over += lost
            done.stirred = True
        for host, answer in self._answering(answers):
            if not host.known:
                known = over.union(answer["running"], lost)
                unknown = [one.id for one in self._running.at(host.id) if one.id not in known]
                # An order that its agent never saw was no try.
                self._lose(connection, unknown, "its agent is gone", done, now, counted=("running",))

    def _fresh(self, answers: _Answers) -> list[tuple[ReachedHost, list[dict[str, Any]]]]:
        """Events that were not taken yet; of many, some: the agents tell the rest again, when these places work."""
        answering = self._answering(answers)
        share = max(1, _MOST_EVENTS // max(1, len(answering)))
        found = []
        self._more_to_take = False
        for host, answer in answering:
            fresh = [event for event in answer["events"] if event["sequence"] > host.cursor]
            # The first answer of all is taken whole: what it does not name is given up.
            self._more_to_take |= host.known and len(fresh) > share
            found.append((host, fresh[:share] if host.known else fresh))
        return found

    def _take_devices(self, connection: Connection, host: ReachedHost, event: dict[str, Any], now: datetime) -> None:
        found = [DeviceDescription(**device) for device in event["devices"]]
        record_devices(connection, host.id, found, now, noting(connection, who=self._who, now=now))
        self._roster.forget_shape()

    def _take_recovery(self, connection: Connection, event: dict[str, Any], now: datetime) -> None:
        place = self._roster.fleet.places.get(event["device"])
        if place is not None and place.device_id is not None:
            after, why = "recovered" if event["ok"] else "unrecovered", event["why"] or f"rung {event['rung']}"
            record(connection, "recovery", place.device_id, None, after, who=self._who, why=why, now=now)

    def _drop_lost(self, connection: Connection, done: _Tick, now: datetime) -> None:
        """Hosts that do not answer any more: what they ran is given up at once where it is known to be dead."""
        note = noting(connection, who=self._who, now=now)
        for reached_as, answer in self._lost.items():
            host = self._roster.host_at(reached_as)
            if host is None:
                continue
            set_host_presence(connection, host.id, "left" if answer.left else "lost", answer.why, now, note)
            done.gone[host.id] = answer.why
            if answer.dead:
                ran = [one.id for one in self._running.at(host.id)]
                self._lose(connection, ran, answer.why, done, now, counted=() if answer.left else LIVE_ATTEMPT)

    def _lose(
        self,
        connection: Connection,
        ids: Collection[int],
        why: str,
        done: _Tick,
        now: datetime,
        *,
        counted: Collection[str] = LIVE_ATTEMPT,
    ) -> None:
        if ids:
            done.lost += ids
            lose_attempts(connection, ids, who=self._who, why=why, now=now, counted=counted)
            done.stirred = True

    def _renew_rows(self, connection: Connection, now: datetime, clock_s: float) -> None:
        """For a dispatcher that takes over: what the rows say is true to within some seconds."""
        answering = [host.id for host in self._roster.hosts.values() if clock_s - host.answered_at < _RENEW_S]
        if answering:
            until = now + timedelta(seconds=EXPIRY_S + ROW_SLACK_S)
            connection.execute(
                update(attempts).where(IS_LIVE, attempts.c.host_id.in_(answering)).values(lease_until=until)
            )
            connection.execute(update(hosts).where(hosts.c.id.in_(answering)).values(last_seen_at=now))
        self._renew_at = clock_s + _RENEW_S

    def _miss(self, connection: Connection, now: datetime, clock_s: float) -> None:
        """Hosts that died while nobody dispatched, or came to a dispatcher that was: nothing is planned for them."""
        if clock_s - self._began < EXPIRY_S:
            return
        note = noting(connection, who=self._who, now=now)
        there = connection.execute(select(hosts.c.id, hosts.c.last_seen_at).where(hosts.c.presence == "online"))
        for row in there.all():
            # A benchfarm run that has just registered its own host may plan for it: it takes over when we end.
            if row.id not in self._roster.hosts and abs((now - row.last_seen_at).total_seconds()) > EXPIRY_S:
                set_host_presence(connection, row.id, "lost", "it did not come back", now, note)

    def _settle(self, done: _Tick, now: datetime, clock_s: float) -> None:
        """What the transaction did so far, in memory."""
        for ended in done.ended:
            live = self._running.over(ended.attempt_id)
            self._usage.ended(ended, live.expected_s if live is not None else 0.0, now.timestamp())
            if ended.device_id is not None:
                used_s = self._roster.used_s
                used_s[ended.place] = used_s.get(ended.place, 0.0) + ended.used_s
        for attempt_id in done.over:
            self._running.over(attempt_id)
        for attempt_id in done.told:
            self._running.release(attempt_id)
        for attempt_id in done.lost:
            self._running.give_up(attempt_id, self._roster.hosts, clock_s)
        for host_id, why in done.gone.items():
            if (left := self._roster.hosts.pop(host_id, None)) is not None:
                self.lost_hosts[left.reached_as] = why
            self._running.forget_host(host_id)
        for host in done.greeted:
            host.answered_at = clock_s
            self._roster.hosts[host.id] = host
            self._served.add(host.id)
            self._running.forget_host(host.id)
            self.lost_hosts.pop(host.reached_as, None)
        if done.gone or done.greeted:
            self._roster.forget_shape()

    def _look(self, connection: Connection, now: datetime, clock_s: float, *, anew: bool) -> None:
        """Look which lanes and devices there are, and what users cancelled; not more often than it costs."""
        self._stirred |= anew
        if self._roster.is_known and (clock_s < self._look_from or not (self._stirred or clock_s >= self._round_at)):
            return
        began = self._monotonic()
        self._roster.refresh(connection, now)
        self._lanes.refresh(connection, self._roster.fleet)
        live = set(connection.execute(select(attempts.c.id).where(IS_LIVE)).scalars().all())
        for attempt_id in self._running.live.keys() - live:  # cancelled by their users
            self._running.give_up(attempt_id, self._roster.hosts, clock_s)
        self._stale |= not live <= self._running.live.keys()
        if moving := self._lanes.moving():  # one in turn: a backlog changes slowly
            self._backlog_turn = (self._backlog_turn + 1) % len(moving)
            self._usage.backlog_s.update(backlog_s(connection, [moving[self._backlog_turn]]))
        self._stirred = False
        self._look_from = clock_s + _COST_FACTOR * (self._monotonic() - began)

    def _claim(self, connection: Connection, now: datetime) -> list[Claimed]:
        roster, running = self._roster, self._running
        opened = roster.open_places(now)
        free, probing = opened.difference(running.busy), roster.probing_places().difference(running.busy)
        if not free and not probing:
            return []
        wanted = self._lanes.heads(connection, roster.fleet, free, probing, now)
        if not wanted:
            return []
        assignments = match(
            wanted,
            roster.fleet,
            self._lanes.requirements,
            running.busy,
            free,
            self._usage.history(roster.used_s, now.timestamp()),
            now.timestamp(),
            probing=probing,
        )
        if not assignments:
            return []
        try:
            with connection.begin_nested():
                return queue.claim(
                    connection,
                    assignments,
                    roster.memory_bytes,
                    who=self._who,
                    lease_until=now + timedelta(seconds=EXPIRY_S + ROW_SLACK_S),
                    own_pids=self._own_pids(connection, now),
                    now=now,
                )
        except IntegrityError:  # a place is taken that memory thinks is free
            self._stale = True
            return []

    def _own_pids(self, connection: Connection, now: datetime) -> dict[int, list[int]]:
        """Processes of ours on this machine: no foreign load to what is measured here."""
        here = [host.id for host in self._roster.hosts.values() if host.key.partition("/")[0] == machine_key()]
        own = [os.getpid(), *runs.followers(connection, machine_key(), now)] if here else []
        return dict.fromkeys(here, own)

    def _start(self, claimed: Collection[Claimed]) -> None:
        orders: dict[int, list[dict[str, Any]]] = {}
        for one in claimed:
            orders.setdefault(one.host_id, []).append(one.order)
        for host_id, given in orders.items():
            self._executor.start(self._roster.hosts[host_id].reached_as, given)

    # Below: hosts that answer, and memory.

    def _poll(self, wait_s: float) -> _Answers:
        """Answers that are in within the wait; who is lost is remembered until a transaction took it."""
        # One that came anew counts its events from the beginning, and is polled once it was greeted.
        others = self._arrived.keys() | self._lost.keys()
        hosts = [host for host in self._roster.hosts.values() if host.reached_as not in others]
        said = self._executor.poll({host.reached_as: host.cursor for host in hosts}, min(wait_s, _STEP_S))
        for host in hosts:
            if isinstance(answer := said.get(host.reached_as), dict) and "now" in answer:
                host.hear(answer["now"], self._clock().timestamp())
        self._lost |= {name: answer for name, answer in said.items() if isinstance(answer, Lost)}
        return {name: answer for name, answer in said.items() if not isinstance(answer, Lost)}

    def _answering(self, answers: _Answers) -> list[tuple[ReachedHost, dict[str, Any]]]:
        hosts = self._roster.hosts.values()
        return [(host, answers[host.reached_as]) for host in hosts if host.reached_as in answers]

    def _hear(self, answers: _Answers, clock_s: float) -> None:
        """Who answered is alive, and what it runs that is live no more is ended."""
        for host, answer in self._answering(answers):
            host.answered_at, host.running = clock_s, answer["running"]
            unwanted = self._running.heard(host.id, answer["running"], clock_s)
            self._running.say(answer.get("progress", ()))
            if unwanted:
                self._end_unwanted(host, unwanted, clock_s)
            if not host.known:
                host.known = self._stirred = True

    def _end_unwanted(self, host: ReachedHost, ids: Collection[int], clock_s: float) -> None:
        """An agent runs what was cancelled, lost, or is of no farm of ours; the place is held until it does not."""
        unknown = [known for known in ids if not self._running.holds(known)]
        if unknown:
            with reading(self._engine) as connection:
                query = select(attempts.c.id, attempts.c.place)
                for row in connection.execute(query.where(attempts.c.id.in_(unknown))):
                    self._running.hold(row.id, host.id, row.place, clock_s)
        self._executor.cancel(host.reached_as, list(ids), "cancelled")

    def _hear_changes(self) -> None:
        try:
            self._stirred |= self._watch().changed()
        except BaseException:
            self.close()
            raise

    def _watch(self) -> Watcher:
        if self._watcher is None:
            self._watcher = Watcher(self._engine)
        return self._watcher

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction under the lease, on the connection that others' changes are told from."""
        reached = dict(self._roster.hosts)
        try:
            connection = self._watch().connection.execution_options(benchfarm_write=True)
            with connection.begin():
                self._lease.renew(connection, self._clock())
                yield connection
        except BaseException:
            self._roster.hosts = reached  # who came or went does so once more; all else is read anew
            self.close()
            raise

    def _read_everything(self) -> None:
        now, clock_s = self._clock(), self._monotonic()
        with self._writing() as connection:
            self._running.load(connection, now, clock_s)
            self._usage = Usage.read(connection, now)
        self._roster.forget_shape()
        self._look_from = self._round_at = 0.0
        self._stirred, self._stale = True, False


def _outcome(ended: Ended) -> quarantine.Outcome:
    assert ended.device_id is not None
    return quarantine.Outcome(
        device_id=ended.device_id,
        failure_cause=ended.failure.cause if ended.failure is not None else None,
        failure_code=ended.failure.code if ended.failure is not None else None,
        failure_message=ended.failure.message if ended.failure is not None else None,
        canary=ended.canary,
        used_s=ended.used_s,
        p50_ms=ended.p50_ms,
        verdict=ended.verdict,
    )
