"""The pool controller: each rule by itself, then closed loops with simulated pools."""

import math
import random
from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.errors import ConfigError
from laneway.routing.scaling import Decision, PoolLoad, Scaling, ScalingPolicy

POLICY = ScalingPolicy(max_hosts=8)
HASTY = ScalingPolicy(max_hosts=8, down_after_s=60, down_pause_s=15)
PRESSED = PoolLoad(waiting=10, oldest_wait_s=1.0, busy=16, slots=16, wanted=2, ready=2)
CALM = PoolLoad(waiting=0, oldest_wait_s=0.0, busy=1, slots=24, wanted=3, ready=3)


def ticks(scaling: Scaling, load: PoolLoad, begin_s: int, end_s: int) -> list[tuple[int, int]]:
    """(second, hosts) of each change that is asked for while the load stays what it is."""
    answers = [(at, scaling.decide(load, float(at))) for at in range(begin_s, end_s)]
    return [(at, answer.hosts) for at, answer in answers if answer.reason]


class SimulatedPool:
    """Hosts of so many slots; events take `service_s` each, or exponentially distributed with that mean."""

    STEP_S = 0.1
    START_S = 5.0

    def __init__(self, slots: int, service_s: float, policy: ScalingPolicy, hosts: int = 1, seed: int | None = None):
        self.slots, self.service_s, self.hosts = slots, service_s, hosts
        self.starting: list[float] = []
        self.waiting: deque[float] = deque()
        self.busy: list[float] = []
        self.now = 0.0
        self.random = random.Random(seed) if seed is not None else None
        self.due = 0.0
        self.scaling = Scaling(policy, 0.0)
        self.history: list[tuple[float, int]] = []
        self.waits: list[float] = []

    @property
    def wanted(self) -> int:
        return self.hosts + len(self.starting)

    def run(self, load_in_hosts: float, for_s: float) -> None:
        """Offer what so many hosts can just do, for some seconds."""
        rate_per_s = load_in_hosts * self.slots / self.service_s
        for tick in range(round(for_s / self.STEP_S)):
            self.now += self.STEP_S
            self.hosts += sum(at <= self.now for at in self.starting)
            self.starting = [at for at in self.starting if at > self.now]
            self.busy = [end for end in self.busy if end > self.now]
            self._arrive(rate_per_s)
            while self.waiting and len(self.busy) < self.hosts * self.slots:
                self.waits.append(self.now - self.waiting.popleft())
                self.busy.append(self.now + self._takes_s())
            if tick % 10 == 0:
                self._tick()

    def _arrive(self, rate_per_s: float) -> None:
        self.due += rate_per_s * self.STEP_S
        count = int(self.due) if self.random is None else self._poisson(rate_per_s * self.STEP_S)
        self.due -= int(self.due)
        self.waiting.extend([self.now] * count)

    def _poisson(self, mean: float) -> int:
        assert self.random is not None
        count, left = 0, self.random.expovariate(1.0)
        while left < mean:
            count, left = count + 1, left + self.random.expovariate(1.0)
        return count

    def _takes_s(self) -> float:
        return self.service_s if self.random is None else self.random.expovariate(1 / self.service_s)

    def _tick(self) -> None:
        oldest_s = self.now - self.waiting[0] if self.waiting else 0.0
        slots = self.hosts * self.slots
        load = PoolLoad(len(self.waiting), oldest_s, len(self.busy), slots, self.wanted, self.hosts, len(self.starting))
        answer = self.scaling.decide(load, self.now)
        if answer.hosts == self.wanted:
            return
        assert answer.reason
        self.history.append((self.now, answer.hosts))
        if answer.hosts < self.hosts:
            self.hosts = answer.hosts
        else:
            self.starting += [self.now + self.START_S] * (answer.hosts - self.wanted)

    def turns(self) -> int:
        """How often it changed its mind between up and down."""
        counts = [count for _, count in self.history]
        signs = [b > a for a, b in pairwise(counts)]
        return sum(a != b for a, b in pairwise(signs))


def test_bounds_that_cannot_be_kept_are_refused() -> None:
    """Fewer than one host, or more at least than at most."""
    for low, high in ((0, 3), (4, 3)):
        with pytest.raises(ConfigError, match="at least 1 host"):
            ScalingPolicy(min_hosts=low, max_hosts=high)
    with pytest.raises(ConfigError, match="down_share"):
        ScalingPolicy(down_share=1.0)


