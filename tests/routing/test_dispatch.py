"""The dispatcher's decisions as a whole: nothing lost, nothing twice, in order, bounded."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.codel import CodelPolicy
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, PoolRoute
from laneway.routing.envelope import (
    AFTER,
    BODY,
    COUNTER,
    KIND,
    LANE,
    NO_DEADLINE,
    PRODUCER,
    RUN,
    SESSION,
    TENANT,
    Envelope,
    cost_bytes,
    envelope,
    envelope_id,
)
from laneway.routing.errors import LaneFull, LanewayError, LocalProtocolError, PeerProtocolError
from laneway.routing.lanes import Lane
from laneway.routing.limits import AdmissionPolicy
from laneway.routing.parts import part_of

_KINDS = (
    Kind("URGENT", Lane.CRITICAL, direction=IN),
    Kind("WORK", Lane.NORMAL, direction=IN),
    Kind("EDIT", Lane.HIGH, direction=IN),
    Kind("NOTE", Lane.LOW, direction=IN, durable=False),
)
_POLICY = DispatchPolicy(admission=AdmissionPolicy(rate_per_s=inf))


def _event(counter: int, kind: str = "WORK", **more: Any) -> Envelope:
    fields: dict[str, Any] = {"producer": "p", "tenant": "t", "session": "s", "lane": 0}
    return envelope(kind, counter=counter, **{**fields, **more})


def _core(*routes: PoolRoute, policy: DispatchPolicy = _POLICY) -> DispatchCore:
    core = DispatchCore(KindTable(_KINDS), policy)
    for route in routes or (PoolRoute("p", ("URGENT", "WORK", "EDIT", "NOTE", "USER_MESSAGE")),):
        core.add_pool(route)
    return core


def _counters(envs: list[Envelope]) -> list[int]:
    return [env[COUNTER] for env in envs]


def _books(core: DispatchCore) -> tuple[int, int, int, int, int, int]:
    s = core.statistics()
    assert s.admitted == s.done + s.expired + s.dropped + s.cancelled + s.released + s.pending
    return s.admitted, s.done, s.expired, s.cancelled, s.released, s.pending


class DispatchMachine(RuleBasedStateMachine):
    """Random events, two pools (one keyed by session), parts, `after`, cancels, expiry, cells that come and go."""

    @initialize()
    def start(self) -> None:
        admission = AdmissionPolicy(
            rate_per_s=200, burst=40, critical_per_s=5, critical_burst=5, session_events=20, session_bytes=3_000
        )
        self.core = DispatchCore(
            KindTable(_KINDS), DispatchPolicy(admission=admission, part_bytes=64, after_wait_s=2.0)
        )
        self.core.add_pool(PoolRoute("plain", ("URGENT", "WORK", "USER_MESSAGE", "NOTE")))
        self.core.add_pool(PoolRoute("keyed", ("EDIT",), keyed="session"))
        self.cells: list[str] = []
        self.now = 1_000.0
        self.number = 0
        self.offered: dict[str, bytes] = {}
        self.open: dict[str, Envelope] = {}
        self.running: list[Envelope] = []
        self.reserved: list[Envelope] = []
        self.over: list[str] = []
        self.enqueued: dict[tuple[str, str, str, int, str], list[str]] = defaultdict(list)
        self.ended = dict.fromkeys(("done", "expired", "cancelled", "released"), 0)

    def _chain(self, env: Envelope) -> tuple[str, str, str, int, str]:
        return env[TENANT], env[SESSION], env[PRODUCER], env[LANE], "keyed" if env[KIND] == "EDIT" else "plain"

    def _enqueue(self, env: Envelope) -> None:
        assert self.core.enqueue([env], self.now)[0] in ("plain", "keyed", "")
        self.enqueued[self._chain(env)].append(envelope_id(env))

    def _end(self, env: Envelope, how: str) -> None:
        del self.open[envelope_id(env)]
        self.over.append(envelope_id(env))
        self.ended[how] += 1

    def _leave(self, envs: list[Envelope], how: str) -> None:
        for env in envs:
            self._end(env, how)
            self.enqueued[self._chain(env)].remove(envelope_id(env))

    @rule(
        kind=st.sampled_from(["URGENT", "WORK", "EDIT", "NOTE", "USER_MESSAGE"]),
        lane=st.integers(0, 3),
        session=st.sampled_from("ab"),
        producer=st.sampled_from(["c", "d"]),
        run=st.sampled_from(["", "r1", "r2"]),
        size=st.sampled_from([0, 10, 100, 400]),
        lasts_s=st.sampled_from([NO_DEADLINE, NO_DEADLINE, 3.0, 0.5]),
        after=st.sampled_from([None, None, None, -1, -2, -3, 1]),
        at_once=st.booleans(),
        count=st.integers(1, 5),
    )
    def offer(
        self,
        kind: str,
        lane: int,
        session: str,
        producer: str,
        run: str,
        size: int,
        lasts_s: float,
        after: int | None,
        at_once: bool,
        count: int,
    ) -> None:
        for _ in range(count):
            self.number += 1
            env = _event(
                self.number,
                kind,
                lane=lane,
                session=session,
                producer=producer,
                run=run,
                body=bytes(32 + index % 90 for index in range(size)),
                deadline=self.now + lasts_s,
                after="" if after is None else f"{producer}:{max(1, self.number + after)}",
                accepted=self.now,
            )
            (answer,) = self.core.admit([env], self.now)
            if not isinstance(answer, tuple):
                continue
            table_lane = {"URGENT": 0, "EDIT": 1, "USER_MESSAGE": 1, "WORK": 2, "NOTE": 3}[kind]
            assert answer[LANE] in (max(lane, table_lane), 1 if table_lane == 0 else -1)
            self.open[envelope_id(env)] = answer
            self.offered[envelope_id(env)] = env[BODY]
            if at_once:
                self._enqueue(answer)
            else:
                self.reserved.append(answer)

    @rule(release=st.booleans())
    def settle_reserved(self, release: bool) -> None:
        reserved, self.reserved = self.reserved, []
        for env in reserved:
            if release:
                self.core.release(env)
                self._end(env, "released")
            else:
                self._enqueue(env)

    @rule(pool=st.sampled_from(["plain", "keyed"]), room=st.integers(1, 12), only_critical=st.booleans())
    def take(self, pool: str, room: int, only_critical: bool) -> None:
        for cell in (self.cells or [None]) if pool == "keyed" else [None]:
            out = self.core.take(pool, room, self.now, cell=cell, only_critical=only_critical)
            self._leave(self.core.expired(), "expired")
            assert len(out) <= room
            for env in out:
                key = envelope_id(env)
                assert self.open[key][:AFTER] == env[:AFTER]
                assert env[BODY] == self.offered[key]
                assert env[AFTER] == ""
                assert not only_critical or env[LANE] == 0
                # the head of its (session, producer, lane) in this pool: FIFO, nothing twice
                assert self.enqueued[self._chain(env)].pop(0) == key
                assert key not in map(envelope_id, self.running)
                after = self.open[key][AFTER]
                if self.core.statistics().after_timeouts == 0 and after in self.open:
                    assert self.open[after][SESSION] != env[SESSION]
                self.running.append(env)

    @rule(count=st.integers(1, 10), twice=st.booleans())
    def done(self, count: int, twice: bool) -> None:
        ended, self.running = self.running[:count], self.running[count:]
        for env in ended:
            self._end(env, "done")
            self.core.done([env])
            if twice:
                self.core.done([env])

    @rule(session=st.sampled_from("ab"), run=st.sampled_from(["", "r1", "r2"]))
    def cancel_run(self, session: str, run: str) -> None:
        out = {envelope_id(env) for env in (*self.running, *self.reserved)}
        expected = {
            key
            for key, env in self.open.items()
            if env[SESSION] == session and key not in out and (env[RUN] == run if run else env[RUN])
        }
        removed = self.core.cancel("t", session, run=run)
        assert {envelope_id(env) for env in removed} == expected
        assert len(removed) == len(expected)
        self._leave(removed, "cancelled")
        assert self.core.cancel("other", session, run=run) == []

    @rule(data=st.data())
    def cancel_event(self, data: st.DataObject) -> None:
        if not self.open:
            return
        key = data.draw(st.sampled_from(sorted(self.open)))
        env = self.open[key]
        there = key not in {envelope_id(other) for other in (*self.running, *self.reserved)}
        removed = self.core.cancel("t", env[SESSION], event_id=key)
        assert [envelope_id(other) for other in removed] == [key] * there
        self._leave(removed, "cancelled")

    @rule(cells=st.sets(st.sampled_from("123")))
    def members(self, cells: set[str]) -> None:
        self.cells = sorted(cells)
        self.core.members("keyed", self.cells)

    @rule(seconds=st.sampled_from([0.01, 0.4, 2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.core.deadline() <= self.now:
            self.core.poll(self.now)
        assert self.core.deadline() > self.now
        assert set(self.core.woken()) <= {"plain", "keyed"}

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "open"):
            return
        statistics = self.core.statistics()
        assert statistics.pending == len(self.open)
        assert statistics.pending_bytes == sum(map(cost_bytes, self.open.values()))
        assert {how: getattr(statistics, how) for how in self.ended} == self.ended
        _books(self.core)

    def teardown(self) -> None:
        """Nothing stays behind: with time, everything comes out and ends."""
        if not hasattr(self, "open"):
            return
        self.settle_reserved(release=False)
        for _ in range(60):
            self.now += 2.0
            self.core.poll(self.now)
            self.take("plain", 12, False)
            self.take("keyed", 12, False)
            self.done(100, twice=False)
        assert not self.open
        assert self.core.statistics().parked == 0
        assert sum(self.core.statistics().waiting) == 0


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_table_decides_the_lane() -> None:
    """A client may lower its event's lane, never raise it."""
    core = _core()
    lanes = []
    for counter, (kind, asked) in enumerate([("WORK", 0), ("WORK", 3), ("URGENT", 0), ("URGENT", 2), ("NOTE", 9)], 1):
        (answer,) = core.admit([_event(counter, kind, lane=asked)], 0.0)
        assert isinstance(answer, tuple)
        lanes.append(answer[LANE])
    assert lanes == [Lane.NORMAL, Lane.LOW, Lane.CRITICAL, Lane.NORMAL, Lane.LOW]


