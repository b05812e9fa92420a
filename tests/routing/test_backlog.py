"""The limits on a pool's backlog: none while waits are short, refusals from the bottom while they are not."""

from __future__ import annotations

from math import inf

from laneway.routing.backlog import CALM_S, LOW_PATIENCE, Backlog
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import Overloaded
from laneway.routing.lanes import Lane

CRITICAL, HIGH, NORMAL, LOW = Lane


class Queue:
    """A pool that serves 1,000 events a second of each lane, of which `waiting` stand there."""

    def __init__(self, target_s: float = 1.0) -> None:
        self.now = 0.0
        self.per_s = 1_000.0
        self.waiting = dict.fromkeys(Lane, 0)
        self.others = [_event(NORMAL, 0.0, tenant, session) for tenant, session in (("t", "s"), ("u", "s"), ("u", "v"))]
        self.backlog = Backlog("p", target_s, self.counts, self.queued, run_share=0.5)

    def counts(self, lane: int) -> tuple[int, int]:
        return self.waiting[Lane(lane)], int(self.per_s * self.now)

    def queued(self, lane: int) -> list[Envelope]:
        """All of it is of two tenants, with one and two sessions."""
        return self.others * (self.waiting[Lane(lane)] // len(self.others))

    def refuse(self, lane: Lane, *, run: bool = False, tenant: str = "t", session: str = "s") -> Overloaded | None:
        return self.backlog.refuse(_event(lane, self.now, tenant, session), run, self.now)

    def serve(self, wait_s: float, lane: Lane = NORMAL, seconds: float = 1.0) -> None:
        """Hand out events that have waited so long."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.01
            if self.now >= self.backlog.look_at:
                self.backlog.look([_event(lane, self.now - wait_s)], self.now)


def _event(lane: Lane, accepted: float, tenant: str = "t", session: str = "s") -> Envelope:
    return envelope("K", producer="p", counter=1, tenant=tenant, session=session, lane=lane, accepted=accepted)


def test_short_waits_are_not_limited() -> None:
    """However much waits: what waits no longer than the target may wait."""
    queue = Queue()
    queue.waiting[NORMAL] = 1_000_000
    queue.serve(wait_s=0.4, seconds=5)
    assert not queue.backlog.limited
    assert queue.refuse(NORMAL) is None


def test_long_waits_limit_the_lane_to_what_is_served_in_the_target_time() -> None:
    """At 1,000 a second and a target of 1 s to 1,000 events; a refusal says when the queue is through."""
    queue = Queue()
    queue.waiting[NORMAL] = 3_000
    queue.serve(wait_s=1.2)
    assert queue.backlog.limited
    assert 700 < queue.backlog.limits()["normal"] < 1_100
    refusal = queue.refuse(NORMAL)
    assert refusal is not None
    assert (refusal.code, refusal.reason, refusal.retryable) == ("OVERLOADED", "POOL", True)
    assert 2_500 < (refusal.retry_after_ms or 0) < 4_500
    later = {refused.retry_after_ms for _ in range(10) if (refused := queue.refuse(NORMAL)) is not None}
    assert len(later) == 10  # not all at once


def test_critical_is_never_refused_and_high_only_for_its_own_queue() -> None:
    """A lane pays for itself alone."""
    queue = Queue()
    queue.waiting[NORMAL] = 3_000
    queue.serve(wait_s=1.2)
    assert queue.refuse(HIGH) is None
    queue.waiting[HIGH] = 3_000
    queue.serve(wait_s=1.2, lane=HIGH)
    assert queue.refuse(HIGH) is not None
    assert queue.refuse(CRITICAL) is None


def test_low_may_wait_four_times_as_long() -> None:
    """A burst of background work that is through in a few seconds is not refused."""
    queue = Queue()
    queue.waiting[LOW] = 2_500
    queue.serve(wait_s=2.5, lane=LOW, seconds=2.5)
    assert not queue.backlog.limited
    queue.serve(wait_s=LOW_PATIENCE + 0.1, lane=LOW)
    assert queue.backlog.limited


def test_runs_leave_room() -> None:
    """A run may use a share of the limit; what was let in counts at once."""
    queue = Queue()
    queue.serve(wait_s=1.2)
    limit = queue.backlog.limits()["normal"]
    queue.waiting[NORMAL] = int(limit * 0.8)
    queue.serve(wait_s=0.9, seconds=0.12)
    assert queue.refuse(NORMAL, run=True) is not None
    assert queue.refuse(NORMAL) is None
    queue.waiting[NORMAL] = int(limit * 1.8)
    assert queue.refuse(NORMAL) is None  # the last count said that there is room
    queue.serve(wait_s=0.9, seconds=0.12)
    assert queue.refuse(NORMAL) is not None


def test_who_has_less_than_its_share_is_refused_last() -> None:
    """Two tenants fill the queue: a third has its own third of the limit, until the queue is twice as long as that."""
    queue = Queue()
    queue.serve(wait_s=1.2)
    limit = queue.backlog.limits()["normal"]
    queue.waiting[NORMAL] = int(limit * 1.6)
    queue.serve(wait_s=0.9, seconds=0.12)
    assert queue.refuse(NORMAL, tenant="t") is not None
    assert queue.refuse(NORMAL, tenant="u", session="new") is not None  # its other sessions have its share
    let_in = 0
    while queue.refuse(NORMAL, tenant="w") is None:
        let_in, queue.waiting[NORMAL] = let_in + 1, queue.waiting[NORMAL] + 1
    assert 0.3 * limit < let_in < 0.34 * limit
    queue.waiting[NORMAL] = int(limit * 2.5)
    assert queue.refuse(NORMAL, tenant="x") is not None


def test_a_limit_is_lifted_when_nothing_was_refused_for_a_while() -> None:
    """After 10 s without a refusal there is no limit; and a queue that has emptied refuses nothing before."""
    queue = Queue()
    queue.waiting[NORMAL] = 3_000
    queue.serve(wait_s=1.2)
    assert queue.refuse(NORMAL) is not None
    queue.waiting[NORMAL] = 0
    assert queue.refuse(NORMAL) is None
    queue.serve(wait_s=0.0, seconds=CALM_S + 0.1)
    assert not queue.backlog.limited
    assert queue.backlog.limits() == {}


def test_no_target_is_no_limit() -> None:
    """An infinite target asks for no look, ever."""
    assert Queue(inf).backlog.look_at == inf


def test_a_short_queue_is_not_refused_however_long_it_waits() -> None:
    """Work of seconds may queue: up to 64 events wait for it."""
    queue = Queue()
    queue.per_s = 1.0
    queue.waiting[NORMAL] = 63
    queue.serve(wait_s=30.0, seconds=60)
    assert queue.backlog.limits()["normal"] == 64
    assert queue.refuse(NORMAL) is None


def test_where_events_miss_their_deadlines_one_that_would_is_refused() -> None:
    """At 100 a second 150 that wait are too many for a second, not for three, and none too many for who can wait."""
    queue = Queue()
    queue.per_s = 100.0
    queue.waiting[LOW] = 150
    queue.serve(wait_s=0.9, lane=LOW, seconds=2.0)

    def refuse(seconds: float, session: str = "s") -> Overloaded | None:
        env = _event(LOW, queue.now, "u", session)
        return queue.backlog.refuse((*env[:8], queue.now + seconds, *env[9:]), False, queue.now)

    assert refuse(1.0) is None
    queue.backlog.missed([_event(LOW, 0.0)], queue.now)
    queue.serve(wait_s=0.9, lane=LOW, seconds=0.12)
    assert queue.backlog.limited
    refusal = refuse(1.0)
    assert refusal is not None
    assert (refusal.reason, 1_500 <= (refusal.retry_after_ms or 0) <= 2_250) == ("POOL", True)
    assert refuse(3.0) is None
    assert queue.refuse(LOW) is None
    queue.waiting[LOW] = 63
    queue.serve(wait_s=0.5, lane=LOW, seconds=0.12)
    assert refuse(0.1) is None  # a short queue is let wait, whatever the figures say
    queue.serve(wait_s=0.1, lane=LOW, seconds=CALM_S + 0.2)
    assert not queue.backlog.limited
