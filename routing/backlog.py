"""How much may wait for one pool: anything while waits are short, else what is served in the target time.

Law of this file: each lane is judged by its own waits (acceptance to hand-out). As long as their median
is within the target nothing is limited: a burst may be as large as the sessions' and tenants' caps let
it be. Once a tick's median is above it (or half of it, and what waits already takes longer than the
target to serve), the lane's queue is limited, at first to what was served of it in the target time,
then by AIMD. Beyond the limit an event is refused with the time after which the queue is through, or a
little later (see `spread`); but later while its session and its tenant have less in the queue than their
share of the limit (see `parties`): who floods fills its own part. Critical is never refused, and high only
for high's own queue: as it is served first, it is refused last. When nothing had to be refused for `CALM_S`,
the limit is lifted. Where events wait past their own deadlines, one that would do so too is refused just so:
to take it in, keep it, give it up and say so costs more than to refuse it.

What was let in stays: this bounds how long admitted events wait, so that they are handled while somebody
still waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import ceil, inf
from typing import Final

from laneway.routing.aimd import TICK_S, AimdLimit, AimdPolicy, Waits
from laneway.routing.envelope import ACCEPTED, DEADLINE, LANE, SESSION, TENANT, Envelope
from laneway.routing.errors import Overloaded
from laneway.routing.lanes import LANE_COUNT, LANE_NAMES, Lane
from laneway.routing.parties import Parties
from laneway.routing.spread import Spread

__all__ = ["CALM_S", "LOW_PATIENCE", "TARGET_WAIT_S", "Backlog", "Counts", "Queued"]

TARGET_WAIT_S: Final = 1.0
"""Default target: below the time for which people and callers wait (2 s and more), above what a burst or
a hiccup takes. Measured in `tests/simulation/test_pool_load.py`."""
LOW_PATIENCE: Final = 4.0
"""Low events may wait so many times the target: nobody sits in front of them, and CoDel looks after them."""
CALM_S: Final = 10.0
"""So long nothing must have been refused for a limit to be lifted."""
_LOOKS_PER_TICK: Final = 16
_FLOOR: Final = 64.0
"""A queue as short as this is never refused, however long it waits: work that takes seconds may queue."""
_STEP: Final = 1 / 80
"""Of what is served in a tick: what a limit grows by. One call of 80 per tick in the study of `aimd`."""
_IN_TIME: Final = 0.8
"""Of the time until its deadline: how long what is let in should wait. The rest is for its handler."""
_LEAST_RETRY_MS: Final = 100
_MOST_RETRY_MS: Final = 10_000
_SMOOTHING: Final = 0.25

Counts = Callable[[int], tuple[int, int]]
"""Lane -> events that wait now, and events handed out since the start."""
Queued = Callable[[int], Iterable[Envelope]]
"""Lane -> the events that wait now."""


class _LaneLimit:
    """The limit of one lane's queue, and what it is judged by."""

    __slots__ = (
        "limit",
        "missed_at",
        "parties",
        "rate",
        "refused_at",
        "served",
        "served_at",
        "target_s",
        "waiting",
        "waits",
    )

    def __init__(self, target_s: float) -> None:
        self.target_s = target_s
        self.limit: AimdLimit | None = None
        self.parties = Parties()
        self.waits = Waits(TICK_S, 0.0)
        self.waiting = self.served = 0
        self.served_at = inf
        self.rate = 0.0
        self.refused_at = self.missed_at = -inf

    def room(self, remaining_s: float, now: float) -> tuple[float, float]:
        """Return how many events may wait, of which the last has so much time; and that time, if it is what counts."""
        limit = self.limit.value if self.limit is not None else inf
        if remaining_s < inf and self.rate > 0 and now - self.missed_at < CALM_S:
            in_time = max(_FLOOR, self.rate * max(0.0, remaining_s) * _IN_TIME)
            if in_time < limit:
                return in_time, remaining_s
        return limit, inf

    def measure(self, waiting: int, served: int, now: float) -> None:
        """Follow the queue, and the rate of service once per tick."""
        self.waiting = waiting
        if self.served_at == inf:
            self.served, self.served_at = served, now
        elif (span_s := now - self.served_at) >= TICK_S:
            rate = max(0, served - self.served) / span_s
            self.rate += (rate - self.rate) * (_SMOOTHING if self.rate else 1.0)
            self.served, self.served_at = served, now

    def note(self, wait_s: float, now: float) -> None:
        """Judge one wait that ended now."""
        if self.limit is not None:
            self.limit.observe(wait_s, self.waiting, now, step=max(1.0, self.rate * TICK_S * _STEP))
            return
        median_s = self.waits.note(wait_s, now)
        if median_s is None or not self.rate:
            return
        in_time = self.rate * self.target_s
        if median_s > self.target_s or (median_s > self.target_s / 2 and self.waiting > in_time):
            initial = max(_FLOOR, in_time)
            self.limit = AimdLimit(AimdPolicy(initial, _FLOOR, target_s=self.target_s), now)
            self.refused_at = now