def test_refusals_keep_nothing() -> None:
    """Unknown kinds, kinds for no pool, control kinds and broken `after` are refused and counted."""
    core = _core(PoolRoute("p", ("WORK",), accepts=lambda env: env[BODY] == b"mine"))
    for event, reason in (
        (_event(1, "NOPE"), "UNKNOWN_KIND"),
        (_event(2, "EDIT"), "UNKNOWN_KIND"),
        (_event(3, "INTERRUPT"), "CONTROL_KIND"),
        (_event(4, body=b"other"), "UNKNOWN_KIND"),
        (_event(5, body=b"mine", after="#1/2"), "BAD_ID"),
        (_event(6, body=b"mine", after="p:6"), "BAD_ID"),
    ):
        (answer,) = core.offer([event], 0.0)
        assert isinstance(answer, PeerProtocolError)
        assert answer.reason == reason
    assert _books(core) == (0, 0, 0, 0, 0, 0)
    assert core.statistics().refused == {"MALFORMED": 6}
    assert isinstance(core.offer([_event(7, body=b"mine")], 0.0)[0], tuple)


def test_a_batch_tells_the_refused_ones() -> None:
    """The rest goes in, in order."""
    core = _core()
    _, nope, _, again = core.offer([_event(1), _event(2, "NOPE"), _event(3), _event(3)], 0.0)
    assert [error.reason for error in (nope, again) if isinstance(error, LanewayError)] == ["UNKNOWN_KIND", "DUPLICATE"]
    assert _counters(core.take("p", 10, 0.0)) == [1, 3]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["URGENT", "WORK", "EDIT", "NOTE", "USER_MESSAGE", "NOPE", "CANCEL"]),
            st.integers(0, 4),
            st.sampled_from("ab"),
            st.sampled_from([0, 50, 40_000]),
            st.sampled_from(["", "", "", "p:1", "p:3", "bad"]),
        ),
        max_size=60,
    )
)
def test_a_batch_decides_as_one_by_one(rows: list[tuple[str, int, str, int, str]]) -> None:
    """The straight line changes nothing: same refusals, same order out, same books."""
    policy = replace(_POLICY, admission=AdmissionPolicy(rate_per_s=5, burst=9, critical_burst=2, session_events=12))
    batch, single = _core(policy=policy), _core(policy=policy)
    envs = [
        _event(n, kind, lane=lane, session=session, body=bytes(size), after=after)
        for n, (kind, lane, session, size, after) in enumerate(rows, 1)
    ]
    together, one_by_one = batch.offer(envs, 0.0), [single.admit([env], 0.0)[0] for env in envs]
    for answer in one_by_one:
        if isinstance(answer, tuple):
            single.enqueue([answer], 0.0)
    for ours, theirs in zip(together, one_by_one, strict=True):
        if isinstance(ours, LanewayError) and isinstance(theirs, LanewayError):
            assert (ours.code, ours.reason) == (theirs.code, theirs.reason)
        else:
            assert ours == theirs
    assert batch.statistics() == single.statistics()
    assert batch.take("p", 999, 0.0) == single.take("p", 999, 0.0)