def test_up_after_some_seconds_of_waiting_and_not_again_at_once() -> None:
    """Three seconds of pressure, then ten until the next step; never above the bound."""
    scaling = Scaling(POLICY, 0.0)
    assert ticks(scaling, PRESSED, 0, 5) == [(3, 4)]
    more = PRESSED._replace(wanted=4, ready=4, slots=32, busy=32, waiting=400)
    assert ticks(scaling, more, 5, 20) == [(13, 8)]
    assert ticks(scaling, more._replace(wanted=8, ready=8), 20, 300) == []


def test_a_moment_of_waiting_changes_nothing() -> None:
    """Two pressed ticks, one that is not, and again."""
    scaling = Scaling(POLICY, 0.0)
    loads = [PRESSED, PRESSED, PRESSED._replace(waiting=0, oldest_wait_s=0.0)] * 20
    assert not any(scaling.decide(load, float(at)).reason for at, load in enumerate(loads))


def test_many_young_events_count_as_pressure() -> None:
    """The backlog alone is enough, before anything is old."""
    scaling = Scaling(POLICY, 0.0)
    young = PRESSED._replace(waiting=100, oldest_wait_s=0.05)
    assert ticks(scaling, young, 0, 5) == [(3, 4)]
    assert "100 events wait for 16 slots" in Scaling(ScalingPolicy(up_after_s=0, max_hosts=8), 0.0).decide(
        young, 0.0
    ).reason  # fmt: skip


def test_a_step_up_is_as_large_as_needed_and_at_most_a_doubling() -> None:
    """All that is there would run at once; one host is the smallest step."""
    quick = ScalingPolicy(max_hosts=100, up_after_s=0)
    few = PoolLoad(waiting=9, oldest_wait_s=1, busy=80, slots=80, wanted=10, ready=10)
    for waiting, hosts in ((1, 11), (9, 12), (40, 15), (4000, 20)):
        assert Scaling(quick, 0.0).decide(few._replace(waiting=waiting), 0.0).hosts == hosts


def test_nothing_is_added_while_slots_are_free() -> None:
    """Then what waits, waits for its own session or key."""
    assert ticks(Scaling(POLICY, 0.0), PRESSED._replace(busy=7), 0, 60) == []


def test_a_backlog_that_is_being_worked_off_needs_no_host() -> None:
    """It shrinks so fast that it is gone before a host would help."""
    scaling = Scaling(POLICY, 0.0)
    shrinking = [PRESSED._replace(waiting=300 - 30 * at) for at in range(10)]
    assert not any(scaling.decide(load, float(at)).reason for at, load in enumerate(shrinking))


def test_nothing_is_decided_while_hosts_come_or_go_but_not_for_ever() -> None:
    """A host that is starting, or lost; one that never comes holds the others up for 30 s."""
    for load in (PRESSED._replace(wanted=3, pending=1), PRESSED._replace(wanted=3)):
        assert ticks(Scaling(POLICY, 0.0), load, 0, 40) == [(33, 4)]
    leaving = PRESSED._replace(wanted=1)
    assert ticks(Scaling(POLICY, 0.0), leaving, 0, 100) == []


def test_down_one_by_one_after_a_long_calm() -> None:
    """Five minutes for the first, one for each further; never below the bound."""
    scaling = Scaling(POLICY, 0.0)
    assert ticks(scaling, CALM, 0, 301) == [(300, 2)]
    assert ticks(scaling, CALM._replace(wanted=2), 301, 310) == []  # the host is still leaving
    two = CALM._replace(wanted=2, ready=2, slots=16)
    assert ticks(scaling, two, 310, 400) == [(370, 1)]
    assert ticks(scaling, CALM._replace(wanted=1, ready=1, slots=8), 371, 5000) == []


def test_calm_is_what_the_remaining_hosts_could_carry_well() -> None:
    """The worst second of the calm counts, and so does anything that waits long."""
    fits = CALM._replace(busy=9)
    assert ticks(Scaling(POLICY, 0.0), fits, 0, 301) == [(300, 2)]
    assert ticks(Scaling(POLICY, 0.0), CALM._replace(busy=10), 0, 2000) == []
    scaling = Scaling(POLICY, 0.0)
    assert ticks(scaling, fits, 0, 250) == []
    assert scaling.decide(CALM._replace(busy=20), 250.0) == Decision(3)
    assert ticks(scaling, fits, 251, 600) == [(551, 2)]
    assert ticks(Scaling(POLICY, 0.0), CALM._replace(waiting=1, oldest_wait_s=0.15), 0, 2000) == []


