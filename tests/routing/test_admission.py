"""Caps, rates, policing, overload levels: refused at the door, never dropped, nothing leaked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from laneway.routing.admission import Admission
from laneway.routing.envelope import COUNTER, LANE, PRODUCER, SESSION, TENANT, Envelope, cost_bytes, envelope
from laneway.routing.errors import (
    AdmissionError,
    ConfigError,
    LaneFull,
    LanewayError,
    LocalProtocolError,
    Overloaded,
    PeerProtocolError,
    RateLimited,
)
from laneway.routing.lanes import Lane
from laneway.routing.limits import AdmissionPolicy
from laneway.routing.quotas import Quota, QuotaPolicy

CRITICAL, HIGH, NORMAL, LOW = Lane
_FREE = AdmissionPolicy(rate_per_s=inf, session_events=256, session_bytes=262_144)


def _event(number: int, *, lane: int = HIGH, session: str = "s", tenant: str = "t", size: int = 0) -> Envelope:
    return envelope("K", producer="p", counter=number, tenant=tenant, session=session, lane=lane, body=bytes(size))


def _refusal(answer: Envelope | LanewayError, kind: type[LanewayError], reason: str) -> LanewayError:
    assert isinstance(answer, kind)
    assert answer.reason == reason
    return answer


def _fill(admission: Admission, count: int, first: int = 1, **more: Any) -> int:
    """Offer `count` events; return how many were admitted."""
    answers = [admission.admit(_event(first + index, **more), 0.0) for index in range(count)]
    return sum(isinstance(answer, tuple) for answer in answers)


class AdmissionMachine(RuleBasedStateMachine):
    """Whatever is admitted, released and swept: the accounts say exactly what is in flight."""

    @initialize(level=st.integers(0, 3))
    def start(self, level: int) -> None:
        self.admission = Admission(
            AdmissionPolicy(
                rate_per_s=20,
                burst=6,
                critical_per_s=2,
                critical_burst=3,
                session_events=8,
                session_bytes=4_000,
                critical_bytes=1_000,
                tenant_events=12,
                tenant_bytes=9_000,
                process_bytes=15_000,
                max_sessions=5,
            )
        )
        self.admission.set_level(level)
        self.held: dict[tuple[str, str, str, int], Envelope] = {}
        self.now = 50.0
        self.number = 0

    @rule(
        lane=st.sampled_from(list(Lane)),
        session=st.sampled_from("abcd"),
        tenant=st.sampled_from("xy"),
        size=st.sampled_from([0, 100, 1_000, 6_000]),
        starts_run=st.booleans(),
        count=st.integers(1, 6),
    )
    def admit(self, lane: int, session: str, tenant: str, size: int, starts_run: bool, count: int) -> None:
        for _ in range(count):
            self.number += 1
            env = _event(self.number, lane=lane, session=session, tenant=tenant, size=size)
            before = (self.admission.events, self.admission.bytes)
            answer = self.admission.admit(env, self.now, starts_run)
            if isinstance(answer, LanewayError):
                assert isinstance(answer, AdmissionError)
                assert answer.retry_after_ms is not None
                assert answer.retry_after_ms >= 1
                assert (self.admission.events, self.admission.bytes) == before
                assert not self.admission.settled(tenant, session, "p", self.number)
                continue
            assert answer[LANE] == lane or (lane == CRITICAL and answer[LANE] == HIGH)
            assert (*answer[:LANE], *answer[LANE + 1 :]) == (*env[:LANE], *env[LANE + 1 :])
            self.held[tenant, session, "p", self.number] = answer
            assert isinstance(self.admission.admit(env, self.now, starts_run), LanewayError)

    @rule(data=st.data(), again=st.booleans(), withdraw=st.booleans())
    def release(self, data: st.DataObject, again: bool, withdraw: bool) -> None:
        if not self.held:
            return
        key = data.draw(st.sampled_from(sorted(self.held)))
        env = self.held.pop(key)
        assert self._end(env, withdraw)
        assert self.admission.settled(*key) is not withdraw
        if again:
            assert not self._end(env, withdraw)

    def _end(self, env: Envelope, withdraw: bool) -> bool:
        return self.admission.withdraw(env) if withdraw else self.admission.release([env]) == [env]

    @rule(seconds=st.sampled_from([0.01, 1.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(session=st.sampled_from("abcd"), tenant=st.sampled_from("xy"))
    def forget(self, session: str, tenant: str) -> None:
        at_rest = not any(key[:2] == (tenant, session) for key in self.held)
        assert at_rest or not self.admission.forget(tenant, session, self.now)

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "held"):
            return
        assert self.admission.events == len(self.held)
        assert self.admission.bytes == sum(map(cost_bytes, self.held.values()))
        assert self.admission.sessions <= 5
        for session in {(env[TENANT], env[SESSION]) for env in self.held.values()}:
            mine = [env for env in self.held.values() if (env[TENANT], env[SESSION]) == session]
            assert len(mine) <= 8 + 3
            assert sum(map(cost_bytes, mine)) <= 5_000 or len(mine) == 1 or any(len(env[11]) > 4_000 for env in mine)

    def teardown(self) -> None:
        """When all is over and time has passed, every session and tenant has its whole room again."""
        if not hasattr(self, "held"):
            return
        for env in self.held.values():
            assert self.admission.release([env])
        self.admission.set_level(0)
        self.now += 1_000.0
        for tenant in "xy":
            events = [_event(n + 10**6, session="a", tenant=tenant, size=400) for n in range(6)]
            assert all(isinstance(self.admission.admit(env, self.now), tuple) for env in events)
            large = _event(1, session="b", tenant=tenant, size=5_100)
            assert isinstance(self.admission.admit(large, self.now), tuple)
            for env in (*events, large):
                assert self.admission.release([env])
        assert (self.admission.events, self.admission.bytes) == (0, 0)


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_full_session_is_refused_and_others_are_not() -> None:
    """The cap answers LANE_FULL with a retry time; an event that ends makes room for exactly one."""
    admission = Admission(_FREE)
    assert _fill(admission, 300) == 256
    error = _refusal(admission.admit(_event(999), 0.0), LaneFull, "SESSION")
    assert error.retry_after_ms == 100
    assert isinstance(admission.admit(_event(1, session="other"), 0.0), tuple)
    assert admission.release([_event(1)])
    assert _fill(admission, 2, first=1000) == 1
    assert admission.refusals == {"LANE_FULL": 46}


def test_bytes_are_capped_too_but_a_lone_large_event_passes() -> None:
    """Bytes count with the header's 200; an event above the whole cap goes when its session is idle."""
    admission = Admission(_FREE)
    assert _fill(admission, 300, size=10_000) == 262_144 // 10_200
    large = _event(1, session="big", size=1_000_000)
    assert isinstance(admission.admit(large, 0.0), tuple)
    _refusal(admission.admit(_event(2, session="big"), 0.0), LaneFull, "SESSION")