def test_a_full_session_frees_with_done() -> None:
    """Caps count what is in flight: queued and handed out alike, until done."""
    core = _core(policy=replace(_POLICY, admission=AdmissionPolicy(rate_per_s=inf, session_events=5)))
    answers = core.offer([_event(n) for n in range(1, 7)], 0.0)
    assert sum(not isinstance(answer, tuple) for answer in answers) == 2
    taken = core.take("p", 10, 0.0)
    (answer,) = core.offer([_event(9)], 0.0)
    assert isinstance(answer, LaneFull)
    assert (answer.code, answer.retry_after_ms) == ("LANE_FULL", 100)
    core.done([taken[0]])
    assert isinstance(core.offer([_event(9)], 0.0)[0], tuple)


def test_large_text_is_scheduled_in_parts_and_comes_out_whole() -> None:
    """Others of the same lane pass between its parts; its handler sees one event."""
    core = _core()
    text = b"word " * 20_000
    assert isinstance(core.offer([_event(1, "USER_MESSAGE", session="big", body=text)], 0.0)[0], tuple)
    assert core.backlog("p") == 7
    core.offer([_event(n, "EDIT", session="small", body=bytes(800)) for n in range(1, 21)], 0.0)
    order = [env[SESSION] for _ in range(21) for env in core.take("p", 1, 0.0)]
    assert order == ["small"] * 20 + ["big"]
    assert core.backlog("p") == 0
    core.done([_event(1, session="big")])
    core.offer([_event(2, "USER_MESSAGE", session="big", body=text)], 0.0)
    (whole,) = core.take("p", 1, 0.0)
    assert (whole[BODY], whole[AFTER]) == (text, "")
    core.done([whole])
    assert core.statistics().done == 2