class Backlog:
    """The limits on what waits for one pool.

    Args:
        pool: its name, for the refusals. target_s: median wait; infinity: no limit, ever.
        counts, queued: read the pool's queues.
        run_share: how much of a limit may be in use for one more run to be let in.

    Attributes:
        look_at: when `look` is due; look there before calling.
        limited: True if a lane is limited now; only then `refuse` must be asked.
    """

    __slots__ = (
        "_count_at", "_counts", "_lanes", "_pool", "_queued", "_run_share", "_spread", "_tick_at", "limited", "look_at"
    )  # fmt: skip

    def __init__(self, pool: str, target_s: float, counts: Counts, queued: Queued, run_share: float = 1.0) -> None:
        self._pool = pool
        self._counts = counts
        self._queued = queued
        self._run_share = run_share
        self._spread = Spread()
        self._count_at = -inf
        self._lanes = [_LaneLimit(target_s * (LOW_PATIENCE if lane == Lane.LOW else 1.0)) for lane in Lane]
        self._tick_at = -inf
        self.look_at = -inf if target_s < inf else inf
        self.limited = False

    def limits(self) -> dict[str, float]:
        """Return lane -> events that may wait now, of the lanes that are limited."""
        return {LANE_NAMES[lane]: one.limit.value for lane, one in enumerate(self._lanes) if one.limit is not None}

    def look(self, envs: Sequence[Envelope], now: float) -> bool:
        """Look at what was handed out just now; True if `limited` has changed.

        O(events), 160 times a second; O(waiting) ten times a second while a lane is limited.
        """
        self.look_at = now + TICK_S / _LOOKS_PER_TICK
        if now >= self._tick_at or self.limited:
            self._tick_at = now + TICK_S
            for lane in range(1, LANE_COUNT):
                self._lanes[lane].measure(*self._counts(lane), now)
        accepted: dict[int, list[float]] = {}
        for env in envs:
            accepted.setdefault(env[LANE], []).append(env[ACCEPTED])
        for lane, times in accepted.items():
            if lane:
                self._lanes[lane].note(max(0.0, now - times[len(times) // 2]), now)
        before = self.limited
        self._hold(now)
        return self.limited != before

    def _hold(self, now: float) -> None:
        """Lift limits that are not needed any more; of the others, see who waits."""
        self.limited, counting = False, now >= self._count_at
        if counting:
            self._count_at = now + TICK_S
        for lane, one in enumerate(self._lanes):
            if one.limit is not None and now - one.refused_at >= CALM_S:
                one.limit = None
            if one.limit is not None or now - one.missed_at < CALM_S:
                self.limited = True
                if counting:
                    one.parties.count(self._queued(lane))

    def missed(self, envs: Sequence[Envelope], now: float) -> None:
        """These waited past their deadlines: for a while, what would do so too is refused. O(events)."""
        for lane in {env[LANE] for env in envs}:
            self._lanes[lane].missed_at = now

    def refuse(self, env: Envelope, starts_run: bool, now: float) -> Overloaded | None:
        """Return why one more event may not wait in its lane, or None. O(1), a refusal O(units).

        A refusal holds for all events of its lane, session and `starts_run` that have no more time, until something
        is handed out.

        Args:
            starts_run: its handling is a run.
        """
        lane, tenant, session = env[LANE], env[TENANT], env[SESSION]
        one = self._lanes[lane]
        if not lane:
            return None
        limit, remaining_s = one.room(env[DEADLINE] - now, now)
        allowed = limit * (self._run_share if starts_run else 1.0)
        if one.waiting >= allowed:
            one.waiting, _ = self._counts(lane)
            if one.waiting >= allowed and (times := one.parties.stretch(tenant, session, allowed)) > 1:
                allowed = limit * times
        if one.waiting < allowed:
            one.waiting += 1
            one.parties.add(tenant, session)
            return None
        one.refused_at = now
        if remaining_s < inf:
            one.missed_at = now
        return self._refusal(one, lane, min(one.target_s, remaining_s))

    def _refusal(self, one: _LaneLimit, lane: int, within_s: float) -> Overloaded:
        through_s = one.waiting / one.rate if one.rate > 0 else inf
        retry_ms = self._spread.ms(max(_LEAST_RETRY_MS, min(_MOST_RETRY_MS, ceil(min(through_s, 1e6) * 1000))))
        return Overloaded(
            f"{one.waiting} {LANE_NAMES[lane]} events wait for pool {self._pool!r}, as many as it serves within "
            f"{within_s:.3g} s, the time there is; retry after the given time",
            reason="POOL",
            retry_after_ms=retry_ms,
        )