def test_what_an_operator_asked_for_is_kept_within_the_bounds() -> None:
    """The wanted number is where the next step begins; beyond the bounds it is brought back."""
    assert Scaling(POLICY, 0.0).decide(CALM._replace(wanted=9), 0.0).hosts == 8
    assert Scaling(ScalingPolicy(min_hosts=4, max_hosts=8), 0.0).decide(CALM, 0.0) == Decision(
        4, "3 hosts are outside of its bounds"
    )  # fmt: skip


def test_a_step_down_that_was_a_mistake_doubles_the_next_calm() -> None:
    """Down, up again soon: the next step down takes ten minutes, and five again once all is well for long."""
    scaling = Scaling(POLICY, 0.0)
    assert ticks(scaling, CALM, 0, 301) == [(300, 2)]
    assert ticks(scaling, PRESSED._replace(waiting=1), 311, 320) == [(314, 3)]
    assert ticks(scaling, CALM, 330, 931) == [(930, 2)]
    assert ticks(scaling, PRESSED._replace(waiting=1), 3000, 3010) == [(3003, 3)]
    assert ticks(scaling, CALM, 3010, 3350) == [(3310, 2)]


def test_a_step_load_is_followed_without_flapping() -> None:
    """Half a host, three hosts, a fifth of one: up until nothing waits, down to one, no turn between."""
    pool = SimulatedPool(8, 0.5, POLICY)
    pool.run(0.5, 400)
    assert pool.history == []
    pool.run(3.0, 600)
    risen = [count for _, count in pool.history]
    assert risen == sorted(risen)
    assert 3 <= pool.hosts <= 5
    assert not pool.waiting
    assert pool.history[-1][0] < 500
    pool.run(0.2, 1500)
    assert pool.hosts == 1
    assert pool.turns() == 1


@settings(max_examples=25, deadline=None)
@given(
    load=st.floats(0.05, 6.0),
    slots=st.integers(1, 6),
    service_s=st.sampled_from([0.25, 0.5, 2.0]),
    hosts=st.integers(1, 8),
)
def test_a_constant_load_comes_to_rest(load: float, slots: int, service_s: float, hosts: int) -> None:
    """From any number of hosts: after 15 minutes nothing changes any more, it turned twice at most, nothing waits."""
    pool = SimulatedPool(slots, service_s, HASTY, hosts)
    pool.run(load, 900)
    before = list(pool.history)
    pool.waits.clear()
    pool.run(load, 300)
    assert pool.history == before
    assert pool.turns() <= 2
    assert max(pool.waits, default=0.0) <= 3 * POLICY.wait_target_s


@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_load_settles_too(seed: int) -> None:
    """Poisson arrivals, exponential service, two hours: the changes of mind die out."""
    pool = SimulatedPool(4, 0.5, POLICY, hosts=1, seed=seed)
    pool.run(2.2, 7200)
    late = [at for at, _ in pool.history if at > 3600]
    assert len(late) <= 2, pool.history
    assert pool.hosts >= 3


@settings(max_examples=100)
@given(
    st.lists(
        st.builds(
            PoolLoad,
            waiting=st.integers(0, 10_000),
            oldest_wait_s=st.floats(0, 1e6),
            busy=st.integers(0, 1_000),
            slots=st.integers(0, 1_000),
            wanted=st.integers(0, 20),
            ready=st.integers(0, 20),
            pending=st.integers(0, 20),
        ),
        max_size=60,
    ),
    st.floats(0.1, 400),
)
def test_whatever_it_is_told_it_stays_within_bounds(loads: list[PoolLoad], pause_s: float) -> None:
    """One step is at most a doubling up or one down, and has a reason."""
    policy = ScalingPolicy(min_hosts=2, max_hosts=8)
    scaling = Scaling(policy, 0.0)
    for number, load in enumerate(loads):
        hosts, reason = scaling.decide(load, number * pause_s)
        assert 2 <= hosts <= 8
        assert (hosts != load.wanted) == bool(reason)
        if 2 <= load.wanted <= 8:
            assert load.wanted - 1 <= hosts <= max(load.wanted + 1, math.ceil(2 * load.wanted))