def test_a_pool_may_take_the_parts_themselves() -> None:
    """With streams_input the parts come out marked, in order; the event is over with the last."""
    core = _core(PoolRoute("p", ("USER_MESSAGE",), streams_input=True))
    core.offer([_event(1, "USER_MESSAGE", body=b"x" * 40_000)], 0.0)
    parts = core.take("p", 10, 0.0)
    assert [part_of(part) for part in parts] == [(1, 3), (2, 3), (3, 3)]
    for part in parts:
        assert _books(core)[-1] == 1
        core.done([part])
    assert _books(core) == (1, 1, 0, 0, 0, 0)


def test_parts_end_once() -> None:
    """Cancelled or expired in the middle, a large event is reported once, without a mark, and frees all."""
    core = _core(policy=replace(_POLICY, part_bytes=100))
    core.offer([_event(1, "USER_MESSAGE", body=b"x" * 5_000, run="r")], 0.0)
    core.offer([_event(1, "EDIT", session="z")], 0.0)
    assert len(core.take("p", 1, 0.0)) == 1
    assert 0 < core.backlog("p") < 50
    (cancelled,) = core.cancel("t", "s", run="r")
    assert cancelled[AFTER] == ""
    assert (core.backlog("p"), core.statistics().pending) == (0, 1)
    core.offer([_event(1, "USER_MESSAGE", body=b"y" * 1_000, deadline=5.0)], 1.0)
    core.offer([_event(2, "EDIT", session="z")], 1.0)
    assert len(core.take("p", 1, 1.0)) == 1
    assert core.take("p", 9, 6.0) == []
    (expired,) = core.expired()
    assert (expired[COUNTER], expired[AFTER]) == (1, "")
    core.offer([_event(2, "USER_MESSAGE", body=b"z" * 1_000)], 6.0)
    assert [env[BODY] for env in core.take("p", 9, 6.0)] == [b"z" * 1_000]