@pytest.mark.parametrize("load", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_session_beyond_its_cap_is_refused_from_the_bottom(load: int, seed: int) -> None:
    """At 2x and 3x of one session's cap, in any order of arrival: low is refused first, then normal, then
    new runs, then high; and critical never. A more urgent event never pays for a less urgent one."""
    admission = Admission(_FREE)
    offered = [LOW] * 128 * load + [NORMAL] * 64 * load + [HIGH] * 60 * load + [CRITICAL] * 20
    Random(seed).shuffle(offered)
    refused: Counter[Lane] = Counter()
    for number, lane in enumerate(offered, 1):
        answer = admission.admit(_event(number, lane=lane), 0.0)
        refused[lane] += not isinstance(answer, tuple)
    share = {lane: refused[lane] / offered.count(lane) for lane in Lane}
    assert share[LOW] > share[NORMAL] > share[HIGH]
    assert refused[CRITICAL] == 0
    assert load > 2 or share[HIGH] < 0.2


def test_each_lane_leaves_room_for_the_lanes_above_it() -> None:
    """Low fills half of the cap, normal three quarters, runs seven eighths, and high all of it."""
    admission = Admission(_FREE)
    assert _fill(admission, 300, lane=LOW) == 128
    assert _fill(admission, 300, first=1_000, lane=NORMAL) == 64
    runs = [admission.admit(_event(number), 0.0, starts_run=True) for number in range(2_000, 2_300)]
    assert sum(isinstance(answer, tuple) for answer in runs) == 32
    assert _fill(admission, 300, first=3_000) == 32
    assert _fill(admission, 40, first=4_000, lane=CRITICAL) == 40


def test_a_flood_of_low_events_leaves_half_of_the_burst() -> None:
    """The rate is shared likewise: what low may not use of the burst is there for high."""
    admission = Admission(AdmissionPolicy(rate_per_s=100, burst=100))
    assert _fill(admission, 200, lane=LOW) == 50
    assert _fill(admission, 200, first=1_000) == 50
    error = _refusal(admission.admit(_event(5_000, lane=LOW), 0.0), RateLimited, "SESSION")
    assert error.retry_after_ms in (510, 511)  # rounded up
    assert isinstance(admission.admit(_event(5_001), 0.01), tuple)


def test_a_full_tenant_is_refused_and_others_are_not() -> None:
    """A tenant's sessions share its quota; another tenant's do not feel it."""
    admission = Admission(replace(_FREE, tenant_events=100))
    taken = sum(_fill(admission, 60, session=session) for session in "abc")
    assert taken == 100
    _refusal(admission.admit(_event(99, session="d"), 0.0), LaneFull, "TENANT")
    assert isinstance(admission.admit(_event(1, tenant="u"), 0.0), tuple)
    assert isinstance(admission.admit(_event(100, session="d", lane=CRITICAL), 0.0), tuple)


def test_the_rate_of_a_session() -> None:
    """Burst, then the rate; the refusal's wait is enough and a refusal costs nothing."""
    admission = Admission(AdmissionPolicy(rate_per_s=10, burst=5))
    assert _fill(admission, 9) == 5
    error = _refusal(admission.admit(_event(50), 0.0), RateLimited, "SESSION")
    assert error.retry_after_ms == 100
    assert isinstance(admission.admit(_event(51), 0.1), tuple)
    assert isinstance(admission.admit(_event(52), 0.1), RateLimited)


def test_critical_is_policed_and_demoted() -> None:
    """50 critical events go ahead at once, then 20 a second; the excess goes on as high."""
    admission = Admission(_FREE)
    lanes = [admission.admit(_event(n, lane=CRITICAL), 0.0)[LANE] for n in range(1, 71)]  # type: ignore[index]
    assert lanes == [CRITICAL] * 50 + [HIGH] * 20
    assert admission.demoted == 20
    later = [admission.admit(_event(n, lane=CRITICAL), 1.0)[LANE] for n in range(71, 101)]  # type: ignore[index]
    assert lanes.count(CRITICAL) + later.count(CRITICAL) == 70


def test_critical_passes_a_full_session_within_its_reserve() -> None:
    """What else a session has queued does not refuse its cancels; the reserve is bounded all the same."""
    admission = Admission(replace(_FREE, critical_per_s=1e9))
    assert _fill(admission, 256) == 256
    assert _fill(admission, 200, first=1000, lane=CRITICAL) == 50
    _refusal(admission.admit(_event(5000, lane=CRITICAL), 0.0), LaneFull, "SESSION")


def test_overload_levels_shed_from_the_bottom() -> None:
    """1 low, 2 also new sessions, 3 also new runs; what is going on is never shed."""
    admission = Admission(_FREE)
    admission.admit(_event(1), 0.0)
    for level in range(4):
        admission.set_level(level)
        base = 100 * (level + 1)
        low = admission.admit(_event(base, lane=LOW), 0.0)
        new = admission.admit(_event(base, session=f"new{level}"), 0.0)
        run = admission.admit(_event(base + 1), 0.0, starts_run=True)
        for answer, from_level in ((low, 1), (new, 2), (run, 3)):
            if level >= from_level:
                assert _refusal(answer, Overloaded, f"LEVEL_{level}").retry_after_ms == 1000 * level
            else:
                assert isinstance(answer, tuple)
        assert isinstance(admission.admit(_event(base + 2), 0.0), tuple)
        assert isinstance(admission.admit(_event(base + 3, lane=CRITICAL), 0.0), tuple)
    with pytest.raises(LocalProtocolError):
        admission.set_level(4)


def test_the_process_budget() -> None:
    """Low is refused from 80 % on, the rest from 90 %, critical never."""
    admission = Admission(replace(_FREE, process_bytes=100_000, session_events=10_000))
    assert _fill(admission, 100, lane=LOW, size=800) == 80
    assert _fill(admission, 100, first=200, size=800) == 10
    _refusal(admission.admit(_event(900, size=800), 0.0), Overloaded, "MEMORY")
    assert isinstance(admission.admit(_event(901, lane=CRITICAL), 0.0), tuple)


def test_an_id_in_flight_is_not_taken_twice() -> None:
    """Two events of one id could not be told apart when they end; over, the id may come again."""
    admission = Admission(_FREE)
    admission.admit(_event(1), 0.0)
    _refusal(admission.admit(_event(1), 0.0), PeerProtocolError, "DUPLICATE")
    assert admission.release([_event(1)])
    assert isinstance(admission.admit(_event(1), 0.0), tuple)


def test_sessions_are_bounded_and_idle_ones_make_room() -> None:
    """Beyond max_sessions new ones are refused while all are active; an idle one is forgotten for a new one."""
    admission = Admission(replace(_FREE, max_sessions=3))
    for session in "abc":
        admission.admit(_event(1, session=session), 0.0)
    _refusal(admission.admit(_event(1, session="d"), 0.0), Overloaded, "SESSIONS")
    admission.release([_event(1, session="a")])
    assert isinstance(admission.admit(_event(1, session="d"), 2.0), tuple)
    assert admission.sessions <= 3


def test_memory_of_producers_is_bounded() -> None:
    """A session of ever new producers is not remembered beyond the last of them."""
    admission = Admission(_FREE)
    for index in range(200):
        env = envelope("K", producer=f"run{index}", counter=1, tenant="t", session="s", lane=HIGH)
        admission.admit(env, 0.0)
        admission.release([env])
    assert admission.settled("t", "s", "run199", 1)
    assert not admission.settled("t", "s", "run0", 1)
    assert not admission.settled("t", "s", "run199", 2)
    assert not admission.settled("t", "nobody", "run199", 1)
    admission.known_over = lambda *asked: asked in {("t", "s", "run0", 1), ("t", "s", "run199", 2)}
    assert admission.settled("t", "s", "run0", 1), "of a producer without an account somebody else may know"
    assert not admission.settled("t", "s", "run199", 2), "of one that is known nobody else is asked"
    assert (env[PRODUCER], env[COUNTER]) == ("run199", 1)


def test_limits_under_which_nothing_passes_are_refused() -> None:
    """A cap of 0 or a share outside (0, 1] is a mistake in the set-up."""
    for field, value in (
        ("session_events", 0),
        ("process_bytes", 0),
        ("low_share", 0.0),
        ("low_share", 0.9),
        ("run_share", 1.1),
        ("spill_ratio", 0.95),
    ):
        with pytest.raises(ConfigError):
            AdmissionPolicy(**{field: value})


_OFFERED = st.tuples(
    st.sampled_from([CRITICAL, HIGH, NORMAL, LOW]),
    st.sampled_from("ab"),
    st.sampled_from([0, 300, 900]),
    st.booleans(),
    st.integers(0, 2),
)
_TIGHT = st.builds(
    AdmissionPolicy,
    rate_per_s=st.sampled_from([10.0, 1e6]),
    burst=st.sampled_from([4.0, 1e6]),
    session_events=st.sampled_from([6, 100]),
    session_bytes=st.sampled_from([3_000, 1_000_000]),
    tenant_events=st.sampled_from([8, 1_000]),
    tenant_bytes=st.sampled_from([5_000, 1_000_000]),
    process_bytes=st.sampled_from([7_000, 1_000_000]),
    critical_burst=st.sampled_from([2, 50]),
)


@given(_TIGHT, st.lists(st.lists(_OFFERED, max_size=40), max_size=4), st.booleans())
def test_a_frame_is_answered_as_its_events_one_by_one(
    policy: AdmissionPolicy, frames: list[list[tuple[Lane, str, int, bool, int]]], quotas: bool
) -> None:
    """Whichever limits it meets: the same decisions, words, delays and books; and what is said twice is one error."""
    limited = QuotaPolicy(tenant=Quota(rate_per_s=5.0, burst=8.0)) if quotas else None
    whole, single = Admission(policy, limited), Admission(policy, limited)
    number, now = 0, 0.0
    for frame in frames:
        now += 0.5
        envs = []
        for lane, session, size, starts_run, back in frame:
            number += 1
            kind = "RUN" if starts_run else "K"
            env = _event(max(1, number - back), lane=lane, session=session, size=size)
            envs.append((*env[:2], kind, *env[3:]))
        answers = whole.admit_batch(envs, ("RUN",), now)
        asked = [single.admit(env, now, starts_run=env[2] == "RUN") for env in envs]
        assert [_told(answer) for answer in answers] == [_told(answer) for answer in asked]
        assert whole.refusals == single.refusals
        assert (whole.admitted, whole.bytes, whole.events) == (single.admitted, single.bytes, single.events)
        for env in envs:
            assert whole.settled("t", env[4], "p", env[1]) == single.settled("t", env[4], "p", env[1])


def _told(answer: Envelope | LanewayError) -> object:
    if isinstance(answer, tuple):
        return answer
    return (type(answer), answer.reason, answer.message, answer.retry_after_ms)


def test_a_flood_is_refused_with_one_error() -> None:
    """What meets the same limit in one frame shares one object, however many there are."""
    admission = Admission(AdmissionPolicy(session_events=4))
    answers = admission.admit_batch([_event(number) for number in range(1, 65)], (), 0.0)
    assert len({id(answer) for answer in answers[4:]}) == 1
    assert admission.refusals == {"LANE_FULL": 60}
