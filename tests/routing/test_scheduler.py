"""Which event goes next: order, shares, ageing, conservation."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from laneway.routing.envelope import (
    BODY,
    COUNTER,
    LANE,
    NO_DEADLINE,
    SESSION,
    TENANT,
    Envelope,
    cost_bytes,
    envelope,
)
from laneway.routing.errors import ConfigError
from laneway.routing.lanes import Lane
from laneway.routing.scheduler import Scheduler

CRITICAL, HIGH, NORMAL, LOW = Lane


def _event(
    lane: int, session: str = "s", number: int = 1, *, size: int = 0, tenant: str = "t", **more: Any
) -> Envelope:
    return envelope(
        "K", producer="p", counter=number, tenant=tenant, session=session, lane=lane, body=b"x" * size, **more
    )


def _flow(env: Envelope) -> tuple[str, str, int]:
    return env[TENANT], env[SESSION], env[LANE]


class SchedulerMachine(RuleBasedStateMachine):
    """Against a plain model: one FIFO per (tenant, session, lane)."""

    @initialize(age_s=st.sampled_from([0.25, 1e9]))
    def start(self, age_s: float) -> None:
        self.ages = age_s < 1e9
        self.scheduler = Scheduler(age_s=age_s)
        self.model: dict[tuple[str, str, int], list[Envelope]] = defaultdict(list)
        self.now = 100.0
        self.number = 0
        self.pushed = self.gone = 0

    def waiting(self, lane: int | None = None) -> int:
        return sum(len(queue) for (_, _, one), queue in self.model.items() if lane in (None, one))

    @rule(
        lane=st.sampled_from(list(Lane)),
        session=st.sampled_from("abcd"),
        tenant=st.sampled_from("xy"),
        size=st.sampled_from([0, 1, 300, 5_000, 200_000]),
        count=st.integers(1, 30),
        lasts_s=st.sampled_from([NO_DEADLINE, NO_DEADLINE, 0.5, 0.0]),
    )
    def push(self, lane: int, session: str, tenant: str, size: int, count: int, lasts_s: float) -> None:
        for _ in range(count):
            self.number += 1
            env = _event(lane, session, self.number, size=size, tenant=tenant, deadline=self.now + lasts_s)
            self.scheduler.push(env)
            self.model[_flow(env)].append(env)
            self.pushed += 1

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.3, 1.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(room=st.integers(0, 64), only_critical=st.booleans())
    def take(self, room: int, only_critical: bool) -> None:
        critical = sum(env[8] > self.now for key, queue in self.model.items() if key[2] == CRITICAL for env in queue)
        out = self.scheduler.take(room, self.now, only_critical=only_critical)
        expired = self.scheduler.expired()
        assert len(out) <= room
        assert all(env[8] > self.now for env in out)
        assert all(env[8] <= self.now for env in expired)
        for batch in (out, expired):
            last: dict[tuple[str, str, int], int] = {}
            for env in batch:
                assert last.get(_flow(env), 0) < env[COUNTER]
                last[_flow(env)] = env[COUNTER]
        for key, taken in Counter(map(_flow, [*out, *expired])).items():
            prefix, self.model[key] = self.model[key][:taken], self.model[key][taken:]
            assert sorted(env[COUNTER] for env in (*out, *expired) if _flow(env) == key) == [
                env[COUNTER] for env in prefix
            ]
        if len(out) < room:
            assert self.waiting(CRITICAL if only_critical else None) == 0
        if only_critical:
            assert all(env[LANE] == CRITICAL for env in out)
        if only_critical or not self.ages:
            assert [env[LANE] for env in out[:critical]] == [CRITICAL] * min(critical, room)
        self.gone += len(out) + len(expired)

    @rule(session=st.sampled_from("abcd"), tenant=st.sampled_from("xy"), odd=st.booleans(), targeted=st.booleans())
    def remove(self, session: str, tenant: str, odd: bool, targeted: bool) -> None:
        def match(env: Envelope) -> bool:
            return env[SESSION] == session and env[TENANT] == tenant and env[COUNTER] % 2 == odd

        removed = self.scheduler.remove(match, *((tenant, session) if targeted else ()))
        expected = []
        for key, queue in self.model.items():
            expected += [env for env in queue if match(env)]
            self.model[key] = [env for env in queue if not match(env)]
        assert sorted(removed) == sorted(expected)
        for lane in Lane:
            order = [env[COUNTER] for env in removed if env[LANE] == lane]
            assert order == sorted(order)
        self.gone += len(removed)

    @rule()
    def move(self) -> None:
        """Everything moves to another scheduler, as when a cell leaves."""
        everything = self.scheduler.clear()
        assert len(everything) == self.waiting()
        self.scheduler.take(64, self.now)
        self.scheduler = Scheduler(age_s=0.25 if self.ages else 1e9)
        for env in everything:
            self.scheduler.push(env)

    @invariant()
    def depths_and_bytes_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        statistics = self.scheduler.statistics()
        assert statistics.waiting == tuple(self.waiting(lane) for lane in Lane)
        assert [self.scheduler.depth(lane) for lane in Lane] == list(statistics.waiting)
        assert statistics.waiting_bytes == sum(cost_bytes(env) for queue in self.model.values() for env in queue)
        assert self.pushed == self.gone + len(self.scheduler)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("room", [1, 8, 64])
@pytest.mark.parametrize("size", [15, 1_000, 16_384])
def test_lanes_share_8_4_1_in_bytes(room: int, size: int) -> None:
    """With all three backlogged, the bytes served stand as 8:4:1, whatever the take and the event size."""
    scheduler, served = Scheduler(age_s=1e9), Counter[int]()
    for number in range(1, 2_000):
        for lane in (HIGH, NORMAL, LOW):
            scheduler.push(_event(lane, number=number, size=size))
    total = 0
    while total < 1_300:
        for env in scheduler.take(room, 0.0):
            served[env[LANE]] += cost_bytes(env)
            total += 1
    unit = sum(served.values()) / 13
    assert served[HIGH] / unit == pytest.approx(8, rel=0.1)
    assert served[NORMAL] / unit == pytest.approx(4, rel=0.1)
    assert served[LOW] / unit == pytest.approx(1, rel=0.3)


def test_large_and_small_events_share_by_bytes() -> None:
    """A session of 16 KiB events and one of small ones get the same bytes, not the same number of events."""
    scheduler, served = Scheduler(), Counter[str]()
    for number in range(1, 9_000):
        scheduler.push(_event(NORMAL, "small", number, size=56))
    for number in range(1, 300):
        scheduler.push(_event(NORMAL, "large", number, size=16_184))
    for _ in range(6_000):
        for env in scheduler.take(1, 0.0):
            served[env[SESSION]] += cost_bytes(env)
    assert served["large"] / served["small"] == pytest.approx(1, rel=0.05)


def test_one_large_event_at_a_time_gains_nothing() -> None:
    """Who always has just one large event queued gets its share and no more: running empty clears no debt."""
    scheduler, served = Scheduler(), Counter[str]()
    for number in range(1, 20_000):
        scheduler.push(_event(NORMAL, "steady", number, size=56))
    number, queued = 0, False
    for _ in range(10_000):
        if not queued:
            number, queued = number + 1, True
            scheduler.push(_event(NORMAL, "sly", number, size=16_184))
        for env in scheduler.take(1, 0.0):
            served[env[SESSION]] += cost_bytes(env)
            queued = queued and env[SESSION] != "sly"
    assert served["sly"] / served["steady"] == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("room", [1, 16])
def test_a_flood_costs_others_nothing(room: int) -> None:
    """20,000 events of one session; 20 others with 50 each are done after about as many services as if alone."""
    scheduler = Scheduler()
    for number in range(1, 20_001):
        scheduler.push(_event(HIGH, "flood", number, size=15))
    for number in range(1, 51):
        for session in range(20):
            scheduler.push(_event(HIGH, f"s{session}", number, size=15, tenant="t" if session % 2 else "u"))
    done = flood = 0
    while done < 1_000:
        for env in scheduler.take(room, 0.0):
            done += env[SESSION] != "flood"
            flood += env[SESSION] == "flood"
    # two tenants share equally; inside the flooder's tenant it is one of eleven
    assert flood <= 1_000


def test_a_flooding_tenant_costs_others_nothing() -> None:
    """1,000 busy sessions of one tenant weigh as much as the one session of another."""
    scheduler, served = Scheduler(), Counter[str]()
    for number in range(1, 21):
        for session in range(1_000):
            scheduler.push(_event(NORMAL, f"s{session}", number, size=56, tenant="many"))
    for number in range(1, 3_001):
        scheduler.push(_event(NORMAL, "only", number, size=56, tenant="one"))
    for _ in range(4_000):
        served.update(env[TENANT] for env in scheduler.take(1, 0.0))
    assert served["many"] / served["one"] == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("flooding", [CRITICAL, HIGH])
@pytest.mark.parametrize(("room", "service_s"), [(1, 0.001), (16, 0.001), (1, 1.0)])
def test_low_never_starves(flooding: Lane, room: int, service_s: float) -> None:
    """Under an endless flood low is served at least every 0.25 s or every 32 events, whichever is later."""
    scheduler, now, number, gap, gap_since = Scheduler(), 0.0, 0, 0, 0.0
    for low in range(1, 101):
        scheduler.push(_event(LOW, "low", low))
    served = 0
    for _ in range(1_500):
        for _ in range(room + 1):
            number += 1
            scheduler.push(_event(flooding, f"f{number % 7}", number, size=2_000))
        for env in scheduler.take(room, now):
            if env[LANE] == LOW:
                served, gap, gap_since = served + 1, 0, now
            else:
                gap += 1
        if scheduler.depth(LOW):
            assert gap <= 32 + room or now - gap_since <= 0.25 + service_s
        now += service_s
    assert served >= int(min(100, 1_500 * service_s / 0.26, 1_500 * room / 34))


def test_ageing_does_not_overtake_critical_when_handlers_are_slow() -> None:
    """At one event a second every lane waits longer than age_s; critical still goes first 31 times of 32."""
    scheduler, lanes = Scheduler(), Counter[int]()
    for number in range(1, 200):
        for lane in Lane:
            scheduler.push(_event(lane, number=number))
    for second in range(128):
        lanes.update(env[LANE] for env in scheduler.take(1, float(second)))
    assert lanes[CRITICAL] >= 128 * 28 // 32


def test_past_events_cost_no_room() -> None:
    """What expired while it waited is handed out apart, and a live event takes its place."""
    scheduler = Scheduler()
    for number in range(1, 21):
        scheduler.push(_event(NORMAL, number=number, deadline=5.0 if number % 2 else NO_DEADLINE))
    out = scheduler.take(6, 5.0)
    assert [env[COUNTER] for env in out] == [2, 4, 6, 8, 10, 12]
    assert scheduler.has_expired
    assert [env[COUNTER] for env in scheduler.expired()] == [1, 3, 5, 7, 9, 11]
    assert scheduler.expired() == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(list(Lane)), st.integers(0, 400)), max_size=60))
def test_one_by_one_loses_and_invents_nothing(events: list[tuple[str, int, int]]) -> None:
    """Taken one at a time or all at once, the same events come out, each once."""
    single, bulk = Scheduler(), Scheduler()
    for number, (session, lane, size) in enumerate(events, 1):
        for scheduler in (single, bulk):
            scheduler.push(_event(lane, session, number, size=size))
    one_by_one = [env for _ in events for env in single.take(1, 0.0)]
    assert sorted(one_by_one) == sorted(bulk.take(len(events) or 1, 0.0))
    assert all(len(env[BODY]) == events[env[COUNTER] - 1][2] for env in one_by_one)


def test_oldest_and_bytes() -> None:
    """The gauges: who has waited longest, and what all that waits weighs."""
    scheduler = Scheduler()
    assert scheduler.oldest() is None
    scheduler.push(_event(LOW, number=1, size=10, accepted=7.0))
    assert scheduler.oldest() == 7.0
    scheduler.push(_event(HIGH, number=2, size=20, accepted=5.0))
    assert scheduler.oldest() == 5.0
    assert scheduler.bytes == 430


def test_weights_are_checked() -> None:
    """One weight per lane, and none but critical's below 1."""
    for weights in ((0, 8, 4), (0, 8, 4, 0), (0, 8, 4, 1, 1)):
        with pytest.raises(ConfigError):
            Scheduler(weights)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Lane))), max_size=40),
    st.integers(0, 40),
    st.sets(st.integers(0, 40)),
)
def test_what_is_given_back_goes_first(events: list[tuple[str, int]], room: int, kept: set[int]) -> None:
    """Of each session and lane: first what was given back, in its order, then what never left."""
    scheduler = Scheduler()
    for number, (session, lane) in enumerate(events, 1):
        scheduler.push(_event(lane, session, number, deadline=50.0 + number))
    taken = scheduler.take(room, 0.0)
    back = [env for index, env in enumerate(taken) if index not in kept]
    scheduler.give_back(back)  # nothing is fine
    waiting = len(events) - len(taken) + len(back)
    assert len(scheduler) == waiting
    flows: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for env in [env for _ in range(waiting) for env in scheduler.take(1, 0.0)]:
        flows[_flow(env)].append(env[COUNTER])
    assert sum(map(len, flows.values())) == waiting
    assert all(numbers == sorted(numbers) for numbers in flows.values())


def test_what_expires_is_found_although_nobody_takes_it() -> None:
    """The soonest deadline is known, and looking at it takes out what is late and nothing else."""
    scheduler = Scheduler()
    assert scheduler.soonest == NO_DEADLINE
    for number in range(1, 5):
        scheduler.push(_event(NORMAL, number=number, deadline=10.0 * number))
    assert scheduler.soonest == 10.0
    scheduler.expire(9.0)
    assert not scheduler.has_expired
    scheduler.expire(20.0)
    assert [env[COUNTER] for env in scheduler.expired()] == [1, 2]
    assert (len(scheduler), scheduler.soonest) == (2, 30.0)
    scheduler.give_back([_event(NORMAL, number=9, deadline=5.0)])
    assert scheduler.soonest == 5.0