def test_after_waits_across_pools_and_wakes_the_other() -> None:
    """The one it names is in another pool; when that is done, `woken` says whose turn it is."""
    core = _core(PoolRoute("a", ("WORK",)), PoolRoute("b", ("EDIT",)))
    core.offer([_event(1)], 0.0)
    assert core.enqueue([_admitted(core, _event(2, "EDIT", after="p:1"))], 0.0) == [""]
    assert (core.take("b", 9, 0.0), core.backlog("b"), core.statistics().parked) == ([], 0, 1)
    (first,) = core.take("a", 9, 0.0)
    assert core.take("b", 9, 0.0) == []
    core.done([first])
    assert core.woken() == ["b"]
    assert core.woken() == []
    (second,) = core.take("b", 9, 1.0)
    assert (second[COUNTER], second[AFTER]) == (2, "")
    assert core.enqueue([_admitted(core, _event(3, "EDIT", after="p:1"))], 1.0) == ["b"]


def _admitted(core: DispatchCore, env: Envelope) -> Envelope:
    (answer,) = core.admit([env], 0.0)
    assert isinstance(answer, tuple)
    return answer


def test_after_waits_for_what_is_yet_to_come_but_not_forever() -> None:
    """A refused or missing event is waited for until it came and ended, or until after_wait_s."""
    core = _core(policy=replace(_POLICY, admission=AdmissionPolicy(rate_per_s=1.0, burst=2.7)))
    core.offer([_event(1)], 0.0)
    core.offer([_event(8, session="z")], 0.0)
    assert [isinstance(answer, tuple) for answer in core.offer([_event(2), _event(3)], 0.0)] == [True, False]
    core.offer([_event(9, "URGENT", after="p:3")], 0.0)
    taken = core.take("p", 9, 0.0)
    assert 9 not in _counters(taken)
    assert core.deadline() == 5.0
    core.offer([_event(3)], 2.0)
    (third,) = core.take("p", 9, 2.0)
    core.done([third])
    assert _counters(core.take("p", 9, 2.0)) == [9]
    core.offer([_event(10, "URGENT", after="q:77")], 3.0)
    assert core.take("p", 9, 7.9) == []
    assert _counters(core.take("p", 9, 8.0)) == [10]
    assert core.statistics().after_timeouts == 1


def test_a_cancel_finds_what_was_not_started() -> None:
    """Of one session only: a run, every run, an event, or a tool call by its call id."""
    core = DispatchCore(KindTable(_KINDS), _POLICY)
    core.add_pool(PoolRoute("p", ("WORK", "TOOL_CALL", "EDIT")))

    def fill() -> None:
        core.offer(
            [
                _event(1, run="r1"),
                _event(2, run="r2"),
                _event(3, "TOOL_CALL", entity="call", run="r1"),
                _event(4, "EDIT", entity="call"),
                _event(1, run="r1", session="z"),
            ],
            0.0,
        )

    for arguments, hit in (
        ({"run": "r1"}, [1, 3]),
        ({}, [1, 2, 3]),
        ({"event_id": "p:2"}, [2]),
        ({"event_id": "call"}, [3]),
        ({"event_id": "call", "run": "r2"}, []),
        ({"event_id": "p:4"}, [4]),
    ):
        fill()
        assert sorted(_counters(core.cancel("t", "s", **arguments))) == hit
        for env in core.take("p", 99, 0.0):
            core.done([env])
    assert core.statistics().pending == 0


def test_what_no_condition_takes_any_more_is_told_and_stays_reserved() -> None:
    """An embedder's condition that changes its mind between admission and queue loses nothing."""
    mood = [True]
    core = _core(PoolRoute("p", ("WORK",), accepts=lambda env: mood[0]))
    waiting = _admitted(core, _event(1))
    mood[0] = False
    assert isinstance(core.enqueue([waiting], 0.0)[0], PeerProtocolError)
    assert core.statistics().pending == 1
    core.release(waiting)
    assert _books(core) == (1, 0, 0, 0, 1, 0)
    with pytest.raises(LocalProtocolError):
        core.take("none", 1, 0.0)


def test_what_is_given_back_waits_again_and_was_never_over() -> None:
    """It goes out once more, before newer events of its session, on the cell that serves its key now."""
    core = _core(PoolRoute("k", ("WORK",), keyed="session"))
    core.members("k", ["1"])
    core.offer([_event(n, accepted=float(n)) for n in range(1, 5)], 0.0)
    taken = core.take("k", 2, 0.0, cell="1")
    core.members("k", ["2"])
    core.give_back("k", taken)
    assert core.statistics().pending == 4
    out = core.take("k", 9, 0.0, cell="2")
    assert _counters(out) == [1, 2, 3, 4]
    for env in out:
        core.done([env])
    assert _books(core) == (4, 4, 0, 0, 0, 0)


def test_what_nobody_takes_expires_all_the_same() -> None:
    """Also in parts: each event is over once, and the next deadline is known."""
    core = _core(PoolRoute("p", ("WORK", "USER_MESSAGE")))
    core.offer([_event(1, deadline=5.0)], 0.0)
    core.offer([_event(2, "USER_MESSAGE", body=b"x" * 40_000, deadline=6.0)], 0.0)
    core.offer([_event(3)], 0.0)
    assert core.soonest("p") == 5.0
    core.expire("p", 6.0)
    assert sorted(_counters(core.expired())) == [1, 2]
    assert core.soonest("p") == float("inf")
    assert (core.statistics().expired, core.statistics().pending) == (2, 1)


def test_keyed_pools_keep_a_session_in_one_cell() -> None:
    """Each cell takes its own sessions; what waited moves when cells change; other pools are not touched."""
    core = _core(PoolRoute("k", ("WORK",), keyed="session"), PoolRoute("n", ("EDIT",)))
    core.members("n", ["x", "y"])
    events = [_event(n, session=f"s{n % 10}", accepted=float(n)) for n in range(1, 101)]
    core.offer(events[:50], 0.0)
    core.members("k", ["1", "2", "3"])
    core.offer(events[50:], 0.0)
    assert core.backlog("k") == 100
    with pytest.raises(LocalProtocolError):
        core.take("k", 1, 0.0)
    homes: dict[str, str] = {}
    for cell in "123":
        for env in core.take("k", 100, 0.0, cell=cell):
            assert homes.setdefault(env[SESSION], cell) == cell
    assert len(homes) == 10
    assert core.take("k", 1, 0.0, cell="4") == []


def test_overload_is_set_from_outside() -> None:
    """The level sheds at the door; what was admitted goes on."""
    core = _core()
    core.offer([_event(1, "NOTE")], 0.0)
    core.admission.set_level(1)
    (answer,) = core.offer([_event(2, "NOTE")], 0.0)
    assert isinstance(answer, LanewayError)
    assert answer.code == "OVERLOADED"
    assert _counters(core.take("p", 9, 0.0)) == [1]


def test_low_events_that_keep_waiting_are_dropped_and_accounted_for() -> None:
    """CoDel ends them: their caps are free, they are handed out once as dropped, and the books stay balanced."""
    core = _core(policy=replace(_POLICY, codel=CodelPolicy(target_s=0.1, interval_s=0.2)))
    assert all(
        isinstance(answer, tuple) for answer in core.offer([_event(n, lane=Lane.LOW) for n in range(1, 101)], 0.0)
    )
    for tick in range(40):
        core.done(core.take("p", 1, 1.0 + tick * 0.05))
    dropped = core.dropped()
    assert len(dropped) > 3
    assert core.dropped() == []
    books = core.statistics()
    assert (books.done, books.dropped) == (40, len(dropped))
    assert books.admitted == books.done + books.dropped + books.pending
    assert core.admission.settled("t", "s", "p", dropped[0][COUNTER])
